"""`chat_model(spec)`: one string names any model."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from agentkit.errors import ConfigurationError
from agentkit.models.backend import ChatBackend

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

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


def chat_model(spec: str = "builtin", *, fallbacks: Sequence[Any] = (), **options: Any) -> BaseChatModel:
    """The chat model behind a spec.

    `builtin` is the small model in the package; `local:` a folder or a repository run in process; `hf:` a repository
    through Inference Providers; an address a dedicated endpoint or any OpenAI-compatible server; anything else goes to
    `langchain.chat_models.init_chat_model`. `options` are generation parameters (`max_new_tokens`, `temperature`, …),
    loading parameters, and `constrain` ("actions", "copy" or "off") for models in process. `fallbacks` are specs or
    models to ask when this one fails for good.
    Raises `ConfigurationError` for a spec or an option that cannot be meant.
    """
    model = _model(spec, options)
    return _with_fallbacks(model, fallbacks) if fallbacks else model


def _model(spec: str, options: dict[str, Any]) -> BaseChatModel:
    scheme, _, rest = spec.partition(":")
    if spec == "builtin":
        from agentkit.models.builtin import builtin_folder

        return _local(str(builtin_folder()), **{"constrain": "copy", **options})
    if scheme == "local" and rest:
        return _local(_existing(rest), **options)
    if scheme == "hf" and rest:
        return _hosted(repo_id=rest, **options)
    if scheme in ("http", "https"):
        return _hosted(endpoint_url=spec, **options)
    if rest:
        return _langchain(spec, **options)
    raise ConfigurationError(f"unknown model {spec!r}: {EXPECTED}{_did_you_mean(spec)}")


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


def _local(model_id: str, **options: Any) -> BaseChatModel:
    from agentkit.langchain.chat_model import ChatHuggingFace
    from agentkit.langchain.pipeline import HuggingFacePipeline

    chat = {name: options.pop(name) for name in ("constrain",) if name in options}
    loading = {name: options.pop(name) for name in LOADING if name in options}
    generation = {**loading.pop("pipeline_kwargs", {}), **options}
    llm = HuggingFacePipeline.from_model_id(model_id=model_id, pipeline_kwargs=generation, **loading)
    return ChatHuggingFace(llm=llm, **chat)


def _hosted(**options: Any) -> BaseChatModel:
    from agentkit.langchain.chat_model import ChatHuggingFace
    from agentkit.langchain.endpoint import HuggingFaceEndpoint

    return ChatHuggingFace(llm=HuggingFaceEndpoint(**options))


def _with_fallbacks(model: BaseChatModel, fallbacks: Sequence[Any]) -> BaseChatModel:
    from agentkit.langchain.chat_model import ChatHuggingFace
    from agentkit.models.hosted.fallbacks import WithFallbacks

    others = [chat_model(one) if isinstance(one, str) else one for one in fallbacks]
    backends: list[Any] = [getattr(one, "llm", one) for one in (model, *others)]
    for one in backends:
        if not isinstance(one, ChatBackend):
            raise ConfigurationError(
                f"expected models of this package to fall back to and from, saw {type(one).__name__}; "
                "for others, model.with_fallbacks([...]) of LangChain"
            )
    return ChatHuggingFace(llm=WithFallbacks(backends))


def _langchain(spec: str, **options: Any) -> BaseChatModel:
    try:
        from langchain.chat_models import init_chat_model
    except ImportError:
        raise ConfigurationError(
            f"unknown model {spec!r}: {EXPECTED}; for the last, pip install 'agentkit-react[langchain]'"
        ) from None
    try:
        return cast("BaseChatModel", init_chat_model(spec, **options))
    except (ImportError, ValueError) as error:
        raise ConfigurationError(f"model {spec!r}: {' '.join(str(error).split())[:300]}") from error
