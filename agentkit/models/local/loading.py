"""Loads a model and its tokenizer from a folder or a repository, quantized where that is asked for.

What is not there (a package, a name, memory) is an error that says what to do.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_type_hints

from agentkit.errors import (
    AgentkitError,
    ConfigurationError,
    ModelError,
    described,
    import_failure,
    in_one_line,
    short_repr,
)
from agentkit.models.builtin import builtin_folder
from agentkit.models.local.bounds import backtracks
from agentkit.models.local.gguf_file import read_gguf, warn_of_a_hole
from agentkit.models.local.hub import why_not_asked
from agentkit.number_words import count
from agentkit.option_kinds import check_kinds

OURS = "a model in this process"
PURPOSE = "for models in this process"
CLOSED = "the model is closed; load it again"
PACKAGES = {
    **{name: name for name in ("accelerate", "bitsandbytes", "llguidance", "torch", "transformers")},
    **{name: name for name in ("soundfile", "soxr", "pillow", "torchcodec", "torchvision", "torchaudio", "timm")},
    **{name: name for name in ("sentencepiece", "protobuf", "tiktoken", "mistral-common", "gguf", "peft")},
    **{name: name for name in ("hqq", "torchao", "gptqmodel", "optimum", "compressed-tensors")},
    "compressed_tensors": "compressed-tensors",
    **dict.fromkeys(("flashattention2", "flash_attn"), "flash-attn"),
    "pytorch": "torch",
    "pil": "pillow",
}
"""Packages, by the names that libraries call each other in their errors."""
IMPORTED_AS = {"pillow": "PIL", "protobuf": "google.protobuf"}
ADVISING = (
    *("transformers", "accelerate", "peft", "gguf", "huggingface_hub", "bitsandbytes"),
    "bitsandbytes.backends.cpu.ops",
)
"""Loggers that advise. The last one has a level of its own, and advises to download faster code when it is imported."""
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
GIB = 2**30
ADVICE = "take a smaller model, quantization='nf4', or dtype='bfloat16'"
FETCH = (
    "connect once to download it, give a model's folder or file, or set HF_HOME to a folder with a cache that holds it"
)
_NO_CODE: Mapping[str, Any] = {"trust_remote_code": False}  # unsaid, transformers asks, and reads piped text as a yes
OF_FILES = ("revision", "token", "cache_dir", "local_files_only", "trust_remote_code", "subfolder")
"""Options that say where files are, and what may be done with them."""
LLAMA = "xllamacpp"
"""The package of llama.cpp, which computes GGUF files, too."""
_LOG = logging.getLogger("agentkit")
GGUF, CONFIG, ADAPTER_CONFIG = ".gguf", "config.json", "adapter_config.json"
GENERATION_CONFIG = "generation_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json")
MOST_OF_TEMPLATE = 2**20
"""Bytes of a chat template's file; real ones have a few thousand."""
_TOO_MANY = re.compile(
    r'"(\w{0,40}(?:layer|label|expert|head)\w{0,40})"\s*:\s*(\d{6,})|"(\w{0,40}(?:size|dim|embd|model))"\s*:\s*(\d{8,})'
)
"""In a configuration: more parts, or larger ones, than any model has. transformers builds them before it looks on."""
OWN_ADAPTER, BASE_MODEL = "default", "base"
"""The name of an adapter that is given without one, and what a request calls the model without adapters."""
DTYPES = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """How a model is loaded. Where it is may be told in full: revision, subfolder, token, cache_dir, local_files_only.

    `model_kwargs` are whatever else its class in transformers takes; those of these names may stand there, too.
    `gguf_file` is a file of the folder or repository. `adapter` is a PEFT adapter's folder or repository, or several by
    names of their own, of which the first computes unless a request names another. `tokenizer` is one, or where it is.
    """

    task: str = "text-generation"
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    device: int | str | None = None
    device_map: Any = None
    quantization: str | None = None
    dtype: Any = None
    torch_dtype: Any = None
    attn_implementation: str | None = None
    gguf_file: str | Path | None = None
    adapter: str | Path | Mapping[str, str | Path] | None = None
    tokenizer: Any = None
    revision: str | None = None
    subfolder: str | None = None
    token: str | bool | None = field(default=None, repr=False)
    cache_dir: str | Path | None = None
    local_files_only: bool | None = None
    trust_remote_code: bool = False

    def options(self) -> dict[str, Any]:
        """What differs from the defaults, with `~` spelled out; in `model_kwargs` is left what has no name here."""
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        given = {name: value for name, value in given.items() if value is not None and value != _DEFAULTS.get(name)}
        rest = dict(given.pop("model_kwargs", {}))
        lifted = {name: rest.pop(name) for name in _DEFAULTS if name in rest}
        check_loading(lifted)
        for name, value in lifted.items():
            if name in given and given[name] != value:
                raise ConfigurationError(f"{name} is given twice, and not the same in model_kwargs; leave one out")
        given |= {name: value for name, value in lifted.items() if value is not None}
        old = given.pop("torch_dtype", None)
        if old is not None and given.setdefault("dtype", old) != old:
            raise ConfigurationError("dtype and torch_dtype, its old name, are not the same; leave torch_dtype out")
        if isinstance(dtype := given.get("dtype"), Mapping):
            given["dtype"] = {part: _full_name(each) for part, each in dtype.items()}
        elif dtype is not None:
            given["dtype"] = _full_name(dtype)
        return {name: _at_home(value) for name, value in {**given, "model_kwargs": rest}.items()}


