"""The grammar of the built-in model's turns: what it looks up, calculates with and answers is copied.

A query is made of words of the question or an observation, an expression of their whole numbers, and an answer is a
piece of an observation; so a model too small to write freely cannot misspell a name or invent a number. What it cannot
read, and an answer that left numbers of the question aside, it can only decline.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from agentkit.events import Step
from agentkit.models.builtin.reading import (
    CALCULATOR,
    MONTHS,
    NUMBER,
    SEARCH,
    canonical,
    has_digit,
    input_key,
    is_readable,
    question_numbers,
    role_of,
    text_numbers,
    typed_calculations,
)
from agentkit.number_words import ORDINALS, SMALL, VALUES
from agentkit.react_json.scratchpad import CLOSING_NOTE
from agentkit.tool import Tool

OUT_OF_REACH = "I can only calculate and look things up."
UNREADABLE = f"{OUT_OF_REACH} I cannot read this question."
NO_TOOLS = f"{OUT_OF_REACH} I was given no tool for that."
NOT_USED = f"{OUT_OF_REACH} I do not know what to do with all numbers of this question."
NOT_FOUND = "I could not find the answer."
REFUSALS = frozenset((OUT_OF_REACH, UNREADABLE, NO_TOOLS, NOT_USED, NOT_FOUND))
"""The final answers that are none."""
LOOK_UP, CALCULATE = "I need to look up ", "I need to calculate "
KNOW, CANNOT, NOTHING = "I now know the final answer", "I cannot do that with my tools", "The search gave no answer"
ACTION, ACTION_INPUT, END = '\nAction:\n```json\n{"action": "', '", "action_input": "', '"}\n```'
FINAL = "\nFinal Answer: "
RESULT = "Answer: "
READ_AS = re.compile(r" \(read as [^;()]*\)$")  # what our calculator says behind a result of an unclear input
NO_RESULT, MOST_FAILED = "No good search result", 3
NO_ANSWERS = re.compile(r"(Error:|Invalid format:|No good search result|\S+ is not a valid tool)")


def copying_grammar(
    tools: Sequence[Tool],
    question: str,
    steps: Sequence[Step],
    *,
    thought_open: bool,
    acts: bool = False,
    answer_schema: Any = None,
    closes: bool = False,
) -> str:
    """The grammar (llguidance Lark) of one turn, whose input or answer is copied.

    Of the tools the first of each role is used, by the name that the model was trained with: its role. `thought_open`
    says that "Thought: " already stands in the prompt. `acts` changes nothing: no answer of it comes from nowhere. An
    answer that is copied fits no schema: agents refuse one.
    """
    assert answer_schema is None
    roles = {tool.name: role_of(tool) for tool in tools}
    keys = {role_of(tool): _written_key(tool) for tool in reversed(tools)}
    start = '" "?' if thought_open else '"Thought: "'
    if not any(roles.values()) or not is_readable(question) or ASKS_FOR_A_DEED.search(question):
        reason = UNREADABLE if any(roles.values()) else NO_TOOLS
        return f"start: {start} cannot\ncannot: {_quoted(CANNOT + FINAL + reason)}\n"
    observations = [str(step.observation).removesuffix(CLOSING_NOTE) for step in steps]
    found = [_result(step, text) if roles.get(step.action.tool) == CALCULATOR else text
             for step, text in zip(steps, observations, strict=True) if not NO_ANSWERS.match(text)]  # fmt: skip
    inputs = {
        role: [_input_of(step) for step in steps if roles.get(step.action.tool) == role]
        for role in (SEARCH, CALCULATOR)
    }
    leaves_out = _leaves_out(question, inputs[SEARCH], inputs[CALCULATOR])
    leaves_out = leaves_out or _misses_what_was_found(question, steps, roles)
    leaves_out = leaves_out or (CALCULATOR in keys and _leaves_undone(question, inputs[CALCULATOR]))
    told = [text if text.startswith(RESULT) else told_of(question, text) for text in found]
    failed = sum(text.startswith(NO_RESULT) for text in observations)
    moves = {}
    if not closes and SEARCH in keys and failed < MOST_FAILED and (queried := queries(question, found)):
        moves["search"] = f"{_call(LOOK_UP, 'QUERY', SEARCH, keys[SEARCH])}\nQUERY: /{queried}/"
    if not closes and CALCULATOR in keys and (expression := expressions(question, told)):
        moves["calculate"] = f"{_call(CALCULATE, 'expression', CALCULATOR, keys[CALCULATOR])}\n{expression}"
    moves["cannot"] = _quoted(CANNOT + FINAL + (NOT_USED if leaves_out and found else OUT_OF_REACH))
    if observations:
        moves["nothing"] = _quoted(NOTHING + FINAL + NOT_FOUND)
    if not leaves_out and (answered := answers(question, told)):
        moves["known"] = f"{_quoted(KNOW + FINAL)} ANSWER\nANSWER: /{answered}/"
    rules = (f"{name}: {rule}" for name, rule in moves.items())
    return "\n".join((f"start: {start} ({' | '.join(moves)})", *rules, ""))


def _call(thought: str, copied: str, name: str, argument: str) -> str:
    """The rule of an action: `copied` stands in the thought and in the input, by its `argument` where that is named."""
    opened, closed = (
        (ACTION_INPUT, END) if not argument else (f'{ACTION_INPUT[:-1]}{{{_quoted(argument)}: "', '"}}\n```')
    )
    return f"{_quoted(thought)} {copied} {_quoted(ACTION)} {_quoted(name + opened)} {copied} {_quoted(closed)}"


def _written_key(tool: Tool) -> str:
    """The argument that an action must name: one of several, none of which is required."""
    several = len(tool.schema.get("properties", ())) > 1 and not tool.schema.get("required")
    return (input_key(tool.schema) or "") if several else ""


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _input_of(step: Step) -> str:
    given = step.action.tool_input
    return " ".join(map(str, given.values())) if isinstance(given, Mapping) else str(given)


def _result(step: Step, text: str) -> str:
    """What a calculator gave, as our own says it: of another one's sentence, the only number that it was not given."""
    text = text.strip().removeprefix(RESULT)
    given = text_numbers(_input_of(step))
    new = [number for number in dict.fromkeys(text_numbers(text)) if number not in given]
    return RESULT + (new[0] if len(new) == 1 and len(text.split()) > 1 and "(" not in text else text)


