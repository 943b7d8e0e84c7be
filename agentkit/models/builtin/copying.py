"""The grammar of the built-in model's turns: what it looks up, calculates with and answers is copied.

A query is made of words of the question or an observation, an expression of their numbers, and an answer is a piece of
an observation; so a model too small to write freely cannot misspell a name or invent a number.
"""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from agentkit.number_words import VALUES, spelled_numbers
from agentkit.react_json.scratchpad import CLOSING_NOTE

SEARCH, CALCULATOR = "Search", "Calculator"
OUT_OF_REACH = "I can only calculate and look things up."
NOT_FOUND = "I could not find the answer."
LOOK_UP, CALCULATE = "I need to look up ", "I need to calculate "
KNOW, CANNOT, NOTHING = "I now know the final answer", "I cannot do that with my tools", "The search gave no answer"
ACTION, ACTION_INPUT, END = '\nAction:\n```json\n{"action": "', '", "action_input": "', '"}\n```'
FINAL = "\nFinal Answer: "
NO_RESULT, MOST_FAILED = "No good search result", 3
NO_ANSWERS = re.compile(r"(Error:|Invalid format:|No good search result|\S+ is not a valid tool)")
ARITHMETIC = """
expression: sum0
sum0: signed0 (OPERATOR signed0){0,9}
signed0: "-"? value0
value0: NUMBER "%"? | ("sqrt" | "abs" | "log" | "sin" | "cos" | "exp")? "(" sum1 ")"
sum1: signed1 (OPERATOR signed1){0,4}
signed1: "-"? value1
value1: NUMBER "%"? | "sqrt"? "(" sum2 ")"
sum2: signed2 (OPERATOR signed2){0,3}
signed2: "-"? value2
value2: NUMBER | "sqrt"? "(" sum3 ")"
sum3: "-"? value3 (OPERATOR value3){0,2}
value3: NUMBER | "sqrt(" NUMBER ")"
OPERATOR: /[-+*\\/^]/
"""


def copying_grammar(
    tools: Sequence[tuple[str, Mapping[str, Any]]], question: str, observations: Sequence[str], *, thought_open: bool
) -> str:
    """The grammar (llguidance Lark) of one turn, whose input or answer is copied.

    `tools` are names and JSON schemas of `action_input`: "Calculator", and to look things up any other that takes one
    string.  `thought_open` says that "Thought: " already stands in the prompt.
    """
    question = CONTROLS.sub("", question)
    observations = [text.removesuffix(CLOSING_NOTE) for text in observations]
    found = [text for text in observations if not NO_ANSWERS.match(text)]
    looking_up = [name for name, schema in tools if name != CALCULATOR and schema.get("type") == "string"]
    failed = sum(text.startswith(NO_RESULT) for text in observations)
    moves = {}
    if looking_up and failed < MOST_FAILED and (queried := queries(question, found)):
        moves["search"] = _call(LOOK_UP, "QUERY", *looking_up) + f"\nQUERY: /{queried}/"
    if any(name == CALCULATOR for name, _ in tools) and (expression := expressions(question, found)):
        moves["calculate"] = f"{_call(CALCULATE, 'expression', CALCULATOR)}\n{expression}"
    moves["cannot"] = _quoted(CANNOT + FINAL + OUT_OF_REACH)
    if observations:
        moves["nothing"] = _quoted(NOTHING + FINAL + NOT_FOUND)
    if answered := answers(question, found):
        moves["known"] = f"{_quoted(KNOW + FINAL)} ANSWER\nANSWER: /{answered}/"
    start = '" "?' if thought_open else '"Thought: "'
    rules = (f"{name}: {rule}" for name, rule in moves.items())
    return "\n".join((f"start: {start} ({' | '.join(moves)})", *rules, ""))


def _call(thought: str, copied: str, *names: str) -> str:
    """The rule of an action: `copied` stands in the thought and in the input."""
    named = " | ".join(map(_quoted, names))
    return f"{_quoted(thought)} {copied} {_quoted(ACTION)} ({named}) {_quoted(ACTION_INPUT)} {copied} {_quoted(END)}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


# -- what can be calculated --------------------------------------------------------------------------------------------

