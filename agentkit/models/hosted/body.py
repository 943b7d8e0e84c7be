"""A request's body: generation parameters by their names on the wire, and what a server refused left out."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from agentkit.errors import ConfigurationError, described
from agentkit.models.backend import ChatRequest
from agentkit.models.hosted.limits import Context
from agentkit.models.hosted.outgoing_messages import outgoing_messages, outgoing_tools
from agentkit.models.messages import alternating, without_system
from agentkit.models.openai_format import RETURNED, THINKING, returned_fields

MAX_NEW_TOKENS = 512


@dataclass(kw_only=True)
class Generation:
    """The generation parameters, by GenerationConfig's names."""

    max_new_tokens: int | None = MAX_NEW_TOKENS
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    typical_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    do_sample: bool | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None


GENERATION = tuple(field.name for field in fields(Generation))
SYNONYMS = {"max_tokens": "max_new_tokens", "max_completion_tokens": "max_new_tokens"}
LIMITS = ("max_tokens", "max_completion_tokens")
OF_A_MODEL = frozenset(
    "repo_id endpoint_url base_url api_base openai_api_base azure_endpoint inference_server_url task timeout "
    "request_timeout connect_timeout total_timeout max_retries huggingfacehub_api_token api_key token hf_token "
    "openai_api_key headers default_headers extra_headers extra_query proxy proxies verify http_client "
    "http_async_client server_kwargs streaming stop_sequences prices notice fallbacks constrain".split()
)
"""Options of other clients, too, that say how a server is asked: in a body they would go to the server unseen."""
_IN_A_CALL = {"stop_sequences": "stop=[…]", "streaming": "model.stream(…)"}
_AS_ASKED = "Answer with {what} and nothing else: no words before or after it, no code fence."
_LIKELY_MEANT = 0.85  # so alike that a name is a slip of the pen rather than a server's own parameter


@dataclass(frozen=True, slots=True)
class Lessons:
    """What a server takes, as far as it has shown by a refusal and then a reply."""

    refused: frozenset[str] = frozenset()  # names of fields
    folds_system: bool = False  # it takes no system message
    most_tokens: int | None = None  # of any reply
    base: int = 0  # which of the addresses that may be meant
    model: str | None = None  # the only one it has, which it wants named
    context: Context | None = None
    wanted: str = ""  # the field that every message of the model has, also one that it thought nothing for

    def taught(self, before: Lessons, after: Lessons) -> Lessons:
        """These, with what one request taught, which knew those `before`; what was forgotten meanwhile stays so."""
        new = {name: value for name in LESSONS if (value := getattr(after, name)) != getattr(before, name)}
        if "refused" in new:
            new["refused"] = self.refused | (after.refused - before.refused)
        if before.context is not None and after.context is not None and self.context is None:
            is_only_measured = before.context.tokens == after.context.tokens
            new["context"] = None if is_only_measured else after.context
        return replace(self, **new)


LESSONS = tuple(field.name for field in fields(Lessons))


