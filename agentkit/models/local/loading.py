"""Loads a model and its tokenizer from a folder or a repository, quantized where that is asked for.

What is not there (a package, a name, memory) is an error that says what to do.
"""

from __future__ import annotations

import inspect
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agentkit.errors import ConfigurationError, ModelError, described, did_you_mean, import_failure, in_one_line
from agentkit.models.builtin import builtin_folder

PURPOSE = "for models in this process"
PACKAGES = {
    **{name: name for name in ("accelerate", "bitsandbytes", "llguidance", "torch", "transformers")},
    **{name: name for name in ("soundfile", "soxr", "pillow", "torchcodec", "torchvision", "torchaudio", "timm")},
    **{name: name for name in ("sentencepiece", "protobuf", "tiktoken", "mistral-common")},
    "pytorch": "torch",
    "pil": "pillow",
}
"""Packages, by the names that libraries call each other in their errors."""
IMPORTED_AS = {"pillow": "PIL", "protobuf": "google.protobuf"}
CAUSAL, SEQ2SEQ, MULTIMODAL = "AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModelForMultimodalLM"
AUTO_CLASS = {
    "text-generation": "",  # whatever the model is
    "text2text-generation": SEQ2SEQ,
    "summarization": SEQ2SEQ,
    "translation": SEQ2SEQ,
    "image-text-to-text": "AutoModelForImageTextToText",
    "audio-text-to-text": MULTIMODAL,
    "any-to-any": MULTIMODAL,
}
TEXT_ONLY = (CAUSAL, SEQ2SEQ)
BITS = {"nf4": {"load_in_4bit": True}, "int8": {"load_in_8bit": True}}
BITS_KEYWORDS = ("load_in_4bit", "load_in_8bit", "bnb_4bit_", "llm_int8_")
OTHER_PARAMETERS = frozenset(  # of `generate`, beside those of its configuration; `seed` is ours
    "assistant_model assistant_tokenizer custom_generate generation_config logits_processor negative_prompt_ids "
    "prefix_allowed_tokens_fn seed stopping_criteria streamer".split()
)
NUMBERS: Mapping[str, tuple[Any, float]] = {
    **dict.fromkeys(("max_new_tokens", "num_beams"), (int, 1)),
    **dict.fromkeys(("top_k", "seed"), (int, 0)),
    **dict.fromkeys(("temperature", "top_p", "repetition_penalty"), (int | float, 0)),
}
"""The parameters that people set most: what they are, and the least that they can be."""
GIB = 2**30
ADVICE = "take a smaller model, quantization='nf4', or dtype='bfloat16'"
_NO_CODE: Mapping[str, Any] = {"trust_remote_code": False}  # unsaid, transformers asks, and reads piped text as a yes
SHARED_OPTIONS = ("revision", "token", "cache_dir", "local_files_only", "trust_remote_code", "subfolder")


def load_model(
    model_id: str,
    *,
    task: str = "text-generation",
    model_kwargs: Mapping[str, Any] | None = None,
    device: int | str | None = None,
    device_map: Any = None,
    quantization: str | None = None,
    dtype: Any = None,
    attn_implementation: str | None = None,
) -> tuple[Any, Any]:
    """The model and its tokenizer (a processor where the model takes images, sound or video)."""
    if task not in AUTO_CLASS:
        raise ConfigurationError(f"expected a task of {', '.join(AUTO_CLASS)}, saw {task!r}")
    if device is not None and device_map is not None:
        raise ConfigurationError("expected device or device_map, saw both; leave one out")
    _check_folder(model_id)
    named = {"dtype": dtype, "attn_implementation": attn_implementation}
    options = {**_NO_CODE, **(model_kwargs or {})}
    options |= {name: value for name, value in named.items() if value is not None}
    shared = {name: options[name] for name in SHARED_OPTIONS if name in options}
    with loading_errors(model_id), _quiet(model_id):
        import transformers

        if config := quantization_config(quantization, options):
            options["quantization_config"] = config
        if device_map is not None:
            options["device_map"] = device_map
        placed = None if device_map is not None or "quantization_config" in options else _device(device)
        auto_class = AUTO_CLASS[task] or _auto_class(model_id, shared)
        reader = transformers.AutoTokenizer if auto_class in TEXT_ONLY else transformers.AutoProcessor
        tokenizer = reader.from_pretrained(model_id, **shared)
        if placed is not None:
            check_room(model_id, weight_bytes(_folder(model_id, shared)), free_bytes(placed))
        model = getattr(transformers, auto_class).from_pretrained(model_id, **options)
        if placed is not None:
            model.to(placed)
    return model.eval(), tokenizer