def _leaves_out(question: str, queried: Sequence[str], calculated: Sequence[str]) -> bool:
    """Whether numbers of the question stand in no input so far; in a look-up those in words may be no numbers."""
    in_words = bool(calculated) or not queried
    numbers = question_numbers(question, in_words=in_words)
    if numbers is None:
        asked = {word.strip(EDGE) for word in question.split() if has_digit(word)}
        return not asked <= {word.strip(EDGE) for query in queried for word in query.split()}
    used = {number for text in calculated for number in re.findall(NUMBER, text)}
    used |= {number for query in queried for number in text_numbers(query)}
    if not re.search(r"\b1\b", question):
        used.add("1")  # one may be anyone
    return not {number.lstrip("-") for number in numbers} <= used


def _leaves_undone(question: str, calculated: Sequence[str]) -> bool:
    """Whether a calculation that words of the question ask for was not made: a tenth of, twice, years after."""
    if kind_wanted(question) in ("person", "name", "date"):
        return False
    used = {number for text in calculated for number in re.findall(NUMBER, text)}
    shares = {(PARTS | MULTIPLES)[match[match.lastindex or 0].lower()] for match in SHARE.finditer(question)}
    is_percent = bool(calculated and _PERCENT.search(question)) and not any("%" in text for text in calculated)
    return (
        not shares <= used or (is_percent and "100" not in used) or bool(not calculated and COMPARES.search(question))
    )


def _misses_what_was_found(question: str, steps: Sequence[Step], roles: Mapping[str, str]) -> bool:
    """Whether the last calculation leaves aside what was found last, or takes one finding for two."""
    told: dict[str, set[str]] = {}
    calculated: set[str] = set()
    is_missed = False
    for step in steps:
        text = str(step.observation)
        role = "" if NO_ANSWERS.match(text) else roles.get(step.action.tool)
        if role == SEARCH:
            told[text] = set(text_numbers(told_of(question, text)))
        elif role == CALCULATOR and told:
            taken = re.findall(NUMBER, _input_of(step))
            calculated |= set(taken)
            *_, last = told.values()
            found = [*itertools.chain(*told.values(), question_numbers(question) or ())]
            is_twice = any(1 <= found.count(number) < taken.count(number) for number in taken)
            is_missed = bool(last and not last & calculated) or (is_twice and not TWICE.search(question))
    return is_missed


