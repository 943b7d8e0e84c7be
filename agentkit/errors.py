"""Every error agentkit raises on purpose, in one tree.

AgentkitError               base; `exit_code` is what the command line ends with
├── ConfigurationError      2  wrong use: unknown model, tool, prompt, option, missing key or package
├── ModelError              3  the model or its server failed
│   ├── ReplyChanged        3  a stream broke after part of it was shown, and the repeated reply differs
│   └── PromptTooLong       3  a prompt leaves no room for a reply, and may not be shortened where it is sent
├── CassetteError           4  a cassette cannot be read or written
│   └── CassetteDrift       4  the run asked for something else than the cassette holds
├── StoreError              2  the store of runs and sessions cannot be read or written, or has no such thing
├── MalformedTurn           1  the model's text is no valid turn; the message goes back to the model
│   ├── UnfitAnswer         1  the answer is no value of the type that is asked for
│   └── RejectedAnswer      1  the answer did not pass a check of the caller's
└── ToolError               1  a tool's own failure, meant for the model to read

A message says what was expected, what was seen and what to do next, in one line, and never holds a key.
MalformedTurn and ToolError become observations; the others leave the loop.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from importlib.util import find_spec

__all__ = [
    "AgentkitError",
    "CassetteDrift",
    "CassetteError",
    "ConfigurationError",
    "MalformedTurn",
    "ModelError",
    "PromptTooLong",
    "RejectedAnswer",
    "ReplyChanged",
    "StoreError",
    "ToolError",
    "UnfitAnswer",
    "described",
    "did_you_mean",
    "import_failure",
    "in_one_line",
    "nearest",
    "pip_install",
    "refuse_unknown",
    "said",
    "short_repr",
]

DISTRIBUTION = "agentkit-react"
TORCH = "torch==2.13.0"
"""What pip is given for torch: a range may take a newer build, with gigabytes of CUDA libraries."""
LONGEST_SHOWN = 80


class AgentkitError(Exception):
    """Base of all errors that agentkit raises on purpose."""

    exit_code = 1


class ConfigurationError(AgentkitError, ValueError):
    """Wrong use or configuration: the caller must change something."""

    exit_code = 2


class ModelError(AgentkitError):
    """The model or its server failed."""

    exit_code = 3


class ReplyChanged(ModelError):
    """A stream broke after part of it was shown, and the reply to the repeated request is another one."""


class PromptTooLong(ModelError):
    """A prompt leaves no room for a reply, and whoever asked does not want it shortened where it is sent.

    It has `prompt_tokens` of the `context_tokens` that the model reads, where they are known.
    """

    def __init__(self, message: str, *, prompt_tokens: int | None = None, context_tokens: int | None = None) -> None:
        super().__init__(message)
        self.prompt_tokens = prompt_tokens
        self.context_tokens = context_tokens


class CassetteError(AgentkitError):
    """A cassette cannot be read or written."""

    exit_code = 4


class CassetteDrift(CassetteError):
    """The run asked for something else than what the cassette holds at this point."""


class StoreError(AgentkitError):
    """The store cannot be read or written, has no such run, session, decision or memory, or another one has it."""

    exit_code = 2


class MalformedTurn(AgentkitError):
    """The model's text is no valid turn; `str(error)` tells the model what to mend, `text` is what it wrote.

    `invented` counts the observations in it that the model wrote itself.
    """

    text = ""
    invented = 0


class Ask(AgentkitError):
    """Raised by a tool that wants to know something of the user first: `raise Ask("Which account?")`.

    The answer is what the model is told instead of a result. Where a run may wait, it waits for it.
    """

    def __init__(self, question: str) -> None:
        super().__init__(question)
        self.question = str(question)


class UnfitAnswer(MalformedTurn):
    """The answer is no value of the type that is asked for; the message says where, and why."""


class RejectedAnswer(MalformedTurn):
    """The answer did not pass a check of the caller's; `ends_run`: no more corrections are asked for."""

    def __init__(self, message: str, *, ends_run: bool = False) -> None:
        super().__init__(message)
        self.ends_run = ends_run


class ToolError(AgentkitError):
    """A tool's own failure (bad input, nothing found): the message is the observation."""


