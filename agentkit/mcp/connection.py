"""How MCP servers are reached, and what of that may be shown: commands, addresses, connections, `mcpServers`."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shlex
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urlsplit

from agentkit.errors import ConfigurationError, described, in_one_line, short_repr
from agentkit.printable import word
from agentkit.secrets import (
    REDACTED,
    Secrets,
    as_given,
    basic_authorization,
    is_address,
    is_secret_name,
    public_address,
    public_command,
    variables_before,
)

Spec = str | os.PathLike[str] | Mapping[str, Any]
"""A command (`KEY=value uvx server`), an address, a file of servers, servers by their names, or one connection.

Servers by their names are what other programs keep: `{"mcpServers": {"time": {"command": …, "args": […], "env": …}}}`,
with or without that outermost name; a file ends in `.json`. A connection's `transport`, or `type`, is "stdio"
(`command`, `args`, `env`, `cwd`, `encoding`, `encoding_error_handler`), "http" or "sse" (`url`, `headers`, `timeout`,
`sse_read_timeout`, `auth`, `httpx_client_factory`; "http" `terminate_on_close`, too). Each takes `session_kwargs`.
`${NAME}` stands for this process' variable in `env` and `headers`; `${NAME:-text}` is that text where there is none.
"""

logger = logging.getLogger("agentkit")

_STDIO = ("command", "args", "env", "cwd", "encoding", "encoding_error_handler")
_HTTP = ("url", "headers", "timeout", "sse_read_timeout", "auth", "httpx_client_factory")
_FIELDS = {"stdio": _STDIO, "sse": _HTTP, "http": (*_HTTP, "terminate_on_close")}
_SAME = {"streamable_http": "http", "streamable-http": "http", "streamableHttp": "http"}
_ADDRESSES = ("url", "serverUrl", "httpUrl")  # as several programs name it
_OF_OTHERS = frozenset(  # what other programs show of a server, and what they let it do unasked
    "name title description icon version gallery disabled enabled alwaysAllow autoApprove trust".split()
)
_OUTERMOST = ("mcpServers", "servers")
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
_ASSIGNED = re.compile(r"\w+=\$\{\w+\}")  # of a recorded command, as of `docker run -e KEY=value`
_WORD = re.compile(r"[A-Za-z]{1,12}|\d{1,4}")  # what is found in texts by chance
_LARGEST_FILE = 1_000_000
_NAMES = re.compile(r"\b[A-Za-z_]\w{2,}\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How one server is reached: `given` are the fields of its transport.

    `name` is what messages and cassettes call it.
    """

    name: str
    transport: str
    given: Mapping[str, Any] = field(repr=False)

    @property
    def is_remote(self) -> bool:
        """Whether it is reached over HTTP."""
        return self.transport != "stdio"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the server gets beyond those that every process needs."""
        return {name: expanded(text) for name, text in (self.given.get("env") or {}).items()}

    @property
    def headers(self) -> dict[str, str]:
        """What is sent with every request over HTTP."""
        return {name: expanded(text) for name, text in (self.given.get("headers") or {}).items()}

    @property
    def url(self) -> str:
        """The address, for a server that has one."""
        return expanded(str(self.given.get("url", "")))

    @property
    def words(self) -> list[str]:
        """The command's words."""
        return [str(self.given["command"]), *map(str, self.given.get("args") or ())]

    def consent(self) -> str:
        """What is started, or connected to, for whoever has to agree to it; of what may be a key, the name alone."""
        if self.is_remote:
            return str(self.given["url"])
        variables = [f"{name}={_for_consent(name, text)}" for name, text in (self.given.get("env") or {}).items()]
        where = [f"(in {self.given['cwd']})"] if self.given.get("cwd") else []
        return " ".join([*variables, shlex.join(self.words), *where])


def source_name(spec: Spec) -> str:
    """What a cassette calls all that a spec says; nothing is read for it."""
    if isinstance(spec, Mapping):
        servers = _servers(spec)
        return _name(spec) if servers is None else ", ".join(servers)
    text = os.fspath(spec)
    return public_address(text) if is_address(text) else _public(text)


