"""Text to tokens: numbers, words and signs, brackets checked. Of words it knows functions only, for their commas."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from agentkit.tools.arithmetic.expression import Reading
from agentkit.tools.arithmetic.functions import FUNCTIONS
from agentkit.tools.arithmetic.refusal import ambiguous, quoted, refusal

LONGEST_INPUT = 400
LARGEST_EXPONENT = 1200  # of 1e1200: about 4,000 bits

_SIGNS = {
    "✕": "×", "✖": "×", "⋅": "·", "∙": "·", "•": "·", "∗": "*", "÷": "/", "⁄": "/", "∕": "/",
    "−": "-", "–": "-", "—": "-", "‒": "-", "‐": "-", "‑": "-", "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~",
    "π": " pi ", "τ": " tau ", "’": "'", "\u00a0": " ", "\u2009": " ", "\u202f": " ",
}  # fmt: skip
_TRANSLATION = str.maketrans(_SIGNS)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_VULGAR = "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
_LATEX = {
    "times": "*", "cdot": "*", "div": "/", "left": "", "right": "", "sqrt": "sqrt", "frac": "frac", "dfrac": "frac",
    "(": "", ")": "", "[": "", "]": "",
    "pi": " pi ", "%": "%", "$": "$", ",": " ", " ": " ", "leq": "<=", "geq": ">=", "ln": "ln", "log": "log",
    "sin": "sin", "cos": "cos", "tan": "tan",
}  # fmt: skip
_NUMBER = r"(?:\d+(?:_\d+)*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_TOKEN = re.compile(
    rf"""(?P<mixed>\d*[{_VULGAR}])
      | (?P<number>{_NUMBER}(?:,{_NUMBER}(?![\d{_VULGAR}]))*)
      | (?P<times>[xX](?=\s*[\d.($√]|\s+-[\d.(]))
      | (?P<word>(?:(?:math|np|numpy)\.(?=[a-z]))?
                 (?:(?:log|atan|arctan)_?\d+(?![A-Za-z\d])|[A-Za-z]+(?:['_-][A-Za-z]+(?![A-Za-z\d]))*))
      | (?P<raised>[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)
      | (?P<factorial>(?<=[\d.)\]}}⁰¹²³⁴⁵⁶⁷⁸⁹{_VULGAR}])!(?==))
      | (?P<sign>\*\*|//|==|!=|<>|<=|>=|[-+*/^%!(){{}}\[\],=<>?:;.°√×·$€£¥₹_])
      | (?P<space>(?u:\s)+)
      | (?P<other>.)""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_SAME = {"**": "^", "×": "*", "·": "*", "<>": "!=", "{": "(", "[": "(", "}": ")", "]": ")"}
_PAIRS = {")": "(", "]": "[", "}": "{"}
_DAY, _MONTH, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])", r"[12]\d\d\d"
_NO_CALCULATION = {  # what is written without spaces around the signs
    "a date": rf"{_YEAR}([-/]){_MONTH}\1{_DAY}|(?:{_DAY}([-/]){_MONTH}\2|{_MONTH}([-/]){_DAY}\3)(?:{_YEAR}|\d\d)",
    "a telephone number": r"(?:\+?\d{1,3}-)?\d{3}-\d{3}-\d{4}",
    "the number of a person or a book": r"\d{3}-\d\d-\d{4}|(?:97[89]-)?(?=[\d-]{13}(?!\d))\d+-\d+-\d+-\d",
}
_TIGHT = re.compile(r"\d([-/])\d+\1\d", re.ASCII)
_GROUPED = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?")
_ONE_COMMA = re.compile(r"\d+,\d+(?:[eE][+-]?\d+)?", re.ASCII)
_JOINABLE = re.compile(r"(?<![\d._e+-])[1-9]\d{0,2}(?:,\d{3}(?![\d_]))+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Token:
    """`kind` is number, word, sign or end; a sign's `text` is its one spelling (`^`), `written` the input's (`**`)."""

    kind: str
    text: str
    written: str = ""
    value: Fraction = Fraction(0)
    glued: bool = False
    """No space before it."""
    spoken: bool = False
    """It stood there as a word: `times`, `twelve`."""

    def is_sign(self, *texts: str) -> bool:
        return self.kind == "sign" and self.text in texts

    @property
    def word(self) -> str:
        """The word in lower case, "" for anything else."""
        return self.text.casefold() if self.kind == "word" else ""


END = Token("end", "")


def word_at(tokens: Sequence[Token], place: int) -> str:
    """The word there in lower case, "" for anything else or behind the end."""
    return tokens[place].word if place < len(tokens) else ""


def tokens_of(text: str, reading: Reading) -> list[Token]:
    """All tokens of one line, or a refusal that names what cannot be read."""
    if len(text) > LONGEST_INPUT:
        raise refusal(f"expected at most {LONGEST_INPUT} characters, got {len(text)}; calculate in several steps.")
    text = re.sub("(?<=[A-Za-z])−(?=[A-Za-z])", " - ", text)  # twenty−five is 15: this is a minus, and no hyphen
    text = re.sub(r"\\([A-Za-z]+|.)", _latex, text).translate(_TRANSLATION)
    if power := re.search(r"([\d.]+) +([eE][+-]\d+)", text, re.ASCII):
        raise ambiguous(power[0], f"{power[1]}{power[2]}", f"{power[1]}*{power[2]}")
    for name, pattern in _NO_CALCULATION.items() if _TIGHT.search(text) else ():
        if match := re.search(rf"(?<![\d.])(?:{pattern})(?![\d.eE])", text, re.ASCII):
            raise ambiguous(match[0], name, "a calculation (put spaces around the signs)")
    if dash := re.search(r"\S+\s--\s\S+", text):
        raise ambiguous(dash[0], *(dash[0].replace("--", sign) for sign in ("-", "+")))
    found = list(_scanned(text))
    _check_brackets(found)
    return _with_thousands_joined(found, reading)


def _latex(match: re.Match[str]) -> str:
    if match[1] not in _LATEX:
        raise refusal(f"{quoted(match[0])} is not understood; write it with + - * / ^ ( ) and sqrt().")
    return _LATEX[match[1]]


def _scanned(text: str) -> Iterator[Token]:
    before, glued = END, False
    for match in _TOKEN.finditer(text):
        for token in _made(match, before, glued):
            yield token
            before = token
        glued = match.lastgroup != "space"


def _made(match: re.Match[str], before: Token, glued: bool) -> Iterator[Token]:
    kind, written, rest = str(match.lastgroup), match[0], match.string[match.end() :]
    if kind == "space":
        return
    if kind == "other":
        raise refusal(f"{quoted(written)} has no place in arithmetic; use digits, + - * / ^ ( ) and functions.")
    if kind == "number":
        if before.kind == "number":
            together = f"{before.written}{'' if glued else ' '}{written}"
            raise refusal(f"{quoted(together)} is not one number; leave out what parts it, or write a sign there.")
        yield _number(written, glued)
    elif kind == "times" and not _multiplies(before, written, rest, glued):
        raise refusal(f"{quoted(written)} is not a number; put the value in its place (write * for times).")
    elif kind == "times":
        yield Token("sign", "*", written, glued=glued)
    elif kind == "raised":
        yield Token("sign", "^", written, glued=True)
        yield from _superscript(written)
    elif kind == "mixed":
        yield _mixed(written, before, glued)
    elif kind == "factorial":
        _check_factorial(before, rest.removeprefix("=").strip())
        yield Token("sign", "!", "!", glued=True)
    else:
        text = written.rpartition(".")[2] if kind == "word" else _SAME.get(written, written)  # math.sqrt
        yield Token(kind, text, written, glued=glued)


def _number(written: str, glued: bool) -> Token:
    """A number; one with commas in it has no value yet."""
    for part in written.lower().split(","):
        exponent = part.partition("e")[2] or "0"
        if len(exponent) > 6 or abs(int(exponent)) > LARGEST_EXPONENT:
            raise refusal(f"the number {quoted(part)} is out of range; use exponents up to {LARGEST_EXPONENT}.")
    text = written.replace("_", "")
    if re.match(r"0\d", text, re.ASCII):
        raise refusal(f"{quoted(written)} begins with a zero, as dates and codes do; write the number without it.")
    value = Fraction(int(text)) if text.isdigit() else Fraction(0 if "," in text else text)
    return Token("number", text, written, value, glued)


def _multiplies(before: Token, written: str, rest: str, glued: bool) -> bool:
    """Whether an x is the sign for times, not a variable: something to multiply stands on both sides."""
    if before.kind == "number" and before.text == "0" and glued:
        raise ambiguous(f"0{written}{rest[:4]}", "a hexadecimal number", "0 times a number")
    if glued and rest.lstrip().startswith("-"):
        return False  # 5x - 3
    return before.kind in ("number", "word") or before.is_sign(")", "%", "!", "$", "°")


def _superscript(written: str) -> Iterator[Token]:
    digits = written.translate(_SUPERSCRIPTS)
    if not re.fullmatch(r"-?\d{1,4}", digits):
        raise refusal(f"the exponent {quoted(digits)} is not a number; write it as ^2.")
    value = Fraction(digits)
    yield Token("number", digits if value >= 0 else f"({digits})", written, value, glued=True)


def _mixed(written: str, before: Token, glued: bool) -> Token:
    """`2½`, or `½` alone."""
    value = Fraction(unicodedata.numeric(written[-1])).limit_denominator(10)
    if written[:-1]:
        value += int(written[:-1])
    elif before.kind == "number":
        raise ambiguous(f"{before.written}{written}", f"{before.written}+{value}", f"{before.written}*{value}")
    return Token("number", f"({value})", written, value, glued)


def _check_factorial(before: Token, rest: str) -> None:
    """`5! = ` and `5!=?` end in a factorial; `3!=6` could be a comparison too."""
    if rest and not rest.startswith(("=", "?")):
        raise ambiguous(f"{before.written}!={rest}", f"{before.written} != {rest}", f"{before.written}! = {rest}")


def _check_brackets(tokens: list[Token]) -> None:
    opened: list[str] = []
    for token in tokens:
        if token.is_sign("("):
            opened.append(token.written)
        elif token.is_sign(")") and (not opened or opened.pop() != _PAIRS[token.written]):
            raise refusal(f"the {quoted(token.written)} has no opening bracket; balance the brackets.")
    if opened:
        raise refusal(f"a closing bracket for {quoted(opened[-1])} is missing; balance the brackets.")


# -- commas between digits: thousands separators, or the comma between a function's arguments ------------------------


def _with_thousands_joined(tokens: list[Token], reading: Reading) -> list[Token]:
    """Joins `1,234` to one number where only that can be meant; also notes what could surprise."""
    if not any(token.kind == "number" and "," in token.text for token in tokens):
        return tokens
    apart = _apart(tokens)
    separate = [each for place, token in enumerate(tokens) for each in _separate(token, place in apart)]
    joined = [token.written for token in separate if token.kind == "number" and "," in token.written]
    if len(joined) == 1 and joined[0].count(",") == 1 and not any("." in token.written for token in separate):
        reading.thousands = f"{joined[0]} read as {joined[0].replace(',', '')}"
    return separate


def _separate(token: Token, apart: bool) -> Iterator[Token]:
    """The one number that a token with commas is, or the numbers and commas in it."""
    if token.kind != "number" or "," not in token.text:
        yield token
    elif apart:
        first, *others = token.written.split(",")
        yield _number(first, token.glued)
        for other in others:
            yield from (Token("sign", ",", ",", glued=True), _number(other, glued=True))
    elif not _GROUPED.fullmatch(token.written):
        raise refusal(f"{quoted(token.written)} is not one number; write a decimal point, or digits without commas.")
    else:
        text = token.text.replace(",", "")
        yield replace(token, text=text, value=Fraction(text))


def _apart(tokens: list[Token]) -> set[int]:
    """The places of the numbers whose commas stand between a function's arguments."""
    found: set[int] = set()
    brackets: list[tuple[str, list[int]]] = [("", [])]  # the function in front, and the places directly inside
    for place, token in enumerate(tokens):
        if token.is_sign(")"):
            name, inside = brackets.pop()
            if name and inside and not _joins(name, tokens[inside[0] : place], [each - inside[0] for each in inside]):
                found.update(inside)
        brackets[-1][1].append(place)
        if token.is_sign("("):
            brackets.append((_function_before(tokens, place), []))
    return found


def _function_before(tokens: list[Token], place: int) -> str:
    """The function whose arguments this bracket opens: `max(` or `max([`."""
    if tokens[place].written == "[" and place and tokens[place - 1].is_sign("("):
        place -= 1
    name = tokens[place - 1].word.rpartition("-")[2] if place else ""
    return name if name in FUNCTIONS else ""


def _joins(name: str, tokens: list[Token], direct: list[int]) -> bool:
    """Whether the function's number of arguments settles that commas join; a refusal where both readings fit."""
    numbers = [tokens[place].written for place in direct if tokens[place].kind == "number"]
    commas = [place for place in direct if tokens[place].is_sign(",")]
    count = 1 + sum(number.count(",") for number in numbers) + len(commas)
    joins = sum(len(match[0].split(",")) - 1 for number in numbers for match in _JOINABLE.finditer(number))
    least, most = FUNCTIONS[name].least, FUNCTIONS[name].most
    together = joins > 0 and least <= count - joins <= most
    if least <= count <= most:
        if together:
            raise _two_readings(name, tokens, direct, _JOINABLE, "")
        spaced = any(not token.glued for place in commas for token in tokens[place + 1 : place + 2])
        if spaced and any(map(_ONE_COMMA.fullmatch, numbers)):
            raise _two_readings(name, tokens, direct, _ONE_COMMA, ".")  # max(0,5, 3): only the others part arguments
    return together


def _two_readings(name: str, tokens: list[Token], direct: list[int], one: re.Pattern[str], sign: str) -> Exception:
    """For arguments in which the commas of what `one` matches can also stand for `sign`."""
    written = [token.written for token in tokens]
    joined = [
        one.sub(lambda match: match[0].replace(",", sign), each) if place in direct else each
        for place, each in enumerate(written)
    ]
    joined = [", " if each == "," else each for each in joined]
    apart = "".join(written).replace(",", ", ")
    return ambiguous(f"{name}({''.join(written)})", f"{name}({''.join(joined)})", f"{name}({apart})")