# -- what can be calculated --------------------------------------------------------------------------------------------

ASKS_FOR_A_DEED = re.compile(
    r"(?:^|[.!?;:,]\s*|\b(?:and|then|please|(?:can|could|would|will) you)\s+)"
    r"(?:send|(?:e-?mail|text|message|notify|remind|translate|delete|draw|plot|print|schedule|book|buy|order|publish|"
    r"upload|download|install|post|tweet|write)\s+(?:an?|the|it|this|that|me|us|him|her|them|to|my|your|(?-i:[A-Z]\w+)))\b",
    re.IGNORECASE,
)
_COMPARED = "|".join("tall long short high low larg bigg small heavi light fast slow deep wid farth old young".split())
COMPARES = re.compile(
    rf"\bhow (?:much|many \w+|long) (?:more|less|fewer|(?:{_COMPARED})e?r)\b|"
    r"\bhow (?:many (?:year|month|week|day)s|long) (?:after|before|between|since)\b",
    re.IGNORECASE,
)
PARTS = {"half": "2", "third": "3", "quarter": "4"} | {w: str(n) for n, w in enumerate(ORDINALS) if n > 3}
MULTIPLES = {"twice": "2", "double": "2", "triple": "3"}
SHARE = re.compile(
    rf"\b(?:an?|{'|'.join(SMALL[1:10])}|\d+)[ -]({'|'.join(PARTS)})s?(?= (?:of|the|as|plus|minus|times)\b)|"
    rf"\b(half)(?= (?:of|the|as)\b)|\b({'|'.join(MULTIPLES)})d?(?= (?:the|that|this|his|her|its|of|as|\d))",
    re.IGNORECASE,
)
"""Words that ask for a multiplication or division by a number of their own."""
DIVIDES = re.compile(r"\b(?:divid|split|shar)\w*\b", re.IGNORECASE)
REMAINS = re.compile(r"\bremain|\bleft[- ]?over\b", re.IGNORECASE)
DIVISOR = re.compile(r"\b(?:by|among|amongst|between|into)\s+(?:the\s+)?([\w.,-]+)", re.IGNORECASE)
OF_EACH = re.compile(r"\bhow (?!.*(?:\d|\bif\b))[^.,?;]*\b(?:each|apiece|single)\b", re.IGNORECASE | re.DOTALL)
"""What is asked of each one, which is no product."""
GOES_INTO = r"\b(?:go(?:es)?|fits?|contained) in(?:to)?\b"
_PART = rf"half|third|quarter|\b(?:an?|{'|'.join(SMALL[1:10])}) (?:{'|'.join(ORDINALS[4:])})"
FUNCTIONS = {
    "sqrt": r"root|√|sqrt",
    "abs": r"\babs",
    "log": r"\blog",
    "sin": r"\bsin",
    "cos": r"\bcos",
    "exp": r"\bexp",
}
OPERATORS = {
    sign: re.compile(pattern, re.IGNORECASE)
    for sign, pattern in {
        "+": r"\+|plus|\badd|\bsum\b|total|together|combined|more|\bthan\b|\bup\b|older|"
        r"taller|longer|grow|gain|buys|bought|\bgets\b|increas|average|\bmean\b|perimeter|\btip\b|"
        r"\b(?:ris\w+|rose) by\b",
        "-": r"[-−]|minus|subtract|less|fewer|difference|take|away|left|remain|decreas|reduc|discount|\boff\b|deduct|"
        r"negative|younger|older|between|than|after|before|passed|change|used|"
        r"bought|spen[dt]|\babove\b|\bbelow\b|\b(?:falls?|fell|fallen|drop\w*|sinks?|sank) by\b|"
        r"\b(?:in|since|until|to) [12]\d{3}\b",
        "*": r"[*×]|\dx\d|\bx\b|times|multipl|product|per ?cent|%|twice|doubl|tripl|each|every|\bper\b|area|apiece|"
        rf"squar|cube|perimeter|\bsingle\b|{_PART}|"
        r"dozen|come to|\d+ \w+ of \d|how many (?:second|minute|hour|day|week|month|cent|metre|meter|gram)s",
        "/": rf"[/÷]|divid|\bover\b|\bper\b|quotient|split|shar|halv|{_PART}|average|\bmean\b|per ?cent|%|"
        rf"ratio|each|every|apiece|\bsingle\b|equal|root|how many times|{GOES_INTO}|fraction|discount|\btip\b",
        "^": r"\^|\*\*|power|squar|cub|rais|exponent|²|³|to the (?:\w+th|third)\b",
    }.items()
}
OFF = re.compile(rf"({NUMBER})\s?(?:%|per ?cent) off\b", re.IGNORECASE | re.ASCII)
OPERATES = re.compile(
    r"[%√²³]|\b(?:abs|absolute|add\w*|averag\w+|cub\w+|deduct\w*|decreas\w+|divid\w+|doubl\w+|exp|halv?\w*|increas\w+|less|"
    r"log\w*|mean|minus|more|multipl\w+|negative|over|per|percent|plus|pow\w*|product|quarter\w*|quotient|rais\w+|reduc\w+|"
    r"roots?|shar\w+|sin|cos|split|sqrt|squar\w+|subtract\w*|sum\w*|tak\w+|third\w*|times|total|tripl\w+|twice)\b",
    re.IGNORECASE,
)
OF_ONE_NUMBER = re.compile(r"√|\b(?:abs|absolute|cos|exp|log\w*|negative|sin|sqrt)\b", re.IGNORECASE)
TWICE = re.compile(r"squar|cub|twice|doubl|power|rais|itself|percent|per cent|%|perimeter|area|ratio", re.IGNORECASE)
ASKS_FOR_A_NUMBER = re.compile(
    r"\b(?:calculate|come|comes|compute|difference|evaluate|find|give|get|gets|how|if|left|make|makes|of|remain\w*|solve|"
    r"what|what's|whats|when|which|who|whose|work|worth)\b",
    re.IGNORECASE,
)
IMPLIED = {
    re.compile(pattern, re.I): meant
    for pattern, meant in {
        r"%|per ?cent|discount|\boff\b|\btip\b": "1 100",
        r"root|√|sqrt": "1",
        r"squared?|half|halve|doubled?|twice|²|perimeter|rectangle": "2",
        r"cubed?|thirds?|tripled?|thrice|³": "3 1 2",
        r"quarters?|fourth|perimeter|square": "4 3 1",
        r"fifth": "5 1",
        r"sixth": "6 1",
        r"seventh|weeks?": "7 1",
        r"eighth": "8 1",
        r"ninth": "9 1",
        r"tenth": "10 1",
        r"months?|years?|dozens?": "12",
        r"hours?|days?": "24",
        r"(?s)^(?!.*second.*hour|.*hour.*second).*(?:minute|hour|second)": "60",
        r"(?s)second.*hour|hour.*second": "3600",
        r"years?|days?": "365",
        r"cents?|centi": "100",
        r"\bkilo|\bkm|grams?|milli|\bkg": "1000",
    }.items()
}
"""What words of a question stand for, besides numbers in words."""
_PERCENT = next(iter(IMPLIED))


