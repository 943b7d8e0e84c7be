"""The text of a file whose encoding nobody wrote down."""

from __future__ import annotations

import codecs

MOST_CONTROLS = 0.02  # share of control characters in a text
SNIFFED = 65_536
MOST_ACCENTS = 0.25  # share of bytes that are not ASCII in a text in Latin letters; guessing is wrong too often below
_GUESSES = ["cp1250", "cp1251", "cp1252", "cp1253", "koi8_r", "shift_jis", "euc_jp", "gb18030", "big5", "euc_kr"]
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\x1b"))


def text_of(content: bytes, *, declared: str = "") -> str | None:
    """The text with `\\n` line ends, or `None` for what is no text; `declared` is the encoding that it names itself."""
    text = _decoded(content, declared)
    return None if text is None else text.replace("\r\n", "\n").replace("\r", "\n")


def _decoded(content: bytes, declared: str) -> str | None:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding, "replace")
    head = content[:SNIFFED]
    if b"\0" in head or len(head.translate(None, _CONTROLS)) < len(head) * (1 - MOST_CONTROLS):
        return None
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        if error.start >= len(content) - 3:  # cut in the middle of a character
            return content.decode("utf-8", "ignore")
    return content.decode(declared if _is_known(declared) else _guessed(head), "replace")


def _is_known(encoding: str) -> bool:
    try:
        return bool(codecs.lookup(encoding)._is_text_encoding)
    except (LookupError, ValueError):
        return False


def _guessed(head: bytes) -> str:
    from charset_normalizer import from_bytes

    if sum(byte > 127 for byte in head) < len(head) * MOST_ACCENTS:
        return "cp1252"
    best = from_bytes(head, cp_isolation=_GUESSES).best()
    return best.encoding if best is not None else "cp1252"
