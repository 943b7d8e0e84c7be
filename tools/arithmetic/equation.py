"""What stands around an expression: fences and quotes in its text; `= ?`, `total =`, a question mark in its tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agentkit.tools.arithmetic.expression import Reading
from agentkit.tools.arithmetic.functions import FUNCTIONS
from agentkit.tools.arithmetic.real import CONSTANTS
from agentkit.tools.arithmetic.refusal import quoted, refusal
from agentkit.tools.arithmetic.tokens import Token
from agentkit.tools.arithmetic.units import CURRENCY, check_ignorable, is_known, known_unit
from agentkit.tools.arithmetic.wording import WORDS

LONGEST_WRAPPED = 1000
_OBJECT = re.compile(r"""\{\s*(["'])\w+\1\s*:\s*(?:(["'])(?P<text>.*)\2|(?P<number>-?[\d.]+))\s*,?\s*\}""", re.DOTALL)
_WRAPPINGS = [
    re.compile(pattern, re.DOTALL | re.IGNORECASE)
    for pattern in (
        r"```\w*\n(?P<text>.*?)\n?```",
        r"(?:import\s+(?:math|numpy)(?:\s+as\s+np)?\s*[;\n]\s*)+(?P<text>.*)",
        r"(?:print|eval|calculate|calculator)\((?P<text>.*)\)",
        r"(```|`|\"|'|\$\$)(?P<text>.+)\1",
    )
]


def unwrapped(text: str) -> str:
    """The one string inside; a wrapped text that is no single string is refused."""
    if len(text) > LONGEST_WRAPPED:
        raise refusal(f"expected a short expression, got {len(text)} characters; calculate in several steps.")
    while (inner := _inside(text.strip())) != text:
        text = inner
    return text


def _inside(text: str) -> str:
    """What the outermost wrapping holds, or the text itself."""
    if match := _OBJECT.fullmatch(text):
        return match["number"] or _unquoted(match["text"], match[2])
    if text.startswith(("{", "[")) and re.search("[\"']", text):
        raise refusal("expected one expression, got an object or a list; give the expression as one string.")
    for wrapping in _WRAPPINGS:
        if (match := wrapping.fullmatch(text)) and _is_closed(match["text"]):
            return match["text"]
    return text


def _is_closed(text: str) -> bool:
    """Whether no bracket closes before it is opened."""
    depth = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            return False
    return True


def _unquoted(text: str, quote: str) -> str:
    if re.search(rf"(?<!\\){quote}", text):
        raise refusal("expected one expression, got an object with several values; give the expression as one string.")
    return text.replace(f"\\{quote}", quote).replace("\\n", "\n").replace("\\\\", "\\").strip()


def one_line(text: str) -> str:
    """A single expression; a line may go on after a sign or inside brackets."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    joined = lines[0] if lines else ""
    for line in lines[1:]:
        if not (joined[-1] in "+-*/^(,[" or joined.count("(") > joined.count(")")):
            raise refusal("one expression at a time; give each line to the calculator in a step of its own.")
        joined += f" {line}"
    return joined


# -- in the tokens --------------------------------------------------------------------------------------------------

LONGEST_LABEL = 5
_CHANGING = "percentage in to into as than less more from by if not no or about log ln sqrt root"
CHANGING = frozenset(_CHANGING.split())


def without_claim(tokens: list[Token], reading: Reading) -> list[Token]:
    """The expression without what only says that a result is wanted; notes whether words were dropped with it."""
    tokens = _without_end(tokens)
    if tokens and tokens[0].is_sign("="):
        tokens = tokens[1:]
    places = [place for place, token in enumerate(tokens) if token.is_sign("=")]
    if not places:
        return _without_label(tokens, ":", reading)
    if len(places) > 1:
        raise refusal("one equation at a time; give one expression without =.")
    left, right = tokens[: places[0]], tokens[places[0] + 1 :]
    if all(token.is_sign("?", "_", ".") for token in right):
        return left
    asked = [token for token in right if not token.is_sign("?", "_")]
    if _only_words(asked):
        _check_result_name(left, asked)
        reading.ignored_words = any(len(token.text) > 1 for token in asked)
        return left
    return _without_label(tokens, "=", reading)


def _without_end(tokens: list[Token]) -> list[Token]:
    """Without `?`, `.` and `please` at the end."""
    while tokens and (tokens[-1].is_sign("?", ".", ";") or tokens[-1].word == "please"):
        tokens = tokens[:-1]
    return tokens


def _without_label(tokens: list[Token], sign: str, reading: Reading) -> list[Token]:
    """Drops `Total cost:` or `x =` before the expression."""
    place = next((place for place, token in enumerate(tokens) if token.is_sign(sign)), 0)
    label = tokens[:place]
    if not label or len(label) > LONGEST_LABEL or not all(map(_labels, label)):
        return tokens
    reading.ignored_words = len(label[0].text) > 1
    return tokens[place + 1 :]


def _check_result_name(left: list[Token], asked: Sequence[Token]) -> None:
    """`= x` and `= total` name the result; `120 km = miles` asks for a conversion."""
    if len(asked) == 1 and len(asked[0].text) == 1 and not is_known(asked[0].text):
        return
    have = {known_unit(token.text) for token in left if token.kind == "word" or token.is_sign(*CURRENCY)}
    for word in asked:
        check_ignorable(word)
        if have - {None} and is_known(word.text) and known_unit(word.text) not in have:
            raise refusal(f"units are not converted (to {quoted(word.text)}); multiply by the factor yourself.")


def _labels(token: Token) -> bool:
    """Whether a word can name a result without changing it: `Sum of ages`, but not `percent` or `half`."""
    if token.kind == "sign":
        return token.is_sign("of")
    return token.kind == "word" and token.text not in CONSTANTS and token.text.casefold() not in WORDS | CHANGING


def _only_words(tokens: Sequence[Token]) -> bool:
    return bool(tokens) and all(
        token.kind == "word" and token.text.casefold() not in FUNCTIONS and token.text not in CONSTANTS
        for token in tokens
    )