def expressions(question: str, found: Sequence[str]) -> str:
    """The rules of what may be calculated; "" where that is nothing, so that no number comes from nowhere.

    Where a question is an expression, it is that one. Else it is made of the question's numbers and those found, with
    the operations that its words name, if something is to be made of them; of two numbers, both are taken.
    """
    stated = question_numbers(question)
    if stated is None:
        return ""
    typed = typed_calculations(question)
    rest = question
    for text in typed:
        rest = rest.replace(text, " ", 1)
    if typed and not _operates(rest) and question_numbers(rest):
        return ""  # numbers that the calculation does not have
    if typed and not _operates(rest):
        wanted = "|".join(literal(canonical(text)) for text in dict.fromkeys(typed))
        return "" if found else f"expression: EXPRESSION\nEXPRESSION: /({wanted})/"
    implied = _implied(question, stated)
    operates = bool(typed or found) or _operates(question)
    known = [*stated, *(number for text in found for number in text_numbers(text))]
    is_asked = operates or bool(ASKS_FOR_A_NUMBER.search(question))
    if not is_asked or len(known) + _takes_one(question) < 2:
        return ""
    operators = _operators(question, is_choice=bool(found and CHOOSES.search(question)))
    functions = [name for name, pattern in FUNCTIONS.items() if re.search(pattern, question, re.IGNORECASE)]
    if not (operators or functions):
        return ""
    if (off := OFF.search(question)) and len(known) == 2 and (percent := off[1].replace(",", "")) in known:
        (price,) = [number for number in known if number != percent] or [percent]
        return f"expression: EXPRESSION\nEXPRESSION: /{literal(f'{price}*(1-{percent}/100)')}/"
    if DIVIDES.search(question) and REMAINS.search(question):
        return _remainder(question, known)
    if len(known) == 2 and not (found or implied or functions):
        pairs = "|".join(f"{literal(a)}{signs}{literal(b)}" for a, b, signs in _pairs(question, known, operators))
        return f"expression: EXPRESSION\nEXPRESSION: /{pairs}/"
    number = "|".join(map(literal, dict.fromkeys([*known, *implied])))
    return _arithmetic(question, functions, operators, number)


