"""One pass over a turn: which decisions stand in it and where, what is reasoning, and where the model's own part ends.

The pass jumps from mark to mark: labels, fences, reasoning tags, tool-call tokens. A label counts only at the start of
a line (decoration such as `**` or `###` aside), never inside one, because models write about labels more often than
one thinks. The two exceptions, an action or a final answer right after the end of a sentence, are marks of their own,
for a turn that has nothing better. What has been read as JSON or as a call is skipped, so that nothing inside a value
is a mark; so are fenced code and reasoning. What the turn decides is judged in `agentkit.react_json.verdict`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from agentkit.events import Action, FinalAnswer
from agentkit.react_json.calls import behind, is_place, is_token, reader_of
from agentkit.react_json.lenient_json import BrokenJson, read_json
from agentkit.react_json.marks import RUN_ON, TABLE, Marks, leading_letters, literals
from agentkit.react_json.turn import NotADecision, Schemas, decisions_in, is_no_tool, named_action
from agentkit.tool import takes_nothing

__all__ = ["SECTIONS", "Answer", "Passage", "Scan", "Sections", "TooManyBroken"]

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

_BEFORE_JSON = r"(?:<[^<>\s\"=]{1,60}>|(?:tool|function)[ _]?calls?:)"  # markup that nobody knows, or words
_CLOSING_FENCE = re.compile(r"^[ \t]*(?:`{3,}|~{3,})[ \t]*\r?$", re.MULTILINE)

_BODY = re.compile(
    rf"(?:[\s{_INVISIBLE}]+|`+(?:[ \t]*[A-Za-z][\w+-]*(?=[\s{{[]))?|~{{3,}}(?:[\w+-]+)?"
    r"|'{3}(?:json)?|\"{3}(?:json)?|json5?(?=\s)){0,12}"
)
"""What may stand between a label and what it labels: space, fences and their language, once or several times."""

_WORD = re.compile(r"\w")
_BLANK = re.compile(r"\s*")
_MAX_BROKEN = 100
_MEANT_AS_ACTION = re.compile(r"[{,]\s*[\"'“]?(?:action|tool|function|name)(?:[\"'”_]|\s*:)", re.IGNORECASE)
_MORE_ON_THE_LINE = re.compile(r"[ \t]*(?:[,;][ \t]*)?(?=\{)")
_RUN_ON = re.compile(r"[ \t]*(?:[:\"'“]|,[ \t]*[\"'“\w])")
_FENCE = re.compile(r"(`{3,}|~{3,})(?![`~])[^\n`]*\n")


class Sections:
    """The patterns of one table of marks."""

    def __init__(self, table: Marks = TABLE) -> None:
        self.calls = reader_of(table)
        self.turn_ends = {end.lower() for end in table.turn_ends}
        opening, closing = literals(table.thinking), literals(table.thinking.values())
        alone = literals(tag for tag in table.thinking.values() if tag.lower() not in self.turn_ends)
        end = rf"(?:{literals(table.turn_ends)})(?={RUN_ON})"
        tags = f"(?P<opening>{opening})|(?P<closing>{alone})|(?P<prelude>{literals(table.preludes)})|(?P<end>{end})"
        labels = "|".join(f"(?P<{kind}>(?:{names}){_COLON})" for kind, names in table.labels.items())
        line = "|".join(
            [
                "(?-i:(?P<stopped>Observation))",
                # A heading needs no colon: "### Final Answer", "**Final Answer**".
                rf"(?P<heading> {{0,3}}(?:#{{1,6}} *|\*\*)(?:{table.labels['final']}) ?(?:\*\*)? *\r?(?:\n|\Z))",
                f"{_DECORATION}(?:{labels})",
                rf"[ \t]*(?P<native>{self.calls.opening})",
                r"[ \t]*(?P<fence>`{3,}|~{3,})",
                rf"[ \t{_INVISIBLE}]*(?:{_BEFORE_JSON}[ \t]*)?(?P<json>\{{|\[\s*\{{|{self.calls.python_list})",
            ]
        )
        # Looking at the first character first makes the search several times faster.
        first = leading_letters([*table.thinking, *table.thinking.values(), *table.preludes, *table.turn_ends])
        self._next = re.compile(
            rf"(?=[{first}])(?:{tags})|^(?:{line})|(?=[<\[])(?P<inline_native>{self.calls.opening})"
            rf"|(?-i:(?=[AF*]))(?:{_INLINE})"
            rf"|(?:(?<=assistant)|(?<=commentary)|(?<=[.!?:])) ?(?P<word_native>{self.calls.words})",
            _FLAGS,
        )
        self._at = re.compile(f"{tags}|{line}", _FLAGS)
        self._reasoning = re.compile(f"(?P<opening>{opening})|(?P<closing>{closing})", re.IGNORECASE)
        observation = rf"{_DECORATION}(?P<observation>(?:{table.labels['observation']}){_COLON})"
        self.observation = re.compile(rf"^(?:(?-i:Observation)|{observation})", _FLAGS)
        """An observation, which is never the model's to write."""
        self.stop = re.compile("^Observation", re.MULTILINE)
        """The line at which a model is stopped: nothing goes past it, and no answer holds it."""
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