_DEFAULTS: Mapping[str, Any] = {each.name: each.default for each in fields(Loading) if each.name != "model_kwargs"}
LOADING = (*_DEFAULTS, "model_kwargs")
"""Names of the options of loading."""
OF_BACKEND: Mapping[str, Any] = {
    "batch_size": int,
    "chat_template": str | Path | None,
    "chat_template_kwargs": Mapping[str, Any] | None,
    "pipeline_kwargs": Mapping[str, Any] | None,
    "reuse": bool,
}
"""The options of a backend, for a model that is loaded or ready, with their kinds."""


def load_model(model_id: str, loading: Loading) -> tuple[Any, Any]:
    """The model and its tokenizer (a processor where the model takes images, sound or video)."""
    options = loading.options()
    task, tokenizer = options.pop("task", loading.task), options.pop("tokenizer", None)
    device, quantization = options.pop("device", None), options.pop("quantization", None)
    if task not in AUTO_CLASS:
        raise ConfigurationError(f"expected a task of {', '.join(AUTO_CLASS)}, saw {task!r}")
    if device is not None and "device_map" in options:
        raise ConfigurationError("expected device or device_map, saw both; leave one out")
    adapters = {name: Place(place) for name, place in _by_name(options.pop("adapter", {})).items()}
    _refuse_files(adapters)
    of_files = {**_NO_CODE, **{name: options.pop(name) for name in OF_FILES if name in options}}
    place = Place(*_file_of(_at_home(model_id), options.pop("gguf_file", None)), of_files)
    _check_place(place)
    options |= options.pop("model_kwargs")
    _check_of_class(options)
    with loading_errors(model_id), _quiet(model_id), ExitStack() as of_base:
        import transformers

        if "dtype" in options:
            options["dtype"] = _dtype(options["dtype"])
        place = place.reached().downloaded()
        subject = model_id
        words = place if place.has_tokenizer() else None
        if base := place.base():
            adapters = {OWN_ADAPTER: place, **adapters}
            place, subject = base, base.folder
        of_base.enter_context(loading_errors(subject, away=place.away))
        place.check_configuration()
        if config := quantization_config(quantization, options):
            options["quantization_config"] = config
            if device is not None:
                options["device_map"] = {"": _device(device)}
        placed = None if {"device_map", "quantization_config"} & options.keys() else _device(device)
        auto_class = AUTO_CLASS[task] or place.auto_class()
        if tokenizer is None or isinstance(tokenizer, str | Path):
            words = words or place
            if tokenizer is not None:
                words = Place(*_file_of(str(tokenizer), None), _anywhere(of_files), place.away)
                words = words.reached(*TOKENIZER_FILES)
            reader = transformers.AutoTokenizer if auto_class in TEXT_ONLY else transformers.AutoProcessor
            tokenizer = words.read(reader)
        if placed is not None:
            check_room(model_id, place.weight_bytes(options.get("dtype")), free_bytes(placed))
        # what is missing and what does not fit is reported: else it is only logged
        options = {"ignore_mismatched_sizes": True, **options, "output_loading_info": True}
        model, report = place.read(getattr(transformers, auto_class), **options)
        if missing := [*sorted(report["missing_keys"]), *(key for key, *_ in report["mismatched_keys"])]:
            files = Path(place.folder, place.gguf_file or "")
            raise ConfigurationError(
                f"{files} lacks {count(len(missing), 'weight')} of a {type(model).__name__}, or has them in "
                f"other sizes ({missing[0]} …): it would answer at random; give a folder that is complete"
            )
        _check_parts(options.get("dtype"), model.config)
        if placed is not None:
            model.to(placed)
        model = _with_adapters(model, adapters, _anywhere(of_files), place.away)
    return model.eval(), tokenizer