def _remainder(question: str, known: Sequence[str]) -> str:
    """The rule of the remainder of two numbers; "" where it is not clear which one divides."""
    divisors = [number for text in DIVISOR.findall(question) for number in text_numbers(text)]
    if len(known) != 2 or len(divisors) != 1 or divisors[0] not in known:
        return ""
    (whole,) = [number for number in known if number != divisors[0]] or divisors
    return f"expression: EXPRESSION\nEXPRESSION: /{literal(f'{whole} mod {divisors[0]}')}/"


def _arithmetic(question: str, functions: Sequence[str], operators: str, number: str) -> str:
    """The rules of an expression: brackets three deep."""
    function = f"({' | '.join(map(_quoted, functions))})? " if functions else ""
    percent = ' "%"?' if re.search(r"%|per ?cent", question, re.IGNORECASE) else ""
    minus = '"-"? ' if re.search(r"negative|minus|[-−]", question, re.IGNORECASE) else ""
    rules = ["expression: sum0"]
    for depth, most in enumerate((9, 4, 3, 2)):
        inner = f' | {function}"(" sum{depth + 1} ")"' if depth < 3 else ""
        rules += [
            f"sum{depth}: signed{depth} (OPERATOR signed{depth}){{{int(not depth and not functions)},{most}}}",
            f"signed{depth}: {minus}value{depth}",
            f"value{depth}: NUMBER{percent}{inner}",
        ]
    if not operators:  # the function alone
        return f'expression: {function.rstrip("? ")} "(" NUMBER ")"\nNUMBER: /({number})/'
    return "\n".join((*rules, f"OPERATOR: /{operators}/", f"NUMBER: /({number})/"))


def _operators(question: str, *, is_choice: bool) -> str:
    """The signs that the words of a question may mean, as an expression; "" where they mean none."""
    meant = [
        f"\\{sign}"
        for sign, pattern in OPERATORS.items()
        if (pattern.search(question) or (is_choice and sign == "-")) and not (sign == "*" and OF_EACH.search(question))
    ]
    return f"[{''.join(meant)}]" if meant else ""


def _pairs(question: str, known: Sequence[str], operators: str) -> list[tuple[str, str, str]]:
    """What two numbers may be calculated to: in their order, unless the words say or allow the other."""
    first, second = known
    asked = question.lower()
    larger, smaller = sorted(known, key=float, reverse=True)
    if "difference" in asked or "divided into" in asked:
        return [(larger, smaller, operators)]
    if (re.search(r"subtract\w*|deduct\w*|take\w*", asked) and " from " in asked) or re.search(GOES_INTO, asked):
        return [(second, first, operators)]
    if re.search(r"\bminus\b|\bby\s+[-\d.]|\binto\b|\bover\b|\btimes\b|\bplus\b|power|raise", asked):
        return [(first, second, operators)]
    return [(first, second, operators), (second, first, operators)]