def connections(spec: Spec, environment: Mapping[str, Any] | None = None) -> list[Connection]:
    """The servers that a spec names, each with these variables unless it has its own; raises `ConfigurationError`."""
    given = _environment(environment or {}, "env")
    if (file := file_of(spec)) is not None:
        found = list(_several(_read(file, _content(file)), str(spec)))
    elif isinstance(spec, Mapping):
        servers = _servers(spec)
        name = source_name(spec)
        found = [_connection(spec, name)] if servers is None else list(_several(spec, "mcpServers"))
    else:
        found = [_of_text(os.fspath(spec))]
    if not given:
        return found
    return [
        one if one.is_remote else replace(one, given={**one.given, "env": {**given, **(one.given.get("env") or {})}})
        for one in found
    ]


def file_of(spec: Spec) -> Path | None:
    """The file of servers that a spec names, if it is one."""
    if isinstance(spec, Mapping) or not (text := os.fspath(spec).strip()).casefold().endswith(".json"):
        return None
    path = Path(text).expanduser()
    is_meant = isinstance(spec, os.PathLike) or not re.search(r"\s", text) or path.is_file()
    return path if is_meant and not is_address(text) else None


def consents(spec: str) -> Iterator[tuple[str, bool, str]]:
    """What a spec that is not the user's own would start or connect to; whether that is an address; whence it is.

    Where a file says so, its digest stands there: another value of a variable is another wish.
    """
    if is_address(spec):
        yield spec, True, ""
    elif (file := file_of(spec)) is not None:
        try:
            content = _content(file)
            digest, found = hashlib.sha256(content).hexdigest()[:16], list(_several(_read(file, content), spec))
        except ConfigurationError:
            yield spec, False, "a file of MCP servers that cannot be read now"
            return
        yield from ((one.consent(), one.is_remote, f"as {word(spec)} ({digest}) says") for one in found)
    else:
        variables, rest = variables_before(spec)
        yield " ".join([*(f"{name}={_for_consent(name, value)}" for name, value in variables), rest]), False, ""


def expanded(text: str) -> str:
    """The text with this process' variables; one that is not set, and has no text of its own, is left as it is."""

    def value(match: re.Match[str]) -> str:
        return os.environ.get(match[1]) or (match[0] if match[2] is None else match[2])

    return _VARIABLE.sub(value, text)


# -- what is written ---------------------------------------------------------------------------------------------------


def _of_text(spec: str) -> Connection:
    if is_address(spec):
        return _connection({"url": spec}, public_address(spec))
    if spec.lstrip().startswith("{"):
        raise ConfigurationError(
            "expected an MCP server's command, address or file, saw JSON text; write it into a file that ends in .json"
        )
    return Connection(name=_public(spec), transport="stdio", given={"transport": "stdio", **_command(spec)})


def _command(line: str) -> dict[str, Any]:
    """What a command line says: the command, its arguments, and the variables before it."""
    variables, rest = variables_before(line)
    try:
        values = ["".join(shlex.split(value)) for _, value in variables]
        words = shlex.split(rest)
    except ValueError as error:
        raise _no_command(line, str(error)) from None
    if not words:
        raise _no_command(line, "no command is behind the variables" if variables else "nothing is in it")
    args = [expanded(word) if _ASSIGNED.fullmatch(word) else word for word in words[1:]]
    env = {name: _of_shell(value) for (name, _), value in zip(variables, values, strict=True)}
    return {"command": words[0], "args": args} | ({"env": env} if env else {})


def _no_command(spec: str, reason: str) -> ConfigurationError:
    seen = re.sub(r"=.+", "=…", spec, flags=re.DOTALL)  # of what cannot be read it is not known where a value ends
    return ConfigurationError(f"expected an MCP server's command or address, saw {short_repr(seen)} ({reason})")


def _of_shell(value: str) -> str:
    """A value as it stands before a command, where `$NAME` alone is a variable, too."""
    return f"${{{value[1:]}}}" if re.fullmatch(r"\$[A-Za-z_]\w*", value) else value


