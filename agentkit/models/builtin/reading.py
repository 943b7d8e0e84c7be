"""What the built-in model can read: tools that search or calculate, plain English, and numbers that stand whole.

A number is read whole or not at all: what is written in another way (3,5 or 1 000 000, 12:30, 5kg, 2024-05-01) is no
number here, and neither is a part of it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any

from agentkit.number_words import SCALES, VALUES, spelled_numbers
from agentkit.tool import Tool

# -- tools -------------------------------------------------------------------------------------------------------------

SEARCH, CALCULATOR = "Search", "Calculator"
_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_SEARCHES = re.compile(
    r"search\w*|look|lookup|find|finder|query|retriev\w+|ask|answers?|oracle|browse|wiki\w*|encyclop\w+|web|internet|google|"
    r"bing|ddgs?|duckduckgo|brave|serp\w*|tavily|knowledge|facts?|docs?|documents?|corpus|library"
)
_CALCULATES = re.compile(r"calc\w*|arithmetics?|maths?|numexpr|compute|eval|evaluate|evaluator|solve|solver")
_FORMULA = re.compile(
    r"arithmetic|math|maths|mathematical|calculates?|calculations?|expr|expressions?|formulas?|equations?"
)
_NEUTRAL = re.compile(
    r"up|for|on|in|the|an?|my|it|and|run|tool|api|do|get|simple|basic|text|results?|json|engine|server|base|questions?|"
    r"expr|expressions?|formulas?|equations?|arithmetics?|info|information|things?|anything|everything|alpha|ph|pedia"
)
_ELSEWHERE = re.compile(
    r"weather|forecasts?|e?mails?|mailbox|inbox|send\w*|writ\w+|delet\w+|remov\w+|creat\w+|updat\w+|insert\w*|posts?|"
    r"publish\w*|booking|buy\w*|orders?|pay\w*|exec\w*|shell|bash|terminal|python|repl|javascript|sql|code|translat\w+|"
    r"calendars?|files?|folders?|images?|pictures?|photos?|videos?|routes?|flights?|hotels?|restaurants?|stocks?|"
    r"currenc\w+|convert\w*|slack|sms|phones?|contacts?|customers?|tickets?|commits?|shipping|tax\w*|regex|messages?"
)
_TOLD_TO_SEARCH = re.compile(
    r"\b(?:search\w*|looks? \w* ?up|look-up|wikipedia|internet|web|facts|questions)\b", re.IGNORECASE
)


def role_of(tool: Tool) -> str:
    """What the model uses a tool as, by what it is called and said to do: `SEARCH`, `CALCULATOR`, "" for any other.

    What only sounds like one of the two is another: search_flights, calculate_tax.
    """
    argument = input_key(tool.schema)
    named, told = _words(tool.name), _words(tool.description)
    if argument is None or _one_of(_ELSEWHERE, named):
        return ""
    decisive = [word for word in named if not _NEUTRAL.fullmatch(word)]
    is_formula = _one_of(_FORMULA, [*_words(argument), *told])
    if _one_of(_CALCULATES, decisive[-1:]):
        return CALCULATOR if is_formula or decisive[-1].startswith(("calc", "arith", "math", "num")) else ""
    if _one_of(_SEARCHES, decisive[-1:]):
        return SEARCH
    if _one_of(_SEARCHES, decisive) or _one_of(_CALCULATES, decisive) or _one_of(_ELSEWHERE, told):
        return ""
    if is_formula:
        return CALCULATOR
    return SEARCH if _TOLD_TO_SEARCH.search(tool.description) else ""


def input_key(schema: Mapping[str, Any]) -> str | None:
    """The argument that is given where one text is the input: "" where that is all of it, None where one is too few."""
    if schema.get("type") == "string":
        return None if "enum" in schema else ""
    properties = schema.get("properties", {})
    texts = [name for name, each in properties.items() if _is_text(each)]
    required = [name for name in schema.get("required", ()) if name in properties]
    candidates = [name for name in required or texts[:1] if name in texts]
    return candidates[0] if len(candidates) == 1 and len(required) < 2 else None


def _is_text(schema: Any) -> bool:
    if not isinstance(schema, Mapping) or {"enum", "const", "format"} & schema.keys():
        return False
    return any(isinstance(one, Mapping) and one.get("type") == "string" for one in (schema, *schema.get("anyOf", ())))


def _words(text: str) -> list[str]:
    return [part.lower() for part in _PARTS.findall(text)]


def _one_of(pattern: re.Pattern[str], words: Iterable[str]) -> bool:
    return any(map(pattern.fullmatch, words))


# -- questions ---------------------------------------------------------------------------------------------------------

LONGEST_QUESTION = 700
"""Characters: with what the tools say, a longer one may not fit the model's 2,048 tokens; none it was shown is."""
LONGEST_WORD = 40
SYMBOLS = frozenset("×÷√²³°−·±≈…–—‐‑‘’“”„£€¥¢§\xa0\u2009\u202f")
_ENGLISH = re.compile(
    r"\b(?:who|whom|whose|what|whats|which|where|when|why|how|the|does|did|many|much|than|by|with|from|his|its|their|this|"
    r"these|you|your|please|calculate|compute|evaluate|divided?|multipl(?:y|ied)|add(?:ed)?|subtract(?:ed)?|raised?|"
    r"squared?|cubed?|times|equals?|work|tell|know|need|would|could|should|there|have|about|looking|wondering|calc|simplify)\b",
    re.IGNORECASE,
)
_SHARED = re.compile(
    r"a|an|and|at|in|is|of|on|or|to|x|plus|minus|over|per|percent|sum|product|root|square|half|third|quarter|total|average|"
    r"mean|power|difference|less|more|find|give|get|me|for|it|if|are|was|sqrt|abs|log|sin|cos|exp|age|height|length|area|number|"
    r"price|weight|capital|author|population|wife|husband|year|hey|hi|hello|so|halve|double|triple|solve|result|"
    r"ok|okay|well|my|i|am|s|help|show|list|up|quick|question|current|largest|older|younger|name|thanks",
    re.IGNORECASE,
)
"""Words of English that other languages have too, or that may stand alone: most words of a question must be of them."""