def _takes_one(question: str) -> bool:
    """Whether one number is enough: words of the question give the other, or its operation takes one."""
    meant = [pattern for pattern in IMPLIED if pattern.search(question) and pattern is not _PERCENT]
    return bool(meant or OF_ONE_NUMBER.search(question))


def _operates(text: str) -> bool:
    """Whether words of a text do something with its numbers."""
    return bool(OPERATES.search(text)) or any(pattern.search(text) for pattern in IMPLIED)


def _implied(question: str, stated: Sequence[str]) -> list[str]:
    """The small numbers that words of a question stand for."""
    implied = [number for pattern, meant in IMPLIED.items() if pattern.search(question) for number in meant.split()]
    return [*implied, str(len(stated))] if re.search(r"average|\bmean\b", question, re.IGNORECASE) else implied


# -- queries -----------------------------------------------------------------------------------------------------------

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
        word = core(chunk)
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
    return (
        bool(before)
        and (in_one_number(before, words[place]) or bool(words[place - 2]))
        and _together(before, words[place])
    )


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
    results = [literal(READ_AS.sub("", text.removeprefix(RESULT))) for text in observations if text.startswith(RESULT)]
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


CLAUSES = re.compile(
    r"(?<=\w\w\w[.!?])\s|(?<=[.!?])\s(?=[A-Z]\w*(?: \w+){0,3}:)|[;|\n]|,\s(?=[A-Z]\w*(?: \w+){0,2}:)|"
    r",?\s(?:and|but|while)\s(?=(?:it|its|his|her|their|the)\b)"
)
LABEL = re.compile(
    r"(?:it|he|she|they)\s+(?:(?:is|was|were|has been)\s+)?(?P<verb>\w{4,})\b|"
    r"(?:(?:the|its|his|her|their)\s+)?(?P<label>[^\W\d_][\w '’-]{1,60}?)(?::|\s+(?:is|was|are|were)\b)",
    re.IGNORECASE,
)
GOES_ON = re.compile(r"(?:it|he|she|they|this)\b", re.IGNORECASE)


def told_of(question: str, text: str) -> str:
    """The clauses of a text that are labelled with what is asked for, else all of it.

    `Population: 42,150`, `its capital is Brevik`, `it was opened in 1926`: asked for one thing, the model does not take
    another from beside it.
    """
    words = {chunk for chunk in chunks_of(question) if chunk.islower()} - FUNCTION_WORDS
    words |= {name for name, meant in ATTRIBUTES.items() if words & set(meant.split())}
    words |= {other for name in words & ATTRIBUTES.keys() for other in ATTRIBUTES[name].split()}
    asked, named = inflected(question) | inflected(" ".join(words)) | FUNCTION_WORDS, inflected(" ".join(words))
    kept, follows = [], False
    for clause in map(str.strip, CLAUSES.split(text)):
        match = LABEL.match(clause)
        label = (
            {re.sub(r"['’]s$", "", word) for word in match[match.lastgroup or 0].casefold().split()} if match else set()
        )
        follows = (label <= asked and bool(label & named)) or (follows and bool(GOES_ON.match(clause)))
        kept += [clause] if follows else []
    return "\n".join(kept) or text


def kind_wanted(question: str) -> str:
    """What a question with one question word asks for: a "person", "name", "number", "date" or, not known, ""."""
    words = ASKS.findall(question)
    if len(words) != 1:
        return ""
    return next((kind for kind, pattern in KINDS.items() if pattern.search(question)), "")


def subject_of(text: str, earlier: Sequence[str]) -> frozenset[str]:
    """The words at the beginning of `text` that an earlier observation told: whom it is about, so no answer."""
    known = {word.casefold() for seen in earlier for word in chunks_of(seen)}
    words = [word.casefold() for word in chunks_of(text) if word.strip() and word not in EDGE]
    return frozenset(itertools.takewhile(known.__contains__, words[:6]))


# -- runs of words of an observation -----------------------------------------------------------------------------------

