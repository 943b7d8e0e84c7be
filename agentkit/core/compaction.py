"""Sums up the oldest steps of a run whose prompt leaves no room: by the model itself, or by a function of the user's.

What comes of it stands in their place for the model; where nothing does, their observations are dropped, and the run's
event says why.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from agentkit.approximate_tokens import count_prompt_tokens
from agentkit.core.loop import Compaction, Summary
from agentkit.core.model_view import FOR_NOTES
from agentkit.core.planner import status_of
from agentkit.errors import AgentkitError, ConfigurationError, ModelError, PromptTooLong, described, in_one_line
from agentkit.events import Step
from agentkit.models.backend import ChatRequest, Completion
from agentkit.models.chat import ChatModel, estimated_usage
from agentkit.react_json.summary import MOST_TOKENS, checked_notes, summary_messages
from agentkit.toolbox.calling import in_daemon_thread

SumUp = Callable[[Sequence[Step]], str]
"""From all steps that the model no longer sees to what stands in their place; "": observations are dropped instead."""
LONGEST_REPLY = 1024  # tokens, of which some models think first
FOR_REPLY = 4  # of a context, the part for the reply at most
SPARE = 64  # tokens, as a prompt is counted without a tokenizer
TRIES = 3  # each with half of what the one before had
LONGEST_REASON = 120


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """Has the model sum the steps up, in a conversation of its own."""

    model: ChatModel
    how: Literal["summary"] = "summary"

    def sum_up(self, task: Compaction) -> Summary:
        asking = _asking(task)
        request = next(asking)
        while True:
            came: Any = None
            try:
                for piece in self.model.complete(request):
                    came = piece
            except Exception as error:
                came = _failure(error)
            try:
                request = asking.send(came)
            except StopIteration as done:
                return cast(Summary, done.value)

    async def asum_up(self, task: Compaction) -> Summary:
        asking = _asking(task)
        request = next(asking)
        while True:
            came: Any = None
            try:
                async for piece in self.model.acomplete(request):
                    came = piece
            except Exception as error:
                came = _failure(error)
            try:
                request = asking.send(came)
            except StopIteration as done:
                return cast(Summary, done.value)


def _asking(task: Compaction) -> Generator[ChatRequest, Completion | Exception, Summary]:
    """What the model is asked: less where that was too long, too. It is sent the reply, or what failed."""
    question, context = str(task.inputs.get("input", "")), task.context_tokens
    reply = LONGEST_REPLY if context is None else min(LONGEST_REPLY, context // FOR_REPLY)
    most = None if context is None else context - reply - SPARE
    failure = ""
    for _ in range(TRIES):
        request = ChatRequest(
            messages=summary_messages(question, task.steps, task.summary, most_tokens=most),
            token_budget=reply if task.max_new_tokens is None else min(reply, task.max_new_tokens),
            stream=False,
            shortens=False,
        )
        came = yield request
        if isinstance(came, Completion):
            return _summary(task, request, came)
        failure = in_one_line(came, LONGEST_REASON)
        if not isinstance(came, PromptTooLong):
            break
        most = (most or count_prompt_tokens(request.messages)) // 2
    return Summary(reason=f"the model could not be asked to sum up: {failure}")


def _failure(error: Exception) -> Exception:
    """What failed at the model or its server; raises anything else again."""
    if isinstance(error, ModelError):
        return error
    status = None if isinstance(error, AgentkitError) else status_of(error)
    if status is None:
        raise error
    return ModelError(f"{type(error).__name__}, HTTP {status}")  # a client's own words may hold a key


def _summary(task: Compaction, request: ChatRequest, completion: Completion) -> Summary:
    text, usage = completion.text, completion.usage
    if task.max_new_tokens is not None:
        usage = estimated_usage(request, completion)
    most = MOST_TOKENS if task.context_tokens is None else min(MOST_TOKENS, int(task.context_tokens * FOR_NOTES))
    notes = checked_notes(
        text,
        str(task.inputs.get("input", "")),
        task.steps,
        task.summary,
        most_tokens=most,
        cut_off=completion.is_cut_off,
    )
    return Summary(notes.text, notes.reason, usage)


@dataclass(frozen=True, slots=True)
class FunctionSummary:
    """Asks a function of the user's, in async runs in a thread. What it raises leaves the run."""

    function: SumUp
    how: Literal["function"] = "function"

    def sum_up(self, task: Compaction) -> Summary:
        text = self.function(task.steps)
        if text is not None and not isinstance(text, str):
            raise ConfigurationError(f"compaction: expected the function to return text, saw {described(text)}")
        return Summary(text or "", reason="" if text else "the function gave nothing")

    async def asum_up(self, task: Compaction) -> Summary:
        import asyncio

        return await asyncio.wrap_future(in_daemon_thread(self.sum_up, task))