def nearest(name: str, known: Collection[str]) -> str | None:
    """What a misspelt name means, in whatever letter case: letters that are swapped come before others."""
    by_case = {one.casefold(): one for one in known}
    wanted = name.casefold()
    swapped = [one for one in by_case if sorted(one) == sorted(wanted)]
    near = swapped or difflib.get_close_matches(wanted, by_case, n=1)
    return by_case[near[0]] if near else None


def did_you_mean(name: str, known: Collection[str]) -> str:
    """The end of a message about a name that is not known: the nearest one that is, "" where none is near."""
    near = nearest(name, known)
    return f"; did you mean {near!r}?" if near else ""


def described(value: object) -> str:
    """What was given instead of what was expected, in a few words: a plain value, else its kind."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None or isinstance(value, str | bytes | int | float):
        return short_repr(value)
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def said(value: object) -> str:
    """The text of an error, or of any value; a tool's own may fail at that, too."""
    try:
        return str(value)
    except Exception as failure:
        return f"a {type(value).__name__} that has no text ({type(failure).__name__})"


def in_one_line(text: object, most: int | None = None) -> str:
    """What an error or another's message says, for a message of one line, no longer than `most` characters."""
    line = " ".join((said(text) if isinstance(text, BaseException) else str(text)).split())
    return line if most is None else _beginning(line, most)


def short_repr(value: object) -> str:
    """A value in a message, no longer than fits there; a whole number of thousands of digits has no text."""
    try:
        text = f"{value:g}" if isinstance(value, float) else repr(value)
    except ValueError:
        return "a number without end"
    return _beginning(text, LONGEST_SHOWN)


def _beginning(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def refuse_unknown(given: Collection[str], known: Collection[str], *, what: str) -> None:
    """Raise `ConfigurationError` for a name that is not known, with the nearest one that is."""
    for name in given:
        if name not in known:
            raise ConfigurationError(f"unknown option {name!r} for {what}{did_you_mean(name, known)}")


# -- packages ----------------------------------------------------------------------------------------------------------


def import_failure(error: BaseException, package: str, *, purpose: str = "", module: str = "") -> str:
    """Why `package` cannot be imported, and what to do about it, for an error's message.

    One that is there and fails to import tells its own reason, because to install it again mends nothing. `module` is
    its import name where that is another.
    """
    subject = f"{package}, needed {purpose}," if purpose else package
    module = module or package.replace("-", "_")
    is_missing = isinstance(error, ModuleNotFoundError) and error.name == module
    with suppress(ImportError, ValueError):  # of a parent that is missing, or a module without a spec
        if not is_missing and find_spec(module) is not None:
            return f"{subject} is installed but does not import: {in_one_line(error, 300)}"
    return f"{subject} is not installed; run {pip_install(package)}"


def pip_install(package: str) -> str:
    """The command that installs a package, with those of its extra that are missing too.

    The packages are named, in the versions that this distribution's metadata asks for, and not its extra: pip would
    look for the distribution itself on an index, where it need not be. torch comes first and alone.
    """
    extras = list(_extras())
    of_package = next((extra for extra, name, _ in extras if name == _normal(package)), None)
    wanted = {
        name: requirement
        for extra, name, requirement in extras
        if extra == of_package and (name == _normal(package) or not _is_installed(name))
    }
    wanted = wanted or {package: package}
    first = [f"pip install {TORCH}"] if wanted.pop("torch", None) else []
    others = [f"'{one}'" if re.search("[<>=!~]", one) else one for one in wanted.values()]
    return " && ".join([*first, *([f"pip install {' '.join(others)}"] if others else [])])


def _extras() -> Iterator[tuple[str, str, str]]:
    """Each optional requirement: its extra, its name, and what pip is given."""
    from importlib.metadata import PackageNotFoundError, requires

    with suppress(PackageNotFoundError):
        for line in requires(DISTRIBUTION) or ():
            requirement, _, marker = line.partition(";")
            name = re.match(r"[\w.-]+", requirement)
            if name and (extra := re.search(r"""extra == ["']([^"']+)""", marker)):
                yield extra[1], _normal(name[0]), requirement.strip()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_installed(name: str) -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False
