"""How the calculator says no: one line that the model can act on."""

from __future__ import annotations

from agentkit.errors import ToolError

LONGEST_QUOTE = 48


def refusal(message: str) -> ToolError:
    """The error to raise; its text is the observation."""
    return ToolError(f"Error: {message}")


def ambiguous(written: str, *readings: str) -> ToolError:
    """The error for what can be read in several ways: it names them, and the model chooses."""
    return refusal(f"{quoted(written)} can be read as {' or as '.join(map(_ascii, readings))}; write the one you mean.")


def quoted(text: str) -> str:
    """A piece of the input as an error may show it: short, one line, printable ASCII."""
    shown = _ascii(text)
    return f"'{shown}'" if len(shown) <= LONGEST_QUOTE else f"'{shown[: LONGEST_QUOTE - 3]}...'"


def _ascii(text: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() else f"<U+{ord(c):04X}>" for c in " ".join(text.split()))
