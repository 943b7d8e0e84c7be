"""Every error agentkit raises on purpose, in one tree.

AgentkitError               base; `exit_code` is what the command line ends with
├── ConfigurationError      2  wrong use: unknown model, tool, prompt, option, missing key or package
├── ModelError              3  the model or its server failed
│   └── ReplyChanged        3  a stream broke after part of it was shown, and the repeated reply differs
├── CassetteError           4  a cassette cannot be read or written
│   └── CassetteDrift       4  the run asked for something else than the cassette holds
├── MalformedTurn           1  the model's text is no valid turn; the message goes back to the model
└── ToolError               1  a tool's own failure, meant for the model to read

A message says what was expected, what was seen and what to do next, in one line, and never holds a key.
MalformedTurn and ToolError become observations; the others leave the loop.
"""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec

__all__ = [
    "AgentkitError",
    "CassetteDrift",
    "CassetteError",
    "ConfigurationError",
    "MalformedTurn",
    "ModelError",
    "ReplyChanged",
    "ToolError",
    "import_failure",
]


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


class CassetteError(AgentkitError):
    """A cassette cannot be read or written."""

    exit_code = 4


class CassetteDrift(CassetteError):
    """The run asked for something else than what the cassette holds at this point."""


class MalformedTurn(AgentkitError):
    """The model's text is no valid turn; `str(error)` tells the model what to mend, `text` is what it wrote."""

    text = ""


class ToolError(AgentkitError):
    """A tool's own failure (bad input, nothing found): the message is the observation."""


def import_failure(error: BaseException, package: str, *, install: str, purpose: str = "", module: str = "") -> str:
    """Why `package` cannot be imported, and what to do about it, for an error's message.

    One that is not there is to be installed: `install` is what pip is given. One that is there and fails to import
    tells its own reason, because to install it again mends nothing. `module` is its import name where that is another.
    """
    subject = f"{package}, needed {purpose}," if purpose else package
    module = module or package.replace("-", "_")
    is_missing = isinstance(error, ModuleNotFoundError) and error.name == module
    with suppress(ImportError, ValueError):  # of a parent that is missing, or a module without a spec
        if not is_missing and find_spec(module) is not None:
            return f"{subject} is installed but does not import: {' '.join(str(error).split())[:300]}"
    return f"{subject} is not installed; run pip install {install}"
