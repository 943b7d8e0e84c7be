"""ChatHuggingFace: the chat model over an in-process pipeline or an HTTP endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import fields, replace
from operator import itemgetter
from typing import Any, Literal, Self, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.globals import get_llm_cache
from langchain_core.language_models import BaseChatModel, BaseLanguageModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import agenerate_from_stream, generate_from_stream
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from pydantic import ConfigDict, Field

from agentkit.errors import ConfigurationError, described, import_failure, refuse_unknown
from agentkit.langchain.messages import to_dicts, to_generation_chunk, without_cut_call
from agentkit.langchain.structured_output import Repaired, Schema, reader, response_format
from agentkit.models.backend import (
    Capabilities,
    ChatBackend,
    ChatRequest,
    Closing,
    InProcess,
    as_backend,
    capabilities_of,
)
from agentkit.models.chat import BackendChat, Reply, prepared, recorded
from agentkit.models.gguf import loading as llama
from agentkit.models.hosted.options import HostedOptions
from agentkit.models.local.loading import LOADING, OF_BACKEND
from agentkit.models.spec import AUTO, ModelSpec, is_keyed, public_spec, read_spec, shared
from agentkit.models.stopping import stop_strings
from agentkit.option_kinds import check_kinds
from agentkit.secrets import REDACTED, keys_in

OPTIONS = frozenset(
    ("constrain", "fallbacks", *LOADING, *OF_BACKEND, *llama.OPTIONS, *(field.name for field in fields(HostedOptions)))
)
"""Names of options that models have, of any kind."""
REQUEST_FIELDS = (
    "tools",
    "tool_choice",
    "response_format",
    "turn_schema",
    "holds_answer",
    "grammar",
    "stream",
    "shortens",
)
KINDS: Mapping[str, Any] = {
    "grammar": str | None,
    "holds_answer": bool,
    "logprobs": bool | None,
    "response_format": Mapping[str, Any] | None,
    "shortens": bool,
    "stream": bool,
    "tools": Sequence[Mapping[str, Any]] | None,
    "top_logprobs": int | None,
    "turn_schema": Mapping[str, Any] | None,
}
"""What a call's own fields are, which no model is asked about first."""