# -- where the files are -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """A folder or a repository with a model's files, or its GGUF file; `options` are for whatever reads there.

    `away` says where alone the files of a repository can be, and why none is fetched, as the end of a sentence.
    """

    folder: str
    gguf_file: str | None = None
    options: Mapping[str, Any] = field(default_factory=lambda: dict(_NO_CODE))
    away: str = ""

    def reached(self, *wanted: str) -> Place:
        """The same, as the cache has it where the hub does not answer; raises for one that is not there either.

        It is a folder then: for some of their files libraries ask the hub whatever they are told. `wanted` are files of
        which it has one; else those of a model.
        """
        _check_place(self, *wanted)
        if os.path.isdir(self.folder):
            return self
        from huggingface_hub import constants, try_to_load_from_cache

        options, away = dict(self.options), self.away
        cache, revision = options.pop("cache_dir", None), options.pop("revision", None)
        if not away:
            if not (why := why_not_asked(only_cached=bool(options.get("local_files_only")))):
                return self
            away = f"in the cache {cache or constants.HF_HUB_CACHE}, and {why}"
        for name in filter(None, wanted or (CONFIG, ADAPTER_CONFIG, self.gguf_file)):
            inside = Path(options.get("subfolder") or "", name)
            found = try_to_load_from_cache(self.folder, str(inside), cache_dir=cache, revision=revision)
            if isinstance(found, str):
                return replace(self, folder=str(Path(found).parents[len(inside.parts) - 1]), options=options, away=away)
        raise ConfigurationError(f"{self.folder} is not {away}; {FETCH}")

    def read(self, reader: Any, **options: Any) -> Any:
        """What a class of transformers makes of its files."""
        if self.gguf_file is None:
            return reader.from_pretrained(self.folder, **self.options, **options)
        from transformers.utils import logging as bars

        unpacking: Any = import_module("transformers.modeling_gguf_pytorch_utils")
        its_own, unpacking.tqdm = unpacking.tqdm, bars.tqdm  # which asks nobody whether it may be shown
        try:
            return reader.from_pretrained(self.folder, gguf_file=self.gguf_file, **self.options, **options)
        finally:
            unpacking.tqdm = its_own

    @property
    def of_hub(self) -> dict[str, Any]:
        """The options for what only fetches files, and runs no code of theirs."""
        return {name: value for name, value in self.options.items() if name != "trust_remote_code"}

    def path(self, name: str) -> Path | None:
        """Where a file of it is on this machine, downloaded where need be; `None` where it has none of this name."""
        from transformers.utils import cached_file  # type: ignore[attr-defined]

        found = cached_file(self.folder, name, **self.of_hub, _raise_exceptions_for_missing_entries=False)
        return Path(found) if found else None

    def downloaded(self) -> Place:
        """The same, with a GGUF file on this machine, which is whole."""
        if self.gguf_file is None:
            return self
        import gguf  # noqa: F401  # else transformers' message names torch, too

        if (file := self.path(self.gguf_file)) is None:
            folder = Path(self.folder, self.options.get("subfolder") or "")
            raise ConfigurationError(f"no file {self.gguf_file} in {folder}; check the name")
        warn_of_a_hole(read_gguf(file))
        if find_spec(LLAMA) is None:
            _LOG.warning(
                "%s is computed by transformers; llama.cpp is about three times as fast: pip install %s",
                file.name,
                LLAMA,
            )
        return Place(str(file.parent), file.name, _anywhere(self.options), self.away)

    def has_tokenizer(self) -> bool:
        """Whether it brings one, which an adapter need not."""
        return self.gguf_file is not None or any(self.path(name) for name in TOKENIZER_FILES)

    def base(self) -> Place | None:
        """The model that its adapter is made for, where it is an adapter alone."""
        if self.gguf_file is not None or self.path(CONFIG) or (file := self.path(ADAPTER_CONFIG)) is None:
            return None
        config = json.loads(file.read_text("utf-8"))
        name = config.get("base_model_name_or_path") if isinstance(config, dict) else None
        beside = file.parent / str(name)
        base = str(beside) if name and beside.is_dir() else _at_home(str(name))
        try:
            if not name or not isinstance(name, str):
                raise ConfigurationError("none is named")
            revision = {"revision": config["revision"]} if isinstance(config.get("revision"), str) else {}
            found = Place(*_file_of(base, None), _anywhere(self.options) | revision, self.away)
            found = found.reached(CONFIG)  # an adapter of an adapter has no weights to be put on
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{self.folder} is an adapter, and the model that it was made for is not here ({error}); "
                f"give that model, and adapter={self.folder}"
            ) from error
        return found

    def check_configuration(self) -> None:
        """Refuse files that transformers would believe, or leave aside without a word."""
        if self.gguf_file is not None:
            return
        if (file := self.path(CONFIG)) and (found := _TOO_MANY.search(file.read_text("utf-8", "replace"))):
            name, number = found[1] or found[3], found[2] or found[4]
            raise ConfigurationError(f"{file} says that {name} is {number:.20}, as in no model; download it again")
        if file := self.path(GENERATION_CONFIG):
            try:
                json.loads(file.read_text("utf-8"))
            except (ValueError, RecursionError) as error:
                raise ConfigurationError(
                    f"{file} is no JSON: it says where replies end ({in_one_line(error, 100)}); download it again"
                ) from error

    def auto_class(self) -> str:
        """What generates text, by the model's configuration."""
        from transformers import MODEL_FOR_MULTIMODAL_LM_MAPPING, AutoConfig

        if self.gguf_file:
            return SEQ2SEQ if "t5" in read_gguf(Path(self.folder, self.gguf_file)).architecture else CAUSAL
        config = AutoConfig.from_pretrained(self.folder, **self.options)
        if type(config) in MODEL_FOR_MULTIMODAL_LM_MAPPING:
            return MULTIMODAL
        kinds = [str(kind) for kind in config.architectures or () if str(kind).endswith("ForMaskedLM")]
        if kinds and not getattr(config, "is_decoder", False):
            raise ConfigurationError(
                f"{self.folder} is a {kinds[0]}, which fills gaps in texts and writes none; give a model that does"
            )
        return SEQ2SEQ if config.is_encoder_decoder else CAUSAL

    def weight_bytes(self, dtype: Any) -> int:
        """The room that the weights take: as in their files, but those of a GGUF file are unpacked."""
        if self.gguf_file:
            half = str(dtype).removeprefix("torch.") in ("float16", "bfloat16", "half")
            return read_gguf(Path(self.folder, self.gguf_file)).weights * (2 if half else 4)
        return weight_bytes(_folder(self.folder, self.options))


