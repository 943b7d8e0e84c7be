"""Keeps keys out of what is recorded, shown and sent: what is secret, and how it is found in a text.

A key is known by the variable it stands in, in whatever encoding a text has it, or by its own shape, or by the place it
stands at: the password of an address, a parameter `api_key=`. One that a model was given is known as long as the model
is there (`KeysInUse`). A value that anyone might write is none, whatever its
variable is called: with `POSTGRES_PASSWORD=postgres` a text about postgres stays as it is.

A cassette is scrubbed before it is written and refused if a secret is left. Replay scrubs what the run asks for in the
same way, so that a run with another key, or none, matches.
"""

from __future__ import annotations

import base64
import binascii
import copy
import logging
import re
import threading
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial
from itertools import accumulate, pairwise, zip_longest
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit
from weakref import ref

REDACTED = "<REDACTED>"
SHORTEST = 8  # shorter values of variables are too likely to stand in a text by chance

# -- which names say that a value is secret ----------------------------------------------------------------------------

_WORDS = re.compile(r"[A-Za-z]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SECRET_WORD = re.compile(
    r"(?:\w*(?:PASSWORD|PASSWD|PASSPHRASE|PASSCODE|SECRET|CREDENTIAL|TOKEN|PWD)|\w*(?<!COM)(?<!BY)PASS|\w{0,8}AUTH"
    r"|(?:API|ACCESS|SECRET|PRIVATE|SIGNING|ENCRYPTION|MASTER)?KEY|PAT|PW|PSK|CREDS?|JWT|BEARER|COOKIE|SALT|PEPPER)S?\Z"
)
_ABOUT_ONE = frozenset(  # last words of names of what is said about a secret
    "NAME NAMES FILE FILES FILENAME PATH PATHS DIR DIRECTORY FOLDER ID IDS URL URI HOST PORT ENDPOINT DOMAIN SOCK "
    "SOCKET TYPE KIND HEADER PREFIX SUFFIX VERSION LENGTH SIZE COUNT LIMIT MAX MIN TTL EXPIRY EXPIRES AGE POLICY "
    "ALGORITHM ALG METHOD MODE PROVIDER REGION USER USERNAME EMAIL PARALLELISM ENABLED DISABLED REQUIRED CHECKING "
    "FORMAT FIELD LABEL PROMPT SCOPE SCOPES ISSUER AUDIENCE COMMAND HELPER LOCATION STORE BACKEND ADDRESS RATE".split()
)
_NO_SECRET = frozenset(  # what comes before KEY and TOKEN where these are none
    "SORT PRIMARY PARTITION FOREIGN CACHE PUBLIC PUBLISHABLE HOT INDEX GROUP GPG PGP ROUTING UNIQUE RANGE HASH SHARD "
    "ROW MAP OBJECT BUCKET ORDER ISSUE PROJECT LOOKUP FEATURE IDEMPOTENCY TRANSLATION SHORTCUT MAX MIN NEW BOS EOS "
    "PAD UNK MASK STOP SEP CLS NUM PROMPT INPUT OUTPUT COMPLETION TOTAL NEXT PREVIOUS PAGE CONTINUATION SYNC".split()
)
_FIELD = re.compile(  # names of parameters and fields whose value is secret, whatever it is
    r"(?:.*_)?(?:api_?key|(?:access|auth|refresh|id|session|security|bearer|api|bot)_?token|(?:client|app)_?secret"
    r"|(?:secret|access|private|signing|encryption|master|account|subscription)_?key|passw(?:or)?d|passphrase|pwd"
    r"|authorization)\Z"
)
_IN_ADDRESSES = re.compile(r"(?:.*_)?(?:key|token|sig|signature|secret|auth|pass|code)\Z")


@lru_cache(maxsize=1000)
def is_secret_name(name: str) -> bool:
    """Whether a variable of this name holds a secret, as far as its name goes."""
    words = _WORDS.findall(_HUMP.sub("_", name).upper())
    if not words or words[-1] in _ABOUT_ONE:
        return False
    return any(
        _SECRET_WORD.match(word) and not (before in _NO_SECRET and word.rstrip("S") in ("KEY", "TOKEN"))
        for before, word in zip(["", *words], words, strict=False)
    )


def _snake(name: str) -> str:
    return re.sub(r"[\s.-]+", "_", _HUMP.sub("_", name)).lower()


# -- which values are -------------------------------------------------------------------------------------------------