class ChatHuggingFace(BaseChatModel):
    """A chat model whose `llm` is a HuggingFacePipeline, a HuggingFaceEndpoint, or any ChatBackend.

    `constrain` says which grammar an agent asks for on a local model: "actions" (well-formed actions on existing
    tools), "copy" (also inputs and answers that copy from question and observations), or "off". It holds tool calls
    to their schemas too.
    """

    model_config = ConfigDict(
        arbitrary_types_allowed=True, extra="forbid", protected_namespaces=(), populate_by_name=True
    )

    llm: Any
    model_id: str = Field(default="", alias="model")
    constrain: Literal["actions", "copy", "off"] = "actions"
    temperature: float | None = None
    max_tokens: int | None = None
    stop: list[str] | None = None
    streaming: bool = False

    def __init__(self, **fields: Any) -> None:
        refuse_unknown(fields, {*type(self).model_fields, "model"}, what="ChatHuggingFace")
        if "llm" in fields:
            as_backend(fields["llm"])  # not in a validator: pydantic would wrap our errors in its own
        super().__init__(**fields)

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        self.model_id = self.model_id or self.llm.model_id

    @classmethod
    def from_model_id(cls, model_id: str, **options: Any) -> ChatHuggingFace:
        """A chat model in this process, from a folder or a repository; `options` as HuggingFacePipeline takes them.

        A GGUF file is computed by llama.cpp, where that is installed; `options` are those of `chat_model` then.
        """
        from agentkit.langchain.pipeline import HuggingFacePipeline

        own = {name: options.pop(name) for name in tuple(options) if name in cls.model_fields}
        if llama.is_installed() and "gguf_file" not in options and llama.file_of(model_id):
            return cls(llm=_llm_of(read_spec(f"local:{model_id}", options)), **own)
        return cls(llm=HuggingFacePipeline.from_model_id(model_id, **options), **own)

    @property
    def capabilities(self) -> Capabilities:
        """What the `llm` can do, held to what this model was told of grammars and of a reply's length."""
        declared = capabilities_of(self.llm)
        limit = self.max_tokens if self.max_tokens is not None else declared.max_new_tokens
        return replace(declared, constrain=self.constrain if declared.grammar else "off", max_new_tokens=limit)

    @property
    def is_local(self) -> bool:
        """Whether the model computes in this process, where grammars work."""
        return capabilities_of(self.llm).grammar

    def chat(self) -> BackendChat | None:
        """This model as a planner asks it, past LangChain; `None` where LangChain does more than hand on.

        That is with a cache, a rate limiter, callbacks of its own, or a subclass that replies otherwise.
        """
        replies = ("invoke", "generate", "_generate", "_stream", "_request")
        is_plain = all(getattr(type(self), name) is getattr(ChatHuggingFace, name) for name in replies)
        is_cached = self.cache is not False and (self.cache is not None or get_llm_cache() is not None)
        if not is_plain or is_cached or self.rate_limiter or self.callbacks or self.verbose:
            return None
        return BackendChat(self.llm, capabilities=self.capabilities, options=self._own_options(), stop=self.stop or ())

    def forget(self) -> None:
        """Let go of what a model in this process computed of earlier prompts; others keep nothing."""
        for backend in (self.llm, *self.capabilities.alternatives):
            if isinstance(backend, InProcess):
                backend.forget()

    def close(self) -> None:
        """Let go of a model in this process and of its memory, of a hosted one of its connections.

        At the end of a `with` block it is closed by itself. A model in this process answers no more then.
        """
        for backend in (self.llm, *self.capabilities.alternatives):
            if isinstance(backend, Closing):
                backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _to_chat_prompt(self, messages: list[BaseMessage]) -> str:
        """The prompt text the model sees; for a hosted one, what its repository's chat template makes of it."""
        if isinstance(self.llm, InProcess):
            return self.llm.prompt_text(to_dicts(messages))
        from agentkit.models.local.backend import hosted_prompt_text

        return hosted_prompt_text(self.model_id, to_dicts(messages))

    # One request, one reply

    def _own_options(self) -> dict[str, Any]:
        own = {"temperature": self.temperature, "max_new_tokens": self.max_tokens}
        return {name: value for name, value in own.items() if value is not None}

    def _request(self, messages: list[BaseMessage], stop: list[str] | None, options: dict[str, Any]) -> ChatRequest:
        options = {**options}
        if "max_tokens" in options:
            options["max_new_tokens"] = options.pop("max_tokens")
        named = {name: options.pop(name) for name in REQUEST_FIELDS if name in options}
        logprobs, top = options.pop("logprobs", None), options.pop("top_logprobs", None)
        check_kinds({**named, "logprobs": logprobs, "top_logprobs": top}, KINDS, what="a chat model's call")
        if top is not None and top < 0:
            raise ConfigurationError(f"top_logprobs is at least 0, not {top}")
        request = ChatRequest(
            messages=to_dicts(messages, thoughts=self.capabilities.in_process),
            stop=stop_strings(stop if stop is not None else self.stop),
            top_logprobs=(top or 0) if logprobs or top is not None else None,
            options={**self._own_options(), **options},
            **named,
        )
        return prepared(request, self.capabilities)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        request = self._request(messages, stop, kwargs)
        reply = Reply(request, self.capabilities, self.model_id)
        pieces = reply.pieces(recorded(self.llm).generate_chat(request))
        for piece in pieces if request.stream else reply.settled(list(pieces)):
            if piece.holds_something:
                yield to_generation_chunk(piece)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        request = self._request(messages, stop, kwargs)
        reply = Reply(request, self.capabilities, self.model_id)
        async with aclosing(reply.apieces(recorded(self.llm).agenerate_chat(request))) as pieces:
            waited = []
            async for piece in pieces:
                if not request.stream:
                    waited.append(piece)
                elif piece.holds_something:
                    yield to_generation_chunk(piece)
        for piece in reply.settled(waited):
            if piece.holds_something:
                yield to_generation_chunk(piece)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        whole = generate_from_stream(self._stream(messages, stop, **{**kwargs, "stream": False}))
        return without_cut_call(whole)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        whole = await agenerate_from_stream(self._astream(messages, stop, **{**kwargs, "stream": False}))
        return without_cut_call(whole)

    # Tools and structured output

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """This model with tools it may call; `tool_choice`: "auto", "any", "none" or a tool's name."""
        if tool_choice is not None:
            kwargs["tool_choice"] = "any" if tool_choice is True else tool_choice or "auto"
        return self.bind(tools=[convert_to_openai_tool(tool, strict=strict) for tool in tools], **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type | None = None,
        *,
        method: Literal["json_schema", "function_calling", "json_mode"] = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """This model with replies that are values of `schema`: a pydantic class, a TypedDict or a JSON schema.

        `strict` is there for LangChain's sake: a grammar is never anything else.
        """
        if kwargs:
            raise ConfigurationError(f"expected schema, method, include_raw and strict, saw {', '.join(kwargs)}")
        if schema is None and method != "json_mode":
            raise ConfigurationError("expected a schema; without one use method='json_mode'")
        asked, read = self._asked_for(schema, method), reader(schema, of_call=method == "function_calling")
        if not self.is_local:
            asked = Repaired(asked, read, schema)
        if not include_raw:
            return asked | RunnableLambda(read)
        parsed = RunnablePassthrough.assign(
            parsed=itemgetter("raw") | RunnableLambda(read), parsing_error=lambda _: None
        )
        failed = RunnablePassthrough.assign(parsed=lambda _: None)
        with_fallback = parsed.with_fallbacks([failed], exception_key="parsing_error")
        return {"raw": asked} | with_fallback

    def _asked_for(self, schema: Schema | None, method: str) -> Runnable[Any, AIMessage]:
        traced = {"kwargs": {"method": method}, "schema": convert_to_json_schema(schema) if schema else None}
        if method == "function_calling" and schema is not None:
            tool = convert_to_openai_tool(schema)
            name = tool["function"]["name"]
            return self.bind_tools([tool], tool_choice=name, ls_structured_output_format=traced)
        if method not in ("json_schema", "json_mode"):
            raise ConfigurationError(f"expected method json_schema, function_calling or json_mode, saw {method!r}")
        by_schema = schema and (method == "json_schema" or self.is_local)  # a grammar can hold to it in either mode
        wanted = response_format(schema) if schema and by_schema else {"type": "json_object"}
        return self.bind(response_format=wanted, ls_structured_output_format=traced)

    # What LangChain asks of every model

    @property
    def _llm_type(self) -> str:
        return "huggingface-chat-wrapper"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_id": self.model_id, "llm": getattr(self.llm, "_identifying_params", None)}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return super()._get_ls_params(stop=stop, **{"model": self.model_id, **kwargs})

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Yes: `langchain_core.load` writes the names and parameters, never weights or tokens."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Where `load` finds the class."""
        return ["agentkit", "models"]


def chat_model(spec: str = AUTO, *, fallbacks: Sequence[Any] = (), **options: Any) -> BaseChatModel:
    """The chat model behind a spec.

    `small` is SmolLM2-135M-Instruct with this package's adapter, `builtin` the model in the package, `auto` the first
    where its base is installed and else the second; `local:` a folder, a GGUF file or a repository run in process;
    `hf:` a repository through Inference Providers; an address a dedicated endpoint or any OpenAI-compatible server;
    anything else goes to `langchain.chat_models.init_chat_model`. `options` are generation parameters
    (`max_new_tokens`, `temperature`, …), loading parameters, and `constrain` ("actions", "copy" or "off") for models in
    process. `fallbacks` are specs or models to ask when this one fails for good; specs get the generation parameters.
    Raises `ConfigurationError` for a spec or an option that cannot be meant.
    """
    if isinstance(spec, BaseLanguageModel | ChatBackend):
        raise ConfigurationError(
            f"expected a model's spec, saw {described(spec)}; give AgentExecutor.from_model the model itself"
        )
    model = _of_spec(read_spec(spec, options))
    return _with_fallbacks(model, spec, fallbacks, options) if fallbacks else model


def as_chat_model(model: Any) -> BaseChatModel:
    """What a user calls a model as a chat model: one, a backend, or a spec. Raises `ConfigurationError`."""
    if isinstance(model, BaseChatModel):
        return model
    if isinstance(model, str):
        return chat_model(model)
    answers = any(hasattr(model, name) for name in ("generate_chat", "agenerate_chat"))
    if answers and not isinstance(model, type):
        backend = as_backend(model)
        return ChatHuggingFace(llm=backend, constrain=capabilities_of(backend).constrain)
    advice = "give one, as chat_model(SPEC) makes it, a backend, or a spec"
    if isinstance(model, type):
        advice = f"make one: {model.__name__}(…)"
    elif isinstance(model, BaseLanguageModel):
        advice = "one that completes text is no chat model; build a chain prompt | model | parser as the agent"
    elif isinstance(model, Runnable):
        advice = "give the chat model itself, or a chain prompt | model | parser as the agent"
    raise ConfigurationError(f"expected a chat model, saw {described(model)}; {advice}")


def _of_spec(spec: ModelSpec) -> BaseChatModel:
    if spec.place == "langchain":
        return _of_provider(spec.name, spec.options)
    if spec.place == "hosted":
        return ChatHuggingFace(llm=_llm_of(spec))
    return ChatHuggingFace(llm=_llm_of(spec), constrain=spec.constrain)


def _llm_of(spec: ModelSpec) -> Any:
    """What computes or asks for the replies of a model of this package."""
    if spec.engine == "llama.cpp":
        from agentkit.models.gguf.backend import GgufBackend

        return GgufBackend(spec.name, pipeline_kwargs=spec.options, refusals=spec.refusals, **spec.loading)
    if spec.place == "local":
        from agentkit.langchain.pipeline import HuggingFacePipeline

        return HuggingFacePipeline.from_model_id(spec.name, pipeline_kwargs=spec.options, **spec.loading)
    from agentkit.langchain.endpoint import HuggingFaceEndpoint

    return HuggingFaceEndpoint(**spec.options)


def _fallback(one: str, spec: str, fallbacks: Sequence[Any], options: Mapping[str, Any]) -> BaseChatModel:
    model = chat_model(one, **shared(options, one))
    row = [spec, *(other for other in fallbacks if isinstance(other, str))]
    if not is_keyed(one, row):
        model = ChatHuggingFace(llm=cast("ChatHuggingFace", model).llm.keyless())
    return model


def _with_fallbacks(
    model: BaseChatModel, spec: str, fallbacks: Sequence[Any], options: Mapping[str, Any]
) -> BaseChatModel:
    from agentkit.models.hosted.fallbacks import WithFallbacks

    others = (_fallback(one, spec, fallbacks, options) if isinstance(one, str) else one for one in fallbacks)
    models = [model, *others]
    backends: list[Any] = [one.llm if isinstance(one, ChatHuggingFace) else one for one in models]
    for one in backends:
        if not isinstance(one, ChatBackend):
            raise ConfigurationError(
                f"expected models of this package to fall back to and from, saw {type(one).__name__}; "
                "for others, give AgentExecutor.from_model the chat models as model.with_fallbacks([...])"
            )
    return ChatHuggingFace(llm=WithFallbacks(backends))


def _of_provider(spec: str, options: Mapping[str, Any]) -> BaseChatModel:
    try:
        from langchain.chat_models import init_chat_model
    except ImportError as error:
        why = import_failure(error, "langchain", purpose=f"for the model {spec!r}")
        raise ConfigurationError(f"{why}, and the provider's own package") from None
    try:
        return cast("BaseChatModel", init_chat_model(spec, **options))
    except Exception as error:  # of the provider's own, where a key is missing
        text = " ".join(str(error).split()).replace(spec, shown := public_spec(spec))
        for key in keys_in(options):
            text = text.replace(key, REDACTED)
        raise ConfigurationError(f"model {shown!r}: {text[:300]}") from None  # it may show the options
