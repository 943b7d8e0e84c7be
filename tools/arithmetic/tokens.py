"""Text to tokens: numbers, words and signs, brackets checked. Nothing here knows what a word means."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from agentkit.tools.arithmetic.refusal import ambiguous, quoted, refusal

LONGEST_INPUT = 400
LARGEST_EXPONENT = 1200  # of 1e1200: about 4,000 bits

_SIGNS = {
    "✕": "×", "✖": "×", "⋅": "·", "∙": "·", "•": "·", "∗": "*", "÷": "/", "⁄": "/", "∕": "/",
    "−": "-", "–": "-", "—": "-", "‒": "-", "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "π": " pi ", "τ": " tau ",
    "’": "'", "\u00a0": " ", "\u2009": " ", "\u202f": " ",
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
                 (?:(?:log|atan|arctan)_?\d+(?![A-Za-z\d])|[A-Za-z]+(?:['_-][A-Za-z]+)*))
      | (?P<raised>[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)
      | (?P<sign>\*\*|//|==|!=|<>|<=|>=|[-+*/^%!(){{}}\[\],=<>?:;.°√×·$€£¥₹_])""",
    re.VERBOSE | re.ASCII,
)
_SAME = {"**": "^", "×": "*", "·": "*", "<>": "!=", "{": "(", "[": "(", "}": ")", "]": ")"}
_PAIRS = {")": "(", "]": "[", "}": "{"}
_DATE = re.compile(
    r"(?<![\d.])(?:(?:19|20)\d\d-(?:0[1-9]|1[0-2])-[0-3]\d|[0-3]?\d/[0-3]?\d/(?:19|20)\d\d|(?:19|20)\d\d/[01]?\d/[0-3]?\d)(?![\d.])"
)


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


def tokens_of(text: str) -> list[Token]:
    """All tokens of one line, or a refusal that names what cannot be read."""
    if len(text) > LONGEST_INPUT:
        raise refusal(f"expected at most {LONGEST_INPUT} characters, got {len(text)}; calculate in several steps.")
    if date := _DATE.search(text):
        raise ambiguous(date[0], "a date", "a calculation (put spaces around the signs)")
    found = list(_scanned(re.sub(r"\\([A-Za-z]+|.)", _latex, text).translate(_TRANSLATION)))
    _check_brackets(found)
    return found


def _latex(match: re.Match[str]) -> str:
    if match[1] not in _LATEX:
        raise refusal(f"{quoted(match[0])} is not understood; write it with + - * / ^ ( ) and sqrt().")
    return _LATEX[match[1]]


def _scanned(text: str) -> Iterator[Token]:
    place, before = 0, END
    while place < len(text):
        start = place + len(text[place:]) - len(text[place:].lstrip())
        if start == len(text):
            return
        match = _TOKEN.match(text, start)
        if match is None:
            raise refusal(f"{quoted(text[start])} has no place in arithmetic; use digits, + - * / ^ ( ) and functions.")
        glued = start == place and place > 0
        for token in _made(match, text, before, glued):
            yield token
            before = token
        place = match.end() if before.text != "!" else start + 1


def _made(match: re.Match[str], text: str, before: Token, glued: bool) -> Iterator[Token]:
    kind, written = str(match.lastgroup), match[0]
    if kind == "number":
        yield number_token(written, glued)
    elif kind == "times" and not _multiplies(before, text, match.end(), glued):
        raise refusal(f"{quoted(written)} is not a number; put the value in its place (write * for times).")
    elif kind == "times":
        yield Token("sign", "*", written, glued=glued)
    elif kind == "raised":
        yield Token("sign", "^", written, glued=True)
        yield from _superscript(written)
    elif kind == "mixed":
        yield _mixed(written, before, glued)
    elif kind == "sign" and written == "!=":
        yield _bang(match, text, before, glued)
    else:
        text = written.rpartition(".")[2] if kind == "word" else _SAME.get(written, written)  # math.sqrt
        yield Token(kind, text, written, glued=glued)


def number_token(written: str, glued: bool) -> Token:
    """A number; one with commas in it has no value yet."""
    for part in written.lower().split(","):
        exponent = part.partition("e")[2] or "0"
        if len(exponent) > 6 or abs(int(exponent)) > LARGEST_EXPONENT:
            raise refusal(f"the number {quoted(part)} is out of range; use exponents up to {LARGEST_EXPONENT}.")
    text = written.replace("_", "")
    return Token("number", text, written, Fraction(0 if "," in text else text), glued)


def _multiplies(before: Token, text: str, after: int, glued: bool) -> bool:
    """Whether an x is the sign for times, not a variable: something to multiply stands on both sides."""
    if before.kind == "number" and before.text == "0" and glued:
        raise ambiguous(f"0{text[after - 1 : after + 4]}", "a hexadecimal number", "0 times a number")
    if glued and text[after:].lstrip().startswith("-"):
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


def _bang(match: re.Match[str], text: str, before: Token, glued: bool) -> Token:
    """`5 != 3` compares; `5! = ` and `5!=?` end in a factorial; `3!=6` could be either."""
    rest = text[match.end() :].strip()
    follows_number = glued and (before.kind == "number" or before.is_sign(")"))
    if not follows_number:
        return Token("sign", "!=", "!=", glued=glued)
    if rest and not rest.startswith(("=", "?")):
        raise ambiguous(f"{before.written}!={rest}", f"{before.written} != {rest}", f"{before.written}! = {rest}")
    return Token("sign", "!", "!", glued=glued)


def _check_brackets(tokens: list[Token]) -> None:
    opened: list[str] = []
    for token in tokens:
        if token.is_sign("("):
            opened.append(token.written)
        elif token.is_sign(")") and (not opened or opened.pop() != _PAIRS[token.written]):
            raise refusal(f"the {quoted(token.written)} has no opening bracket; balance the brackets.")
    if opened:
        raise refusal(f"a closing bracket for {quoted(opened[-1])} is missing; balance the brackets.")
