"""Keeps keys out of cassettes: the values of variables that look like keys, and text that looks like a token.

A cassette is scrubbed before it is written and refused if a secret is left. Replay scrubs what the run asks for in the
same way, so that a run with another key, or none, matches.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

REDACTED = "<REDACTED>"
SHORTEST = 8  # shorter values of variables are too likely to stand in a text by chance

_VARIABLE = re.compile(
    r"(?:^|_)(?:API|ACCESS)?(?:KEY|TOKEN|PAT|SECRET|PASSWORD|PASSWD|CREDENTIAL)S?(?:_|$)", re.IGNORECASE
)
_FIELD = re.compile(
    r"(?:.*[_-])?(?:api_?key|(?:access|auth|refresh)_?token|client_?secret|secret_?key|password|authorization)\Z",
    re.IGNORECASE,
)
_TOKEN = re.compile(
    r"\bhf_[A-Za-z0-9]{16,}"
    r"|\bsk-(?=[\w-]*\d)[\w-]{16,}"
    r"|\bgh[oprsu]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}"
    r"|\bAKIA[0-9A-Z]{16}\b|\bAIza[\w-]{35}|\bxox[abeoprs]-[\w-]{10,}"
    r"|\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
)
_LABELLED = re.compile(
    r"(?P<label>\b(?:Bearer|Basic)\s+)(?=[^\s\"']*\d)[\w.~+/=-]{12,}"
    r"|(?P<parameter>(?:(?:(?<![A-Za-z0-9])(?:api_?key|(?:access|auth)_token|client_secret|password))|[?&](?:key|token|sig))"
    r"(?:=|%3D|\\*\"\s*:\s*\\*\"))[^\s&\"'<\\][^\s&\"'\\]*",
    re.IGNORECASE,
)


class Secrets:
    """The secrets of one environment. `used` are the variables whose value was found and scrubbed."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.used: set[str] = set()
        self._environment = environment
        self._values = self._read()
        self._variable: dict[str, str] = {}
        for name, value in self._values.items():
            self._variable |= dict.fromkeys(_forms(value), name)
        longest_first = sorted(self._variable, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def _read(self) -> dict[str, str]:
        found = {name: value.strip() for name, value in self._environment.items() if _VARIABLE.search(name)}
        return {name: value for name, value in found.items() if len(value) >= SHORTEST and value != REDACTED}

    def environment_changed(self) -> bool:
        """Whether the environment holds other keys than when this was made."""
        return self._read() != self._values

    def scrub(self, value: Any) -> Any:
        """`value` (text, bytes, numbers, lists, mappings) without secrets."""
        if isinstance(value, str):
            return self.scrub_text(value)
        if isinstance(value, bytes):
            return self.scrub_text(value.decode("latin-1")).encode("latin-1", "replace")
        if isinstance(value, Mapping):
            return {self.scrub(key): self._scrub_field(key, item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.scrub(item) for item in value]
        return value

    def scrub_text(self, text: str) -> str:
        """`text` without secrets."""
        if self._known is not None:
            text = self._known.sub(self._redact, text)
        return _LABELLED.sub(_keep_label, _TOKEN.sub(REDACTED, text))

    def find(self, text: str) -> str | None:
        """What kind of secret stands in `text`, if there is one."""
        if self._known is not None and (known := self._known.search(text)):
            return f"the value of {self._variable[known[0]]}"
        if _TOKEN.search(text) or _LABELLED.search(text):
            return "what looks like a token"
        return None

    def _redact(self, match: re.Match[str]) -> str:
        self.used.add(self._variable[match[0]])
        return REDACTED

    def _scrub_field(self, key: Any, value: Any) -> Any:
        scrubbed = self.scrub(value)
        return REDACTED if value and isinstance(value, str) and isinstance(key, str) and _FIELD.match(key) else scrubbed


def _keep_label(match: re.Match[str]) -> str:
    return (match["label"] or match["parameter"]) + REDACTED


def _forms(value: str) -> Iterator[str]:
    """The value as it is, as it stands in JSON, in a URL, and in base64 at any place of a longer text."""
    yield value
    yield json.dumps(value)[1:-1]
    for encoded in (quote(value, safe=""), quote_plus(value)):
        yield encoded
        yield re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), encoded)
    raw = value.encode("utf-8", "surrogateescape")
    for shift in range(3):
        first = -(-shift * 8 // 6)  # the first character that depends on the value alone
        last = (shift + len(raw)) * 8 // 6
        text = base64.b64encode(b"\0" * shift + raw).decode()[first:last]
        if len(text) >= SHORTEST:
            yield text
            yield text.translate(str.maketrans("+/", "-_"))


def public_address(text: str, *, query: bool = False) -> str:
    """An address, or a spec that is one, without user and password, and without its query unless that is scrubbed too.

    Any other text is given back as it is.
    """
    scheme, separator, _ = text.partition("://")
    if not separator or not scheme.isalpha():
        return text
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018
    except ValueError:  # a password that has / or # in it is cut in two
        return f"{scheme}://{text.rpartition('@')[2]}"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query=parts.query if query else "").geturl()
