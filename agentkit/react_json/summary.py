"""The oldest steps of a long run as a few notes: what the model is asked, and what of its notes can be believed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from agentkit.approximate_tokens import count_tokens, cut_to_tokens
from agentkit.react_json.grounding import ungrounded
from agentkit.react_json.hostile import without_markup
from agentkit.react_json.marks import LABELS, WEAK_LABELS
from agentkit.react_json.scratchpad import OWN_WORDS, observation_text
from agentkit.tool import text_of

INSTRUCTION = "Sum up the steps in at most 120 words"
"""By which such a request is known."""
MOST_TOKENS = 400
"""Of notes."""
SYSTEM = (
    "You keep the notes of an agent that answers a question with tools. From now on it reads your notes instead of "
    "the steps below."
)
_ASKED = (
    f"{INSTRUCTION}: what was found out, what was decided, and what failed. Copy numbers, names, dates and addresses "
    "exactly as they stand there. Add nothing that does not stand there. Write nothing but the notes."
)
_FOUND = "Also found: "
_OWN = (
    "Result Error None True False Also Next Then First Now",
)  # words of our own lines or a tool's, which are no names
_MOST_FOUND = 400  # characters of the line that begins so
_SHORT_INPUT = 40
_STEM = 4  # letters by which words are compared
_WORD, _DIGIT = re.compile(r"[^\W_]+"), re.compile(r"\d")
_OF_ANY_TEXT = frozenset(
    "the and was were are has have had for with from that this these those its not but who whom whose which what when "
    "where why how did does can will would many much more most about than there their they you your all any".split()
)
_BRIEF = 80  # characters of an observation all of which is a result
_LONGEST_INPUT = 300  # characters of a call, or of the thought before it
_SHORTEST = 40  # tokens that are left of an observation
_LEAST = 0.5  # of the notes, that has to be left of them
_LONGEST_SENTENCE = 80  # tokens
_MARKER = re.compile(r"^[ \t]*(?:[-*•+]|\d{1,3}[.)])[ \t]+", re.MULTILINE)  # of a list
_COMMA = re.compile(r"[,;]\s")
_PART = re.compile(r"[;:()]|,\s|\s(?:and|or|but|while|whereas|than)\s")
_SENTENCE = re.compile(r"(?<=[.!?。])\s+|\s*\n\s*")
_OF_TURNS = "|".join(
    [
        *(names for kind, names in LABELS.items() if kind not in {"thought", *WEAK_LABELS}),
        "The steps",
        "The question",
        "Result",
    ]
)
_TURN = re.compile(rf"^[ \t>#*_-]*(?:{_OF_TURNS})[*_]*[ \t]*:", re.MULTILINE | re.IGNORECASE)
_OPENING = re.compile(
    rf"^\W*(?:{LABELS['thought']}|(?:summary|notes)(?: of the steps)?)[*_]*[ \t]*:[*_ \t]*", re.IGNORECASE
)
_ACTION = re.compile(rf"\n[ \t*_]*(?:{LABELS['action']})[*_]*[ \t]*:", re.IGNORECASE)
_THOUGHT = re.compile(rf"^\W*(?:{LABELS['thought']})[*_]*[ \t]*:\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Notes:
    """What the model sees in the place of steps; where there is nothing to believe, the `reason`."""

    text: str = ""
    reason: str = ""


# -- what the model is asked -------------------------------------------------------------------------------------------


def summary_messages(
    question: str, steps: Sequence[tuple[Any, Any]], before: str = "", *, most_tokens: int | None = None
) -> list[dict[str, Any]]:
    """The request for notes on `steps`, the first of a run or those after what its notes `before` sum up.

    It has at most about `most_tokens`: long observations are cut in their middle.
    """
    parts = [f"The question:\n{without_markup(question)}"]
    if before:
        parts.append(f"Your notes on earlier steps, which the new ones replace:\n{without_markup(before)}")
    fixed = sum(map(count_tokens, (*parts, SYSTEM, _ASKED)))
    parts.append(f"The steps:\n{_transcript(steps, most_tokens and most_tokens - fixed)}")
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "\n\n".join([*parts, _ASKED])}]


def _transcript(steps: Sequence[tuple[Any, Any]], most_tokens: int | None) -> str:
    """The steps as text; each observation has the same share of the room at most."""
    told = [_told(*step) for step in steps]
    results = [observation_text(*step) for step in steps]
    lengths = [count_tokens(result) for result in results]
    share = max(lengths, default=0)
    if most_tokens is not None:
        room = most_tokens - sum(map(count_tokens, told)) - 8 * len(told)
        while share > _SHORTEST and sum(min(length, share) for length in lengths) > room:
            share = max(_SHORTEST, share * 4 // 5)
    pairs = zip(told, results, strict=True)
    return "\n".join(
        f"{number}. {call}\nResult: {_cut(result, share)}" for number, (call, result) in enumerate(pairs, 1)
    )


def _told(action: Any, observation: Any) -> str:
    """What was thought and called."""
    if action.tool == OWN_WORDS:
        return "A turn that could not be read."
    thought = " ".join(_thought(action).split())
    call = f"{action.tool}: {' '.join(_input(action).split())}"
    return without_markup("\n".join(f"{one[:_LONGEST_INPUT]}" for one in (thought, call) if one))


def _cut(text: str, tokens: int) -> str:
    if count_tokens(text) <= tokens:
        return text
    head = cut_to_tokens(text, tokens * 3 // 4)
    return f"{head} {text[-max(1, len(head) // 3) :]}"


# -- what of its notes can be believed ---------------------------------------------------------------------------------


def checked_notes(
    text: str,
    question: str,
    steps: Sequence[tuple[Any, Any]],
    before: str = "",
    *,
    most_tokens: int = MOST_TOKENS,
    cut_off: bool = False,
) -> Notes:
    """The model's notes without what stands neither in the steps nor in the notes `before`; what they lack, behind.

    A sentence goes as a whole where a part of it has a number or name that no step has, or such as no one step has
    together. Notes of which less than half is left are not believed, nor are such as are no shorter than what they
    replace. Of notes that were `cut_off` the last sentence goes, too.
    """
    plain = _without_turn(text)
    if not plain:
        return Notes(
            reason="the model wrote no notes" if not text.strip() else "the model wrote a turn instead of notes"
        )
    written = list(_sentences(plain))
    sentences = list(dict.fromkeys(written[: -1 if cut_off and len(written) > 1 else None]))
    sources = [*filter(None, _lines(before)), *_sources(steps)]
    believed = _believed(sentences, [question, *sources])
    if sum(map(len, believed)) < _LEAST * sum(map(len, sentences)):
        strange = ungrounded(sentences, question, sources)
        stands = f"the notes say what stands in no step: {', '.join(strange)[:_BRIEF]}"
        return Notes(reason=stands if strange else "the notes mix up what stands in different steps")
    notes = _within(believed, most_tokens)
    replaced = count_tokens("\n".join(sources))
    if not notes or count_tokens(notes) >= replaced:
        return Notes(reason="the notes are no shorter than the steps")
    left_out = _left_out(notes, question, steps, before)
    return Notes(f"{notes}\n{left_out}" if left_out else notes)


def _sentences(text: str) -> Iterator[str]:
    """The sentences; of one that does not end, the parts between its commas: a model may go in circles there."""
    for sentence in _SENTENCE.split(_MARKER.sub("", text)):
        parts = _COMMA.split(sentence) if count_tokens(sentence) > _LONGEST_SENTENCE else [sentence]
        yield from filter(None, map(str.strip, parts))


def _believed(sentences: Sequence[str], sources: Sequence[str]) -> list[str]:
    """The sentences of which each part stands in one of the sources."""
    parts = {sentence: _PART.split(sentence) for sentence in sentences}
    unseen = {part for some in parts.values() for part in some}
    for source in sources:
        strange = [re.compile(rf"(?<!\w){re.escape(one)}(?!\w)") for one in ungrounded([*unseen], "", [source])]
        unseen = {part for part in unseen if any(one.search(part) for one in strange)}
    return [sentence for sentence in sentences if unseen.isdisjoint(parts[sentence])]


def _lines(before: str) -> list[str]:
    """What earlier notes say, one thing each: first what they list, and then the newest of their sentences."""
    earlier, _, found = before.rpartition(_FOUND) if _FOUND in before else (before, "", "")
    return [*found.removesuffix(".").split("; "), *reversed(earlier.splitlines())]


def _without_turn(text: str) -> str:
    """The notes up to where the model goes on with the run itself."""
    text = _OPENING.sub("", text.strip())
    turn = _TURN.search(text)
    return (text[: turn.start()] if turn else text).strip().strip("`").strip()


def _within(sentences: Sequence[str], most: int) -> str:
    """As many of the sentences, each in a line of its own, as have so many tokens."""
    taken: list[str] = []
    for sentence in sentences:
        most -= count_tokens(sentence)
        if most < 0:
            break
        taken.append(sentence)
    return "\n".join(taken)


def _sources(steps: Sequence[tuple[Any, Any]]) -> Iterator[str]:
    """What each of the steps says."""
    for action, observation in steps:
        result = observation_text(action, observation)
        is_own = action.tool == OWN_WORDS
        yield result if is_own else f"{action.tool}\n{_thought(action)}\n{_input(action)}\n{result}"


def _left_out(notes: str, question: str, steps: Sequence[tuple[Any, Any]], before: str) -> str:
    """A line of the numbers and names that the notes lack and that were of weight, by what was asked, the newest first.

    That is what the model thought of or asked for, and a tool gave; what a tool said of the question; and what the
    notes `before` had.
    """
    real = [step for step in reversed(steps) if step[0].tool != OWN_WORDS]
    observed = [observation_text(*step) for step in real]
    asked = [_input(action) for action, _ in real]
    said = [
        f"{_of_weight(result, f'{question} {given}')}\n{_thought(action)}\n{given}"
        for (action, _), result, given in zip(real, observed, asked, strict=True)
    ]
    known = [notes, *_OWN, *(action.tool for action, _ in real)]
    guessed = {*ungrounded("\n".join(said), question, [*observed, before])}
    parts: list[str] = []
    for given, text in zip(asked, said, strict=True):
        new = [one for one in ungrounded(text, question, [*known, given]) if one not in guessed]
        if new:
            parts.append(f"{given}: {', '.join(new)}" if len(given) <= _SHORT_INPUT else ", ".join(new))
            known += new
    for text in _lines(before):
        if lost := ungrounded(text, question, known):
            parts.append(text.rstrip(".") if len(text) <= _SHORT_INPUT else ", ".join(lost))
            known += lost
    line = ""
    for part in parts:
        longer = f"{line}; {part}" if line else part
        if len(longer) <= _MOST_FOUND:
            line = longer
    return f"{_FOUND}{line}." if line else ""


def _of_weight(result: str, asked: str) -> str:
    """Of an observation that is long, the sentence that has most of the words in which something was asked."""
    if len(result) <= _BRIEF:
        return result
    wanted = _words(asked)
    sentences = [sentence for sentence in _SENTENCE.split(result) if len(sentence) <= _LONGEST_INPUT]
    best = max(sentences, key=lambda one: (len(_words(one) & wanted), _DIGIT.search(one) is not None), default="")
    return best if _words(best) & wanted else ""


def _words(text: str) -> set[str]:
    """What of a text may be what it is about: its words without their endings, and its numbers."""
    words = {word for word in _WORD.findall(text.casefold()) if len(word) > 2 or word.isdigit()}
    return {word[:_STEM] for word in words - _OF_ANY_TEXT}


def _thought(action: Any) -> str:
    """The model's words in front of its call."""
    if action.called is not None:
        return str(action.called.text)
    head = _ACTION.split(action.log, maxsplit=1)
    return _THOUGHT.sub("", head[0]).strip() if len(head) > 1 else ""


def _input(action: Any) -> str:
    """The values of a call's input, without their names."""
    given = action.tool_input
    if isinstance(given, dict):
        return "; ".join(text_of(value) for value in given.values())
    return str(given)