def _anywhere(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options that hold for a second folder or repository, too."""
    return {name: value for name, value in options.items() if name not in ("revision", "subfolder")}


def _at_home(value: Any) -> Any:
    """A path, or a mapping with some, with a home folder's `~` spelled out."""
    if isinstance(value, Mapping):
        return {name: _at_home(each) for name, each in value.items()}
    if isinstance(value, Path):
        value = str(value)
    return os.path.expanduser(value) if isinstance(value, str) and value.startswith("~") else value


def _by_name(adapters: str | Mapping[str, str]) -> Mapping[str, str]:
    """Adapters by their names, which stand in the names of modules."""
    if not isinstance(adapters, Mapping):
        return {OWN_ADAPTER: adapters}
    for name, place in adapters.items():
        if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name) or name == BASE_MODEL:
            raise ConfigurationError(f"an adapter's name is of letters and digits, and not {BASE_MODEL}; saw {name!r}")
        if not isinstance(place, str) or not place:
            raise ConfigurationError(f"the adapter {name} is a folder or a repository, not {described(place)}")
    return adapters


def _file_of(place: str, file: str | None) -> tuple[str, str | None]:
    """A folder or repository, and which GGUF file of it is meant, if one is."""
    if file is None and place.endswith(GGUF) and not Path(place).is_dir():
        if not Path(place).is_file():
            raise ConfigurationError(f"no file {place}; check the path")
        file = os.path.abspath(place)
    elif file is not None and Path(place).is_file():
        raise ConfigurationError(f"{place} is a file already; leave gguf_file out, or give the folder")
    if file is not None and (os.path.isabs(file) or not file.endswith(GGUF)):
        if not file.endswith(GGUF):
            raise ConfigurationError(f"gguf_file is the name of a file {GGUF}, not {file}")
        return os.path.split(file)
    folder = Path(place)
    if not folder.is_dir():
        return place, file
    if file is None:
        found = gguf_in(folder)
        return place, found.name if found else None
    if not (folder / file).is_file():
        there = ", ".join(each.name for each in sorted(folder.glob(f"*{GGUF}")))
        raise ConfigurationError(f"no file {file} in {place}. There: {there or f'no {GGUF} file'}")
    return place, file