class TooManyBroken(ValueError):
    """More damaged JSON than a turn can mean; reading on would cost more than it could give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """What a passage asks for, or what is wrong with it.

    `labelled`: `Action:` begins its line; `inline`: `Action:` stands behind a sentence; `doubtful`: it may be part of
    an answer.
    """

    start: int
    end: int = 0
    decisions: Sequence[Action | FinalAnswer] = ()
    problem: str = ""
    labelled: bool = False
    inline: bool = False
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """Where an answer's label and its text begin; `bold` is markup that the label opened and did not close."""

    label: int
    start: int
    bold: str = ""


@dataclass
class Scan:
    """What stands in `text`, which is cut where the model's own part ends; `whole` is all that the model wrote.

    `start`: behind reasoning that the prompt opened. `invented`: observations in what was cut off. `contradicted`: the
    end of such reasoning was among it. `finals`: the labels of an answer; from the first one on the text is the answer,
    whatever labels stand in it. `marks`: where marks begin, in order. `hint`: what is wrong with a passage that need
    not be an action. `tools` are the schemas of the tools' inputs, where they are known.
    """

    text: str
    sections: Sections
    tools: Schemas | None = None
    start: int = 0
    contradicted: bool = False
    unclosed: bool = False
    wrapped: bool = False
    named_only: str | None = None
    hint: str = ""
    passages: list[Passage] = field(default_factory=list)
    finals: list[Answer] = field(default_factory=list)
    weak_finals: list[Answer] = field(default_factory=list)
    reasoning: list[tuple[int, int]] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    _question: int | None = None
    _next_question: int | None = None
    _observation: int | None = None
    _settled: bool = False
    _unfenced: bool = False
    _first: int = 0
    _blocked: int = 0
    _blocked_tokens: int = 0
    _broken: int = 0

    def __post_init__(self) -> None:
        self.whole = self.text

    def run(self) -> Scan:
        """Read the whole text; raises `TooManyBroken`."""
        self._first = behind(_BLANK, self.text, 0)
        mark = self.sections.next_mark(self.text, 0)
        while mark is not None:
            self.marks.append(mark.start())
            kind = mark.lastgroup or ""
            at = _HANDLERS[kind](self, mark)
            self._end_before_next_question()
            # What follows reasoning stands where a line begins, whether there is a new line or not.
            fresh = kind in ("opening", "closing", "prelude")
            mark = (self.sections.mark_at(self.text, at) if fresh else None) or self.sections.next_mark(self.text, at)
        if self._observation is not None:
            tag = next(self.sections.reasoning(self.whole, self._observation), None)
            closes = tag is not None and tag.lastgroup == "closing" and tag[0].lower() not in self.sections.turn_ends
            self.contradicted = closes
        return self

    @property
    def invented(self) -> int:
        """The observations in what was cut off."""
        return sum(1 for _ in self.sections.observation.finditer(self.whole, len(self.text)))

    @property
    def in_answer(self) -> bool:
        """Whether an answer was begun, which goes on to the end."""
        return bool(self.finals)

    def tells_of(self, passage: Passage) -> bool:
        """Whether a passage of the answer only tells of an action: it names none of the tools."""
        if not self.tools or not passage.decisions or not self.finals or passage.start < self.finals[0].label:
            return False
        return all(isinstance(one, Action) and not self._is_tool(one.tool) for one in passage.decisions)

    def _is_tool(self, name: str) -> bool:
        return name.casefold() in self._tool_names

    @cached_property
    def _tool_names(self) -> set[str]:
        return {name.casefold() for name in self.tools or ()}

    def begins_at(self, at: int) -> bool:
        """Whether nothing but space stands before `at`."""
        return self._first >= at

    # Where the model's own part ends

    def _settle(self, at: int) -> None:
        """Cut the text at the first line "Observation" behind `at`, before anything there is read as JSON.

        JSON may hold anything but a raw line "Observation": a stop would have cut it there.
        """
        if not self._settled:
            self._settled = True
            if observation := self.sections.stop.search(self.text, at):
                self._on_stop(observation)

    def _on_observation(self, mark: re.Match[str]) -> int:
        return mark.end() if self.in_answer else self._on_stop(mark)

    def _on_stop(self, mark: re.Match[str]) -> int:
        self._observation = mark.start()
        self.text = self.text[: mark.start()]
        return mark.start()

    def _on_end(self, mark: re.Match[str]) -> int:
        line = self.text[max(0, mark.start() - 200) : mark.start()].rpartition("\n")[2]
        if mark[0].lower() == "</s>" and "<s>" in line:  # HTML
            return mark.end()
        if not self.begins_at(mark.start()):
            self.text = self.text[: mark.start()]
        return mark.end()

    # Reasoning

    def _on_opening(self, mark: re.Match[str]) -> int:
        if self.in_answer and self._within_line(mark):
            return mark.end()
        tags = self.sections.reasoning(self.text, mark.end())
        closing = next((tag for tag in tags if tag.lastgroup == "closing"), None)
        end = closing.end() if closing else len(self.text)
        self.reasoning.append((mark.start(), end))
        self.unclosed = closing is None and not self.finals
        return end

    def _on_closing(self, mark: re.Match[str]) -> int:
        """Reasoning that the prompt opened: nothing before counts."""
        if not (self.in_answer and self._within_line(mark)):
            self.start = mark.end()
            for seen in (self.passages, self.finals, self.weak_finals, self.reasoning):
                seen.clear()
            self.named_only = self._question = self._next_question = None
        return mark.end()

    def _within_line(self, mark: re.Match[str]) -> bool:
        """Whether words of the answer stand on both sides of a tag, which is then part of it."""
        line_start = max(self.text.rfind("\n", mark.start() - 200, mark.start()) + 1, self.finals[-1].start)
        before = _WORD.search(self.text, max(line_start, mark.start() - 200), mark.start())
        return before is not None and self.text[mark.end() : mark.end() + 1] not in ("", "\n", "\r")

    # Labels

    def _on_question(self, mark: re.Match[str]) -> int:
        self._question = mark.start() if self.in_answer else None
        return mark.end()

    def _on_thought(self, mark: re.Match[str]) -> int:
        asked = self._question
        if asked is not None and "\n" not in self.text[asked : mark.start()].strip():
            self._next_question = asked if self._next_question is None else self._next_question
        return mark.end()

    def _end_before_next_question(self) -> None:
        """Small models go on behind their answer with a question of their own, a thought, and a call for it.

        Without a call it is taken for a part of the answer: no honest answer is to lose its end.
        """
        asked = self._next_question
        if asked is None or not self.passages or self.passages[-1].start < asked or self.tells_of(self.passages[-1]):
            return
        self.passages.pop()
        self.text, self._next_question = self.text[:asked], None

    def _on_final(self, mark: re.Match[str]) -> int:
        self._settle(mark.end())
        bold = "" if mark.lastgroup == "heading" else mark["bold"] or ""
        closed = mark[0].count("*") + mark[0].count("_") > len(bold)
        self.finals.append(Answer(mark.start(), mark.end(), "" if closed else bold))
        fence = _FENCE.match(self.text, behind(_BLANK, self.text, mark.end()))
        return self._past_fence(fence.end()) if fence else mark.end()

    def _on_weak_final(self, mark: re.Match[str]) -> int:
        if not self.finals:
            self.weak_finals.append(Answer(mark.start(), mark.end()))
        return mark.end()

    def _on_action(self, mark: re.Match[str]) -> int:
        self._settle(mark.end())
        draft = Passage(start=mark.start(), labelled=True, doubtful=self.in_answer)
        at = behind(_BODY, self.text, mark.end())
        native = self.sections.mark_at(self.text, at)
        if native is not None and native.lastgroup == "native":
            return self._read_native(at, replace(draft, doubtful=False))
        if self.text.startswith(("{", "["), at):
            return self._read_json(at, draft)
        return self._read_text_action(mark)

    def _on_inline_action(self, mark: re.Match[str]) -> int:
        self._settle(mark.end())
        at = behind(_BODY, self.text, mark.end())
        if self.in_answer or not self.text.startswith(("{", "["), at):
            return mark.end()
        return self._read_json(at, Passage(start=mark.start(), inline=True))

    def _on_other(self, mark: re.Match[str]) -> int:
        return mark.end()

    # Passages that may hold an action. Each method notes what it reads, and returns where to go on.

    def _on_native(self, mark: re.Match[str]) -> int:
        self._settle(mark.end())
        return self._read_native(mark.start("native"), Passage(start=mark.start(), doubtful=self.in_answer))

    def _on_inline_native(self, mark: re.Match[str]) -> int:
        """A call behind words on its line: a token that no prose has, or a tag behind a sentence."""
        start, opening = mark.start(mark.lastgroup or 0), mark[mark.lastgroup or 0]
        line = self.text[max(self.text.rfind("\n", 0, mark.start()) + 1, start - 80) : start]
        if (self.in_answer and not is_token(opening)) or not is_place(line, opening):
            return mark.end()
        self._settle(mark.end())
        return self._read_native(start, Passage(start=start, doubtful=self.in_answer or not is_token(opening)))

    def _on_json(self, mark: re.Match[str]) -> int:
        self._settle(mark.end())
        if self.in_answer:
            return mark.end()
        return self._read_json(mark.start("json"), Passage(start=mark.start()))

    def _on_fence(self, mark: re.Match[str]) -> int:
        self._settle(mark.end())
        line_end = self.text.find("\n", mark.end()) + 1 or len(self.text)
        if not self.in_answer:
            at = behind(_BODY, self.text, mark.start())
            inner = self.sections.mark_at(self.text, line_end)
            is_native = inner is not None and inner.lastgroup == "native"
            if self.text.startswith(("{", "["), at) and not is_native:
                return self._read_json(at, Passage(start=mark.start()))
            self.wrapped = self.wrapped or (inner is not None and self.begins_at(mark.start()))
            if is_native or (inner is not None and self.begins_at(mark.start())):
                return line_end
        return self._past_fence(line_end)

    def _past_fence(self, line_end: int) -> int:
        """Where the fence ends whose first line ends here."""
        closing = None if self._unfenced else _CLOSING_FENCE.search(self.text, line_end)
        self._unfenced = closing is None
        return closing.end() if closing else line_end  # a fence that is never closed hides nothing

    def _read_json(self, at: int, draft: Passage) -> int:
        """The JSON at `at`, and more of it on the same line."""
        if self.sections.calls.is_python_list(self.text, at):
            return self._read_native(at, replace(draft, doubtful=draft.doubtful or not draft.labelled))
        end = self._read_value(at, draft)
        while end is not None and (more := _MORE_ON_THE_LINE.match(self.text, end)):
            at = more.end()
            end = self._read_value(at, replace(draft, start=at))
        return at + 1 if end is None else end

    def _read_value(self, at: int, draft: Passage) -> int | None:
        """One value; None where it is damaged. What was read in vain is not read again."""
        if at < self._blocked:
            if draft.labelled:
                self.passages.append(replace(draft, end=at + 1, problem="its JSON is damaged"))
            return None
        meant = draft.labelled and not draft.doubtful
        try:
            value, value_end = read_json(self.text, at)
        except BrokenJson as broken:
            self._blocked = broken.at
            meant = meant or _MEANT_AS_ACTION.search(self.text, at, broken.at) is not None
            self._fail(replace(draft, end=at + 1, problem=f"its JSON {broken}"), meant=meant)
            return None
        end = behind(self.sections.trailer, self.text, value_end)
        try:
            decisions = decisions_in(value, self.tools)
            if _RUN_ON.match(self.text, end):
                raise NotADecision("goes on behind its end", meant=True)
        except NotADecision as error:
            self._fail(replace(draft, end=end, problem=f"its JSON {error}"), meant=meant or error.meant)
        else:
            self.passages.append(replace(draft, end=end, decisions=decisions))
        return end

    def _read_native(self, at: int, draft: Passage) -> int:
        """Tool calls in a syntax of the model's own. A run of tokens that was read in vain is not read again."""
        if at < self._blocked_tokens:
            return at + 1
        calls = self.sections.calls
        try:
            decisions, end = calls.read(self.text, at, self.tools)
        except (NotADecision, BrokenJson) as error:
            if (complete := self._across_observations(at)) is None:
                self._blocked_tokens = calls.behind_tokens(self.text, at)
                self._fail(replace(draft, end=at + 1, problem=f"it {error}"), meant=not draft.doubtful)
                return at + 1
            decisions, end = complete
        self.passages.append(replace(draft, end=end, decisions=decisions))
        return end

    def _across_observations(self, at: int) -> tuple[list[Action], int] | None:
        """The calls at `at` when lines that begin with "Observation" stand inside their arguments, where they are data.

        Not those that another call begins behind: an argument that was never closed would swallow it.
        """
        cut = len(self.text)
        if cut == len(self.whole):
            return None
        try:
            decisions, end = self.sections.calls.read(self.whole, at, self.tools)
        except (NotADecision, BrokenJson):
            return None
        if self.sections.calls.search(self.whole, cut, end):
            return None
        self.text, self._observation, self._settled = self.whole, None, False
        self._settle(end)
        return decisions, end

    def _read_text_action(self, mark: re.Match[str]) -> int:
        at = behind(_BLANK, self.text, mark.end())
        if at >= len(self.text) or self.sections.mark_at(self.text, at) is not None:
            self.named_only = self.named_only or ""
            return mark.end()
        line_end = self.text.find("\n", at)
        line_end = len(self.text) if line_end < 0 else line_end
        name = self.text[at:line_end].strip(" \t\r*`\"'")
        label = self.sections.input.match(self.text, line_end)
        if self.in_answer and self.tools and not self._is_tool(name):
            return line_end
        if label is None and self._needs_nothing(name) and not self.in_answer:
            calls = [named_action(name, {}, self.tools)]
            self.passages.append(Passage(start=mark.start(), end=line_end, labelled=True, decisions=calls))
            return line_end
        if label is None:
            self.named_only = self.named_only if self.in_answer else name
            return line_end
        end = self._input_end(label.end())
        draft = Passage(start=mark.start(), end=end, labelled=True)
        try:
            decision = self._text_action(name, self.text[label.end() : end].strip())
        except (NotADecision, BrokenJson) as error:
            self._fail(replace(draft, problem=f"its input {error}"), meant=True)
        else:
            self.passages.append(replace(draft, decisions=[decision]))
        return end

    def _input_end(self, at: int) -> int:
        while (mark := self.sections.next_mark(self.text, at)) is not None:
            if mark.lastgroup not in _INSIDE_INPUT:
                return mark.start()
            at = mark.end()
        return len(self.text)

    def _text_action(self, name: str, text: str) -> Action | FinalAnswer:
        """The older dialect's action, whose input is `text`."""
        if self._needs_nothing(name) and is_no_tool(text):
            return named_action(name, {}, self.tools)
        at = behind(_BODY, text, 0)
        if not text.startswith(("{", "["), at):
            return named_action(name, _bare_input(text), self.tools)
        value, end = read_json(text, at)
        if _WORD.search(text, behind(self.sections.trailer, text, end)):
            raise NotADecision("goes on behind its JSON", meant=True)
        if not isinstance(value, dict):
            return named_action(name, text, self.tools)
        if value.keys() == {"action", "action_input"}:
            if value["action"] != name:
                raise NotADecision("names another action inside", meant=True)
            value = value["action_input"]
        return named_action(name, value, self.tools)

    def _needs_nothing(self, name: str) -> bool:
        return self.tools is not None and name in self.tools and takes_nothing(self.tools[name])

    def _fail(self, passage: Passage, *, meant: bool) -> None:
        self._broken += 1
        if self._broken > _MAX_BROKEN:
            raise TooManyBroken
        if meant and not passage.inline:
            self.passages.append(passage)
        else:
            self.hint = self.hint or passage.problem


