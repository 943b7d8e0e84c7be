"""Text in plain letters: what looks like "Final Answer" is found as that, however it is spelled."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

_ALIKE = {
    **dict(zip("АВЕЅКМНОРСТХІЈԚԜ", "ABESKMHOPCTXIJQW", strict=True)),  # Cyrillic
    **dict(zip("авеѕкмонрстхіјԛԝѵԁһ", "abeskmonpctxijqwvdh", strict=True)),
    **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧαενοικρτυ", "ABEZHIKMNOPTYXaevoikptu", strict=True)),  # Greek
    **dict(zip("ıɑɩɡɴ", "iaign", strict=True)),
}
_LETTERS = str.maketrans(_ALIKE)


def folded(text: str) -> tuple[str, range | list[int]]:
    """The text in plain letters without what is invisible, and where each of its characters stands in `text`."""
    if text.isascii():
        return text, range(len(text) + 1)
    letters: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        plain = character if character.isascii() else _plain(character)
        letters.append(plain)
        places += [place] * len(plain)
    return "".join(letters), [*places, len(text)]


@lru_cache(maxsize=4096)
def _plain(character: str) -> str:
    """ASCII for a form of it (full-width, bold, accented) and for what looks like it; nothing for what is invisible."""
    decomposed = unicodedata.normalize("NFKD", character)
    seen = "".join(part for part in decomposed if unicodedata.category(part) not in ("Mn", "Cf"))
    return unicodedata.normalize("NFC", seen).translate(_LETTERS)