LONGEST_ANSWER = 14
CHUNK = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*|.", re.DOTALL)
SPECIAL = re.compile(r"[\\.^$|?*+()\[\]{}/&~#\"-]")
EDGE = "\"“”„‘’'`.,;:!?()[]{}<>*…"
FUNCTION_WORDS = frozenset(
    "a an the of to in on at by for from with as and or but is was are were be been has had have his her its their "
    "who which that this it he she they when where after before into than".split()
)
PLACES = frozenset(("in", "at", "near", "from"))
NO_NAMES = frozenset("please thanks thank who what when where which how i and or".split())
PARTICLES = frozenset("de van von der da di del la bin al".split())
DIGITS = frozenset("one two three four five six seven eight nine ten eleven twelve no".split())
SCALES = frozenset(("million", "billion", "trillion", "thousand", "hundred", "percent"))
JOINS = frozenset("-–—−:/.,")


def literal(text: str) -> str:
    """`text` as a Lark regular expression that matches only itself."""
    return SPECIAL.sub(r"\\\g<0>", text).replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def inflected(question: str) -> frozenset[str]:
    """The words of a question and their simple inflections, in lower case: play, plays, played."""
    words = {chunk.casefold() for chunk in chunks_of(question) if not chunk.isspace()}
    return frozenset(
        form for word in words for form in (word, f"{word}s", f"{word}d", f"{word}ed", re.sub(r"['’]?s$", "", word))
    )


def chunks_of(text: str) -> list[str]:
    """The words of a text, what stands between them, and whatever has a digit as it stands between white space."""
    found = []
    for part in re.findall(r"\s+|\S+", text):
        whole = core(part) if has_digit(part) else ""
        before, _, after = part.partition(whole) if whole else ("", "", "")
        found += [*before, whole, *after] if whole else [part] if part.isspace() else CHUNK.findall(part)
    return found


def core(word: str) -> str:
    """A word without the punctuation around it, but for the point that a number begins with."""
    inside = word.strip(EDGE)
    return f".{inside}" if inside[:1].isdigit() and f".{inside}" in word else inside


def in_one_number(first: str, second: str) -> bool:
    """Whether two words in a row may be parts of one number: 1 000, 2024 - 05, 35 million, twenty five."""
    lower, following = first.casefold(), second.casefold()
    joined = (has_digit(first) or first in JOINS) and (has_digit(second) or second in JOINS)
    spelled = following in SCALES and has_digit(first)
    return (joined and has_digit(first + second)) or spelled or (lower in VALUES and following in VALUES)


def inside_name(first: str, second: str) -> bool:
    """Whether two words with one space between belong together: a full name, a date, "35 million"."""
    lower, following = first.casefold(), second.casefold()
    if in_one_number(first, second):
        return True
    if has_digit(first):
        return following in MONTHS
    if lower in MONTHS:
        return has_digit(second)
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
    chunks = chunks_of(text)
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
    return not wanted or has_digit(word) or spelled


def _may_begin(chunks: Sequence[str], words: Sequence[int], number: int, asked: frozenset[str]) -> bool:
    """Whether an answer may begin at this word."""
    word = chunks[words[number]]
    if number and words[number] == words[number - 1] + 2 and chunks[words[number] - 1].isspace():
        before = chunks[words[number - 1]]
        if in_one_number(before, word):
            return False
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
    long_word = len(chunks[0]) > 2 or has_digit(chunks[0])
    return "\n" in between or (long_word and bool(re.match(r"[)\]\"”']*[.!?][)\]\"”']*\s", between)))


def _nested(chunks: Sequence[str], run: Sequence[int]) -> str:
    """The first word of `run`, then as many more as wanted, each with what stands before it."""
    rest = ""
    for earlier, place in zip(reversed(run[:-1]), reversed(run[1:]), strict=True):
        piece = literal("".join(chunks[earlier + 1 : place + 1])) + rest
        whole = place == earlier + 2 and chunks[earlier + 1].isspace() and inside_name(chunks[earlier], chunks[place])
        may_end = chunks[earlier].casefold() not in FUNCTION_WORDS and not whole
        rest = f"({piece})?" if may_end else piece
    return literal(chunks[run[0]]) + rest