def gguf_in(folder: Path) -> Path | None:
    """The GGUF file of a folder without a model of transformers' own; raises `ConfigurationError` for several."""
    if any((folder / name).is_file() for name in (CONFIG, ADAPTER_CONFIG)):
        return None
    there = sorted(folder.glob(f"*{GGUF}"))
    if len(there) > 1:
        names = ", ".join(each.name for each in there)
        raise ConfigurationError(f"{folder} holds several models: {names}; give one of them, as {there[0]}")
    return there[0] if there else None


def of_peft(place: Path) -> bool:
    """Whether it is a PEFT adapter: its folder, or one of the files in it."""
    names = (ADAPTER_CONFIG, *ADAPTER_WEIGHTS)
    return any((place / name).is_file() for name in names) or (place.name in names and place.is_file())


def size_of(model_id: str) -> int:
    """The bytes of a model's weights, where they are on this machine already; else 0."""
    with suppress(OSError, ValueError):  # a name that cannot be; loading it says so
        if model_id.endswith(GGUF):
            return Path(model_id).stat().st_size
        return weight_bytes(_folder(model_id, {}))
    return 0


@contextmanager
def _quiet(model_id: str) -> Iterator[None]:
    """Bars on a terminal, where there is something to wait for, and none of the libraries' warnings: what of them
    matters to a user is an error here."""
    from transformers.utils import logging as bars

    awaited = sys.stderr.isatty() and model_id != str(builtin_folder())
    hush = bars.is_progress_bar_enabled() and not awaited
    if hush:
        bars.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with without_advice(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if hush:
            bars.enable_progress_bar()  # type: ignore[no-untyped-call]


class _WithoutAdvice:
    """In this block, which calls them, libraries log nothing, also where several threads are in one.

    They warn of what this package calls, or of a model's own files, which a user cannot mend; their errors are raised.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._within = 0
        self._levels: dict[str, int] = {}

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            self._within += 1
            if self._within == 1:
                loggers = {name: logging.getLogger(name) for name in ADVISING}
                self._levels = {name: each.level for name, each in loggers.items()}
                for each in loggers.values():
                    each.setLevel(max(each.getEffectiveLevel(), logging.CRITICAL))
        try:
            yield
        finally:
            with self._lock:
                self._within -= 1
                for name, level in self._levels.items() if not self._within else ():
                    logging.getLogger(name).setLevel(level)


without_advice = _WithoutAdvice()


@contextmanager
def loading_errors(model_id: str, *, away: str = "") -> Iterator[None]:
    """Turns what goes wrong while loading into one line with what to do. `away`: why nothing was fetched."""
    try:
        with memory_errors(model_id, "loading"):
            yield
    except AgentkitError:
        raise
    except ImportError as error:
        raise missing_package(error, PURPOSE) from error
    except OSError as error:
        raise ConfigurationError(_not_found_message(model_id, error, away)) from error
    except RuntimeError as error:
        raise ModelError(f"loading {model_id} failed: {in_one_line(error, 300)}") from error
    except Exception as error:  # of any kind: it comes of a file that is not what the libraries expect
        if "trust_remote_code" in str(error):
            raise ConfigurationError(
                f"{model_id} holds code of its own, which is not run unasked; read it, and give the option "
                '{"trust_remote_code": true} to run it'
            ) from error
        if named := re.search(r"has model type `(.*?)` but Transformers does not recognize", str(error), re.DOTALL):
            raise ConfigurationError(
                f"{model_id} is of the model type {in_one_line(named[1], 60)!r}, which the installed transformers does "
                "not know; check its config.json, or run pip install --upgrade transformers"
            ) from error
        if "pip install" in str(error):  # as transformers says it of accelerate, sentencepiece and others
            raise missing_package(error, PURPOSE) from error
        if "backend tokenizer" in str(error):
            raise ConfigurationError(
                f"{model_id} has no tokenizer, or not all of its files; give tokenizer=…"
            ) from error
        raise ConfigurationError(f"expected a model transformers can load, saw {model_id}: {_why(error)}") from error


def _why(error: Exception) -> str:
    """What a library says of a file that it cannot load."""
    if isinstance(error, pickle.UnpicklingError):  # its own words advise to let it run code
        return "its weights are pickled objects that are no weights alone, which could run code and are not loaded"
    if of_class := re.search(r"Unrecognized configuration class .*?(\w+)'> for this .*?: (\w+)", str(error)):
        kind = of_class[1].removesuffix("Config")
        if of_class[2] == CAUSAL:
            return f"a {kind} writes no text; give a model that does"
        return f"a {kind} is none for that task ({of_class[2]}); leave task out"
    if isinstance(error, KeyError):
        return f"one of its files lacks {in_one_line(error, 100)}, or names one that does not exist"
    return in_one_line(error, 300) or type(error).__name__


def missing_package(error: BaseException, purpose: str) -> ConfigurationError:
    """What to tell the user about an ImportError, ours or a library's own."""
    named = f"{getattr(error, 'name', None) or ''} {error}".lower()
    advised = re.search(r"pip install (?:-\S+ +)*['\"]?([a-z][\w.-]*)(?!\S*:)", named)  # not git+https://…
    package = next((PACKAGES[name] for name in PACKAGES if re.search(rf"\b{name}\b", named)), None)
    if advised and not getattr(error, "name", None):
        package = advised[1]
    if package is None:
        return ConfigurationError(f"a package, needed {purpose}, does not import: {in_one_line(error, 300)}")
    return ConfigurationError(import_failure(error, package, purpose=purpose, module=IMPORTED_AS.get(package, "")))


def check_loading(options: Mapping[str, Any]) -> None:
    """Refuse options of loading and of a backend that are not of their kind; nothing is imported for it."""
    check_kinds(options, {**get_type_hints(Loading), **OF_BACKEND}, what=OURS)
    if empty := [name for name, value in options.items() if value == "" and name != "subfolder"]:  # there it is none
        raise ConfigurationError(f"{empty[0]} is empty; leave it out (an option of {OURS})")
    _by_name(options.get("adapter") or {})
    template_text(options.get("chat_template"))
    if options.get("batch_size", 1) < 1:
        raise ConfigurationError(
            f"batch_size is at least 1, not {described(options['batch_size'])} (an option of {OURS})"
        )


def load_tokenizer(model_id: str) -> Any:
    """A model's tokenizer alone."""
    model_id = _at_home(model_id)
    with loading_errors(model_id), _quiet(model_id):
        from transformers import AutoTokenizer

        return Place(model_id).reached(*TOKENIZER_FILES).read(AutoTokenizer)


def _folder(model_id: str, shared: Mapping[str, Any]) -> Path:
    """Where a model's files are; nowhere (an empty path's folder) while they are yet to be downloaded."""
    path = Path(model_id).expanduser()
    if path.is_dir():
        return path
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(
        model_id, CONFIG, cache_dir=shared.get("cache_dir"), revision=shared.get("revision")
    )
    return Path(config).parent if isinstance(config, str) else Path("/nonexistent")


def _check_place(place: Place, *wanted: str) -> None:
    """Raise `ConfigurationError` for a folder without a model, before anything is imported for it."""
    wanted = wanted or (CONFIG, ADAPTER_CONFIG)
    folder = Path(place.folder, place.options.get("subfolder") or "")
    looks_local = os.path.isabs(place.folder) or place.folder.startswith(".") or place.folder.count("/") > 1
    is_local = place.gguf_file is None and (looks_local or Path(place.folder).exists())
    if is_local and not any((folder / name).is_file() for name in wanted):
        seen = f"a folder without {wanted[0]}" if folder.is_dir() else "a file" if folder.exists() else "no such folder"
        what = "an adapter's folder" if wanted[0] == ADAPTER_CONFIG else "a model folder"
        raise ConfigurationError(f"expected {what} at {folder}, saw {seen}; check the path")
    revision = place.options.get("revision")
    if revision not in (None, "main") and Path(place.folder).is_dir():
        raise ConfigurationError(
            f"{place.folder} is a folder, which has no revision {revision!r}; leave it out, of model_kwargs too"
        )


def template_text(template: str | Path | None) -> str | None:
    """A chat template that is given as text, or as the file that holds it."""
    if template is None or (isinstance(template, str) and "{" in template):
        return template
    file = Path(_at_home(template))
    try:
        if not file.is_file() or file.stat().st_size > MOST_OF_TEMPLATE:  # a device has no end
            raise ValueError("no file of a template's size")
        text = file.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"no chat template in the file {file}; check the path, or give its text") from error
    if not text.strip():
        raise ConfigurationError("chat_template is empty; leave it out for the model's own")
    if "{" not in text:
        raise ConfigurationError(f"no chat template in the file {file}: it has no place for messages; check the path")
    return text