def _bare_input(text: str) -> str:
    """An input without its fence or its quotes."""
    fence = _FENCE.match(text)
    if fence is not None and text.endswith("\n" + fence[1]) and fence.end() < len(text) - len(fence[1]):
        text = text[fence.end() : -len(fence[1]) - 1]
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`" and text.count(text[0]) == 2 and "\\" not in text:
        text = text[1:-1]
    if not text or is_no_tool(text):
        raise NotADecision("is missing", meant=True)
    return text


_HANDLERS: dict[str, Callable[[Scan, re.Match[str]], int]] = {
    "opening": Scan._on_opening,
    "closing": Scan._on_closing,
    "prelude": Scan._on_other,
    "end": Scan._on_end,
    "stopped": Scan._on_stop,
    "observation": Scan._on_observation,
    "thought": Scan._on_thought,
    "question": Scan._on_question,
    "input": Scan._on_other,
    "action": Scan._on_action,
    "final": Scan._on_final,
    "heading": Scan._on_final,
    "answer": Scan._on_weak_final,
    "inline_final": Scan._on_weak_final,
    "inline_action": Scan._on_inline_action,
    "fence": Scan._on_fence,
    "native": Scan._on_native,
    "inline_native": Scan._on_inline_native,
    "word_native": Scan._on_inline_native,
    "json": Scan._on_json,
}
_INSIDE_INPUT = {
    "prelude",
    "fence",
    "native",
    "json",
    "answer",
    "inline_final",
    "inline_action",
    "inline_native",
    "word_native",
}