def is_readable(question: str) -> bool:
    """Whether a question is short, plain English, or just arithmetic: the model was shown nothing else.

    Names may be of any language that is written in Latin letters.
    """
    if len(question) > LONGEST_QUESTION or not all(map(_is_plain, question)):
        return False
    if any(len(word) > LONGEST_WORD for word in question.split()) or _ENGLISH.search(question):
        return max(map(len, question.split())) <= LONGEST_WORD
    spoken = re.findall(r"[^\W\d_²³]+", question)
    spoken = [word for place, word in enumerate(spoken) if not place or not word[0].isupper()]
    shared = sum(bool(_SHARED.fullmatch(word) or word.lower() in VALUES) for word in spoken)
    return 2 * shared > len(spoken) if spoken else bool(re.search(r"\d", question))


def _is_plain(char: str) -> bool:
    if char.isascii():
        return char.isprintable() or char in "\n\t\r"
    combines = "\u0300" <= char <= "\u036f"
    return char in SYMBOLS or combines or (char.isalpha() and unicodedata.name(char, "").startswith("LATIN"))


# -- numbers -----------------------------------------------------------------------------------------------------------

MONTHS = frozenset("january february march april may june july august september october november december".split())
NUMBER = r"(?:(?:[1-9]\d{0,2}(?:,\d{3})+|0(?!x\d)|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?|\.\d+)"
_OPEN, _CLOSED = r"[\"'“‘„(\[]*", r"[)\]\"'”’]*"
_FUNCTION = r"(?:sqrt|abs|log|ln|sin|cos|exp)"
_STANDS = re.compile(
    rf"{_OPEN}(?:\b{_FUNCTION}\(|√)*{_OPEN}[$€£¥]?(?P<number>[-−]?{NUMBER})(?P<th>st|nd|rd|th)?(?:[%°$€£]|-years?-olds?)?"
    rf"{_CLOSED}(?:[.,;:?]*|[!?]+$)",
    re.ASCII,
)
"""A word of a text that is a number, with what may stand around it."""
_WORDED = {
    "plus": "+",
    "minus": "-",
    "times": "*",
    "multiplied by": "*",
    "divided by": "/",
    "over": "/",
    "to the power of": "^",
}
_TERM = rf"(?:[-−( ]|{_FUNCTION}(?=\()){{0,20}}{NUMBER}[) ]{{0,20}}"
TYPED = re.compile(
    rf"(?<![\w.,]){_TERM}(?:(?:\*\*|[-+*/^×·÷x−]|{'|'.join(_WORDED)}){_TERM})+(?!\w|[.,:'’]\d)", re.ASCII
)
"""A calculation as people type it."""
_SIGNS = str.maketrans("×·÷−", "**/-", ", ")
_AMBIGUOUS = re.compile(r"[\d.,]+(?:-[\d.,]+)+|[\d.,]+(?:/[\d.,]+)+", re.ASCII)
"""A calculation, a range, a telephone number or a date."""
_DATE = re.compile(r"\d{1,2}([-/])\d{1,2}\1(?:\d\d){1,2}|\d{4}([-/])\d{1,2}\2\d{1,2}", re.ASCII)
_IN_PIECES = re.compile(r"\d\s+[.,]?\d|\d\s*[:–—%]\s*\d|\d\s[.,]\s*\d|\d-\s+\d")
_BETWEEN = re.compile(r"\d\s+([a-z]+)\s+(?=\d)")
_CONNECTS = frozenset(
    "and by to from of or over plus minus times x less into per in with at for is are than on off".split()
)
_UNIT_OF = {
    unit: kind
    for kind, units in enumerate(
        (
            "mm cm m km metre meter centimetre centimeter kilometre kilometer inch inche foot feet yard mile",
            "mg g kg gram kilogram tonne ton pound lb ounce oz",
            "ml l litre liter gallon pint cup",
            "second minute hour day week month year",
            "cent penny pence dollar euro",
            "wh kwh mwh watt kilowatt",
        )
    )
    for unit in units.split()
}
_IN_DEGREES = re.compile(r"\b(?:sin|cos|tan)\w*\b.*(?:°|\bdeg)", re.DOTALL)
_MONTH = rf"(?:{'|'.join(MONTHS)})"
_DAY = re.compile(rf"\b{_MONTH}\s+\d|\d(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}\b", re.IGNORECASE)
_ASKING = re.compile(
    r"(?:what|whats|is|s|calculate|compute|evaluate|solve|work|out|how|much|find|tell|me|give|the|result|answer|value|of|to|"
    r"equals?|please|can|could|you|hey|hi|hello|so|and|thanks|thank|a|do|does|make|come|for|now|ok|well|excuse|simplify|it|i|want|know)",
    re.IGNORECASE,
)


