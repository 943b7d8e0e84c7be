"""Follows a reply while it is written: closes a thought that may go no further, leaves out tokens that are no text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from agentkit.models.backend import Chunk
from agentkit.models.local.chat_template import added_tokens
from agentkit.models.reply import ReplyReader
from agentkit.react_json.marks import TABLE, Marks

LONGEST_TAG = 80  # characters


class ReplyWatch:
    """Follows the text of a reply: a stop string ends it, and what it thinks has so many tokens at most, in all."""

    def __init__(
        self, stop: Sequence[str], encode: Callable[[str], list[Any]], *, max_thinking_tokens: int | None = None
    ) -> None:
        self._reader = ReplyReader(stop)
        self._encode = encode
        self._limit = max_thinking_tokens
        self.is_closing = False
        """Whether tokens that close thoughts are being written."""
        self.thinking_tokens = 0
        self.is_cut = False
        """Whether a thought was closed that would have gone on."""
        self._end = ""  # of the reply so far

    def __call__(self, text: str) -> bool:
        """Whether the reply is complete with the text of one more token."""
        self._end = (self._end + text)[-LONGEST_TAG:]
        was_open = self._reader.open_thoughts
        self._reader.read(Chunk(text=text))
        is_open = self._reader.open_thoughts
        self.is_closing = self.is_closing and 0 < len(is_open) <= len(was_open)  # another may open inside an open one
        if was_open and is_open and not self.is_closing:
            self.thinking_tokens += 1
        return self._reader.stopped

    def closing(self, *, is_late: bool, held: bool = False, allows: Callable[[int], bool] | None = None) -> list[Any]:
        """The tokens that close what is thought where that may go no further; `is_late`: it may not in any case.

        A grammar, which `held` says that there is, takes what follows the first closing tag for the answer, and no tag
        inside a character: `allows` says whether a token may come. A tag that is being written is gone on with.
        """
        thoughts = self._reader.open_thoughts
        is_spent = self._limit is not None and self.thinking_tokens >= self._limit
        if not thoughts or self.is_closing or not (is_late or is_spent):
            return []
        begun = next((n for n in range(len(thoughts[0]) - 1, 0, -1) if self._end.endswith(thoughts[0][:n])), 0)
        tokens = self._encode("".join(thoughts[:1] if held else thoughts)[begun:])
        if allows is not None and not allows(tokens[0]):
            return []
        self.is_closing = True
        self.is_cut = self.is_cut or begun < 2  # one sign may be the thought's own
        return tokens


def unwritten_tokens(tokenizer: Any, table: Marks = TABLE) -> frozenset[int]:
    """The special tokens that are no part of a reply's text: all but those that keep thinking apart from an answer."""
    marks = [mark.lower() for mark in (*table.thinking, *table.thinking.values(), *table.preludes)]
    special = {number: str(token) for number, token in added_tokens(tokenizer).items() if token.special}
    special |= {number: tokenizer.convert_ids_to_tokens(number) for number in tokenizer.all_special_ids}
    return frozenset(number for number, token in special.items() if not any(token.lower() in mark for mark in marks))
