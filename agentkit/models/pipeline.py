"""HuggingFacePipeline: a transformers model in this process, as a LangChain LLM and as the backend of a chat model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, ClassVar

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from pydantic import ConfigDict, Field, PrivateAttr

from agentkit.errors import ConfigurationError
from agentkit.models.backend import ChatRequest, Chunk
from agentkit.models.loading import load_model
from agentkit.models.local_model import LocalModel
from agentkit.models.reply import ReplyReader


class HuggingFacePipeline(BaseLLM):
    """A local model. `pipeline_kwargs` are generation parameters: whatever GenerationConfig has, and `seed`."""

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
        super().__init__(**fields)
        self._load()  # not in a validator: pydantic would wrap our errors in its own

    def _load(self) -> None:
        if self.pipeline is not None:
            self.model, self.tokenizer = self.pipeline.model, self.pipeline.tokenizer
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
        self.model_id = self.model_id or str(self.model.config.name_or_path) or "model"
        if "return_full_text" in self.pipeline_kwargs:
            self.return_full_text = self.pipeline_kwargs.pop("return_full_text")
        self._local = LocalModel(self.model, self.tokenizer)

    def _loading_options(self) -> dict[str, Any]:
        named = {"dtype": self.dtype, "attn_implementation": self.attn_implementation}
        return {**self.model_kwargs, **{name: value for name, value in named.items() if value is not None}}

    @property
    def local(self) -> LocalModel:
        """The model with its caches."""
        return self._local

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        """The reply to a conversation."""
        return self._local.generate_chat(self._with_defaults(request))

    def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        """The same, without blocking the event loop."""
        return self._local.agenerate_chat(self._with_defaults(request))

    def _with_defaults(self, request: ChatRequest) -> ChatRequest:
        return replace(request, options={**self.pipeline_kwargs, **request.options})

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Yes, by name and parameters: `load` loads the model anew."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Where `load` finds the class."""
        return ["agentkit", "models", "pipeline"]

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
        for chunk in self._local.generate_text(prompt, ids, request):
            if text := reader.read(chunk).text:
                yield text
        if text := reader.rest().text:
            yield text
