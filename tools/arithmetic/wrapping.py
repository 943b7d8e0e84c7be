"""What models wrap an input in: a JSON object, a fence, a line of Python, quotes, LaTeX dollars."""

from __future__ import annotations

import re

from agentkit.tools.arithmetic.refusal import refusal

LONGEST_WRAPPED = 1000
_OBJECT = re.compile(r"""\{\s*(["'])\w+\1\s*:\s*(?:(["'])(?P<text>.*)\2|(?P<number>-?[\d.]+))\s*,?\s*\}""", re.DOTALL)
_FENCE = re.compile(r"```\w*\n(?P<text>.*?)\n?```", re.DOTALL)
_IMPORTS = re.compile(r"(?:import\s+(?:math|numpy)(?:\s+as\s+np)?\s*[;\n]\s*)+")
_CALL = re.compile(r"(?:print|eval|calculate|calculator)\((?P<text>.*)\)", re.DOTALL | re.IGNORECASE)
_QUOTES = ("```", "`", '"', "'", "$$")


def unwrapped(text: str) -> str:
    """The one string inside; a wrapped text that is no single string is refused."""
    text = text.strip()
    if len(text) > LONGEST_WRAPPED:
        raise refusal(f"expected a short expression, got {len(text)} characters; calculate in several steps.")
    if match := _FENCE.fullmatch(text):
        text = match["text"].strip()
    text = _IMPORTS.sub("", text, count=1) if text.startswith("import") else text
    if (match := _CALL.fullmatch(text)) and _is_closed(match["text"]):
        text = match["text"].strip()
    if match := _OBJECT.fullmatch(text):
        text = _unquoted(match["text"], match[2]) if match["number"] is None else match["number"]
    elif text[:1] in ("{", "[") and re.search("[\"']", text):
        raise refusal("expected one expression, got an object or a list; give the expression as one string.")
    for quote in _QUOTES:
        if len(text) > 2 * len(quote) and text.startswith(quote) and text.endswith(quote):
            text = text[len(quote) : -len(quote)].strip()
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