def typed_calculations(question: str) -> list[str]:
    """The calculations that stand in a question as people type them, and are clearly such."""
    rest = re.findall(r"[^\W\d_]+", TYPED.sub(" ", question))
    is_asked = all(map(_ASKING.fullmatch, rest))
    found = []
    for match in TYPED.finditer(question):
        text = match[0].strip()
        before, after = question[: match.start()].rstrip(" ")[-1:], question[match.end() :].lstrip(" ")[:1]
        around = (not before or before.isalnum() or before in "\"'“”‘’„(=:,;.?!\n") and (
            not after or after.isalpha() or after in "\"'”’)=.,;:?!\n…"
        )
        is_clear = not _DATE.fullmatch(text) and (is_asked or not _AMBIGUOUS.fullmatch(text))
        if around and is_clear and text.count("(") == text.count(")"):
            found.append(text)
    return found


def question_numbers(question: str, *, in_words: bool = True) -> list[str] | None:
    """The numbers that stand in a question, as the calculator takes them; None where one is written in another way.

    1,200 is 1200, 3 million is 3000000, and twenty-five is 25 where those `in_words` count.
    """
    if _IN_PIECES.search(question) or _DAY.search(question) or _has_odd_words(question.lower()):
        return None
    typed = typed_calculations(question)
    rest, found = question, list[str]()
    for text in typed:
        rest = rest.replace(text, " ", 1)
        found += [number.replace(",", "") for number in re.findall(NUMBER, text, re.ASCII)]
    stated = list(_stated(rest, in_words=in_words))
    return None if None in stated else [*found, *(one for one in stated if one)]


def canonical(typed: str) -> str:
    """A typed calculation as the calculator takes it."""
    for words, sign in (*_WORDED.items(), ("**", "^")):
        typed = typed.replace(words, sign)
    return re.sub("(?<!e)x", "*", typed.translate(_SIGNS))  # but for that of exp


def _has_odd_words(question: str) -> bool:
    """Whether the numbers of a question are joined by a word of no known meaning, or are in different units."""
    units = {word if word in _UNIT_OF else word.rstrip("s") for word in re.findall(r"\d\s+([a-z]+)", question)} & {
        *_UNIT_OF
    }
    if len(set(re.findall(r"[$€£¥]", question))) > 1 or _IN_DEGREES.search(question):
        return True
    return len({_UNIT_OF[unit] for unit in units}) < len(units) or not _CONNECTS.issuperset(_BETWEEN.findall(question))


def text_numbers(text: str) -> list[str]:
    """The numbers that stand whole in what a tool said; all others are left out."""
    return [number for number in _stated(text) if number]


def _stated(text: str, *, in_words: bool = True) -> Iterator[str | None]:
    """Each number of a text in its order, None for one that is not read."""
    chunks, spoken = text.split(), list[str]()
    for place, chunk in enumerate(chunks):
        before, after = chunks[place - 1] if place else "", chunks[place + 1] if place + 1 < len(chunks) else ""
        scale = SCALES.get(after.strip(".,;:?!)").lower())
        if not has_digit(chunk):
            spoken.append("" if has_digit(before) and SCALES.get(chunk.strip(".,;:?!)").lower()) else chunk)
            continue
        yield from _spelled(spoken) if in_words else ()
        spoken = []
        match = _STANDS.fullmatch(chunk)
        is_ordinal = match and match["th"] and not re.match(r"power|root|of\b", after)
        in_pieces = (chunk[-1].isdigit() and after[:1].isdigit()) or (before[-1:].isdigit() and chunk[0].isdigit())
        if match is None or is_ordinal or in_pieces or (chunk.endswith("!") and after):
            yield None
            continue
        number = match["number"].replace(",", "").replace("−", "-")
        yield _plain_number(Fraction(number) * scale) if scale else number
    yield from _spelled(spoken) if in_words else ()


def _spelled(words: list[str]) -> Iterator[str]:
    return map(str, spelled_numbers(" ".join(words)))


def has_digit(text: str) -> bool:
    """Whether a text has a digit of any script, or a character that is a number."""
    return any(char.isnumeric() and char not in "²³" for char in text)


def _plain_number(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{float(value):g}"
