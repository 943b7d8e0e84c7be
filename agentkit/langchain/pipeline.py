"""HuggingFacePipeline: a transformers model in this process, as a LangChain LLM and as the backend of a chat model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, ClassVar

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from pydantic import ConfigDict, Field, PrivateAttr

from agentkit.errors import ConfigurationError
from agentkit.models.backend import ChatRequest, Chunk
from agentkit.models.local.background import iterate_in_thread
from agentkit.models.local.loading import load_model
from agentkit.models.local.local_model import LocalModel
from agentkit.models.local.memory import memory_errors
from agentkit.models.local.quantization import KEYWORDS
from agentkit.models.reply import ReplyReader

SECRETS = ("token", "use_auth_token")  # neither shown nor saved: HF_TOKEN is read where the model is loaded again


class HuggingFacePipeline(BaseLLM):
    """A local model: `model_id` names what to load, or `model` and `tokenizer`, or a `pipeline`, are ready.

    `pipeline_kwargs` are generation parameters: whatever GenerationConfig has, and `seed`. Its `stop_strings`, the
    model's own or given, end every chat reply. `return_full_text` puts the prompt before a completed text; a chat
    model's answer never holds it. `batch_size` prompts are completed together.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", protected_namespaces=())

    model_id: str = ""
    task: str = "text-generation"
    pipeline_kwargs: dict[str, Any] = Field(default_factory=dict)
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    device: int | str | None = None
    device_map: Any = None
    batch_size: int = 4
    quantization: str | None = None
    dtype: Any = None
    attn_implementation: str | None = None
    return_full_text: bool = False
    pipeline: Any = Field(default=None, exclude=True, repr=False)
    model: Any = Field(default=None, exclude=True, repr=False)
    tokenizer: Any = Field(default=None, exclude=True, repr=False)

    _local: LocalModel = PrivateAttr()
    _stop_strings: tuple[str, ...] = PrivateAttr(default=())
    in_process: ClassVar[bool] = True  # a cassette records its turns, there being no HTTP to record

    @classmethod
    def from_model_id(
        cls,
        model_id: str,
        task: str = "text-generation",
        *,
        pipeline_kwargs: Mapping[str, Any] | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        device: int | str | None = None,
        device_map: Any = None,
        batch_size: int = 4,
        **options: Any,
    ) -> HuggingFacePipeline:
        """Load a model from a folder or a repository."""
        return cls(
            model_id=model_id,
            task=task,
            pipeline_kwargs=dict(pipeline_kwargs or {}),
            model_kwargs=dict(model_kwargs or {}),
            device=device,
            device_map=device_map,
            batch_size=batch_size,
            **options,
        )

    def __init__(self, **fields: Any) -> None:
        self._check(fields)
        super().__init__(**fields)
        self._load()  # not in a validator: pydantic would wrap our errors in its own

    @classmethod
    def _check(cls, fields: Mapping[str, Any]) -> None:
        for name in fields:
            if name.startswith(KEYWORDS):
                raise ConfigurationError(f"expected quantization='nf4' or 'int8', saw {name}; write it so")
            if name not in cls.model_fields:
                near = get_close_matches(name, cls.model_fields, n=1)
                hint = f"did you mean {near[0]!r}?" if near else "generation parameters go into pipeline_kwargs"
                raise ConfigurationError(f"expected an option of HuggingFacePipeline, saw {name!r}; {hint}")

    def _load(self) -> None:
        if self.pipeline is not None:
            ready = self.pipeline
            self.model, self.tokenizer = ready.model, getattr(ready, "processor", None) or ready.tokenizer
            self.pipeline_kwargs = {**getattr(ready, "_generate_kwargs", {}), **self.pipeline_kwargs}
        if self.model is not None and self.tokenizer is None:
            raise ConfigurationError("expected a model and its tokenizer (or processor), saw no tokenizer; give both")
        if self.model is None:
            if not self.model_id:
                raise ConfigurationError("expected a model_id, a pipeline, or a model and its tokenizer; saw none")
            self.model, self.tokenizer = load_model(
                self.model_id,
                task=self.task,
                model_kwargs=self._loading_options(),
                device=self.device,
                device_map=self.device_map,
                quantization=self.quantization,
            )
        self.model_kwargs = {name: _plain(value) for name, value in self.model_kwargs.items() if name not in SECRETS}
        self.dtype = _plain(self.dtype)
        self.model_id = self.model_id or str(self.model.config.name_or_path) or "model"
        if "return_full_text" in self.pipeline_kwargs:
            self.return_full_text = self.pipeline_kwargs.pop("return_full_text")
        self._stop_strings = self._taken_stop_strings()
        self._local = LocalModel(self.model, self.tokenizer)

    def _taken_stop_strings(self) -> tuple[str, ...]:
        """GenerationConfig's stop strings, away from `generate`: it would build its tables for them at every call."""
        config = getattr(self.model, "generation_config", None)
        found = self.pipeline_kwargs.pop("stop_strings", None) or getattr(config, "stop_strings", None) or ()
        if config is not None:
            config.stop_strings = None
        return (found,) if isinstance(found, str) else tuple(found)

    def _loading_options(self) -> dict[str, Any]:
        named = {"dtype": self.dtype, "attn_implementation": self.attn_implementation}
        return {**self.model_kwargs, **{name: value for name, value in named.items() if value is not None}}

    @property
    def local(self) -> LocalModel:
        """The model with its caches."""
        return self._local

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        """The reply to a conversation."""
        with memory_errors(self.model_id, "a reply of"):
            chunks = self._local.generate_chat(self._with_defaults(request))
            yield from _cut(chunks, self._stop_strings) if self._stop_strings else chunks

    def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        """The same, computed in a thread."""
        return iterate_in_thread(lambda: self.generate_chat(request))

    def _with_defaults(self, request: ChatRequest) -> ChatRequest:
        stop = (*request.stop, *self._stop_strings)
        return replace(request, stop=stop, options={**self.pipeline_kwargs, **request.options})

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Yes, by name and parameters: `load` loads the model anew."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Where `load` finds the class."""
        return ["agentkit", "models"]

    # LangChain's text-in, text-out interface

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
        with ThreadPoolExecutor(self.batch_size) as threads:  # what runs at the same time is decoded together
            done = threads.map(lambda prompt: [self._complete(prompt, stop, kwargs)], prompts)
            return LLMResult(generations=list(done))

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        for text in self._text(prompt, stop, kwargs):
            if run_manager:
                run_manager.on_llm_new_token(text)
            yield GenerationChunk(text=text)

    def _complete(self, prompt: str, stop: list[str] | None, options: dict[str, Any]) -> Generation:
        text = "".join(self._text(prompt, stop, options))
        return Generation(text=prompt + text if self.return_full_text else text)

    def _text(self, prompt: str, stop: list[str] | None, options: dict[str, Any]) -> Iterator[str]:
        options = {**self.pipeline_kwargs, **options}
        grammar = options.pop("grammar", None)
        request = ChatRequest(messages=(), stop=stop or (), grammar=grammar, options=options)
        tokenizer = self._local.tokenizer
        bos = tokenizer.bos_token
        ids = tokenizer(prompt, add_special_tokens=not (bos and prompt.startswith(bos)))["input_ids"]
        reader = ReplyReader(request.stop)
        with memory_errors(self.model_id, "a text of"):
            for chunk in self._local.generate_text(prompt, ids, request):
                if text := reader.read(chunk).text:
                    yield text
        if text := reader.rest().text:
            yield text


def _plain(value: Any) -> Any:
    """A loading option as `langchain_core.load` can write it: torch's types by name, configurations as mappings."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    return str(value).removeprefix("torch.") if type(value).__module__ == "torch" else value


def _cut(chunks: Iterator[Chunk], stop: tuple[str, ...]) -> Iterator[Chunk]:
    """The reply up to the first of the stop strings."""
    reader = ReplyReader(stop)
    for chunk in chunks:
        yield reader.read(chunk)
        if reader.stopped:
            break
    yield reader.rest()
