"""Reads a backend's chunks as one reply: thinking apart from the answer, the answer cut at the first stop string, tool
calls in the model's own syntax read out of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from agentkit.models.backend import Chunk
from agentkit.models.stopping import StopText
from agentkit.models.thinking import ThinkingText
from agentkit.models.tool_calls import ToolCallText
from agentkit.react_json.marks import CallSyntax


class ReplyReader:
    """A state machine without I/O: feed it chunks until it says `stopped`, then take the `rest`.

    `calls` is the syntax that the model calls tools in, those of the table besides; None where there are none to call.
    `tools` are their OpenAI schemas, which say the types of arguments that are written as text.
    """

    def __init__(
        self, stop: Sequence[str] = (), *, calls: CallSyntax | None = None, tools: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self._thinking = ThinkingText()
        self._options = stop, calls, tools
        self._begin()

    def _begin(self) -> None:
        stop, calls, tools = self._options
        self._stop = StopText(stop)
        self._calls = ToolCallText(calls, tools=tools) if calls else None

    @property
    def stopped(self) -> bool:
        """Whether a stop string was reached: nothing after it counts, and the backend can be cancelled."""
        return self._stop.stopped

    @property
    def cut_off(self) -> str:
        """What came of the reply from the stop string on."""
        return self._stop.cut_off

    @property
    def restarts(self) -> int:
        """How often all text and calls until then turned out to be thinking: the prompt had opened a thought."""
        return self._thinking.restarts

    @property
    def open_thoughts(self) -> tuple[str, ...]:
        """What would close the thoughts that are open, the innermost first."""
        return self._thinking.open_thoughts

    def read(self, chunk: Chunk) -> Chunk:
        """The chunk with its text sorted into `thinking` and `text`; text that may begin a stop string is held back."""
        thinking, answer = self._separated(self._thinking.feed, chunk.text)
        text = self._stop.feed(answer)
        if self.stopped:
            chunk = replace(chunk, finish_reason="stop", tool_calls=())
        thinking = chunk.thinking + thinking
        if self._calls is None:
            return replace(chunk, thinking=thinking, text=text)
        text, calls = self._calls.feed(text)
        return replace(chunk, thinking=thinking, text=text, tool_calls=chunk.tool_calls + calls)

    def rest(self) -> Chunk:
        """What was held back, at the end."""
        thinking, answer = self._separated(self._thinking.flush)
        text = self._stop.feed(answer) + self._stop.flush()
        if self._calls is None:
            return Chunk(thinking=thinking, text=text)
        released, pieces = self._calls.feed(text)
        held, calls = self._calls.flush()
        return Chunk(thinking=thinking, text=released + held, tool_calls=pieces + calls)

    def _separated(self, read: Callable[..., tuple[str, str]], *text: str) -> tuple[str, str]:
        """The (thinking, answer) that are read; what was held back in front of a thought's end was part of it."""
        restarts = self.restarts
        thinking, answer = read(*text)
        if self.restarts > restarts:
            held = self._calls.flush()[0] if self._calls else ""
            thinking = held + self._stop.flush() + thinking
            self._begin()
        return thinking, answer


def ended_at(stop: Sequence[str], chunks: Generator[Chunk]) -> Iterator[Chunk]:
    """The chunks of a reply up to the first of these strings, which ends it; they are closed then."""
    reader = ReplyReader(stop) if stop else None
    with closing(chunks):
        for chunk in chunks:
            yield reader.read(chunk) if reader else chunk
            if reader and reader.stopped:
                break
    if reader:
        yield reader.rest()
