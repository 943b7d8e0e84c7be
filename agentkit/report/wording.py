"""The words and numbers in which a story is told, on a terminal and on a page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from agentkit import errors
from agentkit.events import BrokenOff, Compacted, Usage
from agentkit.number_words import count

if TYPE_CHECKING:
    from agentkit.report.exchange import Exchange
    from agentkit.report.story import Story, StoryRun

ENDED = {
    "max_iterations": "the iteration limit is reached",
    "max_execution_time": "the time limit is reached",
    "max_tokens": "the token budget is spent",
    "max_cost": "the cost budget is spent",
    "stuck": "the same came of several turns in a row",
    "not_grounded": "no observation confirms the answer",
    "declined": "the model says that it has no answer",
    "answer_rejected": "no answer passed the checks of it",
    "waiting": "a call waits for a decision",
}
STOPPED = {
    "KeyboardInterrupt": "it was interrupted",
    "CancelledError": "it was cancelled",
    "SystemExit": "its process was told to end",
    "GeneratorExit": "whoever followed it stopped before its end",
}
UNKNOWN = "the recording does not hold the run's end"


def duration(ms: float) -> str:
    """A time to two or three digits."""
    if ms < 1000:
        return f"{round(ms)} ms"
    if ms < 100_000:
        return f"{ms / 1000:.1f} s"
    minutes, seconds = divmod(round(ms / 1000), 60)
    return f"{minutes} min {seconds} s"


def tokens(usage: Usage) -> str:
    """Tokens read and written; "" where nobody counted."""
    if not usage.total_tokens:
        return ""
    cached = f" ({usage.cached_tokens:,} cached)" if usage.cached_tokens else ""
    return f"{usage.prompt_tokens:,}{cached} + {count(usage.completion_tokens, 'token')}"


def cost(usage: Usage) -> str:
    """The price, "" where nobody says."""
    return "" if usage.cost_usd is None else f"${usage.cost_usd:.4f}"


def compaction(event: Compacted) -> str:
    """What the model no longer sees, and what stands there instead is said behind it."""
    if event.within_call:
        return f"Left out to fit the context: {event.text}"
    steps = f"step {event.last}" if event.first == event.last else f"steps {event.first} to {event.last}"
    if event.how == "drop":
        because = f" ({event.reason})" if event.reason else ""
        return f"Left out to fit the context: the observations of {steps}{because}"
    return f"Notes on {steps}, instead of them: {event.text}"


def exchange(one: Exchange) -> str:
    """An HTTP exchange in a line."""
    return f"{one.request} → {one.outcome}" + (f", {duration(one.ms)}" if one.ms else "")


def input_text(value: Any) -> str:
    """A tool's input: text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def made_with(story: Story) -> Iterator[str]:
    """Model, tools, prompt and limits, each in a few words."""
    yield story.model
    if story.spec is None:
        return
    settings = story.spec.settings
    yield ", ".join(settings.tools) if settings.tools else "no tools"
    yield f"prompt {settings.prompt}"
    if settings.max_iterations is not None:
        yield f"at most {count(settings.max_iterations, 'turn')}"
    if settings.timeout is not None:
        yield f"at most {settings.timeout:g} s"
    if settings.max_tokens is not None:
        yield f"at most {count(settings.max_tokens, 'token')}"
    if settings.max_cost is not None:
        yield f"at most ${settings.max_cost:g}"
    yield from (f"{name}={input_text(value)}" for name, value in settings.options.items())


def totals(run: StoryRun) -> Iterator[str]:
    """What a run came to."""
    yield count(len(run.steps), "turn")
    yield count(run.tools_executed, "tool call")
    yield from filter(None, (tokens(run.usage), cost(run.usage)))
    if run.invented_observations:
        yield f"{count(run.invented_observations, 'observation')} made up and cut off"
    if run.model_ms or run.tools_ms:
        yield f"model {duration(run.model_ms)}"
        yield f"tools {duration(run.tools_ms)}"


def ending(run: StoryRun) -> str:
    """What ended it; "" for an answer that came by itself."""
    if run.answered and run.stop_reason not in ENDED:
        return ""
    if run.stop_reason is not None:
        return ENDED.get(run.stop_reason, run.stop_reason)
    return UNKNOWN if run.broken_off is None else broken_off(run.broken_off)


def broken_off(event: BrokenOff) -> str:
    """The exception that broke a run off, in words."""
    if event.error in STOPPED:
        return STOPPED[event.error]
    kind = "" if event.error in errors.__all__ and event.message else event.error  # ours are sentences
    return f"an error broke it off: {': '.join(filter(None, [kind, event.message]))}"