def _refuse_files(adapters: Mapping[str, Place]) -> None:
    """Raise `ConfigurationError` for an adapter that is given as a file; nothing is loaded for it."""
    for file in (Path(place.folder) for place in adapters.values()):
        if not file.is_file():
            continue
        if of_peft(file):
            raise ConfigurationError(f"the adapter {file} is one file of its folder; give the folder, {file.parent}")
        if file.suffix == GGUF:
            raise ConfigurationError(
                f"the adapter {file} is llama.cpp's, and transformers takes a folder of PEFT's: give the one that it "
                "was made of, or the model as a GGUF file, too"
            )


def _with_adapters(model: Any, adapters: Mapping[str, Place], anywhere: Mapping[str, Any], away: str) -> Any:
    """The model with its adapters, of which the first computes; refuses one that was made for another model."""
    if not adapters:
        return model
    import peft

    adapted: Any = None
    base = model.config.name_or_path
    for name, place in adapters.items():
        place = replace(place, options={**anywhere, **place.options}, away=away).reached(ADAPTER_CONFIG)
        if (weights := next(filter(None, map(place.path, ADAPTER_WEIGHTS)), None)) is None:
            raise ConfigurationError(f"the adapter {place.folder} has no weights: {' or '.join(ADAPTER_WEIGHTS)}")
        _check_patterns(place)
        folder = str(weights.parent)  # in which peft asks no hub
        try:
            if adapted is None:
                config = peft.PeftConfig.from_pretrained(folder)
                config.inference_mode = True
                adapted = peft.get_peft_model(model, config, adapter_name=name)
            loaded = adapted.load_adapter(folder, adapter_name=name, torch_device=str(model.device))
        except ImportError:
            raise
        except Exception as error:
            raise ConfigurationError(f"the adapter {place.folder} cannot be put on {base}: {_why(error)}") from error
        if wrong := [*loaded.unexpected_keys, *(key for key in loaded.missing_keys if f".{name}." in f"{key}.")]:
            raise ConfigurationError(
                f"the adapter {place.folder} was made for another model than {base}: {count(len(wrong), 'weight')} of "
                f"both do not match ({wrong[0]} …)"
            )
    adapted.set_adapter(next(iter(adapters)), inference_mode=True)
    return adapted


