"""HuggingFacePipeline: a model in this process as LangChain knows it: an LLM, and the backend of a chat model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.outputs import Generation, LLMResult
from pydantic import ConfigDict, Field, PrivateAttr

from agentkit.errors import ConfigurationError
from agentkit.langchain.text_model import TextModel, text_of
from agentkit.models.backend import Capabilities, ChatRequest, Chunk, InProcess, Message
from agentkit.models.gguf import loading as llama
from agentkit.models.local.backend import DEFAULT_BATCH_SIZE, LocalBackend
from agentkit.models.local.loading import BITS_KEYWORDS, LOADING, OF_BACKEND, check_loading, load_tokenizer
from agentkit.models.stopping import stop_strings

if TYPE_CHECKING:
    from agentkit.models.local.local_model import LocalModel

SECRETS = ("token", "use_auth_token")  # neither shown nor saved: HF_TOKEN is read where the model is loaded again


class HuggingFacePipeline(TextModel, InProcess):
    """A local model: `model_id` names what to load, or `model` and `tokenizer`, or a `pipeline`, are ready.

    `pipeline_kwargs` are generation parameters: whatever GenerationConfig has, and `seed`. Its `stop_strings`, the
    model's own or given, end every reply. `return_full_text` puts the prompt before a completed text; a chat model's
    answer never holds it. At most `batch_size` texts or replies are computed together. The other options are those of
    `agentkit.models.local.loading.Loading` and of `LocalBackend`; a model that is ready takes none that loads.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", protected_namespaces=())

    model_id: str = ""
    task: str = "text-generation"
    pipeline_kwargs: dict[str, Any] = Field(default_factory=dict)
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    device: int | str | None = None
    device_map: Any = None
    batch_size: int = DEFAULT_BATCH_SIZE
    quantization: str | None = None
    dtype: Any = None
    torch_dtype: Any = Field(default=None, exclude=True)  # the old name of dtype, which it becomes
    attn_implementation: str | None = None
    gguf_file: str | Path | None = None
    adapter: str | Path | dict[str, str | Path] | None = None
    revision: str | None = None
    subfolder: str | None = None
    token: str | bool | None = Field(default=None, exclude=True, repr=False)
    cache_dir: str | Path | None = None
    local_files_only: bool | None = None
    trust_remote_code: bool = False
    chat_template: str | Path | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    reuse: bool = True
    return_full_text: bool = False
    pipeline: Any = Field(default=None, exclude=True, repr=False)
    model: Any = Field(default=None, exclude=True, repr=False)
    tokenizer: Any = Field(default=None, exclude=True, repr=False)

    _backend: LocalBackend = PrivateAttr()

    @classmethod
    def from_model_id(
        cls,
        model_id: str,
        task: str = "text-generation",
        *,
        pipeline_kwargs: Mapping[str, Any] | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> HuggingFacePipeline:
        """Load a model from a folder or a repository."""
        kwargs = {"pipeline_kwargs": dict(pipeline_kwargs or {}), "model_kwargs": dict(model_kwargs or {})}
        return cls(model_id=model_id, task=task, **kwargs, **options)

    def __init__(self, **fields: Any) -> None:
        self._check(fields)
        super().__init__(**fields)
        self._load()  # not in a validator: pydantic would wrap our errors in its own

    @classmethod
    def _check(cls, fields: Mapping[str, Any]) -> None:
        for name in fields:
            if name.startswith(BITS_KEYWORDS):
                raise ConfigurationError(f"expected quantization='nf4' or 'int8', saw {name}; write it so")
            if name not in cls.model_fields:
                near = get_close_matches(name, cls.model_fields, n=1)
                hint = f"did you mean {near[0]!r}?" if near else "generation parameters go into pipeline_kwargs"
                raise ConfigurationError(f"expected an option of HuggingFacePipeline, saw {name!r}; {hint}")
        check_loading({name: value for name, value in fields.items() if name in LOADING or name in OF_BACKEND})
        loads = all(fields.get(name) is None for name in ("gguf_file", "model", "pipeline"))
        place = str(fields.get("model_id") or "")
        if loads and llama.is_installed() and (file := llama.file_of(place)) is not None:
            raise ConfigurationError(
                f"{place} is computed by llama.cpp: write chat_model('local:{place}'); for transformers, "
                f"which is slower, give model_id={str(Path(file).parent)!r} and gguf_file={Path(file).name!r}"
            )

    def _load(self) -> None:
        if (ready := self.pipeline) is not None:
            self.model, self.tokenizer = ready.model, getattr(ready, "processor", None) or ready.tokenizer
            self.pipeline_kwargs = {**getattr(ready, "_generate_kwargs", {}), **self.pipeline_kwargs}
        if "return_full_text" in self.pipeline_kwargs:
            self.return_full_text = self.pipeline_kwargs.pop("return_full_text")
        options: dict[str, Any] = {name: getattr(self, name) for name in OF_BACKEND}
        loading = {name: getattr(self, name) for name in LOADING}
        if self.model is not None:
            self._refuse_loading(loading)
            tokenizer = self.tokenizer
            if isinstance(tokenizer, str | Path):
                tokenizer = load_tokenizer(str(tokenizer))
            self._backend = LocalBackend(self.model, tokenizer, model_id=self.model_id, **options)
        else:
            self._backend = LocalBackend.from_model_id(self.model_id, **options, **loading)
        if isinstance(self.tokenizer, str | Path):  # to load it again; the one that was loaded stands in its place
            self.model_kwargs["tokenizer"] = str(self.tokenizer)
        self.model_id = self._backend.model_id
        self.model, self.tokenizer = self.local.model, self.local.processor
        self.model_kwargs = {name: _plain(value) for name, value in self.model_kwargs.items() if name not in SECRETS}
        self.dtype = _plain(self.dtype if self.torch_dtype is None else self.torch_dtype)

    def _refuse_loading(self, loading: Mapping[str, Any]) -> None:
        """A model that is ready is the user's: nothing is loaded into it, and no option is passed over."""
        for name, value in loading.items():
            if name != "tokenizer" and value != type(self).model_fields[name].get_default(call_default_factory=True):
                raise ConfigurationError(f"{name} is for a model that is loaded, and this one is ready; leave it out")

    # What a chat model asks

    @property
    def local(self) -> LocalModel:
        """The model with its caches."""
        return self._backend.local

    @property
    def capabilities(self) -> Capabilities:
        """What the model can do."""
        return self._backend.capabilities

    def prompt_text(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """The prompt that the model sees for these messages, for people to read."""
        return self._backend.prompt_text(messages, tools)

    def forget(self) -> None:
        """Let go of what was computed. A change of the model's weights and settings is noticed without."""
        self._backend.forget()

    def close(self) -> None:
        """Let go of the model; what is asked of it later is a `ModelError`."""
        self._backend.close()
        self.model = self.tokenizer = self.pipeline = None

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        """The reply to a conversation."""
        return self._backend.generate_chat(request)

    def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        """The same, computed in a thread."""
        return self._backend.agenerate_chat(request)

    # LangChain's text-in, text-out interface

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Yes, by name and parameters: `load` loads the model anew."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Where `load` finds the class."""
        return ["agentkit", "models"]

    @property
    def _llm_type(self) -> str:
        return "huggingface_pipeline"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {"model_id": self.model_id, "task": self.task, "pipeline_kwargs": self.pipeline_kwargs}

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        def completed(prompt: str) -> list[Generation]:
            text = "".join(self._text(prompt, stop, kwargs, stream=False))
            return [Generation(text=prompt + text if self.return_full_text else text)]

        with ThreadPoolExecutor(self.batch_size) as threads:  # what runs at the same time is decoded together
            return LLMResult(generations=list(threads.map(completed, prompts)))

    def _text(self, prompt: str, stop: list[str] | None, options: Mapping[str, Any], *, stream: bool) -> Iterator[str]:
        options = dict(options)
        grammar = options.pop("grammar", None)
        request = ChatRequest(messages=(), stop=stop_strings(stop), grammar=grammar, options=options, stream=stream)
        return text_of(self._backend.generate_text(prompt, request), request)


def _plain(value: Any) -> Any:
    """A loading option as `langchain_core.load` can write it: torch's types by name, configurations as mappings."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    return str(value).removeprefix("torch.") if type(value).__module__ == "torch" else value
