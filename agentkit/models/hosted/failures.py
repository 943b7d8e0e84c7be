"""What goes wrong between us and a server, in one line each, and whether asking again may help."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from agentkit.errors import in_one_line
from agentkit.http_body import Unreadable
from agentkit.models.openai_format import BrokenReply, NotACompletion, TooMuch
from agentkit.secrets import REDACTED, Secrets, public_address

REFUSED = (400, 404, 413, 422, 500)  # 500: of chat templates that raise
NO_SUCH_PATH = (404, 405, 501)
RETRIED = (408, 409, 429)  # and every 5xx, as openai-python does it
_NOT_TAKEN = re.compile(  # as llama.cpp says with status 500 what others say with 400
    r"\bunsupported (?:param|field|argument|option)|\b(?:param|field|argument|option)\w*\b.{0,30}\brequires?\b"
    r"|\b(?:tools?|tool.call\w*|functions?|param\w*|field)\b.{0,30}(?:\bnot\b|n't).{0,20}\b(?:supported|implemented|allowed)\b"
    r"|(?:\bnot\b|n't) support\b.{0,30}\b(?:tool|function)",
    re.IGNORECASE,
)
_TOO_LARGE = re.compile(r"\brequest too large\b|\bmust be reduced\b|\breduce your message size\b", re.IGNORECASE)
_LOADING = re.compile(r"\bloading\b", re.IGNORECASE)
_ABOUT_A_MODEL = re.compile(r"\b(?:model|deployment)\b", re.IGNORECASE)
_MOST_CHARS = 300


@dataclass(eq=False)
class Failure(Exception):
    """One attempt that failed.

    `retry` says whether asking again may help. `doubtful` says that there may be no chat server at this address at all,
    `elsewhere` that there is none at this `path`. `said` is why the server does not take the request, which it may put
    otherwise, and `code` its own name for that.
    `stale` says that the connection was kept from an earlier request, and ended before anything was answered.
    `loading_s` is set where the server is still loading the model, to 0 where it does not say how long that takes: such
    an attempt does not count.
    """

    message: str
    _: KW_ONLY
    status: int | None = None
    retry: bool = True
    doubtful: bool = False
    elsewhere: bool = False
    path: str = ""
    said: str = ""
    code: str = ""
    stale: bool = False
    retry_after_s: float | None = None
    loading_s: float | None = None

    def redact(self, redacted: Callable[[str], str]) -> None:
        """Take the keys out of its texts, and let go of what it came from, which may hold some."""
        self.message, self.said = redacted(self.message), redacted(self.said)
        self.args = (self.message,)
        self.__cause__, self.__suppress_context__ = None, True


def unreadable(error: NotACompletion | BrokenReply | TooMuch | Unreadable, *, path: str = "") -> Failure:
    """A reply with status 200 that is none, or that breaks off, or does not end.

    With a `path` nothing of a completion has come: it may be the wrong one, where a page answers whatever is asked.
    """
    if isinstance(error, TooMuch):
        return Failure(f"sent {error} in one reply, more than is read; ask for less, or another server", retry=False)
    if isinstance(error, Unreadable):
        return Failure(f"sent a reply {error}; is something between here and the server?", doubtful=True)
    if isinstance(error, BrokenReply):
        said, status = str(error), error.status
        elsewhere = bool(path) and status in NO_SUCH_PATH and not _ABOUT_A_MODEL.search(said)
        message, retry = without_secrets(said), _may_pass(status) and not elsewhere
        return Failure(message, status=status, retry=retry, elsewhere=elsewhere, path=path, said=said)
    seen = without_secrets(str(error))
    message = f"expected a chat completion, saw {seen}; is this an OpenAI-compatible server's address?"
    return Failure(message, doubtful=True, elsewhere=bool(path), path=path)


def refusal(status: int, headers: Mapping[str, str], body: bytes, *, path: str = "", now_s: float) -> Failure:
    """The failure a response with an error status stands for; `now_s` is the time of day (seconds since 1970)."""
    value = _json(body)
    if 300 <= status < 400 and headers.get("location"):
        there = without_secrets(public_address(headers["location"]))
        details = f"it sends on to {there}; if that is meant, give that address"
    else:
        details = without_secrets(_message(value, body)) or "no details"
    number, status = status, _meant(status, details)
    elsewhere = status in NO_SUCH_PATH and not _ABOUT_A_MODEL.search(details)
    if elsewhere and not isinstance(value, dict):
        details += "; is this an OpenAI-compatible server's address?"
    return Failure(
        f"answered HTTP {number}: {details}",
        status=status,
        retry=_may_pass(status) and not elsewhere,
        elsewhere=elsewhere,
        path=path,
        said=details if status in REFUSED else "",
        code=_code(value),
        retry_after_s=_retry_after_s(headers, now_s),
        loading_s=_loading_s(value, details) if status == 503 else None,
    )


def _meant(status: int, details: str) -> int:
    """The status that others have for what a server says."""
    if status == 500 and _NOT_TAKEN.search(details):
        return 400
    return 413 if status == 429 and _TOO_LARGE.search(details) else status


def lookup_failure(error: Exception, token: str) -> Failure:
    """The Hub did not say where a provider has the model."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    details = without_secrets(one_line(error), token)
    return Failure(
        f"could not be looked up on the Hub ({details})", status=status, retry=_may_pass(status), doubtful=True
    )


