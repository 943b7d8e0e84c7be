"""Hosted models: Inference Providers, dedicated endpoints and any OpenAI-compatible server, over `InferenceClient`."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models.llms import LLM
from pydantic import ConfigDict, Field, SecretStr, model_validator

from agentkit.errors import ConfigurationError, ModelError
from agentkit.events import Usage
from agentkit.models.backend import ChatRequest, Chunk

TOKEN_VARIABLES = ("HF_TOKEN", "HUGGINGFACEHUB_API_TOKEN")
_GENERATION = (
    "max_new_tokens",
    "temperature",
    "top_k",
    "top_p",
    "repetition_penalty",
    "do_sample",
    "seed",
)
_EXTRA = ("top_k", "repetition_penalty")  # not in OpenAI's API; TGI, vLLM and SGLang take them in the body
_NO_COMPLETION = "expected a chat completion, saw something else; is this an OpenAI-compatible server's address?"
_FINISH_REASON = {"eos_token": "stop", "stop_sequence": "stop"}  # as TGI says it
_TOKEN_PATTERN = re.compile(r"hf_[A-Za-z0-9]{8,}")


class HuggingFaceEndpoint(LLM):
    """A model behind HTTP: `repo_id` with a `provider`, or `endpoint_url`.

    Generation parameters may stand in `model_kwargs` too, as LangChain's users write them; whatever else stands there
    goes into the request's body. Raises `ConfigurationError` for wrong use and a missing or refused token,
    `ModelError` when the server fails.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    repo_id: str | None = None
    endpoint_url: str | None = None
    provider: str = "auto"
    task: str = "text-generation"
    max_new_tokens: int = 512
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    do_sample: bool | None = None
    seed: int | None = None
    timeout: float = 120.0
    huggingfacehub_api_token: SecretStr | None = None
    server_kwargs: dict[str, Any] = Field(default_factory=dict, repr=False)
    model_kwargs: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _lift_model_kwargs(cls, values: dict[str, Any]) -> dict[str, Any]:
        extra = dict(values.get("model_kwargs") or {})
        lifted = {name: extra.pop(name) for name in _GENERATION if name in extra}
        return {**lifted, **values, "model_kwargs": extra}

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)  # pydantic would wrap what a validator raises
        if bool(self.repo_id) == bool(self.endpoint_url):
            raise ConfigurationError("expected either repo_id or endpoint_url; give one of them")

    @property
    def model_id(self) -> str:
        """The repository's name, or the server's address."""
        return str(self.repo_id or self.endpoint_url)

    @property
    def _llm_type(self) -> str:
        return "huggingface_endpoint"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_id": self.model_id, "provider": self.provider}

    def _call(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> str:
        request = ChatRequest(messages=[{"role": "user", "content": prompt}], stop=stop or (), options=kwargs)
        return "".join(chunk.text for chunk in self.generate_chat(request))

    # -- ChatBackend -----------------------------------------------------------------------------------------------

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        """One chat completion."""
        from huggingface_hub import InferenceClient

        try:
            reply = InferenceClient(**self._client_options()).chat_completion(**self._body(request))
        except Exception as error:
            raise self._as_error(error) from error
        yield self._chunk(reply)

    async def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        """One chat completion, awaited."""
        from huggingface_hub import AsyncInferenceClient

        try:
            async with AsyncInferenceClient(**self._client_options()) as client:
                reply = await client.chat_completion(**self._body(request))
        except Exception as error:
            raise self._as_error(error) from error
        yield self._chunk(reply)

    def _client_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"timeout": self.timeout, "token": self._token()}
        if headers := self.server_kwargs.get("headers"):
            options["headers"] = headers
        if self.endpoint_url:
            return {**options, "base_url": self.endpoint_url}
        return {**options, "model": self.repo_id, "provider": self.provider}

    def _token(self) -> str | None:
        if self.huggingfacehub_api_token is not None:
            return self.huggingfacehub_api_token.get_secret_value()
        token = next((os.environ[name] for name in TOKEN_VARIABLES if os.environ.get(name)), None)
        if token is None and self.repo_id:
            raise ConfigurationError(
                f"{self.repo_id} needs a Hugging Face token, none found; set HF_TOKEN "
                "(https://huggingface.co/settings/tokens)"
            )
        return token

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        chosen = {name: getattr(self, name) for name in _GENERATION} | dict(request.options)
        if chosen.pop("do_sample") is False:
            chosen["temperature"] = 0.0
        extra = {name: value for name in _EXTRA if (value := chosen.pop(name)) is not None}
        body: dict[str, Any] = {
            "messages": list(request.messages),
            "max_tokens": chosen.pop("max_new_tokens"),
            "stop": list(request.stop) or None,
            "extra_body": extra | self.model_kwargs or None,
            **chosen,
        }
        if request.tools:
            body |= {"tools": list(request.tools), "tool_choice": request.tool_choice}
        if request.response_format:
            body["response_format"] = request.response_format
        return {name: value for name, value in body.items() if value is not None}

    def _chunk(self, reply: Any) -> Chunk:
        if not getattr(reply, "choices", None):
            raise ModelError(f"{self.model_id}: {_NO_COMPLETION}")
        choice, usage = reply.choices[0], reply.usage
        return Chunk(
            text=choice.message.content or "",
            thinking=getattr(choice.message, "reasoning_content", None) or "",
            usage=Usage(usage.prompt_tokens, usage.completion_tokens) if usage else None,
            finish_reason={"eos_token": "stop", "stop_sequence": "stop"}.get(
                choice.finish_reason, choice.finish_reason
            ),
        )

    def _as_error(self, error: Exception) -> Exception:
        if isinstance(error, ConfigurationError | ModelError):
            return error
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            return ConfigurationError(
                f"{self.model_id} refused the token (HTTP {status}); check HF_TOKEN and its rights"
            )
        if status is not None:
            return ModelError(f"{self.model_id} answered HTTP {status}: {_first_line(error)}")
        if isinstance(error, ValueError | TypeError | KeyError):
            return ModelError(f"{self.model_id}: {_NO_COMPLETION}")
        return ModelError(f"{self.model_id} could not be reached ({type(error).__name__}: {_first_line(error)})")


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:200] or "no details"
    return _TOKEN_PATTERN.sub("hf_***", text)


class HuggingFaceTextGenInference(HuggingFaceEndpoint):
    """LangChain's old name for a TGI server: `inference_server_url` is `HuggingFaceEndpoint`'s `endpoint_url`."""

    @model_validator(mode="before")
    @classmethod
    def _rename_url(cls, values: dict[str, Any]) -> dict[str, Any]:
        values = dict(values)
        if "inference_server_url" in values:
            values["endpoint_url"] = values.pop("inference_server_url")
        return values


class HuggingFaceHub(HuggingFaceEndpoint):
    """LangChain's old name for a model on the Hub: `HuggingFaceEndpoint(repo_id=…)`."""
