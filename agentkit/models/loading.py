"""Loads a model and its tokenizer from a folder or a repository, with errors that say what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agentkit.errors import ConfigurationError, ModelError
from agentkit.models.quantization import quantization_config

INSTALL = "run pip install 'agentkit-react[local]'"
AUTO_CLASS = {
    "text-generation": "AutoModelForCausalLM",
    "text2text-generation": "AutoModelForSeq2SeqLM",
    "summarization": "AutoModelForSeq2SeqLM",
    "translation": "AutoModelForSeq2SeqLM",
    "image-text-to-text": "AutoModelForImageTextToText",
    "audio-text-to-text": "AutoModelForMultimodalLM",
    "any-to-any": "AutoModelForMultimodalLM",
}
SHARED_OPTIONS = ("revision", "token", "cache_dir", "local_files_only", "trust_remote_code", "subfolder")


def load_model(
    model_id: str,
    *,
    task: str = "text-generation",
    model_kwargs: Mapping[str, Any] | None = None,
    device: int | str | None = None,
    device_map: Any = None,
    quantization: str | None = None,
) -> tuple[Any, Any]:
    """The model and its tokenizer (a processor where the task takes images, sound or video)."""
    if task not in AUTO_CLASS:
        raise ConfigurationError(f"expected a task of {', '.join(AUTO_CLASS)}, saw {task!r}")
    if device is not None and device_map is not None:
        raise ConfigurationError("expected device or device_map, saw both; leave one out")
    _check_folder(model_id)
    options = dict(model_kwargs or {})
    shared = {name: options[name] for name in SHARED_OPTIONS if name in options}
    if quantization is not None:
        options["quantization_config"] = quantization_config(quantization)
    if device_map is not None:
        options["device_map"] = device_map
    with loading_errors(model_id), progress_on_terminals_only():
        import transformers

        text_only = task in ("text-generation", "text2text-generation", "summarization", "translation")
        reader = transformers.AutoTokenizer if text_only else transformers.AutoProcessor
        tokenizer = reader.from_pretrained(model_id, **shared)
        model = getattr(transformers, AUTO_CLASS[task]).from_pretrained(model_id, **options)
        if device_map is None and "quantization_config" not in options:
            model.to(_device(device))
    return model.eval(), tokenizer


@contextmanager
def progress_on_terminals_only() -> Iterator[None]:
    """Bars for whoever watches; a log or a pipe gets none."""
    from transformers.utils import logging

    hush = logging.is_progress_bar_enabled() and not sys.stderr.isatty()
    if hush:
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if hush:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def loading_errors(model_id: str) -> Iterator[None]:
    """Turns what goes wrong while loading into one line with what to do."""
    try:
        yield
    except ImportError as error:
        missing = error.name or " ".join(str(error).split())[:200]
        raise ConfigurationError(f"expected the packages for local models, missing: {missing}; {INSTALL}") from error
    except MemoryError as error:
        raise ModelError(_memory_message(model_id)) from error
    except OSError as error:
        raise ConfigurationError(_not_found_message(model_id, error)) from error
    except RuntimeError as error:
        if "out of memory" in str(error).lower() or "can't allocate" in str(error).lower():
            raise ModelError(_memory_message(model_id)) from error
        raise ModelError(f"loading {model_id} failed: {_line(error)}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"expected a model transformers can load, saw {model_id}: {_line(error)}") from error


def _check_folder(model_id: str) -> None:
    path = Path(model_id).expanduser()
    looks_local = path.is_absolute() or model_id.startswith((".", "~")) or model_id.count("/") > 1
    if looks_local and not (path / "config.json").is_file():
        seen = "a folder without config.json" if path.is_dir() else "no such folder"
        raise ConfigurationError(f"expected a model folder at {model_id}, saw {seen}; check the path")


def _device(device: int | str | None) -> str:
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if isinstance(device, int):
        return "cpu" if device < 0 else f"cuda:{device}"
    return device


def _memory_message(model_id: str) -> str:
    return (
        f"expected room for {model_id}, memory ran out; take a smaller model, quantization='nf4', "
        "or model_kwargs={'dtype': 'bfloat16'}"
    )


def _not_found_message(model_id: str, error: OSError) -> str:
    text = str(error)
    if "gated" in text.lower() or "401" in text or "403" in text:
        return (
            f"expected access to {model_id}, it is gated or private; accept its terms on "
            f"https://huggingface.co/{model_id} and set HF_TOKEN"
        )
    if "not a valid model identifier" in text or "404" in text:
        return f"expected a model folder or a repository ORG/NAME, saw {model_id}, which does not exist; check the name"
    return f"expected to load {model_id}: {_line(error)}"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
