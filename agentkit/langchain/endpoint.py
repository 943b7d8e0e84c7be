"""Hosted models as LangChain has them: Inference Providers, dedicated endpoints and any OpenAI-compatible server."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.llms import LLM
from langchain_core.outputs import GenerationChunk
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, ValidationError

from agentkit.errors import ConfigurationError
from agentkit.models.backend import Capabilities, ChatRequest, Chunk
from agentkit.models.hosted.body import generation_options
from agentkit.models.hosted.model import HostedModel
from agentkit.models.hosted.options import hosted_model, refuse_unknown
from agentkit.models.reply import ReplyReader

OLD_NAMES = {"inference_server_url": "endpoint_url"}


class HuggingFaceEndpoint(LLM):
    """A model behind HTTP: `repo_id` with a `provider`, or `endpoint_url`. It asks for chat completions.

    Generation parameters may stand in `model_kwargs` too, as LangChain's users write them; whatever else stands there
    goes into the request's body. `model` names one of a server's models (or is the repository, or the address).
    `timeout` is the longest silence of the server, `connect_timeout` and `total_timeout` (with all retries) what they
    say, in seconds. `streaming` asks for streams even where nothing is shown early. `prices` are US dollars per million
    tokens, `{"ORG/NAME": (prompt, completion)}` or a TOML file of them. `notice` is told when there is a wait.

    Raises `ConfigurationError` for wrong use and a missing or refused token, `ModelError` when the server fails.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), hide_input_in_errors=True)

    repo_id: str | None = None
    endpoint_url: str | None = None
    model: str | None = None
    provider: str = "auto"
    task: str | None = None
    max_new_tokens: int | None = 512
    top_k: int | None = None
    top_p: float | None = None
    typical_p: float | None = None
    min_p: float | None = None
    temperature: float | None = None
    do_sample: bool | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop_sequences: list[str] = Field(default_factory=list)
    streaming: bool = False
    timeout: float = 120.0
    connect_timeout: float = 10.0
    total_timeout: float | None = 600.0
    max_retries: int = 4
    huggingfacehub_api_token: SecretStr | None = None
    server_kwargs: dict[str, Any] = Field(default_factory=dict, repr=False)
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    prices: dict[str, Any] | str | Path | None = None
    notice: Callable[[str], None] | None = Field(default=None, exclude=True, repr=False)

    _hosted: HostedModel = PrivateAttr()

    def __init__(self, **values: Any) -> None:
        refuse_unknown(values, (*type(self).model_fields, *OLD_NAMES))
        old = self._old_name(values)
        if old is not None:
            warnings.warn(f"{old[0]} is an old name: use {old[1]}", FutureWarning, stacklevel=2)
        values = {OLD_NAMES.get(name, name): value for name, value in values.items()}
        lifted, rest = generation_options(values.get("model_kwargs") or {})
        try:
            super().__init__(**{**lifted, **values, "model_kwargs": rest})
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ConfigurationError(f"option {where} of a hosted model: {first['msg']}") from None
        self._hosted = hosted_model(**self._options())

    def _old_name(self, values: Mapping[str, Any]) -> tuple[str, str] | None:
        """An old name that was used, with today's."""
        return next(((name, today) for name, today in OLD_NAMES.items() if name in values), None)

    def _options(self) -> dict[str, Any]:
        own = [name for name in type(self).model_fields if name not in LLM.model_fields]
        token = self.huggingfacehub_api_token
        return {
            **{name: getattr(self, name) for name in own},
            "huggingfacehub_api_token": token.get_secret_value() if token else None,
        }

    @property
    def model_id(self) -> str:
        """The repository's or model's name, or the server's address."""
        return self._hosted.model_id

    @property
    def capabilities(self) -> Capabilities:
        """What a chat server does."""
        return self._hosted.capabilities

    # -- ChatBackend -----------------------------------------------------------------------------------------------

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        """The reply; closing the iterator closes the connection."""
        return self._hosted.generate_chat(request)

    def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        """The same, awaiting."""
        return self._hosted.agenerate_chat(request)

    def close(self) -> None:
        """Close the connections that are kept for reuse; they are closed by themselves when the model goes."""
        self._hosted.close()

    async def aclose(self) -> None:
        """Close the connections that this event loop keeps; they are closed by themselves when the loop ends."""
        await self._hosted.aclose()

    # -- LangChain's text-in, text-out interface -------------------------------------------------------------------

    @property
    def _llm_type(self) -> str:
        return "huggingface_endpoint"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_id": self.model_id, "provider": self.provider, "task": self.task}

    def _call(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> str:
        text = _Text(prompt, self._stops(stop), kwargs, stream=False)
        with closing(self.generate_chat(text.request)) as chunks:  # type: ignore[type-var]
            return "".join(text.pieces(chunks))

    async def _acall(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> str:
        text = _Text(prompt, self._stops(stop), kwargs, stream=False)
        async with aclosing(self.agenerate_chat(text.request)) as chunks:  # type: ignore[type-var]
            return "".join([piece async for piece in text.apieces(chunks)])

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        text = _Text(prompt, self._stops(stop), kwargs, stream=True)
        with closing(self.generate_chat(text.request)) as chunks:  # type: ignore[type-var]
            for piece in text.pieces(chunks):
                if run_manager:
                    run_manager.on_llm_new_token(piece)
                yield GenerationChunk(text=piece)

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        text = _Text(prompt, self._stops(stop), kwargs, stream=True)
        async with aclosing(self.agenerate_chat(text.request)) as chunks:  # type: ignore[type-var]
            async for piece in text.apieces(chunks):
                if run_manager:
                    await run_manager.on_llm_new_token(piece)
                yield GenerationChunk(text=piece)

    def _stops(self, stop: list[str] | None) -> Sequence[str]:
        return self.stop_sequences if stop is None else stop


class _Text:
    """A prompt as one user message, and the text of its reply up to the first stop string."""

    def __init__(self, prompt: str, stop: Sequence[str], options: Mapping[str, Any], *, stream: bool) -> None:
        message = {"role": "user", "content": prompt}
        self.request = ChatRequest(messages=[message], stop=stop, options=options, stream=stream)
        self._reader = ReplyReader(stop)

    def pieces(self, chunks: Iterable[Chunk]) -> Iterator[str]:
        for chunk in chunks:
            yield from self._read(chunk)
            if self._reader.stopped:
                break
        yield from self._rest()

    async def apieces(self, chunks: AsyncIterable[Chunk]) -> AsyncIterator[str]:
        async for chunk in chunks:
            for piece in self._read(chunk):
                yield piece
            if self._reader.stopped:
                break
        for piece in self._rest():
            yield piece

    def _read(self, chunk: Chunk) -> list[str]:
        return [text for text in (self._reader.read(chunk).text,) if text]

    def _rest(self) -> list[str]:
        return [text for text in (self._reader.rest().text,) if text]


class HuggingFaceTextGenInference(HuggingFaceEndpoint):
    """LangChain's old name for a TGI server: `inference_server_url` is `HuggingFaceEndpoint`'s `endpoint_url`."""

    def _old_name(self, values: Mapping[str, Any]) -> tuple[str, str]:
        return "HuggingFaceTextGenInference(inference_server_url=…)", "HuggingFaceEndpoint(endpoint_url=…)"


class HuggingFaceHub(HuggingFaceEndpoint):
    """LangChain's old name for a model on the Hub: `HuggingFaceEndpoint(repo_id=…)`."""

    def _old_name(self, values: Mapping[str, Any]) -> tuple[str, str]:
        return "HuggingFaceHub(repo_id=…)", "HuggingFaceEndpoint(repo_id=…)"
