"""The pages of a PDF, by pypdf."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from io import BytesIO

MOST_PAGES = 2000
_HYPHEN = re.compile(r"(?<=[^\W\d_])-\n(?=[a-z])")


class UnreadablePdf(Exception):
    """Damaged, encrypted or not understood."""


def pdf_pages(content: bytes) -> Iterator[tuple[int, str]]:
    """(number, text) of each page that has text. Raises `ImportError` without pypdf, and `UnreadablePdf`."""
    from pypdf import PdfReader

    logging.getLogger("pypdf").addHandler(logging.NullHandler())  # or its warnings are printed
    try:
        reader = PdfReader(BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise UnreadablePdf("it needs a password")
        for number, page in enumerate(reader.pages[:MOST_PAGES], 1):
            text = page.extract_text()
            if text.strip():
                yield number, _HYPHEN.sub("", text.encode("utf-8", "replace").decode())
    except UnreadablePdf:
        raise
    except Exception as error:  # pypdf raises what a damaged file makes its code raise: KeyError, RecursionError …
        raise UnreadablePdf(f"it is damaged ({type(error).__name__})") from error