def _content(file: Path) -> bytes:
    """What is in a file; a pipe, or what does not end, is none."""
    try:
        with open(os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as opened:
            is_file = stat.S_ISREG(os.fstat(opened.fileno()).st_mode)
            content = opened.read(_LARGEST_FILE + 1) if is_file else b""
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read ({error.strerror}); name a file of MCP servers") from None
    if not is_file or len(content) > _LARGEST_FILE:
        raise ConfigurationError(f"{file}: expected a file of at most {_LARGEST_FILE} bytes; name one of MCP servers")
    return content


def _read(file: Path, content: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        reason = in_one_line(error.msg if isinstance(error, json.JSONDecodeError) else error, 200)
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ConfigurationError(f"{file}: expected JSON with mcpServers ({reason}{line}); mend the file") from None
    if not isinstance(found, Mapping) or _servers(found) is None:
        raise ConfigurationError(
            f'{file}: expected {{"mcpServers": {{NAME: {{"command": …, "args": […]}}}}}}, saw no servers; mend the file'
        )
    return found


def _servers(given: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Servers by their names; `None` for one connection."""
    for name in _OUTERMOST:
        if isinstance(given.get(name), Mapping):
            inner: Mapping[str, Any] = given[name]
            return inner
    is_one = not given or any(name in given for name in ("command", "transport", *_ADDRESSES))
    return None if is_one or not all(isinstance(one, Mapping) for one in given.values()) else given


def _several(given: Mapping[str, Any], where: str) -> Iterator[Connection]:
    servers = _servers(given) or {}
    if not servers:
        raise ConfigurationError(f"{where} names no MCP server")
    for name, server in servers.items():
        if not isinstance(server, Mapping):
            raise ConfigurationError(f"{where}: expected {name!r} to be an object, saw {described(server)}")
        if server.get("disabled") is True or server.get("enabled") is False:
            continue
        yield _connection(server, str(name), is_foreign=True)


def _connection(given: Mapping[str, Any], name: str, *, is_foreign: bool = False) -> Connection:
    """One connection; `is_foreign` is one that was written for other programs, which have fields of their own."""
    read = {key: value for key, value in given.items() if value is not None}
    for other in _ADDRESSES[1:]:
        if other in read and "url" not in read:
            read["url"] = read.pop(other)
    named = read.pop("type", None) if is_foreign or "transport" not in read else None
    named = read.get("transport") or named or ("stdio" if "command" in read else "")
    if not named:
        path = urlsplit(str(read.get("url", ""))).path
        named = "sse" if path.rstrip("/").endswith("/sse") else "http"
    transport = _SAME.get(str(named), str(named))
    if transport not in _FIELDS:
        raise ConfigurationError(f"expected an MCP transport of {', '.join(_FIELDS)}, saw {short_repr(named)}")
    read["transport"] = transport
    fields = ("transport", "session_kwargs", *_FIELDS[transport])
    unknown = [key for key in read if key not in fields]
    if is_foreign:
        read = {key: value for key, value in read.items() if key in fields}
        if without_effect := [key for key in unknown if key not in _OF_OTHERS]:
            logger.warning("MCP server %r: %s has no effect here", name, ", ".join(map(str, without_effect)))
    if fields[2] not in read or (unknown and not is_foreign):
        seen = f"no {fields[2]}" if fields[2] not in read else ", ".join(map(str, unknown))
        of = f"the MCP server {name!r}: " if is_foreign else ""
        raise ConfigurationError(f"{of}an MCP connection over {transport} has {', '.join(fields[2:])}; saw {seen}")
    _check_kinds(read, name)
    if "args" not in read and " " in (line := str(read.get("command", ""))) and not Path(line).exists():
        said = _command(line)  # a whole line, as other programs have it run by a shell
        read |= {**said, "env": {**said.get("env", {}), **(read.get("env") or {})}}
    for key in ("env", "headers"):
        if key in read:
            read[key] = _environment(read[key], f"the MCP server {name!r}: {key}")
    url = str(read.get("url", ""))
    if authorization := basic_authorization(url):  # errors name the address
        read["headers"] = {**authorization, **(read.get("headers") or {})}
        read["url"] = public_address(url, query=True)
    if is_foreign and transport == "stdio":
        read["args"] = [expanded(str(word)) for word in read.get("args", ())]
    return Connection(name=name, transport=transport, given=read)


def _check_kinds(given: Mapping[str, Any], name: str) -> None:
    kinds: Mapping[str, type | tuple[type, ...]] = {"command": (str, os.PathLike), "url": str, "args": (list, tuple)}
    for key, kind in kinds.items():
        if key in given and not isinstance(given[key], kind):
            wanted = "a list of words" if key == "args" else "text"
            raise ConfigurationError(
                f"the MCP server {name!r}: expected {key} to be {wanted}, saw a {type(given[key]).__name__}"
            )


def _environment(given: Any, where: str) -> dict[str, str]:
    """Variables as texts; an error names one, and not its value."""
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{where}: expected texts by their names, saw a {type(given).__name__}")
    for name, value in given.items():
        if not isinstance(value, str | int | float):
            raise ConfigurationError(f"{where}: expected text for {name}, saw a {type(value).__name__}")
    return {str(name): json.dumps(value) if isinstance(value, bool) else str(value) for name, value in given.items()}


# -- what may be shown -------------------------------------------------------------------------------------------------


def _name(given: Mapping[str, Any]) -> str:
    address = next((str(given[key]) for key in _ADDRESSES if given.get(key)), "")
    return public_address(address) if address else _public(str(given.get("command")))


def _public(command: str) -> str:
    return Secrets({}).scrub_text(public_command(command))


def _for_consent(name: str, text: str) -> str:
    """A variable's value for somebody who has to agree to it."""
    return f"${{{name}}}" if is_secret_name(name) and not _VARIABLE.fullmatch(text) else text


def label(name: str) -> str:
    """What stands before the name of a tool that others have too: `time` of `uvx mcp-server-time`, or a host."""
    if is_address(name):
        return (urlsplit(name).hostname or "mcp").replace(".", "_")
    try:
        words = [word for word in shlex.split(name) if not word.startswith("-") and "=" not in word]
    except ValueError:
        words = name.split()
    last = PurePath(words[-1] if words else "mcp").stem
    return re.sub(r"^(?:mcp[-_])?(?:server[-_])?", "", last) or "mcp"


class Shown:
    """What may be shown of a server's texts: its variables' values stand in none of them, and its keys nowhere."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._variables = connection.environment
        self._headers = connection.headers

    def message(self, text: str) -> str:
        """A text for an error or a terminal: each variable's value is its name, the address is without its query."""
        for name, value in self._variables.items():
            text = _without(text, value, f"${{{name}}}", is_key=is_secret_name(name))
        for value in self._headers.values():
            for part in {value, value.rpartition(" ")[2]}:
                text = _without(text, part, REDACTED, is_key=True)
        if url := self._connection.url:
            text = text.replace(url, public_address(str(self._connection.given["url"])))
        text = self._secrets.scrub_text(text) if self._variables or self._headers else text
        return Secrets(os.environ).scrub_text(text)

    def result(self, value: Any) -> Any:
        """What a tool gave, or is offered as: the keys in it are redacted, and what anybody might write stays."""
        return self._secrets.scrub(value) if self._variables or self._headers else value

    @cached_property
    def _secrets(self) -> Secrets:
        tokens = {f"{name} token": value.rpartition(" ")[2] for name, value in self._headers.items()}  # behind "Bearer"
        return Secrets(as_given({**self._headers, **tokens, **self._variables}))

    @cached_property
    def unset(self) -> str:
        """What to do about a variable that it is to get, or send, and that is not there; "" where all are."""
        for part, texts in (("env", self._variables), ("headers", self._headers)):
            if found := next(filter(None, map(_VARIABLE.search, texts.values())), None):
                verb = "names" if part == "env" else "name"
                return f"its {part} {verb} {found[1]}, which is not set here; set it"
        return ""

    def hint(self, text: str) -> str:
        """What to do where the text is about a variable that the server did not get; "" where it is about none."""
        if self.unset or self._connection.is_remote:
            return self.unset
        from mcp.client.stdio import get_default_environment

        passed = {*get_default_environment(), *self._variables}
        for found in _NAMES.findall(text):
            name = found if found in os.environ else found.upper()
            if (found.isupper() or "_" in found) and name in os.environ and name not in passed:
                return (
                    f"{name} is set here and not passed on: put {name}=${name} before the command, "
                    f'or "{name}": "${{{name}}}" into its env'
                )
        return ""


def _without(text: str, value: str, instead: str, *, is_key: bool) -> str:
    """The text with `instead` where the value stands whole; a word that is no key is left in it."""
    least = 3 if is_key else 4
    if len(value) < least or value not in text or (not is_key and _WORD.fullmatch(value)):
        return text
    return re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", lambda match: instead, text)