def generation_options(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The generation parameters among the given, and the rest, which goes into the body as it is."""
    known: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for given_name, value in given.items():
        name = SYNONYMS.get(given_name, given_name)
        if name == "max_new_tokens" and type(value) is int and value < 1:
            raise ConfigurationError(f"{given_name} is at least 1, or None for the server's own limit, not {value}")
        if name in GENERATION:
            known[name] = value
        elif near := difflib.get_close_matches(name, (*GENERATION, *SYNONYMS), n=1, cutoff=_LIKELY_MEANT):
            raise ConfigurationError(f"unknown option {name!r} for a hosted model; did you mean {near[0]!r}?")
        else:
            rest[name] = value
    return known, rest


def call_options(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`generation_options` of a single call; raises `ConfigurationError` for what only a model may be given."""
    for name in given:
        if name in OF_A_MODEL:
            advice = f"in a call it is {instead}" if (instead := _IN_A_CALL.get(name)) else f"chat_model(…, {name}=…)"
            raise ConfigurationError(f"{name} is an option of the model, and not of a call; {advice}")
    known, rest = generation_options(given)
    for name in ("model_kwargs", "extra_body"):
        if not isinstance(fields := rest.pop(name, None) or {}, Mapping):
            raise ConfigurationError(f"{name} is an object of names and values, not {described(fields)}")
        more_known, more = generation_options(fields) if name == "model_kwargs" else ({}, fields)
        known, rest = {**more_known, **known}, {**rest, **more}
    if "model_name" in rest:
        rest["model"] = rest.pop("model_name")
    return known, rest


def request_body(
    request: ChatRequest,
    *,
    defaults: Mapping[str, Any],
    extra: Mapping[str, Any],
    stop: Collection[str],
    stream: bool,
    lessons: Lessons = Lessons(),
    most_tokens: int | None = None,
    origin: str | None = None,
) -> dict[str, Any]:
    """The body, as far as the server takes it; `most_tokens` is the longest reply that it gives, `origin` its name."""
    options, more = call_options(request.options)
    body: dict[str, Any] = {
        "messages": outgoing_messages(request.messages, origin=origin, refused=lessons.refused),
        **_parameters({**defaults, **options}),
        "stop": list(request.stop or stop) or None,
        **_tools(request),
        "response_format": request.response_format or _turn_format(request.turn_schema),
        **_logprobs(request.top_logprobs),
        "stream": stream,
        "stream_options": {"include_usage": True} if stream else None,
        **extra,
        **more,
    }
    refused = lessons.refused
    if "response_format" in refused and request.response_format:
        body["messages"] = _with_format(body["messages"], request.response_format)
    if lessons.wanted:
        body["messages"] = [_with_thinking(one, lessons.wanted) for one in body["messages"]]
    if lessons.folds_system:
        body["messages"] = alternating(without_system(body["messages"]))
    if most_tokens is not None:
        body |= {name: min(body[name], most_tokens) for name in LIMITS if isinstance(body.get(name), int)}
    if "max_tokens" in refused:
        body["max_completion_tokens"] = body.get("max_tokens")
    if lessons.model:
        body = {"model": lessons.model, **body}
    return {name: value for name, value in body.items() if value is not None and name not in refused}


def _parameters(chosen: dict[str, Any]) -> dict[str, Any]:
    """GenerationConfig's names as the wire has them. What OpenAI lacks, TGI, vLLM and SGLang take by the same name."""
    if chosen.pop("do_sample", None) is False:
        chosen["temperature"] = 0.0
    return {"max_tokens" if name == "max_new_tokens" else name: value for name, value in chosen.items()}


def _tools(request: ChatRequest) -> dict[str, Any]:
    if not request.tools:
        return {}
    choice = request.tool_choice
    if choice in ("any", True):
        choice = "required"
    elif isinstance(choice, str) and choice not in ("auto", "none", "required"):
        choice = {"type": "function", "function": {"name": choice}}
    return {"tools": outgoing_tools(request.tools), "tool_choice": choice or None}


def _turn_format(schema: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {"type": "json_schema", "json_schema": {"name": "turn", "schema": schema}} if schema else None


def _logprobs(top: int | None) -> dict[str, Any]:
    if top is None:
        return {}
    return {"logprobs": True, "top_logprobs": top or None}


def _with_format(messages: list[dict[str, Any]], wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The format asked for in words, of a server that has no field for it."""
    schema = wanted.get("json_schema", {}).get("schema")
    what = f"JSON that fits this schema: {json.dumps(schema, ensure_ascii=False)}" if schema else "one JSON object"
    instruction = _AS_ASKED.format(what=what)
    first, *rest = messages
    if first["role"] == "system" and isinstance(first["content"], str):
        return [{**first, "content": f"{first['content']}\n\n{instruction}"}, *rest]
    return [{"role": "system", "content": instruction}, *messages]


def _with_thinking(message: dict[str, Any], name: str) -> dict[str, Any]:
    """A message of the model with its thinking, of which there is none; Kimi does not take none as ""."""
    return {**message, name: " "} if message["role"] == "assistant" and not message.get(name) else message


DROPPABLE = ("stream_options", "stop", "response_format", "max_tokens", *THINKING, *RETURNED)
"""Fields that we can do without: usage may be missing, stops are enforced here, formats are asked for in words.

Those of messages say what the model thought, which not every server takes that says it.
"""
_LACKS = re.compile(
    r"\bmissing\b|\brequired\b|\bpassed back\b|\bmust be (?:provided|included|present|sent)\b", re.IGNORECASE
)


_NEWER_NAME = re.compile(r"\buse\b.{0,40}max_completion_tokens|max_completion_tokens.{0,20}\binstead\b", re.IGNORECASE)


def refused_field(body: Mapping[str, Any], message: str) -> str | None:
    """The field of `body` that an error message names, if it names one."""
    if "max_tokens" in body and _NEWER_NAME.search(message):
        return "max_tokens"
    beyond = [name for name in body if name not in ("messages", "model", "stream", *LIMITS)]
    named = [name for name in beyond if re.search(rf"(?<![\w.]){re.escape(name)}(?![\w])", message)]
    if not _LACKS.search(message):
        named += [name for name in returned_fields(body["messages"]) if _names(message, name)]
    return max(named, key=len, default=None)


def wanted_field(body: Mapping[str, Any], message: str) -> str:
    """The field of thinking that an error message says is missing, and is, in a message of the model; "" for none."""
    if not _LACKS.search(message):
        return ""
    own = [one for one in body["messages"] if one["role"] == "assistant"]
    return next((name for name in THINKING if _names(message, name) and not all(one.get(name) for one in own)), "")


def _names(message: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", message) is not None