CONTROLS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What drives a terminal, with its numbers, and is no part of a question."""
NUMBER = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+\.\d+|\.\d+|\d+", re.ASCII)
EXPONENT = re.compile(r"\d+(?:\.\d+)?e[-+]?\d+", re.ASCII)
MISREAD = re.compile(r"\d[ \xa0\u2009\u202f'’_]\d{3}\b|\d,(?!\d{3}(?!\d))\d|\d{4}-\d\d-\d\d|\b0[xbo]\d", re.ASCII)
"""Numbers written in other ways, of which only parts would be taken, and dates."""
_TERM = r"[-( ]{0,20}[\d.,]{0,40}\d(?:[eE][-+]?\d{1,3})?[) ]{0,20}"
WRITTEN = re.compile(rf"(?<![\w.]){_TERM}(?:[-+*/^×÷x]{_TERM})+(?!\w)", re.ASCII)
"""A calculation as people type it."""
TYPED = str.maketrans("×÷x", "*/*", ", ")
OPERATES = re.compile(
    r"[%√²³]|\b(?:abs|absolute|add\w*|averag\w+|cub\w+|deduct\w*|decreas\w+|divid\w+|doubl\w+|exp|halv?\w*|increas\w+|less|"
    r"log\w*|mean|minus|more|multipl\w+|negative|over|per|percent|plus|pow\w*|product|quarter\w*|quotient|rais\w+|reduc\w+|"
    r"roots?|shar\w+|sin|cos|split|sqrt|squar\w+|subtract\w*|sum\w*|tak\w+|third\w*|times|total|tripl\w+|twice)\b",
    re.IGNORECASE,
)
OF_ONE_NUMBER = re.compile(r"√|\b(?:abs|absolute|cos|exp|log\w*|negative|sin|sqrt)\b", re.IGNORECASE)
ASKS_FOR_A_NUMBER = re.compile(
    r"\b(?:calculate|come|comes|compute|difference|evaluate|find|give|get|gets|how|if|left|make|makes|of|remain\w*|solve|"
    r"what|what's|whats|when|which|who|whose|work|worth)\b",
    re.IGNORECASE,
)
SYMBOLS = frozenset("×÷√²³°−·±≈")


def expressions(question: str, found: Sequence[str]) -> str:
    """The rules of what may be calculated; "" where that is nothing, so that no number comes from nowhere.

    Where a question is an expression, in whatever script it is asked for, it is that one. Else it is made of the
    question's numbers and those found, if the question is in English and something is to be made of them.
    """
    if MISREAD.search(question):
        return ""
    written = [text.strip().translate(TYPED) for text in WRITTEN.findall(question)]
    rest = WRITTEN.sub(" ", question)
    if written and not (_operates(rest) or NUMBER.search(rest) or any(spelled_numbers(rest))):
        typed = "|".join(map(literal, dict.fromkeys(written)))
        return "" if found else f"expression: EXPRESSION\nEXPRESSION: /({typed})/"
    implied = bool(OF_ONE_NUMBER.search(question)) or any(pattern.search(question) for pattern in IMPLIED)
    operates = bool(written or found) or _operates(question)
    stated = sum(len([*NUMBER.findall(text), *spelled_numbers(text)]) for text in (question, *found))
    is_understood = is_english(question) and (operates or bool(ASKS_FOR_A_NUMBER.search(question)))
    if not is_understood or stated + implied < 2:
        return ""
    return f"{ARITHMETIC.strip()}\nNUMBER: /{numbers([question, *found])}/"


def _operates(text: str) -> bool:
    """Whether words of a text do something with its numbers."""
    return bool(OPERATES.search(text)) or any(pattern.search(text) for pattern in IMPLIED)


def is_english(text: str) -> bool:
    """Whether a text has none of the letters, digits and signs that the model never saw."""
    return all(char.isascii() or char in SYMBOLS or not _is_strange(char) for char in text)


def _is_strange(char: str) -> bool:
    if char.isalpha():
        return not unicodedata.name(char, "").startswith("LATIN")
    return char.isnumeric() or unicodedata.category(char) == "Sm" or char in "➕➖✖➗"


IMPLIED = {
    re.compile(pattern, re.I): meant
    for pattern, meant in {
        r"%|per ?cent|discount|\boff\b|\btip\b": "1 100",
        r"root|√|sqrt": "1",
        r"squared?|half|halve|doubled?|twice|\bmean\b|average|²|perimeter|rectangle|two|second": "2",
        r"cubed?|thirds?|tripled?|thrice|\bmean\b|average|³|three": "3 1 2",
        r"quarters?|fourth|perimeter|square|legs|wheels|\bmean\b|average|four": "4 3 1",
        r"fifth|\bmean\b|average|five": "5 1",
        r"sixth": "6 1",
        r"seventh|weeks?": "7 1",
        r"eighth": "8 1",
        r"ninth": "9 1",
        r"tenth": "10 1",
        r"months?|years?|dozens?": "12",
        r"hours?|days?": "24",
        r"minutes?|hours?|seconds?": "60",
        r"years?|days?": "365",
        r"cents?|centi": "100",
        r"\bkilo|\bkm|grams?|milli|\bkg": "1000",
    }.items()
}


def numbers(sources: Sequence[str]) -> str:
    """The numbers that stand in the sources, and the small ones that words of the question stand for."""
    stated = [number for text in sources for number in written_numbers(text)]
    implied = [number for pattern, meant in IMPLIED.items() if pattern.search(sources[0]) for number in meant.split()]
    return "(" + "|".join(literal(text) for text in dict.fromkeys([*stated, *implied])) + ")"


def written_numbers(text: str) -> list[str]:
    """The numbers of a text as the calculator takes them: 1,200 is 1200, twenty-five is 25, half a dozen has 12."""
    found = [number.replace(",", "") for number in EXPONENT.findall(text) + NUMBER.findall(text)]
    found += [str(number) for number in spelled_numbers(text)]
    return found + [str(VALUES[word]) for word in re.findall("[a-z]+", text.lower()) if word in VALUES]


# -- queries -----------------------------------------------------------------------------------------------------------

RESULT = "Answer: "
MOST_PARTS, LONGEST_QUERY, LONGEST_NAME = 3, 16, 7
# What a comparison asks for without naming it: "who is older" needs an age.
ATTRIBUTES = {
    "age": "old older young younger born",
    "height": "tall taller high higher rise",
    "length": "long longer short shorter",
    "width": "wide wider",
    "depth": "deep deeper",
    "weight": "heavy heavier light lighter weigh weighs",
    "speed": "fast faster slow slower",
    "area": "large larger big bigger small smaller",
    "price": "cost costs expensive cheap cheaper",
    "net worth": "rich richer",
    "population": "inhabitants live people larger bigger",
    "distance": "far farther further",
}
REFERS_BACK = re.compile(
    r"(?:[?;,.]|\band\b|\bthen\b)(?!.*\bthan\b).*\b(?:he|she|his|her|its|that person|this person|the person)\b",
    re.I | re.S,
)
ASKS = re.compile(r"\b(?:who|whom|whose|what|which|where|when|how)\b", re.I)
KINDS = {
    "number": re.compile(
        r"\bhow (?:many|old|tall|long|high|deep|heavy|wide|far|fast|large|big)\b|\bpopulation of\b", re.I
    ),
    "date": re.compile(r"\bwhen\b|\b(?:which|what) (?:year|month|date)\b|\bin what year\b", re.I),
    "person": re.compile(r"\b(?:who|whom)\b", re.I),
    "name": re.compile(r"\bwhere (?:was|is|did|does)\b|\b(?:which|what) (?:city|town|country|river|person)\b", re.I),
}
PERSON = re.compile(r"\b(?:he|she|his|her|person)\b", re.I)
CHOOSES = re.compile(r"\b(?:or|which|compare)\b", re.I)
ABBREVIATED = frozenset("Inc Jr Sr Dr Mr Mrs Ms St Co Ltd Corp Prof".split())
ASKING = frozenset(("who", "what", "when", "where", "which", "how", "in", "on", "at", "to", "from"))


def query_words(text: str) -> list[str]:
    """The words of a text as a query has them, without the punctuation around them, but "J." and "Inc." whole.

    An empty one stands where a sentence or a part of it ends.
    """
    found = [""]
    for chunk in text.split():
        word = chunk.strip(EDGE)
        if not word or '"' in word or "\\" in word or "://" in word:
            found.append("")
            continue
        if f"{word}." in chunk and ((len(word) == 1 and word.isalpha()) or word in ABBREVIATED):
            word = f"{word}."
        before, _, after = chunk.partition(word)
        found += [*([""] if before else []), word, *([""] if after else [])]
    return found


def queries(question: str, observations: Sequence[str]) -> str:
    """Up to three runs of words of the question or an observation, or an attribute that it implies; "" without words.

    Once something was found, a question that goes on with a pronoun ("... and how old is she?") asks about what was
    found: then one run is a name that the question does not have.
    """
    asked = query_words(question)
    runs, names = _runs(asked, LONGEST_QUERY), []
    known = {word.casefold() for word in asked if word}
    for text in observations:
        found = query_words(text)
        runs += _runs(found, LONGEST_NAME)
        names += _new_names(found, known)
    if not runs:
        return ""
    spoken = set(re.findall(r"\w+", question.casefold()))
    attributes = [name for name, words in ATTRIBUTES.items() if spoken & set(words.split())]
    part = "(" + "|".join([*dict.fromkeys(runs), *attributes]) + ")"
    if names and REFERS_BACK.search(question):
        whole = _longest(names)
        if PERSON.search(question):  # people have two names, where anything has
            whole = [name for name in whole if len(name) > 1] or whole
        name = "(" + "|".join(_variants_of(name) for name in whole) + ")"
        word = "(" + "|".join([*dict.fromkeys(_runs(asked, LONGEST_QUERY)), *attributes]) + ")"
        return f"({word} )?{name}( {word})?"
    return f"{part}( {part}){{0,{MOST_PARTS - 1}}}"


def _new_names(words: Sequence[str], known: set[str]) -> list[tuple[str, ...]]:
    """Whole names (runs of capitalised words) that are not the question's own, nor a longer form of those."""
    found, place = [], 0
    while place < len(words):
        end = place + 1
        while words[place] and end < len(words) and words[end] and _together(words[end - 1], words[end]):
            end += 1
        name = tuple(words[place:end])
        if name[0][:1].isupper() and not all(_is_known(word.casefold(), known) for word in name):
            found.append(name)
            if len(name) > 2 and not words[place - 1]:  # the first word of a sentence may only look like a name
                found.append(name[1:])
        place = end
    return found