Strength = Literal["ordinary", "phrase", "generated"]
_RUNS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+|[^\x00-\x7f]+")
_TRIVIAL_DIGITS = re.compile(
    r"(?:0+|1|12|123|1234|12345|123456|1234567|12345678|123456789|1234567890|[0-9]|(?:19|20)\d\d)\Z"
)
_ANYONES_WORDS = frozenset(
    "a abc admin administrator airflow an anonymous any api app application auth bar basic baz be bearer change "
    "changeit changeme ci database db debug default demo dev development disabled dummy elastic elasticsearch empty "
    "enabled enter example fake false foo for grafana guest hello here hf hidden insert is it key keycloak keys "
    "letmein local localhost mariadb masked me minio minioadmin mock mongo mongodb my mysql need needed neo no none "
    "not null off on only oracle pass passwd password placeholder plain postgres postgresql private prod production "
    "provided public put pwd qwerty rabbitmq redacted redis replace required root sa sample secret secrets server "
    "service set sk some sqlite staging super supersecret test testing the this to todo token true unset unused use "
    "used user username value welcome with world xxx yes you your".split()
)
_ANYONES_VALUE = re.compile(  # a template; a path; an address without a password; a host; a file
    r"<.*>|\[[\w .-]*\]|\{+[\w .-]*\}+|%\(?\w+\)?[s%]|\$[A-Z_]+|\$\{.*\}|\$\(.*\)|.*(?:\.\.\.|…).*"
    r"|(?:~|\.{0,2}|[A-Za-z]:)?[/\\][A-Za-z][a-z]+(?:[/\\._-].*)?|[a-z][\w+.:-]*://[^@]*|[\w.+-]+@[\w.-]+\.[a-z]{2,}"
    r"|(?:[a-z0-9-]+\.)+[a-z]{2,}(?::\d+)?|[a-z][\w.-]*:\d{2,5}|(?:[\w-]+/)+[\w-]+\.[a-z]{1,5}",
    re.DOTALL,
)
_NUMBER = re.compile(r"v?(?=(?:\D{0,9}\d){0,15}\D{0,9}\Z)[\d.,:/_ +-]+[A-Za-z]{0,2}\Z")  # a date, a version, an amount
_DECIMAL = re.compile(r"[+-]?\d{0,12}\.\d{1,20}(?:[eE][+-]?\d{1,3})?\Z")  # as programs write measurements
_FOLLOWS = {  # the letters that often follow a letter within English words
    group[0]: group[1:]
    for group in (
        "abcdgiklmnprstuvy babeilmorsuy cacehiklortu dadeilmosu eacdefglmnpqrstvwx faefilortu gabehinrsu haeiotu "
        "iabcdefglmnoprstvxz keilns ladeilostuy mabeimopqu nacdefginostuv obcdgklmnoprstuvw paeiloprstu qu "
        "racdegiklmnorstuy sacehilopstuy tacdehilorstuy uabcegilmnprst vaei waehilo xipt ypst ze"
    ).split()
}
_WORDLIKE = 0.65  # share of such pairs in words; three in four random letters have fewer
_LONGEST_WORD = 20
_LONG_PHRASE = 15


def _strength(value: str, shortest: int = SHORTEST) -> Strength:
    """`ordinary` is what may stand in any text, `phrase` is made of words, `generated` is made of neither."""
    if len(value) < shortest or REDACTED in value or is_placeholder(value):
        return "ordinary"
    if _NUMBER.match(value) or _DECIMAL.match(value):
        return "ordinary"
    runs = _RUNS.findall(value)
    letters = [run.lower() for run in runs if not run[0].isdigit()]
    pairs = [(first, second) for run in letters for first, second in pairwise(run)]
    common = sum(second in _FOLLOWS.get(first, second) for first, second in pairs)
    if len("".join(letters)) < 2.5 * len(letters) or common < _WORDLIKE * len(pairs) or not letters:
        return "generated"
    return "phrase" if len(runs) > 1 or len(value) > _LONGEST_WORD else "ordinary"


def is_placeholder(value: str) -> bool:
    """Whether anyone might write this in the place of a secret: `changeme`, `your-api-key`, `${TOKEN}`, a path."""
    if len(value) > 2 and len(set(value)) <= 2:
        return True
    if len(value) <= 200 and _ANYONES_VALUE.fullmatch(value):
        return True
    return all(run.lower() in _ANYONES_WORDS or _TRIVIAL_DIGITS.match(run) for run in _RUNS.findall(value[:200]))


def _is_secret_value(value: str, *, phrases: bool = True, shortest: int = SHORTEST) -> bool:
    """`phrases`: one of words alone is secret too, if it is long."""
    strength = _strength(value, shortest)
    has_digit = any(character.isdigit() for character in value)
    return strength == "generated" or (strength == "phrase" and (has_digit or (phrases and len(value) >= _LONG_PHRASE)))


# -- what is secret by its shape, or by its place ----------------------------------------------------------------------

# Beginnings as the rules of detect-secrets and gitleaks have them, and those of model providers, which these lack.
_SHAPES = {
    "hf_ gsk_ r8_ xai- pplx- fw_ dop_v1_ npm_ api_org_ tvly- lin_api_ ntn_ dapi sbp_ glsa_": "[A-Za-z0-9]{16,}",
    "jina_ rpa_ rubygems_ tfp_ glc_ ops_ sntrys_ figd_ cal_live_ secret_ vercel_ ddp_": r"[A-Za-z0-9]{20,}[\w+/=-]*",
    "sk- sk_": r"(?:[a-z]{1,12}[-_]){0,3}(?=[A-Za-z_-]{0,40}\d)[\w-]{0,40}?[A-Za-z0-9]{12,}[\w-]*",
    "rk_live_ rk_test_ whsec_": "[A-Za-z0-9]{16,}",
    "ghp_ gho_ ghr_ ghs_ ghu_ github_pat_": r"\w{20,}",
    "glpat- gldt- glft- glsoat- glrt- glcbt- glptt- glimt- glagent- gloas-": r"[\w-]{16,}",
    "AKIA ASIA ABIA ACCA": r"[0-9A-Z]{16}\b",
    "AIza": r"[\w-]{35}",
    "ya29. GOCSPX- xapp- hvs. dckr_pat_ sq0atp- sq0csp- sq0idp-": r"[\w-]{20,}",
    "xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs-": r"[\w-]{10,}",
    "hooks.slack.com/services/": r"[\w/-]{20,}",
    "discord.com/api/webhooks/ discordapp.com/api/webhooks/": r"\d{15,}/[\w-]{30,}",
    "eyJ": r"(?<![\w-]eyJ)[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}",
    "SG.": r"[\w-]{16,}\.[\w-]{16,}",
    "pypi- nvapi- ATATT3x EAACEdEose0cBA CFPAT- PMAK- dp.pt. tskey-auth-": r"[\w=-]{30,}",
    "ATBB NRAK- EZAK pul-": "(?=[A-Za-z]{0,30}[0-9])[A-Za-z0-9]{24,}",
    "shpat_ shpss_ shpca_ shppa_ lsv2_pt_ lsv2_sk_": r"[0-9a-f]{32}\w*",
    "AGE-SECRET-KEY-1": "[0-9A-Z]{50,}",
    "1//0 eyJrIjoi sk.eyJ": r"[\w.-]{40,}",
    "pat": r"[A-Za-z0-9]{14}\.[0-9a-f]{64}",
}


