"""The parser for turns in any form: from what stands in a turn to what it decides, one action, one answer, or what the
model has to mend."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace

from agentkit.errors import MalformedTurn
from agentkit.events import Action, FinalAnswer
from agentkit.react_json.lenient_json import BrokenJson
from agentkit.react_json.scan import SECTIONS, Answer, Passage, Scan, Sections, TooManyBroken
from agentkit.react_json.turn import NotADecision, Schemas, Turn, is_no_tool

__all__ = ["parse_turn_thoroughly"]

_ACTION_FORM = 'Action: and below it a ```json block with the keys "action", which names a tool, and "action_input"'
_LONGEST_CALLS = 100_000  # characters of a turn that is looked at once more
_WORD = re.compile(r"\w")
_FENCE_LINE = re.compile(r"^[ \t]*(?:`{3,}|~{3,}).*$", re.MULTILINE)


def parse_turn_thoroughly(text: str, tools: Schemas | None = None, sections: Sections = SECTIONS) -> Turn:
    """Read a turn in any form; raises `MalformedTurn`."""
    scan = Scan(text, sections, tools)
    try:
        if not text.strip():
            raise _malformed("the turn is empty. Write Thought:, and then an Action: or the Final Answer:.")
        try:
            text.encode()
            return _verdict(scan.run())
        except UnicodeEncodeError:
            raise _malformed("the turn holds half of a surrogate pair, which cannot be sent. Leave it out.") from None
        except TooManyBroken:
            raise _malformed("the turn is full of damaged JSON. Write one action, or the final answer.") from None
        except RecursionError:
            raise _malformed("the action_input is nested too deeply. Write a flat one.") from None
    except MalformedTurn as error:
        error.text, error.invented = text, scan.invented
        raise


def _malformed(what: str) -> MalformedTurn:
    """The error whose message goes back to the model, in one line."""
    return MalformedTurn(f"Invalid format: {what}")


def _verdict(scan: Scan) -> Turn:
    """The turn that was scanned; raises `MalformedTurn`."""
    if scan.unclosed:
        raise _malformed(f"the reasoning was never closed. Close it, then write {_ACTION_FORM}, or Final Answer:.")
    counted = [passage for passage in _counting(scan) if not (passage.inline or scan.tells_of(passage))]
    answers = [*_answers(scan, scan.finals)]
    if scan.contradicted and (counted or answers):
        raise _malformed("reasoning ends behind the decision. Write the decision after the reasoning, alone.")
    for passage in counted:
        if passage.problem:
            raise _malformed(f"there is an action, but {passage.problem}. Write {_ACTION_FORM}, complete.")
    decided = _one([*_decisions(scan, counted), *answers] or _second_best(scan) or _nothing_but_calls(scan))
    if decided is None:
        raise _nothing(scan)
    _check_name(scan, decided[0], labelled=any(passage.labelled for passage in counted))
    decision, start, end = decided
    thought = _without_label(scan, _own_text(scan, scan.start, start))
    return Turn(replace(decision, log=scan.text[:end].rstrip()), thought, scan.invented)


Decided = tuple[Action | FinalAnswer, int, int]
"""A decision, where it begins and where it ends."""


def _one(decided: Sequence[Decided]) -> Decided | None:
    """The one decision, given once or several times the same."""
    if not decided:
        return None
    first = decided[0]
    kinds = {type(decision) for decision, _, _ in decided}
    if len(kinds) > 1:
        raise _malformed(
            "the turn has both an action and a final answer. Write only the action and wait for its observation, "
            "or only the final answer."
        )
    if any(decision != first[0] for decision, _, _ in decided):
        if isinstance(first[0], Action):
            raise _malformed("the turn has two different actions. Write one, then wait for its observation.")
        raise _malformed("the turn has two different final answers. Write one Final Answer:.")
    return first


def _decisions(scan: Scan, passages: Sequence[Passage]) -> list[Decided]:
    return [
        (decision, passage.start, min(passage.end, len(scan.text)))
        for passage in passages
        for decision in passage.decisions
    ]


def _second_best(scan: Scan) -> list[Decided]:
    """An action or an answer that begins behind a sentence, or the label `Answer:`, for want of a proper one."""
    inline = [passage for passage in _counting(scan) if passage.inline]
    return [*_decisions(scan, inline), *_answers(scan, scan.weak_finals[:1])]


def _nothing_but_calls(scan: Scan) -> list[Decided]:
    """The calls of a turn that is nothing else, in a form that no mark begins."""
    text = _blanked(scan)
    at = _behind_label(scan, text, scan.start)
    if not at < len(text) <= _LONGEST_CALLS:
        return []
    try:
        return [(call, at, len(text)) for call in scan.sections.calls.read_reply(text[at:], scan.tools)]
    except (NotADecision, BrokenJson):
        return []


def _counting(scan: Scan) -> Iterator[Passage]:
    """The passages that count.

    Without a label of its own, JSON is an action when it begins or ends what the model says. Between words, or in front
    of a labelled action, it is something that the thought quotes.
    """
    text = _blanked(scan)
    passages = scan.passages
    last_labelled = max((passage.start for passage in passages if passage.labelled), default=-1)
    at = _behind_label(scan, text, scan.start)
    words_before = at > scan.start and text[scan.start : at].strip() != ""
    for passage in passages:
        words_before = words_before or _WORD.search(text, at, passage.start) is not None
        at = passage.end
        following = bisect_left(scan.marks, passage.end)
        stop = scan.marks[following] if following < len(scan.marks) else len(text)
        words_after = _WORD.search(text, passage.end, stop) is not None
        if passage.labelled or not (words_before and (words_after or passage.start < last_labelled)):
            yield passage


def _answers(scan: Scan, labels: Sequence[Answer]) -> Iterator[Decided]:
    """The answer: all that stands behind its label, further labels too. One that is only repeated is given once."""
    if not labels:
        return
    ends = [*(label.label for label in labels[1:]), len(scan.text)]
    texts = [scan.text[label.start : end].strip() for label, end in zip(labels, ends, strict=True)]
    first = next((number for number, text in enumerate(texts) if text), 0)
    label, is_repeated = labels[first], len({*texts[first:]}) == 1
    end = ends[first] if is_repeated else len(scan.text)
    text = _own_text(scan, label.start, end).strip()
    if label.bold and text.endswith(label.bold) and text.count(label.bold) == 1:
        text = text.removesuffix(label.bold).rstrip()
    fences = _FENCE_LINE.findall(text) if scan.wrapped else []
    if len(fences) % 2 and text.endswith(fences[-1]):
        text = text.removesuffix(fences[-1]).rstrip()
    if not text:
        raise _malformed("the final answer is empty. Write it behind Final Answer:.")
    yield FinalAnswer(text), label.label, end


def _check_name(scan: Scan, decision: Action | FinalAnswer, *, labelled: bool) -> None:
    """`Action: search` without an input forbids what is not a search."""
    name = scan.named_only
    if name is None or is_no_tool(name, scan.tools) or labelled or len(name.split()) > 3:
        return
    if isinstance(decision, FinalAnswer):
        raise _malformed("the turn has an action without input and a final answer. Write one of them.")
    if decision.tool != name:
        raise _malformed("the turn names two different tools. Write one action.")


def _nothing(scan: Scan) -> MalformedTurn:
    """What to say about a turn without a decision."""
    if not _own_text(scan, scan.start, len(scan.text)).strip():
        what = "an observation was written instead of an action" if scan.invented else "nothing follows the reasoning"
    elif scan.passages:
        what = "an action stands in the middle of the thought"
    elif scan.hint:
        what = f"no action was found, {scan.hint}"
    elif scan.named_only:
        what = "the action has no input"
    else:
        what = "there is neither an action nor a final answer"
    return _malformed(f"{what}. Write {_ACTION_FORM}, or Final Answer: and the answer.")


def _own_text(scan: Scan, start: int, end: int) -> str:
    """The text without its reasoning."""
    pieces = []
    for opening, closing in scan.reasoning:
        if start <= opening < end:
            pieces.append(scan.text[start:opening])
            start = min(closing, end)
    return "".join([*pieces, scan.text[start:end]])


def _blanked(scan: Scan) -> str:
    """The text with spaces for its reasoning."""
    pieces, at = [], 0
    for opening, closing in scan.reasoning:
        pieces += [scan.text[at:opening], " " * (closing - opening)]
        at = closing
    return "".join([*pieces, scan.text[at:]])


def _behind_label(scan: Scan, text: str, at: int) -> int:
    """Behind the label "Thought:", when that is what stands first."""
    at += len(text) - at - len(text[at:].lstrip())
    label = scan.sections.mark_at(text, at)
    return label.end() if label is not None and label.lastgroup == "thought" else at


def _without_label(scan: Scan, thought: str) -> str:
    return thought[_behind_label(scan, thought, 0) :].strip()