def _may_pass(status: int | None) -> bool:
    return status is None or status in RETRIED or status >= 500


def without_secrets(text: str, *secrets: str | None, most: int = _MOST_CHARS) -> str:
    """The text in one line, without tokens: those named, and whatever looks like one."""
    for secret in secrets:
        if secret and len(secret) > 3:
            text = text.replace(secret, REDACTED)
    return Secrets({}).scrub_text(in_one_line(text))[:most]


def one_line(error: BaseException) -> str:
    """An exception in one line."""
    text = without_secrets(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _code(value: Any) -> str:
    """The server's own name for an error, wherever it put it."""
    value = value[0] if isinstance(value, list) and value else value
    error = value.get("error", value) if isinstance(value, dict) else None
    names = (error.get(key) for key in ("code", "type")) if isinstance(error, dict) else ()
    return next((name for name in names if isinstance(name, str) and not name.isdigit()), "")


def _message(value: Any, body: bytes) -> str:
    """The message in an error's body, wherever the server put it."""
    while isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict)):
        if isinstance(value, list):  # Google's
            value = value[0]
            continue
        value = next((value[key] for key in ("error", "message", "detail", "error_message") if value.get(key)), "")
    if value is not None:
        return value if isinstance(value, str) else _dumped(value)
    text = body.decode("utf-8", "replace").strip()
    return "an HTML page" if text[:1] == "<" else text


def _dumped(value: Any) -> str:
    try:
        return json.dumps(value)
    except RecursionError:
        return "deeply nested JSON"


def _retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Seconds that the server asks to wait: as a number, or as a date (RFC 9110, 10.2.3)."""
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            return _seconds(float(milliseconds) / 1000)
        if (given := headers.get("retry-after")) is None:
            return None
        return _seconds(float(given))
    except ValueError:
        pass  # a date
    try:
        return _seconds(parsedate_to_datetime(headers["retry-after"]).timestamp() - now_s)
    except (KeyError, ValueError, TypeError, OverflowError):
        return None


def _seconds(given: float) -> float | None:
    return max(0.0, given) if math.isfinite(given) else None


def _loading_s(value: Any, details: str) -> float | None:
    estimated = value.get("estimated_time") if isinstance(value, dict) else None
    if isinstance(estimated, int | float) and 0 <= estimated < 1e9:
        return max(1.0, float(estimated))
    return 0.0 if _LOADING.search(details) else None
