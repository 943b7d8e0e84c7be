"""Separates what a reasoning model writes inside `<think>…</think>` from its answer, however the pieces are cut."""

from __future__ import annotations

from agentkit.models.stopping import unfinished_match

OPEN, CLOSE = "<think>", "</think>"


class ThinkingText:
    """Splits a reply into thinking and answer.

    A thought opens at the start of a line only: inside a line (a JSON string, a quotation) the tag is text. One that is
    never closed swallows the rest of the reply, so that nothing weighed up in it is taken for the answer.
    """

    def __init__(self) -> None:
        self._inside = False
        self._held = ""
        self._line_start = True
        self._skip_newlines = False

    def feed(self, text: str) -> tuple[str, str]:
        """The (thinking, answer) that `text` completes."""
        self._held += text
        thinking, answer = "", ""
        while self._held:
            tag = CLOSE if self._inside else OPEN
            taken, opened = self._take(tag)
            if self._inside:
                thinking += taken
            else:
                answer += self._answer(taken)
            if not opened:
                break
            self._inside = not self._inside
            self._skip_newlines, self._line_start = not self._inside, True
        return thinking, answer

    def flush(self) -> tuple[str, str]:
        """What was held back, when no more text comes."""
        held, self._held = self._held, ""
        return (held, "") if self._inside else ("", self._answer(held))

    def _take(self, tag: str) -> tuple[str, bool]:
        """The text before `tag` and whether the tag follows; the tag is dropped, a possible beginning of it held."""
        found = self._find(tag)
        if found >= 0:
            taken, self._held = self._held[:found], self._held[found + len(tag) :]
            return taken, True
        keep = unfinished_match(self._held, tag)
        if keep and not self._opens(len(self._held) - keep):
            keep = 0
        cut = len(self._held) - keep
        taken, self._held = self._held[:cut], self._held[cut:]
        return taken, False

    def _find(self, tag: str) -> int:
        found = self._held.find(tag)
        while found >= 0 and not self._opens(found):
            found = self._held.find(tag, found + 1)
        return found

    def _opens(self, position: int) -> bool:
        """Whether a tag at `position` counts: inside a thought always, else at the start of a line."""
        line = self._held[:position].rpartition("\n")
        return self._inside or (not line[2].strip() and (bool(line[1]) or self._line_start))

    def _answer(self, text: str) -> str:
        if self._skip_newlines:
            text = text.lstrip("\n")
            self._skip_newlines = not text
        if text:
            line = text.rpartition("\n")
            self._line_start = not line[2].strip() and (bool(line[1]) or self._line_start)
        return text