def _check_patterns(place: Place) -> None:
    """Refuse an adapter with a pattern for the names of modules that could be looked for without end."""
    file = place.path(ADAPTER_CONFIG)
    waiting: list[Any] = []
    with suppress(OSError, ValueError, RecursionError):  # peft says what is wrong with it
        waiting = [json.loads(Path(file or "").read_text(encoding="utf-8"))]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str) and backtracks(value):
            raise ConfigurationError(
                f"the adapter {place.folder} looks for modules by {short_repr(value)}, which may never end; name them"
            )
        waiting += [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []


def _device(device: int | str | None) -> str:
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if isinstance(device, int):
        device = "cpu" if device < 0 else f"cuda:{device}"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigurationError(f"expected a GPU for device {device!r}, torch sees none; leave device out")
    try:
        there = torch.empty(1, device=device).device.type != "meta"  # which has room for shapes only
    except Exception as error:  # of any kind: each kind of device has its own
        why = in_one_line(error, 300)
        raise ConfigurationError(f"torch has no device {device!r} here; leave device out ({why})") from error
    if not there:
        raise ConfigurationError(f"the device {device!r} computes nothing; leave device out")
    return device


def _full_name(dtype: Any) -> Any:
    """A type of torch's by the name that torch has for it."""
    if not isinstance(dtype, str):
        return dtype
    return DTYPES.get(dtype.removeprefix("torch."), dtype.removeprefix("torch."))


def _dtype(dtype: Any) -> Any:
    """What weights are numbers of: a type of torch's, "auto", or one for each part of a model."""
    import torch

    if isinstance(dtype, Mapping):
        return {part: _dtype(each) for part, each in dtype.items()}
    named = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    whole = isinstance(named, torch.dtype) and named.is_floating_point and named.itemsize > 1
    if not whole and dtype != "auto":
        raise ConfigurationError(
            f"expected a dtype as 'bfloat16', 'float16' or 'float32', saw {described(dtype)}; check its name"
        )
    return dtype


def _check_parts(dtype: Any, config: Any) -> None:
    """Refuse a dtype for a part that the model does not have: transformers passes it over."""
    parts = ("", *config.sub_configs)
    for part in dtype if isinstance(dtype, Mapping) else ():
        if part not in parts:
            raise ConfigurationError(f"dtype is for the parts {', '.join(map(repr, parts))}, and not {described(part)}")


def _check_of_class(options: Mapping[str, Any]) -> None:
    """Refuse what a model's class would pass over, or load without anything to compute with."""
    places = options.get("device_map")
    if "meta" in (places.values() if isinstance(places, Mapping) else [places]):
        raise ConfigurationError("the device 'meta' computes nothing; leave device_map out")
    if isinstance(config := options.get("config"), str | Path | Mapping):
        raise ConfigurationError(
            f"config is an object of transformers, not {described(config)}; leave it out of model_kwargs"
        )


def _not_found_message(model_id: str, error: OSError, away: str) -> str:
    text = str(error)
    if away and error.errno is None:  # of a library, which guesses at the reason
        return f"{model_id} is not whole {away}; {FETCH}"
    if "gated" in text.lower() or "401" in text or "403" in text:
        return (
            f"expected access to {model_id}, it is gated or private; accept its terms on "
            f"https://huggingface.co/{model_id} and set HF_TOKEN"
        )
    if "not a valid model identifier" in text or "404" in text:
        return f"expected a model folder or a repository ORG/NAME, saw {model_id}, which does not exist; check the name"
    if "couldn't connect" in text or "offline mode" in text.lower():
        return f"{model_id} is not whole in the cache, and the hub answers no more; {FETCH}"
    if part := re.search(r"Can't load (?:the )?([a-z ]+) for '", text):
        return f"{model_id} has no {part[1]}, or not all of its files; give a folder that is complete"
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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, as Python and torch say it."""
    text = str(error).lower() if isinstance(error, RuntimeError) else ""
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


@contextmanager
def errors_of_the_model(doing: str) -> Iterator[None]:
    """Turns what a model's own code and its libraries raise into one line, but for memory that ran out."""
    try:
        yield
    except AgentkitError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        why = f"{type(error).__name__}: {in_one_line(error, 300)}".rstrip(": ")
        raise ModelError(f"the model failed at {doing} ({why}); check its files and options") from error


@contextmanager
def memory_errors(model_id: str, doing: str) -> Iterator[None]:
    """Turns running out of memory into one line with what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(f"expected room for {doing} {model_id}, memory ran out; {ADVICE}") from error