def _beginning(one: str) -> str:
    """No letter before it. It comes first in its pattern, for that is looked for faster."""
    return rf"{re.escape(one)}(?<!\w{re.escape(one)})"


_BY_BEGINNING = [
    (beginnings.split(), re.compile(rf"(?:{'|'.join(map(_beginning, beginnings.split()))}){rest}", re.ASCII))
    for beginnings, rest in _SHAPES.items()
]
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?:(?!-----)[\s\S]){0,20000}-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"|(?:(?:\s|\\+[nr])*[A-Za-z0-9+/=]{16,})+(?:(?:\s|\\+[nr])*[A-Za-z0-9+/=]{1,64})?)"
)
_BY_BEGINNING += [(["PRIVATE KEY"], _PRIVATE_KEY), ([":AA"], re.compile(r"(?<!\d)\d{8,10}:AA[\w-]{32,}"))]
# These are looked for in the text in lower case, which is faster than to ignore the case.
_HEADER = re.compile(r"\b(?:bearer|(?P<basic>basic))\s+(?P<secret>[\w.~+/=-]{12,})")
_ADDRESS = re.compile(
    r"://[^\s/?#@:\"'<>\\]{0,200}:(?P<secret>[^\s/?#\"'<>\\]{1,300})@|://(?P<user>[^\s/?#@:\"'<>\\]{20,200})@"
    r"|:\\/\\/[^\s/?#@:\"'<>\\]{0,200}:(?P<escaped>[^\s/?#\"'<>\\]{1,300})@"
    r"|%3a%2f%2f[^\s/?#@:\"'<>\\%]{0,200}%3a(?P<encoded>[^\s/?#@:\"'<>\\&]{1,300}?)%40"
)
_COOKIE = re.compile(r"\bcookie[\"']?[ \t]{0,3}[:=][ \t]{0,3}[\"']?(?=[^\s=;]{1,100}=)[^\n\"']{1,8000}")
_CRUMB = re.compile(r"=(?P<secret>[^\s;,\"'=]+)")
_COMMAND = re.compile(  # what a program is told on its command line, or reads in .netrc
    r"(?:\bcurl\b[^\n]{0,300}?[ \t](?:-u|--user|--proxy-user)[ \t=]{0,3}[\"']?[^\s:\"']{1,80}:"
    r"|\b(?:mysql|mariadb)\w{0,20}[ \t][^\n]{0,200}?(?<=[ \t])-p|\bsshpass[ \t]+-p[ \t]?"
    r"|\blogin[ \t][^\n]{0,200}?[ \t]-p[ \t]+|\bredis-cli[ \t][^\n]{0,200}?(?<=[ \t])-a[ \t]+"
    r"|\blogin\s+\S{1,100}\s+password\s+)[\"']?(?P<secret>[^\s\"']+)"
)
_PARAMETER = re.compile(r"(?:[?&;]|%3f|%26)(?P<name>[\w.-]{2,60})(?:=|%3d)(?P<secret>(?:(?!%26)[^\s&#\"'<>\\;])+)")
_ASSIGNED_WORDS = ("key", "token", "secret", "pass", "pwd", "credential", "auth")
_ASSIGNED = re.compile(
    rf"(?:{'|'.join(_ASSIGNED_WORDS)})[\w.-]{{0,30}}?(?:[ \t](?:provided|given|used))?"
    r"(?P<mark>\\*[\"']?[ \t]{0,3}(?:=>|:=|=|:|%3d)[ \t]{0,3}|>|[ \t](?:is|was)[ \t]|(?<=[a-z])[ \t]+(?=\S))"
    r"(?P<quote>\\*[\"'`])?(?:(?:bearer|basic|token|digest|(?:api|genie)?-?key|oauth|dpop|negotiate|splunk)[ \t]+)?"
    r"(?P<secret>(?(quote)[^\"'`<>\\\n]{1,2000}|(?![*&|\[{])[^\s\"'`<>\\,;&)\]}]{1,2000}))"
)
_UNQUOTED = re.compile(r"[^\s\"'`<>\\,;&)\]}]{0,2000}")
_NAME_BEFORE = re.compile(r"(?:(?i:\b(?:api|access|secret|private|signing)) )?[\w.-]{0,60}\Z")
_MEMBER = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+[(\[]?|[A-Za-z_]\w*[(\[].*")


def _by_shape(text: str) -> Iterator[tuple[int, int]]:
    """Where a secret stands in the text that no variable holds."""
    for beginnings, pattern in _BY_BEGINNING:
        for match in _matches(pattern, text, beginnings):
            yield match.span()
    lower = _lower(text)
    for match in _matches(_HEADER, lower, ("bearer", "basic")):
        start, end = match.span("secret")
        if (match["basic"] and _is_pair(text[start:end])) or _is_secret_value(text[start:end], phrases=False):
            yield start, end
    for match in _matches(_COMMAND, lower, ("curl", "mysql", "mariadb", "sshpass", "login", "redis-cli")):
        start, end = match.span("secret")
        if _is_secret_value(text[start:end], phrases=False, shortest=6):
            yield start, end
    for header in _matches(_COOKIE, lower, ("cookie",)):
        for match in _CRUMB.finditer(text, *header.span()):
            if _is_secret_value(match["secret"], phrases=False):
                yield match.span("secret")
    for match in _matches(_ADDRESS, lower, ("@", "%40")):
        start, end = match.span(match.lastgroup or 0)
        if not is_placeholder(text[start:end]) and (match["user"] is None or _strength(text[start:end]) == "generated"):
            yield start, end


def _by_place(text: str) -> Iterator[tuple[int, int]]:
    """Where one stands under a name that says so: `?api_key=…`, `"api_key": "…"`, `DB_PASS=…`, `--password …`."""
    lower = _lower(text)
    for match in _matches(_PARAMETER, lower, ("=", "%3d")):
        start, end = match.span("secret")
        if _is_secret_under(text[slice(*match.span("name"))], text[start:end], "address"):
            yield start, end
    for match in _matches(_ASSIGNED, lower, _ASSIGNED_WORDS):
        before = _NAME_BEFORE.search(text, max(0, match.start() - 60), match.start())
        name = text[match.start() if before is None else before.start() : match.start("mark")]
        start, end = match.span("secret")
        if match["mark"].isspace() and not name.startswith("--"):
            continue
        if _is_secret_under(name.strip("-."), text[start:end], "quoted" if match["quote"] else "bare"):
            yield start, end


def _matches(pattern: re.Pattern[str], text: str, needs: Sequence[str]) -> Iterable[re.Match[str]]:
    """Where the pattern stands in the text. One of `needs` is in all that it matches: to look for these is faster."""
    for one in needs:
        if one in text:
            return pattern.finditer(text)
    return ()


def _lower(text: str) -> str:
    """The text in lower case, each character where it was."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(one.lower()[:1] for one in text)


def _is_pair(value: str) -> bool:
    """Whether this is `user:password` in base64."""
    try:
        decoded = base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False
    return re.fullmatch(rb"[!-9;-~]*:[ -~]*", decoded) is not None


def _is_secret_under(name: str, value: str, place: Literal["address", "quoted", "bare"]) -> bool:
    """Whether the value that stands under this name is secret; a field's is, but for a placeholder or a sentence."""
    field = _snake(name)
    is_field = _FIELD.match(field) is not None
    if is_field and place != "bare":
        if " " in value.strip():
            return _strength(value) == "generated"
        return bool(value) and REDACTED not in value and not is_placeholder(value)
    if place == "address":
        return _IN_ADDRESSES.match(field) is not None and _is_secret_value(value, shortest=6)
    if not is_field and not is_secret_name(name):
        return False
    if not is_field and not name.isupper():  # a word of prose or of a program, as `token: …` and `key = …`
        is_key = field.rpartition("_")[2] in ("key", "keys")
        return not is_key and any(map(str.isdigit, value)) and _strength(value) == "generated"
    return (place == "quoted" or not _MEMBER.fullmatch(value)) and _is_secret_value(value, phrases=False, shortest=6)


# -- what variables hold, in any encoding ------------------------------------------------------------------------------

_ESCAPE = re.compile(  # and what shows nothing: sequences that colour a text, characters without width
    r"%[0-9a-fA-F]{2}|\\(?:u[0-9a-fA-F]{4}|u\{[0-9a-fA-F]{2,5}\}|U000[0-9a-fA-F]{5}|x[0-9a-fA-F]{2}|[0-3][0-7]{2}"
    r"|[nrt\"'/\\])|&(?:amp|lt|gt|quot|apos|#\d{2,6}|#[xX][0-9a-fA-F]{2,5});"
    r"|(?:\x1b\[|\x9b)[0-?]{0,40}[ -/]{0,4}[@-~]|\x1b\][^\x07\x1b]{0,400}(?:\x07|\x1b\\)|\x1b[@-Z^-~]"
    "|[\uff01-\uff5e\u2460-\u24ff\U0001d400-\U0001d7ff]"
    "|[\0\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\U000e0000-\U000e01ef]"
)
_ESCAPED = {"\\n": "\n", "\\r": "\r", "\\t": "\t", "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"'}
_LONG = "[A-Za-z0-9+/_-]{16,}"
_PACKED = re.compile(  # hexadecimal digits, base32 or base64, perhaps in lines
    rf"{_LONG}(?:\r?\n[ \t]{{0,20}}{_LONG})*(?:\r?\n[ \t]{{0,20}}[A-Za-z0-9+/_-]{{1,15}}(?![^\s=]))?={{0,6}}"
)
_TRIED = 64  # characters that tell whether a run is a text
_OF_TEXT = bytes(range(32, 127)) + b"\0\t\n\r"
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_HEXADECIMAL = b"0123456789abcdefABCDEF"
_FIRST_OF_TEXT = b"ACDIJKLMNOPQRSTUVWXYZabcdef"  # of four letters of base64
_GAP = re.compile("[^A-Za-z0-9]+")  # whatever a long text is broken with
_NO_GAP = bytes(range(256)).lower()
_IN_GAPS = bytes(code for code in range(256) if not chr(code).isascii() or not chr(code).isalnum())
_FEWEST_LAYERS, _MOST_LAYERS = 3, 12  # of encodings within each other: JSON in JSON in an address
_MOST_CHARACTERS = 2_000_000  # that are looked at for more than the fewest
_SHORTEST_BROKEN = 12
_PHRASES = re.compile(r"PASS|PW|SECRET|TOKEN|API|ACCESS|PRIVATE|MASTER|CRED|AUTH|SIGN|ENC", re.IGNORECASE)


def _unescaped(match: re.Match[str]) -> str:
    return _character(match[0])


@lru_cache(maxsize=10_000)
def _character(token: str) -> str:
    """What an escape stands for; nothing for what shows nothing."""
    if token[0] not in "%\\&":
        visible = "\uff01" <= token <= "\uff5e" or "\u2460" <= token <= "\u24ff" or "\U0001d400" <= token < "\U0001d800"
        return unicodedata.normalize("NFKC", token) if visible else ""
    if token[:3] == "\\u{":
        return chr(int(token[3:-1], 16))
    if token[0] == "%" or token[:2] in ("\\u", "\\U", "\\x"):
        return chr(int(token[1 if token[0] == "%" else 2 :], 16))
    if token[:2] == "&#":
        return chr(int(f"0{token[2:-1]}", 16 if token[2] in "xX" else 10))
    if token[1].isdigit():
        return chr(int(token[1:], 8))
    return _ESCAPED.get(token, token[1] if token[0] == "\\" else "'")


def _unpacked(packed: str) -> str:
    """What a run stands for, where that is a text; else the run."""
    run = packed.encode().translate(_URL_SAFE, b" \t\r\n=")
    for read in _readings(run[:_TRIED], has_slash="/" in packed):
        raw = read(run[:_TRIED])
        if _is_text(raw) and (len(run) <= _TRIED or _is_text(raw := read(run))):
            return raw.decode("utf-8", "replace")
    return packed


def _readings(run: bytes, *, has_slash: bool) -> Iterator[Callable[[bytes], bytes]]:
    """How a run may be read. In base64 every fourth letter of a text is one of few, as the first six bits of a byte."""
    if not run.translate(None, _HEXADECIMAL):
        yield _of_hexadecimal
    if run.isupper():
        yield _of_base32
    for offset in range(4 if has_slash else 1):  # it may begin with a piece of a path
        if len(run[offset::4].translate(None, _FIRST_OF_TEXT)) * 32 <= len(run) * 3:
            yield partial(_of_base64, offset=offset)


def _of_hexadecimal(run: bytes) -> bytes:
    try:
        return binascii.unhexlify(run)
    except binascii.Error:
        return b""


def _of_base32(run: bytes) -> bytes:
    try:
        return base64.b32decode(run + b"=" * (-len(run) % 8))
    except binascii.Error:
        return b""


def _of_base64(run: bytes, offset: int) -> bytes:
    """Its text from there on."""
    end = len(run) - ((len(run) - offset) % 4 == 1)
    return binascii.a2b_base64(run[offset:end] + b"==")


def _is_text(raw: bytes) -> bool:
    return len(raw) >= SHORTEST and len(raw.translate(None, _OF_TEXT)) * 8 <= len(raw)


_Meaning = Callable[[re.Match[str]], str]


class _View:
    """A text, perhaps made of another by replacing what matches; knows where its characters stand in the first."""

    def __init__(
        self, text: str, base: _View | None = None, changed: tuple[re.Pattern[str], _Meaning] | None = None
    ) -> None:
        self.text = text
        self._base = base
        self._changed = changed

    def closed(self) -> _View:
        """Its letters and digits alone, in lower case: whatever else breaks a text into lines, groups or a list."""
        return _View(_letters_and_digits(self.text), self, (_GAP, lambda match: ""))

    def decoded(self, unpacked: _Meaning) -> _View:
        """With its escapes resolved; where there is none, with what is packed in it. Itself where nothing is."""
        may_escape = not self.text.isascii() or any(sign in self.text for sign in "%\\&\x1b\0")
        for pattern, meaning in ((_ESCAPE, _unescaped), (_PACKED, unpacked))[not may_escape :]:
            if (text := pattern.sub(meaning, self.text)) != self.text:
                return _View(text, self, (pattern, meaning))
        return self

    @cached_property
    def _places(self) -> tuple[Sequence[int], Sequence[int]]:
        """Where each character begins and ends."""
        if self._base is None or self._changed is None:
            return range(len(self.text)), range(1, len(self.text) + 1)
        pattern, meaning = self._changed
        begin: list[int] = []
        end: list[int] = []
        place = 0
        for match in pattern.finditer(self._base.text):
            begin.extend(range(place, match.start()))
            end.extend(range(place + 1, match.start() + 1))
            place = match.end()
            length = len(meaning(match))
            begin.extend([match.start()] * length)
            end.extend([place] * length)
        begin.extend(range(place, len(self._base.text)))
        end.extend(range(place + 1, len(self._base.text) + 1))
        begins, ends = self._base._places
        return [begins[one] for one in begin], [ends[one - 1] for one in end]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where a stretch of this text stands in the first."""
        begins, ends = self._places
        return begins[start], ends[end - 1]

    def spans(self, form: str) -> Iterator[tuple[int, int]]:
        """Where this stands, in the first text."""
        start = self.text.find(form) if form else -1
        while start >= 0:
            yield self.span(start, start + len(form))
            start = self.text.find(form, start + len(form))


def _layers(text: str) -> Iterator[_View]:
    """The text, and it with one encoding after another taken off, until nothing changes."""
    view, room = _View(text), _MOST_CHARACTERS
    meanings = cache(_unpacked)  # most runs of a text are in its next layer, too

    def unpacked(match: re.Match[str]) -> str:
        return meanings(match[0])

    for layer in range(_MOST_LAYERS):
        yield view
        room -= len(view.text)
        deeper = view.decoded(unpacked) if layer < _FEWEST_LAYERS or room > 0 else view
        if deeper is view:
            return
        view = deeper


@dataclass(frozen=True, slots=True)
class _Needle:
    """A form of a variable's value; `broken` are its letters and digits alone, "" where they are too few."""

    variable: str
    text: str
    broken: str = ""


def _needles(variable: str, value: str) -> Iterator[_Needle]:
    """The value as it is, backwards, in hexadecimal digits, in base32, in base64 and base85 at any place of a text."""
    for text in (value, value[::-1]):
        yield _Needle(variable, text, _closed(text) if _strength(value) == "generated" else "")
    raw = value.encode("utf-8", "surrogateescape")
    for other in {raw.decode("latin-1"), value.replace(" ", "+")} - {value}:
        yield _Needle(variable, other)
    for digits in (raw.hex(), "0x" + "0x".join(map("{:02x}".format, raw)), base64.b32encode(raw).decode()):
        yield _Needle(variable, "", _closed(digits))
    if len(raw) >= _SHORTEST_BROKEN:
        yield _Needle(variable, "", _closed("".join(map(str, raw))))  # a list of its bytes
    for shift in range(3):
        first = -(-shift * 8 // 6)  # the first character that depends on the value alone
        last = (shift + len(raw)) * 8 // 6
        text = base64.b64encode(b"\0" * shift + raw).decode()[first:last]
        for form in {text, text.translate(str.maketrans("+/", "-_"))} if len(text) >= SHORTEST else ():
            yield _Needle(variable, form, _closed(form))
    for start in range(4):
        group = raw[start : len(raw) - (len(raw) - start) % 4]
        for encode in (base64.b85encode, base64.a85encode) if len(group) >= SHORTEST else ():
            yield _Needle(variable, encode(group).decode())


def _closed(text: str) -> str:
    closed = _letters_and_digits(text)
    return closed if len(closed) >= _SHORTEST_BROKEN else ""


def _letters_and_digits(text: str) -> str:
    return text.encode("ascii", "ignore").translate(_NO_GAP, _IN_GAPS).decode()


def _secrets_in(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What is secret in variables, each with the variable's name: of one of a secret's name the value and its long
    lines, of any the password of an address in it, or a parameter."""
    variables = [(name, value.strip()) for name, value in environment.items()]
    together = "\n\0\n".join(value for _, value in variables)  # all are searched at once: most often there is nothing
    for name, value in variables if any(_by_shape(together)) or any(_by_place(together)) else ():
        for start, end in [*_by_shape(value), *_by_place(value)]:
            if _is_secret_value(value[start:end]):
                yield value[start:end], name
    for name, value in variables:
        if not is_secret_name(name):
            continue
        user, _, password = value.partition(":")
        for form in (value, value.strip("\"'"), password if user.isalnum() and password[:2] != "//" else ""):
            if _is_secret_value(form, phrases=_PHRASES.search(name) is not None):
                yield form, name
        if "\n" in value:
            yield from ((line, name) for line in map(str.strip, value.split("\n")) if _strength(line) == "generated")


# -- what was given in Python, or as an option -------------------------------------------------------------------------


class KeysInUse:
    """Keys that something in this process holds and no variable does: `Secrets` knows them as long as this is there.

    What anyone might write is kept too, for whoever asks for `values`, and found in no text.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        self.values: frozenset[str] = frozenset()
        self.needles: tuple[_Needle, ...] = ()
        self.add(values)
        _IN_USE.hold(self)

    def add(self, values: Iterable[str]) -> None:
        """These are keys, too."""
        if not (new := {value.strip() for value in values} - self.values - {""}):
            return
        needles = tuple(needle for one in new if _is_secret_value(one) for needle in _needles("", one))
        with _IN_USE.lock:
            self.values |= new
            self.needles += needles
            _IN_USE.changes += 1

    def __deepcopy__(self, memo: Any) -> KeysInUse:
        return KeysInUse(self.values)

    def __reduce__(self) -> Any:
        return KeysInUse, (tuple(self.values),)


class OfKeysInUse(logging.Filter):
    """Takes the keys that are in use out of what another library logs, and leaves the rest as it is."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if (clean := without_keys_in_use(text)) != text:
            record.msg, record.args = clean, ()
        return True


class _InUse:
    """The keys of this process; `changes` counts how often some were added.

    They are read without the lock: whatever is collected meanwhile may close a connection, which is logged.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.changes = 0
        self._holders: tuple[ref[KeysInUse], ...] = ()

    def hold(self, keys: KeysInUse) -> None:
        """Know these as long as they are there."""
        with self.lock:
            self._holders = (*(holder for holder in self._holders if holder() is not None), ref(keys))
            self.changes += 1

    def needles(self) -> list[_Needle]:
        """What is looked for."""
        held = [keys for holder in self._holders if (keys := holder()) is not None]
        return list(dict.fromkeys(needle for keys in held for needle in keys.needles))


_IN_USE = _InUse()


def without_keys_in_use(text: str) -> str:
    """`text` without the keys that are in use, whatever else is in it."""
    spans = _merged(span for _, span in _found(_IN_USE.needles(), text))
    return "".join(_without(text, 0, len(text), spans)) if spans else text


# -- the secrets of one environment -----------------------------------------------------------------------------------


class Secrets:
    """The secrets of one environment. `used` are the variables whose value was found and scrubbed."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.used: set[str] = set()
        self._environment = environment
        self._seen = dict(environment)
        self._raw = dict(_raw(environment))
        self._in_use: list[_Needle] = []
        self._changes = 0

    def environment_changed(self) -> bool:
        """Whether the environment holds others than when this was made."""
        return self._raw != _raw(self._environment)

    @cached_property
    def _of_environment(self) -> list[_Needle]:
        return [needle for secret, name in dict(_secrets_in(self._seen)).items() for needle in _needles(name, secret)]

    @property
    def _known(self) -> list[_Needle]:
        """What is looked for. A key that was in use once stays: what is written at the end may be of its time."""
        if self._changes != _IN_USE.changes:
            self._changes = _IN_USE.changes
            self._in_use = list(dict.fromkeys([*self._in_use, *_IN_USE.needles()]))
        return [*self._of_environment, *self._in_use] if self._in_use else self._of_environment

    def scrub(self, value: Any) -> Any:
        """`value` without secrets, of the same type: text, bytes, collections, and objects made of such.

        What holds none is given back as it is.
        """
        if isinstance(value, str):
            return self.scrub_text(value)
        if isinstance(value, bytes):
            text = value.decode("latin-1")
            scrubbed = self.scrub_text(text)
            return value if scrubbed == text else scrubbed.encode("latin-1", "replace")
        if isinstance(value, Mapping):
            items = {self.scrub(key): self._scrub_field(key, item) for key, item in value.items()}
            return (
                value if _are_same(items, value) and _are_same(items.values(), value.values()) else _like(value, items)
            )
        if isinstance(value, list | tuple | set | frozenset):
            found = [self.scrub(item) for item in value]
            return value if _are_same(found, value) else _like(value, found)
        if fields := getattr(value, "__dict__", None) or getattr(value, "__dataclass_fields__", None):
            held = {name: getattr(value, name) for name in fields}
            clean = {name: self._scrub_field(name, item) for name, item in held.items()}
            return value if _are_same(clean.values(), held.values()) else _like(value, clean)
        return value

    def _scrub_field(self, name: Any, value: Any) -> Any:
        """The value without secrets; nothing of it where it would be one in a text, behind its name."""
        if isinstance(name, str) and isinstance(value, str):
            first = _UNQUOTED.match(value)
            beginning = first[0] if first is not None else ""
            if _is_secret_under(name, value, "quoted") or _is_secret_under(name, beginning, "bare"):
                return REDACTED
        return self.scrub(value)

    def scrub_text(self, text: str) -> str:
        """`text` without secrets."""
        return self.scrub_pieces([text])[0]

    def scrub_pieces(self, pieces: Sequence[str]) -> list[str]:
        """A text that came in pieces, without the secrets in the whole of it; as many pieces."""
        text = "".join(pieces)
        hidden = list(self._hidden(text))
        self.used.update(variable for variable, _ in hidden if variable)
        spans = _merged([*(span for _, span in hidden), *_by_place(text)])
        if not spans:
            return list(pieces)
        ends = list(accumulate(map(len, pieces)))
        return ["".join(_without(text, end - len(piece), end, spans)) for piece, end in zip(pieces, ends, strict=True)]

    def find(self, text: str) -> str | None:
        """What kind of secret stands in `text`, if there is one."""
        if (hidden := next(self._hidden(text), None)) is not None and hidden[0]:
            return f"the value of {hidden[0]}"
        return "what looks like a token" if hidden is not None or any(_by_place(text)) else None

    def _hidden(self, text: str) -> Iterator[tuple[str, tuple[int, int]]]:
        """Which variables' values stand in the text and where, however they are encoded; "" for other secrets."""
        yield from _found(self._known, text, shapes=True)


def _found(needles: Sequence[_Needle], text: str, *, shapes: bool = False) -> Iterator[tuple[str, tuple[int, int]]]:
    """Where these stand in the text, however they are encoded; with `shapes`, what is secret by its own shape too."""
    for view in _layers(text) if needles or shapes else ():
        closed = view.closed() if needles else view
        for needle in needles:
            yield from ((needle.variable, span) for span in view.spans(needle.text))
            yield from ((needle.variable, span) for span in closed.spans(needle.broken))
        if shapes:
            yield from (("", view.span(start, end)) for start, end in _by_shape(view.text))


def _raw(environment: Mapping[str, str]) -> Mapping[Any, Any]:
    """What the environment holds, undecoded where it is the process's: compared before every observation."""
    return getattr(environment, "_data", environment)


def _are_same(found: Iterable[Any], given: Iterable[Any]) -> bool:
    return all(one is other for one, other in zip_longest(found, given))


def _like(value: Any, parts: Any) -> Any:
    """These parts as the value holds its own."""
    if isinstance(value, tuple) and hasattr(value, "_make"):
        return value._make(parts)
    if isinstance(value, list | tuple | set | frozenset) or type(value) is dict:
        return type(value)(parts)
    copied = copy.copy(value)
    if isinstance(value, MutableMapping):
        copied.clear()
        copied.update(parts)
    elif isinstance(value, Mapping):
        return dict(parts)
    else:
        for name, part in parts.items():
            object.__setattr__(copied, name, part)
    return copied


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


_BEFORE_NUMBER = re.compile(r'"[ \t]{0,3}:[ \t]{0,3}\Z')


def _without(text: str, start: int, end: int, spans: Sequence[tuple[int, int]]) -> Iterator[str]:
    """The stretch of the text; a secret is redacted where it begins, and missing where it goes on."""
    for first, last in spans[max(0, bisect_right(spans, (start, start)) - 1) :]:
        if first >= end:
            break
        yield text[start:first]
        if start <= first:
            is_number = text[first:last].isdigit() and _BEFORE_NUMBER.search(text, max(0, first - 9), first)
            yield f'"{REDACTED}"' if is_number else REDACTED  # JSON stays JSON
        start = max(start, last)
    yield text[start:end]


_SHELL_WORD = r"(?:[^\s'\"\\]|\\.|'[^']*'|\"(?:[^\"\\]|\\.)*\")*"
_ASSIGNMENT = re.compile(rf"(?P<name>[A-Za-z_]\w*)=(?P<value>{_SHELL_WORD})(?:\s+|\Z)")
_BEFORE = re.compile(r"\s*(?:env\s+(?=[A-Za-z_]\w*=))?")
_PASSED_ON = re.compile(
    rf"(?P<option>\s(?:-e|--env)[\s=]\s*)(?P<name>[A-Za-z_]\w*)=(?P<value>{_SHELL_WORD})"
)  # docker's
_REFERENCE = re.compile(r"""["']?\$(?:\{\w+(?::-[^}]*)?\}|[A-Za-z_]\w*)["']?""")


def variables_before(command: str) -> tuple[list[tuple[str, str]], str]:
    """The variables that a command line begins with, as `KEY=value server` does, and the rest of it."""
    before = _BEFORE.match(command)
    found, place = [], before.end() if before is not None else 0
    while match := _ASSIGNMENT.match(command, place):
        found.append((match["name"], match["value"]))
        place = match.end()
    return found, command[place:] if found else command


def public_command(command: str) -> str:
    """A command line with its variables' names in the place of their values: `KEY=${KEY} server`."""
    found, rest = variables_before(command)
    words = [f"{name}={_public_value(name, value)}" for name, value in found]
    rest = _PASSED_ON.sub(lambda match: f"{match['option']}{match['name']}={_public_value(*match.groups()[1:])}", rest)
    return " ".join([*words, rest]) if words else rest


def _public_value(name: str, value: str) -> str:
    return value if _REFERENCE.fullmatch(value) else f"${{{name}}}"


def as_given(variables: Mapping[str, str]) -> dict[str, str]:
    """Variables that were given to a program alone, for `Secrets`: what nobody would write by chance is secret there,
    whatever its name."""
    return {f"{name}_SECRET" if _strength(value) == "generated" else name: value for name, value in variables.items()}


_PUBLIC_HEADER = re.compile(
    r"(?:accept|content|cache|sec|access-control|openai-organization|openai-project)\b.*|user-agent|referer|origin|date"
    r"|priority|prefer|te|via|trace(?:parent|state)|(?:http|x)-(?:referer|title)|(?:.*-)?(?:version|beta|model|provider"
    r"|type|title|language|encoding|format|region|timeout|cache|request-id|trace-id|bill-to|wait-for-model)"
)
_HEADERS = ("headers", "default_headers", "extra_headers", "server_kwargs")
_KEY_OPTION = re.compile(r"(?:hf_|(?:\w+_)?api_|(?:auth|access|bearer)_)?(?:token|key)")


def is_public_header(name: str) -> bool:
    """Whether a header of this name is known to hold no key; any other that a user gives is taken for one."""
    return _PUBLIC_HEADER.fullmatch(name.lower()) is not None


def public_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """A model's options without the keys that stand at places of its own, its headers above all."""
    return {name: _public_option(name, value) for name, value in options.items()}


def _public_option(name: str, value: Any) -> Any:
    if name in _HEADERS and isinstance(value, Mapping):
        return {
            each: _public_option("headers", one) if isinstance(one, Mapping) else one if _is_public(each) else REDACTED
            for each, one in value.items()
        }
    is_key = _KEY_OPTION.fullmatch(name) and isinstance(value, str) and not is_placeholder(value)
    return REDACTED if is_key or (name in _HEADERS and value) else value


def _is_public(header: Any) -> bool:
    return is_public_header(str(header))


def keys_in(body: Any) -> Iterator[str]:
    """The texts in a request's body that stand under a name that says they are secret."""
    for name, value in body.items() if isinstance(body, Mapping) else ():
        if isinstance(value, str) and (is_secret_name(str(name)) or _FIELD.match(_snake(str(name)))):
            yield value
        yield from keys_in(value)
    if isinstance(body, list | tuple):
        for value in body:
            yield from keys_in(value)


def keys_in_address(address: str) -> Iterator[str]:
    """The password of an address, or what stands in its place, and the parameters that may be keys."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    yield from {password or user, unquote(password or user)}
    for name, value in parse_qsl(parts.query):
        if is_secret_name(name) or _IN_ADDRESSES.match(_snake(name)) or _strength(value) == "generated":
            yield value


def is_address(text: str) -> bool:
    """Whether this is an address of HTTP."""
    return text.startswith(("http://", "https://"))


def basic_authorization(address: str) -> dict[str, str]:
    """The header that an address' user and password mean; none where it has none."""
    user, at, _ = urlsplit(address).netloc.rpartition("@")
    return {"authorization": f"Basic {base64.b64encode(unquote(user).encode()).decode()}"} if at else {}


def without_redacted(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by name, as they were kept, without those of which a secret was taken out."""
    left = {name: without_redacted(value) if isinstance(value, Mapping) else value for name, value in values.items()}
    return {name: value for name, value in left.items() if not (isinstance(value, str) and REDACTED in value)}


def public_address(text: str, *, query: bool = False) -> str:
    """An address, or a spec that is one, without user and password, and without its query unless that is scrubbed too.

    Any other text is given back as it is.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or not scheme.isalpha():
        return text
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018
    except ValueError:  # a password that has / or # in it is cut in two
        return f"{scheme}://{rest.rpartition('@')[2]}"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query=parts.query if query else "").geturl()