def use_one_thread() -> None:
    """For a process that runs one small model: a second thread would cost more than it computes."""
    import torch

    torch.set_num_threads(1)


@contextmanager
def _quiet(model_id: str) -> Iterator[None]:
    """Bars on a terminal, where there is something to wait for; no advice to let a package download faster code."""
    from transformers.utils import logging as bars

    kernels = logging.getLogger("bitsandbytes.backends.cpu.ops")  # says so when it is imported
    level = kernels.level
    kernels.setLevel(logging.ERROR)
    awaited = sys.stderr.isatty() and model_id != str(builtin_folder())
    hush = bars.is_progress_bar_enabled() and not awaited
    if hush:
        bars.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        kernels.setLevel(level)
        if hush:
            bars.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def loading_errors(model_id: str) -> Iterator[None]:
    """Turns what goes wrong while loading into one line with what to do."""
    try:
        with memory_errors(model_id, "loading"):
            yield
    except ImportError as error:
        raise missing_package(error, PURPOSE) from error
    except OSError as error:
        raise ConfigurationError(_not_found_message(model_id, error)) from error
    except RuntimeError as error:
        raise ModelError(f"loading {model_id} failed: {in_one_line(error, 300)}") from error
    except ConfigurationError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        if "trust_remote_code" in str(error):
            raise ConfigurationError(
                f"{model_id} holds code of its own, which is not run unasked; read it, and give the option "
                'model_kwargs={"trust_remote_code": true} to run it'
            ) from error
        if "pip install" in str(error):  # as transformers says it of accelerate, sentencepiece and others
            raise missing_package(error, PURPOSE) from error
        seen = f"{model_id}: {in_one_line(error, 300)}"
        raise ConfigurationError(f"expected a model transformers can load, saw {seen}") from error


def missing_package(error: BaseException, purpose: str) -> ConfigurationError:
    """What to tell the user about an ImportError, ours or a library's own."""
    named = f"{getattr(error, 'name', None) or ''} {error}".lower()
    package = next((PACKAGES[name] for name in PACKAGES if re.search(rf"\b{name}\b", named)), None)
    if package is None:
        return ConfigurationError(f"a package, needed {purpose}, does not import: {in_one_line(error, 300)}")
    return ConfigurationError(import_failure(error, package, purpose=purpose, module=IMPORTED_AS.get(package, "")))


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse generation parameters that GenerationConfig does not have or does not take; no model is loaded for it."""
    with loading_errors("a model in this process"):
        from transformers import GenerationConfig

    config = GenerationConfig()  # type: ignore[no-untyped-call]
    known = {name for name in vars(config) if not name.startswith("_")} | OTHER_PARAMETERS
    others = {*inspect.signature(load_model).parameters, "constrain"}
    for name in options.keys() - known:
        raise ConfigurationError(
            f"unknown option {name!r} for a model in this process{did_you_mean(name, known | others)}"
        )
    values = {name: value for name, value in options.items() if hasattr(config, name) and value is not None}
    for name, (kind, least) in NUMBERS.items():
        value = values.get(name, least)
        if isinstance(value, bool) or not isinstance(value, kind) or not value >= least:
            whole = " whole" if kind is int else ""
            raise ConfigurationError(f"{name}: expected a{whole} number of at least {least}, saw {described(value)}")
    values.setdefault("do_sample", bool(values.get("temperature")))
    log = logging.getLogger(GenerationConfig.__module__)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        config.update(**values)  # type: ignore[no-untyped-call]
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"generation parameters that cannot be: {in_one_line(error, 300)}") from error
    finally:
        log.setLevel(level)


def load_tokenizer(model_id: str) -> Any:
    """A model's tokenizer alone."""
    with loading_errors(model_id), _quiet(model_id):
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(model_id, **_NO_CODE)


def _auto_class(model_id: str, shared: Mapping[str, Any]) -> str:
    """What generates text from a model's configuration."""
    from transformers import MODEL_FOR_MULTIMODAL_LM_MAPPING, AutoConfig

    config = AutoConfig.from_pretrained(model_id, **shared)
    if type(config) in MODEL_FOR_MULTIMODAL_LM_MAPPING:
        return MULTIMODAL
    return SEQ2SEQ if config.is_encoder_decoder else CAUSAL


