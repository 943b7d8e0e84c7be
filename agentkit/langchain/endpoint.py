"""Hosted models as LangChain has them: Inference Providers, dedicated endpoints and any OpenAI-compatible server."""

from __future__ import annotations

import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.llms import LLM
from langchain_core.outputs import GenerationChunk
from pydantic import (
    ConfigDict,
    Field,
    FieldSerializationInfo,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_serializer,
)

from agentkit.errors import ConfigurationError
from agentkit.langchain.text_model import TextModel, atext_of, text_of
from agentkit.models.backend import Capabilities, ChatRequest, Chunk, Closing
from agentkit.models.hosted.model import HostedModel
from agentkit.models.hosted.options import HostedOptions, check_options, lifted, model_of, named
from agentkit.secrets import Secrets, public_address, public_options

OLD_NAMES = {"inference_server_url": "endpoint_url"}
_MAY_HOLD_KEYS = ("endpoint_url", "model", "proxy", "headers", "server_kwargs", "extra_body", "model_kwargs")


class HuggingFaceEndpoint(TextModel, LLM, HostedOptions, Closing):
    """A model behind HTTP: `repo_id` with a `provider`, or `endpoint_url`. It asks for chat completions.

    Generation parameters may stand in `model_kwargs` too, as LangChain's users write them; whatever else stands there
    goes into the request's body, as all of `extra_body` does. `model` names one of a server's models (or is the
    repository, or the address). `timeout` is the longest silence of the server, `connect_timeout` and `total_timeout`
    (with all retries) what they say, in seconds. `proxy` is asked in place of those of the environment, `verify` a file
    of certificates to trust, or False. `streaming` asks for streams even where nothing is shown early. `prices` are
    US dollars per million tokens, `{"ORG/NAME": (prompt, completion)}` or a TOML file of them. `notice` is told when
    there is a wait, or a request is put otherwise.
    `api_key`, or `huggingfacehub_api_token`, is the key of this address; without, the environment's is sent where it
    belongs (`agentkit.models.hosted.places`).

    Raises `ConfigurationError` for wrong use and a missing or refused token, `ModelError` when the server fails.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), hide_input_in_errors=True)

    stop_sequences: list[str] = Field(default_factory=list)
    huggingfacehub_api_token: SecretStr | None = None  # type: ignore[assignment]
    headers: dict[str, Any] | None = Field(default=None, repr=False)
    proxy: str | None = Field(default=None, repr=False)
    server_kwargs: dict[str, Any] = Field(default_factory=dict, repr=False)
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    notice: Callable[[str], None] | None = Field(default=None, exclude=True, repr=False)

    _hosted: HostedModel = PrivateAttr()

    def __init__(self, **values: Any) -> None:
        values = named(values, (*type(self).model_fields, *OLD_NAMES))
        old = self._old_name(values)
        if old is not None:
            warnings.warn(f"{old[0]} is an old name: use {old[1]}", FutureWarning, stacklevel=2)
        values = {OLD_NAMES.get(name, name): value for name, value in values.items()}
        try:
            super().__init__(**lifted(values))
        except ValidationError as error:
            check_options({name: _plain(value) for name, value in lifted(values).items()})
            first = error.errors(include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ConfigurationError(f"option {where} of a hosted model: {first['msg']}") from None
        token = self.huggingfacehub_api_token
        self._hosted = model_of(self, token=token.get_secret_value() if token else None)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        return ((name, _public(name, value)) for name, value in super().__repr_args__())

    @field_serializer(*_MAY_HOLD_KEYS)
    def _dumped(self, value: Any, info: FieldSerializationInfo) -> Any:
        """A field as it is dumped: the model itself keeps its keys, also when it is copied or pickled."""
        return _public(info.field_name, value)

    def _old_name(self, values: Mapping[str, Any]) -> tuple[str, str] | None:
        """An old name that was used, with today's."""
        return next(((name, today) for name, today in OLD_NAMES.items() if name in values), None)

    def keyless(self) -> HuggingFaceEndpoint:
        """The same model, to whose address no key of the environment goes."""
        same = self.model_copy()
        same._hosted = self._hosted.keyless()
        return same

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
        return "".join(self._text(prompt, stop, kwargs, stream=False))

    async def _acall(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> str:
        async with aclosing(self._atext(prompt, stop, kwargs, stream=False)) as pieces:
            return "".join([piece async for piece in pieces])

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        async with aclosing(self._atext(prompt, stop, kwargs, stream=True)) as pieces:
            async for piece in pieces:
                if run_manager:
                    await run_manager.on_llm_new_token(piece)
                yield GenerationChunk(text=piece)

    def _text(self, prompt: str, stop: list[str] | None, options: Mapping[str, Any], *, stream: bool) -> Iterator[str]:
        request = self._request(prompt, stop, options, stream=stream)
        return text_of(self._hosted.generate_chat(request), request)

    def _atext(
        self, prompt: str, stop: list[str] | None, options: Mapping[str, Any], *, stream: bool
    ) -> AsyncGenerator[str]:
        request = self._request(prompt, stop, options, stream=stream)
        return atext_of(self._hosted.agenerate_chat(request), request)

    def _request(self, prompt: str, stop: list[str] | None, options: Mapping[str, Any], *, stream: bool) -> ChatRequest:
        message = {"role": "user", "content": prompt}
        stop = self.stop_sequences if stop is None else stop
        return ChatRequest(messages=[message], stop=stop, options=options, stream=stream)


def _plain(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _public(name: str | None, value: Any) -> Any:
    """A field's value without keys: an address without user, password and query."""
    if name not in _MAY_HOLD_KEYS or value is None:
        return value
    value = public_address(value) if isinstance(value, str) else public_options({name: value})[name]
    return Secrets({}).scrub(value)


class HuggingFaceTextGenInference(HuggingFaceEndpoint):
    """LangChain's old name for a TGI server: `inference_server_url` is `HuggingFaceEndpoint`'s `endpoint_url`."""

    def _old_name(self, values: Mapping[str, Any]) -> tuple[str, str]:
        return "HuggingFaceTextGenInference(inference_server_url=…)", "HuggingFaceEndpoint(endpoint_url=…)"


class HuggingFaceHub(HuggingFaceEndpoint):
    """LangChain's old name for a model on the Hub: `HuggingFaceEndpoint(repo_id=…)`."""

    def _old_name(self, values: Mapping[str, Any]) -> tuple[str, str]:
        return "HuggingFaceHub(repo_id=…)", "HuggingFaceEndpoint(repo_id=…)"