def _longest(names: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The names without the one-word short forms of others: Vittoria is Vittoria Ceretti."""
    parts = {word for name in names if len(name) > 1 for word in name}
    return [name for name in dict.fromkeys(names) if len(name) > 1 or name[0] not in parts]


def _variants_of(name: Sequence[str]) -> str:
    return " ".join(_variants(word) for word in name)


def _is_known(word: str, known: set[str]) -> bool:
    """Whether a question has the word or its short form: Leonardo is Leo."""
    base = re.sub(r"['’]s$", "", word)
    return (
        word in known or base in known or f"{base}'s" in known or any(len(k) > 2 and base.startswith(k) for k in known)
    )


def _runs(words: Sequence[str], longest: int) -> list[str]:
    """For every word an expression of it and up to `longest` - 1 words after it; no name is entered or left inside."""
    found = []
    for start, word in enumerate(words):
        if not word or _enters_name(words, start):
            continue
        run = [w for w in range(start, min(start + longest, len(words))) if words[w]]
        rest = ""
        for earlier, place in zip(reversed(run[:-1]), reversed(run[1:]), strict=True):
            piece = f" {_variants(words[place])}{rest}"
            whole = place == earlier + 1 and _together(words[earlier], words[place])
            rest = piece if whole else f"({piece})?"
        found.append(_variants(word) + rest)
    return found


def _together(first: str, second: str) -> bool:
    """Whether a name goes on; Leo's Claude are two."""
    return not first.endswith(("'s", "’s")) and inside_name(first, second)


def _enters_name(words: Sequence[str], place: int) -> bool:
    """Whether the word before this one begins the name; the first word of a sentence is not taken for a name."""
    before = words[place - 1] if place else ""
    return bool(before) and bool(words[place - 2]) and _together(before, words[place])


def _variants(word: str) -> str:
    """The word; without its "'s", its full stop or its plural s; a question word also with a capital."""
    for ending in ("'s", "’s", ".", "s"):
        if word.endswith(ending) and len(word) > len(ending) + (2 if ending == "s" else 0):
            return f"{literal(word[: -len(ending)])}({literal(ending)})?"
    return f"({word}|{word.capitalize()})" if word in ASKING else literal(word)


# -- answers -----------------------------------------------------------------------------------------------------------


def answers(question: str, observations: Sequence[str]) -> str:
    """What a final answer may be: up to three spans of observations, ", " between; "" without observations.

    A calculator's number is taken whole, and what was calculated last comes last.  Once something was calculated, a
    question that offers a choice may be answered with a span of its own: the name of the larger of two things.
    """
    if not observations:
        return ""
    asked, wanted = inflected(question), kind_wanted(question)
    told = [text for text in dict.fromkeys(observations) if not text.startswith(RESULT)]
    results = [literal(text.removeprefix(RESULT).strip()) for text in observations if text.startswith(RESULT)]
    any_part = [spans(text, asked) for text in told] + results
    last_part = any_part
    if results:
        last_part = [results[-1], *([spans(question)] if CHOOSES.search(question) else [])]
    elif len(told) > 1:
        subjects = frozenset().union(*(subject_of(text, told[:place]) for place, text in enumerate(told)))
        last_part = [spans(text, asked | subjects, wanted) for text in told]
    elif wanted:
        last_part = [spans(text, asked, wanted) for text in told]
    if not any(last_part):
        last_part = any_part
    before, last = (
        "(" + "|".join(part for part in dict.fromkeys(parts) if part) + ")" for parts in (any_part, last_part)
    )
    return f"({before}, ){{0,{MOST_PARTS - 1}}}{last}"


def kind_wanted(question: str) -> str:
    """What a question with one question word asks for: a "person", "name", "number", "date" or, not known, ""."""
    words = ASKS.findall(question)
    if len(words) != 1:
        return ""
    return next((kind for kind, pattern in KINDS.items() if pattern.search(question)), "")


def subject_of(text: str, earlier: Sequence[str]) -> frozenset[str]:
    """The words at the beginning of `text` that an earlier observation told: whom it is about, so no answer."""
    known = {word.casefold() for seen in earlier for word in CHUNK.findall(seen)}
    words = [word.casefold() for word in CHUNK.findall(text) if word.strip() and word not in EDGE]
    return frozenset(itertools.takewhile(known.__contains__, words[:6]))


# -- runs of words of an observation -----------------------------------------------------------------------------------

LONGEST_ANSWER = 14
CHUNK = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+\.\d+(?:e[-+]?\d+)?|\d+|[^\W\d_]+(?:['’][^\W\d_]+)*|\s+|.", re.S)
SPECIAL = re.compile(r"[\\.^$|?*+()\[\]{}/&~#\"-]")
EDGE = "\"“”„‘’'`.,;:!?()[]{}<>*…"
FUNCTION_WORDS = frozenset(
    "a an the of to in on at by for from with as and or but is was are were be been has had have his her its their "
    "who which that this it he she they when where after before into than".split()
)
MONTHS = frozenset("january february march april may june july august september october november december".split())
PLACES = frozenset(("in", "at", "near", "from"))
NO_NAMES = frozenset("please thanks thank who what when where which how i and or".split())
PARTICLES = frozenset("de van von der da di del la bin al".split())
DIGITS = frozenset("one two three four five six seven eight nine ten eleven twelve no".split())
SCALES = frozenset(("million", "billion", "trillion", "thousand", "hundred", "percent"))


def literal(text: str) -> str:
    """`text` as a Lark regular expression that matches only itself."""
    return SPECIAL.sub(r"\\\g<0>", text).replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def inflected(question: str) -> frozenset[str]:
    """The words of a question and their simple inflections, in lower case: play, plays, played."""
    words = {chunk.casefold() for chunk in CHUNK.findall(question) if not chunk.isspace()}
    return frozenset(
        form for word in words for form in (word, f"{word}s", f"{word}d", f"{word}ed", re.sub(r"['’]?s$", "", word))
    )


def inside_name(first: str, second: str) -> bool:
    """Whether two words with one space between belong together: a full name, a date, "35 million"."""
    lower, following = first.casefold(), second.casefold()
    if first[0].isdigit():
        return following in MONTHS or following in SCALES
    if lower in MONTHS:
        return second[0].isdigit()
    if following in NO_NAMES:
        return False
    if lower in PARTICLES or following in PARTICLES:
        return first[0].isupper() or second[0].isupper()
    return first[0].isupper() and second[0].isupper() and lower not in FUNCTION_WORDS


def spans(text: str, asked: frozenset[str] = frozenset(), wanted: str = "") -> str:
    """Every run of at most LONGEST_ANSWER words within a sentence of `text`, as one expression of nested options.

    A run neither ends in a function word nor enters or leaves a name in its middle, and it does not begin with a word
    of the question (`asked`) unless a new name follows: the capital of Australia is not Australia, but that of Mexico
    is Mexico City.  `wanted` is "name" (it begins with a capital), "person" (and stands behind no "in"),
    "number" or "date" (it begins with a digit or a month).
    """
    chunks = CHUNK.findall(text)
    words = [place for place, chunk in enumerate(chunks) if not chunk.isspace() and chunk not in EDGE]
    found = []
    for number, place in enumerate(words):
        before = chunks[words[number - 1]].casefold() if number else ""
        if not (_fits(chunks[place], before, wanted) and _may_begin(chunks, words, number, asked)):
            continue
        run = [place]
        for earlier, later in zip(words[number:], words[number + 1 : number + LONGEST_ANSWER], strict=False):
            if _ends_sentence(chunks[earlier:later]):
                break
            run.append(later)
        found.append(_nested(chunks, run))
    return "|".join(dict.fromkeys(found))


def _fits(word: str, before: str, wanted: str) -> bool:
    """Whether an answer of the wanted kind may begin with this word, which follows `before`."""
    if wanted in ("name", "person"):
        placed = wanted == "person" and before in PLACES
        return not placed and (word[0].isupper() or word.casefold() == "the")
    spelled = word.casefold() in MONTHS if wanted == "date" else word.casefold() in DIGITS
    return not wanted or word[0].isdigit() or spelled


def _may_begin(chunks: Sequence[str], words: Sequence[int], number: int, asked: frozenset[str]) -> bool:
    """Whether an answer may begin at this word."""
    word = chunks[words[number]]
    if number and words[number] == words[number - 1] + 2 and chunks[words[number] - 1] == " ":
        before = chunks[words[number - 1]]
        opens = number == 1 or _ends_sentence(chunks[words[number - 2] : words[number - 1]])
        if inside_name(before, word) and word[0].isupper() and not opens and before.casefold() not in asked:
            return False
    if word.casefold() in FUNCTION_WORDS:
        content = next((chunks[w] for w in words[number + 1 :] if chunks[w].casefold() not in FUNCTION_WORDS), "")
        return bool(content) and (content.casefold() not in asked)
    if word.casefold() not in asked:
        return True
    if number + 1 == len(words) or words[number + 1] != words[number] + 2:
        return False
    following = chunks[words[number + 1]]
    return following[0].isupper() and following.casefold() not in asked


def _ends_sentence(chunks: Sequence[str]) -> bool:
    """Whether the chunks, from a word up to the next one, hold the end of a sentence or of a line."""
    between = "".join(chunks[1:])
    long_word = len(chunks[0]) > 2 or chunks[0].isdigit()
    return "\n" in between or (long_word and bool(re.match(r"[)\]\"”']*[.!?][)\]\"”']*\s", between)))


def _nested(chunks: Sequence[str], run: Sequence[int]) -> str:
    """The first word of `run`, then as many more as wanted, each with what stands before it."""
    rest = ""
    for earlier, place in zip(reversed(run[:-1]), reversed(run[1:]), strict=True):
        piece = literal("".join(chunks[earlier + 1 : place + 1])) + rest
        whole = place == earlier + 2 and chunks[earlier + 1] == " " and inside_name(chunks[earlier], chunks[place])
        may_end = chunks[earlier].casefold() not in FUNCTION_WORDS and not whole
        rest = f"({piece})?" if may_end else piece
    return literal(chunks[run[0]]) + rest
