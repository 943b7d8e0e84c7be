"""One request, put as its server takes it: what earlier refusals taught, and what this request gives way in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from agentkit.errors import ConfigurationError, PromptTooLong
from agentkit.events import Usage
from agentkit.models.backend import ChatRequest, SchemaUse
from agentkit.models.hosted.body import DROPPABLE, Lessons, refused_field, wanted_field
from agentkit.models.hosted.failures import Failure
from agentkit.models.hosted.limits import FEWEST, Context, TooLong, too_long
from agentkit.models.messages import Fitted, shortened_to
from agentkit.number_words import count

BROKE = (500, 501)  # what some servers answer to a field that they do not know
SCHEMA_FAILED = (400, 404, 405, 415, 422, 500, 501)
MOST_GIVEN_WAY = 16  # times for one request
_FAIR_ROOM = 128  # tokens of a reply for which no observation need be dropped
_SPARE = 0.95  # of the room, as characters only tell about how many tokens they are
_SHRINK = 0.7  # where the server does not say by how much a prompt is too long
_NO_SYSTEM = re.compile(
    r"\b(?:system|developer)\b.{0,60}\b(?:not|isn't|aren't|can't|cannot|no longer|un\w+|invalid|disallowed)\b"
    r"|(?:\bnot\b|n't|\bun\w+|\binvalid|\bonly).{0,60}(?:\bsystem\b|\broles?\b)"
    r"|\broles? must alternate|\broles?\b.{0,200}\b(?:should|must) be\b"
    r"|\bsystem\b.{0,40}\bmust be\b.{0,20}\b(?:begin|first)",
    re.IGNORECASE | re.DOTALL,
)


_ABOUT_SCHEMAS = re.compile(  # as a server says that it takes none
    r"response.?format|json.?schema|\bschemas?\b|\bgrammars?\b|guided|structured.?output|constrained", re.IGNORECASE
)
_ABOUT_TOOLS = re.compile(r"\btools?\b|\btool.?(?:choice|calls?)\b|\bfunction.?call", re.IGNORECASE)
_MAY_BE_SYSTEM = re.compile(r"\bsystem\b|\broles?\b|\bfirst message\b|\btemplate\b|\bjinja", re.IGNORECASE)


@dataclass(slots=True)
class Phrasing:
    """How a request is put now. `room` are the tokens that its reply may have beside its prompt."""

    asked: ChatRequest
    lessons: Lessons
    room: int | None = None
    fitted: Fitted | None = None
    paths: list[str] = field(default_factory=list)  # that were asked, and are none of a chat server
    is_loss: bool = False  # what was given way in last, of the reply or the prompt
    drops: bool = False  # of the prompt
    let_go: SchemaUse = ""  # why the schema of a turn is not asked for
    _let_go_in_vain: bool = False
    _format: Literal["field", "words", "both failed"] = "field"  # how a reply's format is asked for
    _given_way: int = 0
    _is_test: bool = False  # of whether the context is still as long as was learnt
    known: Lessons = field(init=False)  # the lessons that it began with

    def __post_init__(self) -> None:
        self.known = self.lessons

    @property
    def request(self) -> ChatRequest:
        """The request with what there is room for."""
        request = replace(self.asked, turn_schema=None) if self.let_go else self.asked
        return request if self.fitted is None else replace(request, messages=self.fitted.messages)

    @property
    def taken(self) -> Lessons:
        """What the next body is put by: the lessons, and what is only tried."""
        tried = {"response_format"} if self._format == "words" else set()
        return replace(self.lessons, refused=self.lessons.refused | tried) if tried else self.lessons

    @property
    def schema_use(self) -> SchemaUse:
        """What came of the schema of a turn, once there is a reply."""
        if self.asked.turn_schema is None or self.asked.response_format or self._let_go_in_vain:
            return ""
        return "refused" if "response_format" in self.lessons.refused else self.let_go or "asked"

    @property
    def most_tokens(self) -> int | None:
        """The tokens that the reply may have at most, as far as the server says."""
        return min((one for one in (self.lessons.most_tokens, self.room) if one is not None), default=None)

    def goes_elsewhere(self, failure: Failure, bases: int) -> bool:
        """Whether another of the addresses that may be meant is asked next; not before one that may pass came twice."""
        is_new = failure.path not in self.paths
        self.paths.append(failure.path)
        if (failure.retry and is_new) or self.lessons.base + 1 >= bases:
            return False
        self.lessons = replace(self.lessons, base=self.lessons.base + 1)
        return True

    def gives_way(self, body: Mapping[str, Any], failure: Failure, *, model_id: str) -> str:
        """What is done about a refusal, in words, and then is so in the next body; "" where nothing is.

        Raises `ConfigurationError` for a field that it refuses and that cannot be done without.
        """
        self._given_way += 1
        self.drops = False
        if self._given_way > MOST_GIVEN_WAY:
            return ""
        limit = _limit(body)
        found = too_long(failure.said, code=failure.code, asked=limit)
        self.is_loss = found is not None
        if found is not None:
            self._notice(found, body)
            return self._shortened(found, body, limit)
        has_system = any(message["role"] == "system" for message in body["messages"])
        if has_system and _NO_SYSTEM.search(failure.said):
            return self._folded()
        if (wanted := wanted_field(body, failure.said)) and wanted != self.lessons.wanted:
            self.lessons = replace(self.lessons, wanted=wanted)
            return f"wants {wanted} in every message of the model; sending it"
        name = refused_field(body, failure.said) if failure.status in (400, 422) else None
        if name in DROPPABLE:
            self.lessons = replace(self.lessons, refused=self.lessons.refused | {name})
            return f"does not take {name}; going on without it"
        if name is not None:
            advice = "; or give an agent mode='react-json'" if name in ("tools", "tool_choice") else ""
            raise ConfigurationError(
                f"{model_id} does not take {name}: leave it out{advice} ({failure.message})"
            ) from failure
        return self._folded() if has_system and _MAY_BE_SYSTEM.search(failure.said) else ""

    def lets_go(self, failure: Failure) -> str:
        """What is done, in words, where the schema of a turn may be what a request failed for: a turn needs none.

        Any other format of a reply is asked for in words then. Where it fails without as well, that says nothing of it.
        """
        if self.asked.response_format and failure.status in BROKE and "response_format" not in self.lessons.refused:
            self._format = "words" if self._format == "field" else "both failed"
            return "failed at a request with response_format; asking in words" if self._format == "words" else ""
        if (
            failure.status not in SCHEMA_FAILED
            or not self.asked.turn_schema
            or "response_format" in self.lessons.refused
        ):
            return ""
        if self.let_go:
            self._let_go_in_vain = True
            return ""
        self.let_go = "refused" if failure.status != 500 and _ABOUT_SCHEMAS.search(failure.message) else "failed"
        return f"{self.let_go} a request with the schema of a turn; asking without"

    def _folded(self) -> str:
        self.lessons = replace(self.lessons, folds_system=True)
        return "takes no system message; it goes with the first message of the user"

    def advice(self, failure: Failure) -> str:
        """What to do about a failure that nothing mended, behind its message."""
        if self.asked.tools and failure.said and _ABOUT_TOOLS.search(failure.said):
            return "; an agent does without tools in requests with mode='react-json'"
        if failure.elsewhere and any(self.paths):
            return f" (asked: {', '.join(dict.fromkeys(self.paths))})"
        return (
            "; ask for less, or take fewer tools, or a model that reads more" if self.is_loss and failure.said else ""
        )

    # -- length ----------------------------------------------------------------------------------------------------

    def foresees(self, body: Mapping[str, Any]) -> bool:
        """Whether the server would refuse the request for its length, by what it said before."""
        return self._foreseen(body) is not None

    def foresee(self, body: Mapping[str, Any]) -> Iterator[str]:
        """What is done about that, in words."""
        for _ in range(2):  # for the prompt, and then for the reply beside it
            self.drops = False
            found = self._foreseen(body)
            if found is None or not (said := self._shortened(found, body, self._asked_tokens(body))):
                return
            yield said

    def test_context(self) -> None:
        """The request goes out as it is, although it is foreseen to be too long: the server may read more by now."""
        self._is_test = True

    def _foreseen(self, body: Mapping[str, Any]) -> TooLong | None:
        context = self.lessons.context
        if context is None or any(_has_media(message) for message in self.asked.messages):
            return None
        return context.refusal(self._characters(body), asked=self._asked_tokens(body))

    def _asked_tokens(self, body: Mapping[str, Any]) -> int | None:
        return min((one for one in (_limit(body), self.most_tokens) if one is not None), default=None)

    def answered(self, body: Mapping[str, Any], usage: Usage | None) -> None:
        """There is a reply, for which the server counted these tokens."""
        context = self.lessons.context
        if context is None:
            return
        if self._is_test or (usage is not None and context.is_disproved(usage)):
            self.lessons = replace(self.lessons, context=None)
        elif usage is not None and usage.prompt_tokens:
            context = context.measured(self._characters(body), usage.prompt_tokens)
            self.lessons = replace(self.lessons, context=context)

    def _characters(self, body: Mapping[str, Any]) -> int:
        """Of the prompt as it is put now."""
        return _size(self.request.messages) + _size(body.get("tools"))

    def _notice(self, found: TooLong, body: Mapping[str, Any]) -> None:
        """How long the context is, and by how many tokens the prompt was counted, for the next ones."""
        self._is_test = False
        prompt, tokens = found.prompt_tokens, found.context_tokens
        if prompt and tokens:
            before = self.lessons.context
            counts_reply = prompt < tokens or (before is not None and before.tokens == tokens and before.counts_reply)
            per_character = prompt / max(self._characters(body), 1)
            context = Context(tokens=tokens, per_character=per_character, counts_reply=counts_reply)
            self.lessons = replace(self.lessons, context=context)

    def _shortened(self, found: TooLong, body: Mapping[str, Any], limit: int | None) -> str:
        if found.most_tokens is not None:
            self.lessons = replace(self.lessons, most_tokens=found.most_tokens)
            return f"gives at most {found.most_tokens} tokens; asking for no more"
        if found.room is not None and found.room >= min(_FAIR_ROOM, limit or _FAIR_ROOM):
            return self._with_room(found.room)
        if found.of_reply and found.room is None and limit and limit // 2 >= FEWEST:
            return self._with_room(limit // 2)
        if not self.asked.shortens:
            tokens = {"prompt_tokens": found.prompt_tokens, "context_tokens": found.context_tokens}
            raise PromptTooLong("the server reads no prompt as long as this", **tokens)
        if said := self._dropped(found, body, limit):
            return said
        if found.room is not None and found.room >= FEWEST:
            return self._with_room(found.room)
        return self._with_room(limit // 2) if found.of_context and limit and limit // 2 >= _FAIR_ROOM else ""

    def _with_room(self, tokens: int) -> str:
        self.room = tokens
        return f"has room for {count(tokens, 'token')} of a reply; asking for no more"

    def _dropped(self, found: TooLong, body: Mapping[str, Any], limit: int | None) -> str:
        """What was dropped of the messages, so that they may fit; "" where nothing can be."""
        now = self.asked.messages if self.fitted is None else self.fitted.messages
        fixed, size = _size(body.get("tools")), _size(now)
        wanted = size * _SHRINK
        if found.prompt_tokens and found.context_tokens:
            reply = min(limit or found.context_tokens, max(found.context_tokens // 4, FEWEST))
            share = (found.context_tokens - reply) / found.prompt_tokens
            wanted = min(size * _SPARE, share * _SPARE * (size + fixed) - fixed)
        shorter = shortened_to(self.asked.messages, lambda one: _size(one.messages), wanted)
        if _size(shorter.messages) >= size:
            return ""
        self.fitted, self.room, self.drops = shorter, None, True
        dropped = self.fitted.dropped.items()
        parts = " and ".join(count(number, name.removesuffix("s")) for name, number in dropped if number)
        return f"reads no prompt as long as this: without {parts} of it"


def _limit(body: Mapping[str, Any]) -> int | None:
    limit = body.get("max_tokens", body.get("max_completion_tokens"))
    return limit if isinstance(limit, int) else None


def _has_media(message: Mapping[str, Any]) -> bool:
    """Whether the message holds a picture or sound, whose characters say nothing of its tokens."""
    content = message.get("content")
    return isinstance(content, list) and any(part.get("type") != "text" for part in content)


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, default=str)) if value else 0
