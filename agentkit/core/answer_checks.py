"""Checks of a run's answer that its caller brings: what one says goes back to the model, which answers again.

    def is_polite(answer: Letter) -> str | None:
        return None if answer.greeting else "The greeting is missing."

A check returns nothing, or a message, or raises `ValueError` with one. In awaited runs it may be async.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentkit.core.loop import ModelCall, Turn
from agentkit.core.planner import Planned, Planner
from agentkit.errors import AgentkitError, ConfigurationError, RejectedAnswer, described, in_one_line
from agentkit.events import FinalAnswer
from agentkit.react_json.hostile import defused
from agentkit.react_json.schema_validator import error_in_words

Check = Callable[[Any], Any]
LONGEST_MESSAGE = 2_000
MOST_CORRECTIONS = 3


def check_checks(checks: Any, *, blocking: bool = False) -> tuple[Check, ...]:
    """The checks, if they are some; raises `ConfigurationError`, also for one that a `blocking` run cannot await."""
    if checks is None:
        return ()
    if callable(checks) or isinstance(checks, str) or not isinstance(checks, Sequence):
        raise ConfigurationError(f"answer_checks: expected a list of functions, saw {described(checks)}")
    for check in checks:
        if not callable(check):
            raise ConfigurationError(f"answer_checks: expected functions of the answer, saw {described(check)}")
        if blocking and inspect.iscoroutinefunction(check):
            raise _is_async(check)
    return tuple(checks)


def _is_async(check: Check) -> ConfigurationError:
    return ConfigurationError(
        f"answer_checks: {_name(check)} is async; await the run (ainvoke, astream), or give a plain one"
    )


def _name(check: Check) -> str:
    return getattr(check, "__name__", type(check).__name__)


@dataclass(slots=True, kw_only=True)
class CheckedPlanner:
    """A planner whose answers are checked: one that is rejected is a turn that the model has to mend.

    `object_of` gives what a check is given of an answer: an object that was made of it is the one that the caller gets,
    plain values are a copy for each. After `most` corrections the run ends.
    """

    planner: Planner
    checks: Sequence[Check]
    object_of: Callable[[FinalAnswer], Any]
    most: int = MOST_CORRECTIONS
    _corrections: int = 0

    def plan(self, call: ModelCall) -> Iterator[Planned]:
        for piece in self.planner.plan(call):
            yield self._with(piece, self._said(piece)) if _answers(piece) else piece

    async def aplan(self, call: ModelCall) -> AsyncIterator[Planned]:
        async for piece in self.planner.aplan(call):
            yield self._with(piece, await self._asaid(piece)) if _answers(piece) else piece

    def _with(self, turn: Any, message: str | None) -> Turn:
        """The turn, or what becomes of it where a check has a message."""
        assert isinstance(turn, Turn)
        if message is None:
            return turn
        self._corrections += 1
        reason = defused(in_one_line(message, LONGEST_MESSAGE))
        told = f"The answer was not accepted: {reason}\nMend that, and give the whole answer again."
        error = RejectedAnswer(told, ends_run=self._corrections > self.most)
        return replace(turn, decision=error, text=turn.text, return_values=None)

    def _said(self, turn: Any) -> str | None:
        for check in self.checks:
            answer = self.object_of(turn.decision)
            try:
                said = check(answer)
            except ValueError as error:
                said = _raised(error)
            if inspect.isawaitable(said):
                getattr(said, "close", lambda: None)()
                raise _is_async(check)
            if (message := _message(check, said)) is not None:
                return message
        return None

    async def _asaid(self, turn: Any) -> str | None:
        for check in self.checks:
            answer = self.object_of(turn.decision)
            try:
                said = check(answer)
                if isinstance(said, Awaitable):
                    said = await said
            except ValueError as error:
                said = _raised(error)
            if (message := _message(check, said)) is not None:
                return message
        return None


def _answers(piece: Any) -> bool:
    return isinstance(piece, Turn) and isinstance(piece.decision, FinalAnswer) and not piece.decision.declines


def _raised(error: ValueError) -> str:
    if isinstance(error, AgentkitError):  # of something that is used wrongly within
        raise error
    return error_in_words(error) or "it is not right."


def _message(check: Check, said: Any) -> str | None:
    if said is None or isinstance(said, str):
        return said or None
    raise ConfigurationError(
        f"answer_checks: expected {_name(check)} to return None or a message, saw {described(said)}"
    )
