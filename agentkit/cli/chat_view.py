"""How the turns of a conversation look in a terminal: steps dimmed, the answer as it comes, then as Markdown."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentkit.cli.view import View, output_console, say
from agentkit.events import ActionChosen, Event, Finished, LimitReached, Observed, ParseError, Replied, Token
from agentkit.printable import printable

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

_LABEL = re.compile(r"^[ \t#*_]*Final Answer[*_ ]*:[*_]*[ \t]*", re.IGNORECASE | re.MULTILINE)
_NO_ANSWER = re.compile(r"[\s#*_]*(?:Thought|Action|Question|Observation|Final Answer)\b|[\s]*[{`<\[]", re.IGNORECASE)
_LONGEST_OPENING = 16  # of a text that may yet turn out to begin with a label
_KEPT_LINES = 4  # of the terminal, for the prompt and a step


def answer_so_far(text: str) -> str:
    """What of a turn's text is its answer, as far as it can be told before the turn is over; "" for none."""
    if (label := _LABEL.search(text)) is not None:
        return text[label.end() :].lstrip()
    answer = text.lstrip()
    return "" if len(answer) < _LONGEST_OPENING or _NO_ANSWER.match(answer) else answer


@dataclass
class ChatView(View):
    """Shows a turn. The answer grows on a terminal alone, in a place that it leaves when it is whole."""

    _text: str = ""
    _live: Live | None = None

    def settle(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        super().settle()

    def leave_partial(self) -> None:
        """Leave what there is of an answer that is broken off."""
        self.settle()
        if sys.stderr.isatty() and (answer := answer_so_far(self._text)):
            self._show(f"{answer.rstrip()} …", style="dim")
        self._text = ""

    def _show_event(self, event: Event) -> None:
        match event:
            case Token(text) if not self.verbose:
                self._text += text
                if sys.stderr.isatty() and (answer := answer_so_far(self._text)):
                    self._grow(answer)
                return
            case Replied() | ActionChosen() | Observed() | ParseError() | LimitReached() | Finished():
                self._text = ""
        super()._show_event(event)

    def _grow(self, answer: str) -> None:
        if self._live is None:
            self.settle()
            from rich.live import Live

            self._live = Live(console=self.console, transient=True, auto_refresh=False, vertical_overflow="crop")
            self._live.start()
        self._live.update(self._end_of(answer), refresh=True)

    def _end_of(self, answer: str) -> Text:
        """As much of the end as there is room for, in lines of this width."""
        from rich.text import Text

        room, width = max(1, self.console.height - _KEPT_LINES), max(1, self.console.width - 1)
        shown = Text(printable(answer[-room * width :]).expandtabs())
        lines = shown.wrap(self.console, width)[-room:]
        for line in lines:
            line.rstrip()  # a space behind a full line would be a line of its own
        return Text("\n").join(lines)

    def _show(self, text: str, *, style: str, end: str = "\n") -> None:
        super()._show(text, style=f"dim {style}".strip() if style != "dim" else style, end=end)

    def _show_answer(self, output: Any) -> None:
        self.settle()
        if not sys.stdout.isatty():
            say(output)
            return
        from agentkit.cli.markdown import rendered

        output_console().print(rendered(str(output)))
