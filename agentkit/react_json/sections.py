"""Finds the marks that give a turn its shape: labels, fences, reasoning tags, tool-call tokens.

A label counts only at the start of a line (decoration such as `**` or `###` aside), never inside one, because models
write about labels more often than one thinks. The two exceptions, an action or a final answer right after the end of
a sentence, are marks of their own, for a turn that has nothing better.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from agentkit.react_json.calls import behind, reader_of
from agentkit.react_json.marks import TABLE, Marks, leading_letters, literals

__all__ = ["BODY", "CLOSING_FENCE", "SECTIONS", "Sections", "behind"]

_FLAGS = re.IGNORECASE | re.MULTILINE
_INVISIBLE = r"\ufeff\u200b-\u200f\u202a-\u202e\u2060"
_DECORATION = rf"[ \t{_INVISIBLE}]*(?:#{{1,6}} *|[-•*] +|[0-9]{{1,2}}[.)] *)?(?P<bold>\*{{1,3}}|_{{1,3}})?"
_COLON = r"(?: ?[0-9]{1,3})? ?[*_]{0,3}[ \t]*[:：](?(bold)[*_]*)"
_INLINE = (
    "(?-i:(?<=[.!?。！？] )(?P<inline_action>Action:))"
    r"|(?-i:(?:(?<=[.!?。！？*)] )|(?<=[.!?。！？])|(?<=final answer ))(?P<inline_final>\*{0,3}Final Answer:\*{0,3}))"
)
_QUOTES = "\"'`“‘", "\"'`”’"
_QUOTABLE = {"opening", "closing"}

CLOSING_FENCE = re.compile(r"^[ \t]*(?:`{3,}|~{3,})[ \t]*\r?$", re.MULTILINE)

BODY = re.compile(
    rf"(?:[\s{_INVISIBLE}]+|`+(?:[ \t]*[A-Za-z][\w+-]*(?=[\s{{[]))?|~{{3,}}(?:[\w+-]+)?"
    r"|'{3}(?:json)?|\"{3}(?:json)?|json5?(?=\s)){0,12}"
)
"""What may stand between a label and what it labels: space, fences and their language, once or several times."""


class Sections:
    """The patterns of one table of marks."""

    def __init__(self, table: Marks = TABLE) -> None:
        self.calls = reader_of(table)
        self.turn_ends = {end.lower() for end in table.turn_ends}
        opening, closing = literals(table.thinking), literals(table.thinking.values())
        alone = literals(tag for tag in table.thinking.values() if tag.lower() not in self.turn_ends)
        end = rf"(?:{literals(table.turn_ends)})(?=\s*(?:\Z|\n|<))"
        tags = f"(?P<opening>{opening})|(?P<closing>{alone})|(?P<prelude>{literals(table.preludes)})|(?P<end>{end})"
        labels = "|".join(f"(?P<{kind}>(?:{names}){_COLON})" for kind, names in table.labels.items())
        line = "|".join(
            [
                "(?-i:(?P<stopped>Observation))",
                # A heading needs no colon: "### Final Answer", "**Final Answer**".
                rf"(?P<heading> {{0,3}}(?:#{{1,6}} *|\*\*)(?:{table.labels['final']}) ?(?:\*\*)? *\r?(?:\n|\Z))",
                f"{_DECORATION}(?:{labels})",
                r"[ \t]*(?P<fence>`{3,}|~{3,})",
                rf"[ \t]*(?P<native>{self.calls.opening})",
                rf"[ \t{_INVISIBLE}]*(?P<json>\{{|\[\s*\{{|{self.calls.python_list})",
            ]
        )
        # Looking at the first character first makes the search several times faster.
        first = leading_letters([*table.thinking, *table.thinking.values(), *table.preludes, *table.turn_ends])
        self._next = re.compile(rf"(?=[{first}])(?:{tags})|^(?:{line})|(?-i:(?=[AF*]))(?:{_INLINE})", _FLAGS)
        self._at = re.compile(f"{tags}|{line}", _FLAGS)
        self._reasoning = re.compile(f"(?P<opening>{opening})|(?P<closing>{closing})", re.IGNORECASE)
        observation = rf"{_DECORATION}(?P<observation>(?:{table.labels['observation']}){_COLON})"
        self.observation = re.compile(rf"^(?:(?-i:Observation)|{observation})", _FLAGS)
        """An observation, which is never the model's to write."""
        self.input = re.compile(rf"\s*{_DECORATION}(?P<input>(?:{table.labels['input']}|Input){_COLON})", _FLAGS)
        """The label of a text action's input; a bare `Input:` only counts here, behind an action."""
        self.trailer = re.compile(
            rf"(?:\s*[}}\]]+)?(?:\s*(?:`+(?![A-Za-z`])|~{{3,}}|'{{3}}|\"{{3}}|(?!{closing})</[\w:]+>"
            rf"|{self.calls.closing}))*",
            re.IGNORECASE,
        )
        """What may close a JSON value: a brace too many, fences, closing tags."""

    def next_mark(self, text: str, at: int) -> re.Match[str] | None:
        """The first mark at or behind `at`; `lastgroup` says which."""
        while (mark := self._next.search(text, at)) is not None and _is_quoted(mark):
            at = mark.start() + 1
        return mark

    def mark_at(self, text: str, at: int) -> re.Match[str] | None:
        """The mark right at `at`, as if a line began there."""
        mark = self._at.match(text, at)
        return None if mark is not None and _is_quoted(mark) else mark

    def reasoning(self, text: str, at: int) -> Iterator[re.Match[str]]:
        """Either end of passages of reasoning, from `at` on."""
        while (tag := self._reasoning.search(text, at)) is not None:
            at = tag.end()
            if _is_quoted(tag):
                at = tag.start() + 1
            else:
                yield tag


def _is_quoted(mark: re.Match[str]) -> bool:
    """Whether a tag stands between quotes or backticks, as models write about tags."""
    if mark.lastgroup not in _QUOTABLE:
        return False
    start, end = mark.span()
    before, after = mark.string[start - 1 : start], mark.string[end : end + 1]
    return bool(before) and before in _QUOTES[0] and bool(after) and after in _QUOTES[1]


SECTIONS = Sections()
