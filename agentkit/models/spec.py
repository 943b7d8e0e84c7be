"""What a model's spec names: one string for any model.

`backend_of` gives the backend of those that this package runs itself, without LangChain; the LangChain face is
`agentkit.langchain.chat_model.chat_model`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from agentkit.errors import ConfigurationError
from agentkit.models.backend import ChatBackend, Constrain

EXPECTED = (
    "expected builtin, local:FOLDER, local:ORG/NAME, hf:ORG/NAME, http(s)://ADDRESS, or PROVIDER:NAME for langchain"
)
LOADING = (
    "attn_implementation",
    "batch_size",
    "device",
    "device_map",
    "dtype",
    "model_kwargs",
    "pipeline_kwargs",
    "quantization",
    "task",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A spec that was read: where the model runs, its name or address, and the options by what they are for.

    `loading` are for a model in this process; `constrain` is the grammar an agent asks of it.
    """

    place: Literal["local", "hosted", "langchain"]
    options: Mapping[str, Any]
    name: str = ""
    loading: Mapping[str, Any]
    constrain: Constrain = "actions"


def read_spec(spec: str, options: Mapping[str, Any] | None = None, *, loads: bool = True) -> ModelSpec:
    """Read a spec; raises `ConfigurationError` for one that cannot be meant.

    Of a model that is not loaded, which a replay only names, the folder need not be there.
    """
    options = dict(options or {})
    scheme, _, rest = spec.partition(":")
    if spec == "builtin":
        from agentkit.models.builtin import builtin_folder

        return _local(str(builtin_folder()), {"constrain": "copy", **options})
    if scheme == "local" and rest:
        return _local(_existing(rest) if loads else str(Path(rest).expanduser()), options)
    if scheme == "hf" and rest:
        return ModelSpec(place="hosted", options={"repo_id": rest, **options}, loading={})
    if scheme in ("http", "https"):
        return ModelSpec(place="hosted", options={"endpoint_url": spec, **options}, loading={})
    if rest:
        return ModelSpec(place="langchain", name=spec, options=options, loading={})
    raise ConfigurationError(f"unknown model {spec!r}: {EXPECTED}{_did_you_mean(spec)}")


def backend_of(spec: str, *, fallbacks: Sequence[str] = (), **options: Any) -> ChatBackend | None:
    """The backend behind a spec, with those to ask when it fails for good; `None` for one of LangChain's providers.

    `options` are generation parameters (`max_new_tokens`, `temperature`, …), loading parameters, and `constrain`
    ("actions", "copy" or "off") for models in process. Raises `ConfigurationError`.
    """
    backend = _backend(read_spec(spec, options))
    if backend is None or not fallbacks:
        return backend
    from agentkit.models.hosted.fallbacks import WithFallbacks

    others = [_backend(read_spec(one)) for one in fallbacks]
    if not all(others):
        raise ConfigurationError(f"expected models of this package to fall back to, saw {', '.join(fallbacks)}")
    return WithFallbacks([backend, *filter(None, others)])


def _backend(spec: ModelSpec) -> ChatBackend | None:
    if spec.place == "local":
        from agentkit.models.local.backend import LocalBackend

        return LocalBackend.from_model_id(
            spec.name, pipeline_kwargs=spec.options, constrain=spec.constrain, **spec.loading
        )
    if spec.place == "hosted":
        from agentkit.models.hosted.options import hosted_model

        return hosted_model(**spec.options)
    return None


def _local(name: str, options: dict[str, Any]) -> ModelSpec:
    constrain = options.pop("constrain", "actions")
    if constrain not in get_args(Constrain):
        raise ConfigurationError(f"constrain is one of {', '.join(get_args(Constrain))}, not {constrain!r}")
    loading = {name: options.pop(name) for name in LOADING if name in options}
    generation = {**loading.pop("pipeline_kwargs", {}), **options}
    return ModelSpec(place="local", name=name, options=generation, loading=loading, constrain=constrain)


def _did_you_mean(spec: str) -> str:
    if Path(spec).is_dir():
        return f"; for this folder write local:{spec}"
    if "/" in spec:
        return f"; did you mean hf:{spec} or local:{spec}?"
    return "; did you mean builtin?" if difflib.get_close_matches(spec, ["builtin"]) else ""


def _existing(place: str) -> str:
    """A folder that is there, or a repository's name."""
    looks_like_folder = place.startswith((".", "/", "~")) or place.count("/") != 1
    folder = Path(place).expanduser()
    if folder.is_dir():
        return str(folder)
    if looks_like_folder:
        raise ConfigurationError(f"no folder {place}: expected a model's folder (with config.json) or ORG/NAME")
    return place