def _folder(model_id: str, shared: Mapping[str, Any]) -> Path:
    """Where a model's files are; nowhere (an empty path's folder) while they are yet to be downloaded."""
    path = Path(model_id).expanduser()
    if path.is_dir():
        return path
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(
        model_id, "config.json", cache_dir=shared.get("cache_dir"), revision=shared.get("revision")
    )
    return Path(config).parent if isinstance(config, str) else Path("/nonexistent")


def _check_folder(model_id: str) -> None:
    path = Path(model_id).expanduser()
    looks_local = path.is_absolute() or model_id.startswith((".", "~")) or model_id.count("/") > 1
    if looks_local and not (path / "config.json").is_file():
        place = "a folder without config.json" if path.is_dir() else "no such folder"
        raise ConfigurationError(f"expected a model folder at {model_id}, saw {place}; check the path")


def _device(device: int | str | None) -> str:
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if isinstance(device, int):
        device = "cpu" if device < 0 else f"cuda:{device}"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigurationError(f"expected a GPU for device {device!r}, torch sees none; leave device out")
    return device


def _not_found_message(model_id: str, error: OSError) -> str:
    text = str(error)
    if "gated" in text.lower() or "401" in text or "403" in text:
        return (
            f"expected access to {model_id}, it is gated or private; accept its terms on "
            f"https://huggingface.co/{model_id} and set HF_TOKEN"
        )
    if "not a valid model identifier" in text or "404" in text:
        return f"expected a model folder or a repository ORG/NAME, saw {model_id}, which does not exist; check the name"
    if "couldn't connect" in text or "offline mode" in text.lower():
        return (
            f"expected {model_id} in the cache or a connection to huggingface.co, saw neither; connect once to "
            "download it, or give a model's folder"
        )
    return f"expected to load {model_id}: {in_one_line(error, 300)}"


def quantization_config(name: str | None, options: dict[str, Any]) -> Any:
    """`nf4` (4 bits, double quantization) or `int8` as a BitsAndBytesConfig; None where nothing is quantized.

    Keywords such as `load_in_4bit=True` among `options` are taken out of them and mean the same.
    """
    given = {key: options.pop(key) for key in tuple(options) if key.startswith(BITS_KEYWORDS)}
    if name is None and not any(given.get(key) for key in ("load_in_4bit", "load_in_8bit")):
        return None
    if name is not None and name not in BITS:
        raise ConfigurationError(f"expected quantization 'nf4' or 'int8', saw {name!r}")
    if "quantization_config" in options:
        raise ConfigurationError(
            "expected quantization or model_kwargs['quantization_config'], saw both; leave one out"
        )
    wanted = {**(BITS[name] if name else {}), **given}
    try:
        import accelerate  # type: ignore[import-untyped]  # noqa: F401
        import bitsandbytes  # noqa: F401
        import torch
        from transformers import BitsAndBytesConfig
    except ImportError as error:
        raise missing_package(error, "for quantization") from error
    if wanted.get("load_in_4bit"):
        # half-precision arithmetic is four times slower than float32 on a CPU
        compute = torch.bfloat16 if torch.cuda.is_available() else torch.float32
        defaults = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": compute}
        wanted = {**defaults, **wanted}
    elif not torch.cuda.is_available():  # else it warns of every product of every token that it computes in float16
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    return BitsAndBytesConfig(**wanted)  # type: ignore[no-untyped-call]


def weight_bytes(folder: Path) -> int:
    """The size of the weights in a model's folder."""
    kinds = [sorted(folder.glob(pattern)) for pattern in ("*.safetensors", "*.bin")]
    return sum(path.stat().st_size for path in next(filter(None, kinds), []))


def free_bytes(device: str) -> int:
    """How much may still be taken on a device."""
    import torch

    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)  # type: ignore[no-untyped-call]


def gpu_name() -> str | None:
    """The graphics processor that models run on, where there is one."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def check_room(model_id: str, needed: int, free: int) -> None:
    """Say so before a load that would end in the operating system's killing the process."""
    if needed > free:
        raise ModelError(
            f"expected room for {model_id}, whose weights take {needed / GIB:.1f} GiB, "
            f"saw {free / GIB:.1f} GiB free; {ADVICE}"
        )


@contextmanager
def memory_errors(model_id: str, doing: str) -> Iterator[None]:
    """Turns running out of memory into one line with what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        if not (isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text):
            raise
        raise ModelError(f"expected room for {doing} {model_id}, memory ran out; {ADVICE}") from error
