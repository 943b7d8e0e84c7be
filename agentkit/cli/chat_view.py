"""How the turns of a conversation look in a terminal: steps dimmed, the answer as it comes, then as Markdown."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentkit.cli.view import View, output_console, say
from agentkit.events import ActionChosen, Event, Finished, LimitReached, Observed, ParseError, Replied, Token
from agentkit.printable import printable, word

if TYPE_CHECKING:
    from rich.live import Live

_LABEL = re.compile(r"^[ \t#*_]*Final Answer[*_ ]*:", re.IGNORECASE | re.MULTILINE)
_NO_ANSWER = re.compile(r"[\s#*_]*(?:Thought|Action|Question|Observation|Final Answer)\b|[\s]*[{`<\[]", re.IGNORECASE)
_LONGEST_OPENING = 16  # of a text that may yet turn out to begin with a label
_LONGEST_LABEL = 40
_MOST_CHARS = 100_000  # of an answer that is broken off
_BLANK = re.compile(r"\s*")
_BEHIND_LABEL = re.compile(r"[*_]*\s*")
_KEPT_LINES = 4  # of the terminal, for the prompt and a step


class GrowingTurn:
    """A turn's text as it comes, and what of it is an answer, as far as it can be told before the turn is over."""

    def __init__(self) -> None:
        self._text = ""
        self._label: int | None = None
        self._seen = 0

    def add(self, text: str) -> None:
        """A piece more."""
        self._text += text
        if self._label is None:  # what was looked at is not looked at again: a turn may be long
            found = _LABEL.search(self._text, max(0, self._seen - _LONGEST_LABEL))
            self._label, self._seen = found and found.end(), len(self._text)

    def answer(self, most: int) -> str:
        """The last so many characters of the answer; "" for none."""
        if self._label is not None:
            begins = _end_of(_BEHIND_LABEL, self._text, self._label)
        elif _NO_ANSWER.match(self._text):
            return ""
        else:
            begins = _end_of(_BLANK, self._text, 0)
            if len(self._text) - begins < _LONGEST_OPENING:
                return ""
        return self._text[max(begins, len(self._text) - most) :]


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


@dataclass
class ChatView(View):
    """Shows a turn. The answer grows on a terminal alone, in a place that it leaves when it is whole."""

    _turn: GrowingTurn = field(default_factory=GrowingTurn)
    _live: Live | None = None

    def settle(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        super().settle()

    def leave_partial(self) -> None:
        """Leave what there is of an answer that is broken off."""
        self.settle()
        if sys.stderr.isatty() and (answer := self._turn.answer(_MOST_CHARS)):
            self._show(f"{answer.rstrip()} …", style="dim")
        self._turn = GrowingTurn()

    def how_to_decide(self, id: str, tool: str, *, is_question: bool) -> str:
        which = f"/answer {id} TEXT answers" if is_question else f"/approve {id} (or /deny {id}) decides about"
        return f"{which} {word(tool)}"

    def _show_event(self, event: Event) -> None:
        match event:
            case Token(text) if not self.verbose:
                self._turn.add(text)
                if sys.stderr.isatty():
                    self._grow()
                return
            case Replied() | ActionChosen() | Observed() | ParseError() | LimitReached() | Finished():
                self._turn = GrowingTurn()
        super()._show_event(event)

    def _grow(self) -> None:
        room, width = max(1, self.console.height - _KEPT_LINES), max(1, self.console.width - 1)
        if not (answer := self._turn.answer(room * width)):
            return
        if self._live is None:
            self.settle()
            from rich.live import Live

            self._live = Live(console=self.console, transient=True, auto_refresh=False, vertical_overflow="crop")
            self._live.start()
        from rich.text import Text

        lines = Text(printable(answer).expandtabs()).wrap(self.console, width)[-room:]
        for line in lines:
            line.rstrip()  # a space behind a full line would be a line of its own
        self._live.update(Text("\n").join(lines), refresh=True)

    def _show(self, text: str, *, style: str, end: str = "\n") -> None:
        super()._show(text, style=f"dim {style}".strip() if style != "dim" else style, end=end)

    def _show_answer(self, output: Any) -> None:
        self.settle()
        if not sys.stdout.isatty():
            say(output)
            return
        from agentkit.cli.markdown import rendered

        output_console().print(rendered(str(output)))
