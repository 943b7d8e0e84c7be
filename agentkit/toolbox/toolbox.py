"""Runs a turn's actions: finds the tools, holds them to the run's rules, makes their errors observations."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from agentkit.approximate_tokens import cut_to_tokens
from agentkit.deadline import LONGEST_S, remaining_s
from agentkit.errors import Ask, ToolError, said
from agentkit.events import Action, Observation, Outcome, Pending, Source, ToolInput, Verdict
from agentkit.retry import RetryPolicy
from agentkit.secrets import Secrets
from agentkit.tool import Result, Tool, is_content
from agentkit.toolbox.approval import (
    DEFER,
    Answer,
    Approve,
    aanswer_of,
    aask,
    answer_of,
    ask,
    check_approve,
    interrupted,
)
from agentkit.toolbox.calling import OutOfTime, ThreadCall, acall, call
from agentkit.toolbox.registry import check_names
from agentkit.toolbox.run_scope import calling

if TYPE_CHECKING:
    import asyncio

ID_BYTES = 5  # of a decision: short enough to type, and no two alike among a million
MOST_CHARACTERS = 20_000_000  # of a result
MOST_LEVELS = 50  # of a result that is kept as lists and dicts
_CUT = "\n[{:,} characters were cut here]"
MARGIN = 5000  # characters behind what is kept of an observation, so that a key at its end is seen whole


@dataclass(frozen=True, slots=True)
class _Call:
    """A tool with its input, the call's id, and the action as people are asked about it.

    `asks`: it must be approved first; `note`: what is said above its result.
    """

    tool: Tool
    tool_input: ToolInput
    id: str
    action: Action
    asks: bool = False
    note: str = ""


class Toolbox:
    """Tools by name. A name in other letter case is taken when only one tool can be meant.

    Several actions run at once, each in a thread of its own, after every approval was asked for, one after another.
    `approve` is asked before every tool that does not say that it only reads: about a copy of the very arguments that
    the tool gets; with "defer" such a call waits, and no other of its turn runs before. `answer` is asked what a tool
    wants to know (`Ask`), unless that waits, too. `timeout_s` holds for tools without a time limit of their own; no
    tool outlasts the run's deadline. `allow` has the names of those that may run (`None`: all).
    `max_observation_tokens` is where an observation is cut.
    """

    def __init__(
        self,
        tools: Sequence[Tool],
        *,
        timeout_s: float | None = None,
        approve: Approve | None = None,
        answer: Answer | None = None,
        allow: Collection[str] | None = None,
        max_observation_tokens: int | None = None,
        retries: RetryPolicy | None = None,
    ) -> None:
        check_names([tool.name for tool in tools])
        check_approve(approve, answer)
        self._tools = {tool.name: tool for tool in tools}
        self._allowed = [name for name in self._tools if allow is None or name in allow]
        self._timeout_s = timeout_s
        self._approve = approve
        self._answer = answer
        self._asking = threading.Lock()  # a recorder runs each action by itself: they ask one after another, too
        self._aasking: asyncio.Lock | None = None
        self._max_tokens = max_observation_tokens
        self._retries = retries or RetryPolicy()
        self._known_secrets = Secrets(os.environ)
        self._numbers = count(1)

    @property
    def deterministic(self) -> frozenset[str]:
        """Names of the tools that give the same for the same input."""
        return frozenset(tool.name for tool in self._tools.values() if tool.deterministic)

    @property
    def only_reads(self) -> frozenset[str]:
        """Names of the tools that are said to change nothing."""
        return frozenset(tool.name for tool in self._tools.values() if tool.only_reads)

    @property
    def not_twice(self) -> frozenset[str]:
        """Names of the tools that must not run a second time for one call."""
        found = (tool for tool in self._tools.values() if tool.side_effects)
        return frozenset(tool.name for tool in found if not (tool.idempotent or tool.deterministic))

    @property
    def _secrets(self) -> Secrets:
        """The keys that this process has now, and what looks like a token."""
        if self._known_secrets.environment_changed():
            self._known_secrets = Secrets(os.environ)
        return self._known_secrets

    def run(self, actions: Sequence[Action]) -> list[Outcome]:
        chosen = [self._approved(self._chosen(action)) for action in actions]
        if any(isinstance(one, Pending) for one in chosen):
            return [_before_any_ran(one) for one in chosen]
        begun = [self._begun(one, alone=len(actions) == 1) for one in chosen]
        return [outcome() for outcome in begun]

    async def arun(self, actions: Sequence[Action]) -> list[Outcome]:
        import asyncio

        chosen = [await self._aapproved(self._chosen(action)) for action in actions]
        if any(isinstance(one, Pending) for one in chosen):
            return [_before_any_ran(one) for one in chosen]
        return list(await asyncio.gather(*map(self._arun_one, chosen)))

    def _begun(self, chosen: _Call | Outcome, *, alone: bool) -> Callable[[], Outcome]:
        """The call under way; calling the result waits for it. One call without a time limit needs no thread."""
        if not isinstance(chosen, _Call):
            return lambda: chosen
        tool, tool_input, limit_s = chosen.tool, chosen.tool_input, self._limit_s(chosen.tool)
        if limit_s is not None and limit_s <= 0:  # the run's time ended while it was asked about
            return partial(self._failed, tool, OutOfTime())
        if alone and limit_s is None:
            return partial(self._observed, chosen, partial(call, tool, tool_input, self._retries))
        with calling(chosen.id):
            return partial(self._observed, chosen, ThreadCall(tool, tool_input, self._retries, limit_s).result)

    def _observed(self, chosen: _Call, get: Callable[[], Any]) -> Outcome:
        try:
            with calling(chosen.id):
                return self._told(chosen, get())
        except (ToolError, OutOfTime) as error:
            return self._failed(chosen.tool, error)
        except Ask as asked:
            if self._approve == DEFER or self._answer is None:
                return self._unanswered(chosen, asked)
            with self._asking:
                given = answer_of(self._answer, asked.question, chosen.action, name="answer")
            return self._answered(chosen, asked, given)

    async def _arun_one(self, chosen: _Call | Outcome) -> Outcome:
        if not isinstance(chosen, _Call):
            return chosen
        tool = chosen.tool
        try:
            with calling(chosen.id):
                return self._told(chosen, await acall(tool, chosen.tool_input, self._retries, self._limit_s(tool)))
        except (ToolError, OutOfTime) as error:
            return self._failed(tool, error)
        except Ask as asked:
            if self._approve == DEFER or self._answer is None:
                return self._unanswered(chosen, asked)
            async with self._alone:
                given = await aanswer_of(self._answer, asked.question, chosen.action, name="answer")
            return self._answered(chosen, asked, given)

    # -- which tool, and for how long ------------------------------------------------------------------------------

    def _chosen(self, action: Action) -> _Call | Outcome:
        """The tool to run, or why none is."""
        tool = self._find(action.tool)
        names = ", ".join(self._allowed)
        if tool is None:
            return _refused(f"{action.tool} is not a valid tool, try one of [{names}].")
        if tool.name not in self._allowed:
            return _refused(f"{tool.name} is not allowed in this run, try one of [{names}].")
        if (verdict := action.verdict) is not None and verdict.says != "yes":
            return self._admitted(_undone(tool, verdict))
        called = action.called.id if action.called else getattr(action.origin, "tool_call_id", None)
        call_id = called or f"call_{next(self._numbers)}"
        is_decided = verdict is not None and (self._approve != DEFER or bool(verdict.id))  # and not only to run again
        if self._approve is None or tool.only_reads or is_decided:
            edited = verdict.tool_input if verdict is not None else None
            note = "" if edited is None else f"{tool.name} ran with {_text(edited)} instead.\n"
            return _Call(tool, action.tool_input if edited is None else edited, call_id, action, note=note)
        try:
            with calling(call_id):
                arguments = deepcopy(tool.arguments(action.tool_input))
        except ToolError as error:
            return self._failed(tool, error)
        asked = dict(deepcopy(arguments)) if isinstance(arguments, dict) else arguments
        return _Call(tool, arguments, call_id, replace(action, tool=tool.name, tool_input=asked), asks=True)

    def _approved(self, chosen: _Call | Outcome) -> _Call | Outcome:
        if not isinstance(chosen, _Call) or not chosen.asks or self._approve is None:
            return chosen
        if self._approve == DEFER:
            return _waits(chosen)
        with self._asking:
            said_yes = ask(self._approve, chosen.action)
        return chosen if said_yes else _not_approved(chosen.tool)

    async def _aapproved(self, chosen: _Call | Outcome) -> _Call | Outcome:
        if not isinstance(chosen, _Call) or not chosen.asks or self._approve is None:
            return chosen
        if self._approve == DEFER:
            return _waits(chosen)
        async with self._alone:
            said_yes = await aask(self._approve, chosen.action)
        return chosen if said_yes else _not_approved(chosen.tool)

    @property
    def _alone(self) -> asyncio.Lock:
        import asyncio

        self._aasking = self._aasking or asyncio.Lock()
        return self._aasking

    def _find(self, name: str) -> Tool | None:
        if (tool := self._tools.get(name)) is not None:
            return tool
        alike = [tool for known, tool in self._tools.items() if known.casefold() == name.strip().casefold()]
        return alike[0] if len(alike) == 1 else None

    def _limit_s(self, tool: Tool) -> float | None:
        limits_s = (self._own_limit_s(tool), remaining_s())
        return min((min(limit_s, LONGEST_S) for limit_s in limits_s if limit_s is not None), default=None)

    def _own_limit_s(self, tool: Tool) -> float | None:
        return self._timeout_s if tool.timeout_s is None else tool.timeout_s

    # -- what came of it -------------------------------------------------------------------------------------------

    def _told(self, chosen: _Call, value: Any) -> Observation:
        result = value if isinstance(value, Result) else Result(value)
        shown = f"{chosen.note}{_text(result.text)}" if chosen.note else result.text
        observation = Observation(
            shown, return_direct=chosen.tool.return_direct, sources=result.sources, readings=result.readings
        )
        return self._admitted(observation)

    def _unanswered(self, chosen: _Call, asked: Ask) -> Outcome:
        """What a tool wants to know waits, or is known to nobody."""
        if self._approve == DEFER:
            return _waits(chosen, self._secrets.scrub_text(asked.question))
        return self._answered(chosen, asked, None)

    def _answered(self, chosen: _Call, asked: Ask, answer: Any) -> Observation:
        if not isinstance(answer, str):
            told = f"Error: {chosen.tool.name} asks: {asked.question} Nobody answers it here. Do without it."
            return self._admitted(Observation(told, failed=True))
        return self._admitted(Observation(_waits(chosen, asked.question).answered(answer)))

    def _failed(self, tool: Tool, error: ToolError | OutOfTime) -> Observation:
        if isinstance(error, ToolError):
            return self._admitted(Observation(said(error), failed=True))
        own_s = self._own_limit_s(tool)
        limit = "the time the run had left" if own_s is None or remaining_s() == 0 else f"{own_s:g} s"
        return Observation(f"Error: {tool.name} gave no result within {limit}.", failed=True)

    def _admitted(self, observation: Observation) -> Observation:
        """The observation with its secrets redacted and its text cut: what is returned to the caller only in length."""
        secrets = self._secrets
        most = None if observation.return_direct else self._max_tokens
        value = _text(observation.value) if _is_deep(observation.value) else observation.value
        value, left_out = _beginning(_bounded(value) if most is None or is_content(value) else value, most)
        value = _redacted(value, secrets)
        if most is not None:
            value = _cut(value, most, left_out)
        if value is observation.value and not observation.sources and not observation.readings:
            return observation
        sources = tuple(Source(secrets.scrub_text(s.title), secrets.scrub_text(s.link)) for s in observation.sources)
        readings = tuple(map(secrets.scrub_text, observation.readings))
        return replace(observation, value=value, sources=sources, readings=readings)


def _before_any_ran(chosen: _Call | Outcome) -> Outcome:
    """What is known of a call while another one of its turn waits."""
    return None if isinstance(chosen, _Call) else chosen


def _waits(chosen: _Call, question: str = "") -> Pending:
    return Pending(token_hex(ID_BYTES), chosen.action, question)


def _undone(tool: Tool, verdict: Verdict) -> Observation:
    """What the model is told of a call that does not run (again)."""
    if verdict.says == "answer":
        return Observation(verdict.message)
    if verdict.says == "interrupted":
        return _refused(interrupted(tool.name))
    return _not_approved(tool, verdict.message)


def _not_approved(tool: Tool, why: str = "") -> Observation:
    return _refused(f"{tool.name} was not approved. {why or 'Do without it.'}")


def _refused(why: str) -> Observation:
    return Observation(why, executed=False)


def _text(value: Any) -> str:
    try:
        return value if isinstance(value, str) else str(value)
    except Exception as error:  # too deep, too many digits, or a bug of the object's
        raise ToolError(
            f"Error: the tool gave a {type(value).__name__} that has no text ({type(error).__name__})."
        ) from error


def _is_deep(value: Any) -> bool:
    """Whether it has more levels than a recording can hold; parts that are in several places are looked at once."""
    level = [value]
    for _ in range(MOST_LEVELS):
        parts = [
            part for one in level for part in (one.values() if isinstance(one, dict) else one if _holds(one) else ())
        ]
        level = list({id(part): part for part in parts if _holds(part)}.values())
    return bool(level)


def _holds(value: Any) -> bool:
    return isinstance(value, dict | list | tuple)


def _bounded(value: Any) -> Any:
    """The value, of which no text is longer than anybody reads: keys are looked for in all that is left."""
    if is_content(value):
        left = MOST_CHARACTERS
        blocks = []
        for block in value:
            text = _text(block.get("text")) if block["type"] == "text" else None
            length = len(_text(block) if text is None else text)
            kept = "" if text is None else text[: max(0, left)]
            left -= length
            blocks.append(block if left >= 0 else {"type": "text", "text": kept + _CUT.format(length - len(kept))})
        return blocks if left < 0 else value
    text = _text(value)
    cut = len(text) - MOST_CHARACTERS
    return value if cut <= 0 else text[:MOST_CHARACTERS] + _CUT.format(cut)


def _beginning(value: Any, max_tokens: int | None) -> tuple[Any, int]:
    """As much of the value as can be left once it is cut, with some more, and how much of its text that leaves out.

    Blanks are no tokens: without an end to them they would be all of an observation.
    """
    text = _text(value)
    if max_tokens is None or is_content(value) or (left_out := len(text) - _most_characters(max_tokens) - MARGIN) <= 0:
        return value, 0
    return text[:-left_out], left_out


def _most_characters(max_tokens: int) -> int:
    return 10_000 + 20 * max_tokens


def _redacted(value: Any, secrets: Secrets) -> Any:
    """The value without secrets: one of its type, or its text where they cannot be taken out of its parts."""
    if isinstance(value, str):
        return secrets.scrub_text(value)
    text = _text(value)
    if (scrubbed := secrets.scrub_text(text)) == text:
        return value
    with suppress(Exception):  # whatever an object of the tool's makes of being taken apart
        same = secrets.scrub(value)
        if secrets.scrub_text(str(same)) == str(same):
            return same
    return scrubbed


def _cut(value: Any, max_tokens: int, left_out: int) -> Any:
    if is_content(value):
        texts = [_cut(one.get("text"), max_tokens, 0) if one["type"] == "text" else None for one in value]
        return [one if text is None else {**one, "text": text} for one, text in zip(value, texts, strict=True)]
    text = _text(value)
    total = len(text) + left_out
    head = text[: _most_characters(max_tokens)] if left_out else text
    if total <= max_tokens or ((kept := cut_to_tokens(head, max_tokens)) == text and not left_out):
        return value
    cut = total - len(kept.removesuffix("..."))
    return f"{kept}\n[{cut:,} of {total:,} characters were cut here; ask for less, or for one part]"
