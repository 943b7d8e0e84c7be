"""The command `agentkit`. Answer on stdout, everything else on stderr."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from agentkit.errors import AgentkitError, ConfigurationError, in_one_line
from agentkit.printable import printable

if TYPE_CHECKING:
    import click

INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit.

    0 an answer, 1 none, 2 wrong use, 3 the model failed, 4 the cassette drifted, 5 it waits, 130 interrupted.
    """
    _open_what_is_closed()
    try:
        sys.exit(_written(_main()))
    except KeyboardInterrupt:  # a second Ctrl-C, or one during imports
        sys.exit(INTERRUPTED)


def _open_what_is_closed() -> None:
    """Without this, what is meant for a closed standard error is printed among the answers."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 (to the end of the process)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _written(code: int) -> int:
    """The exit code, once the answer has gone out."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        return _not_written(error)
    return code


def _not_written(error: OSError) -> int:
    sys.stdout = None  # what is left in it cannot be written at the end either
    if isinstance(error, BrokenPipeError):
        return 1  # the reader left
    with suppress(OSError):
        print(f"error: the answer cannot be written ({error.strerror}); give standard output room", file=sys.stderr)
    return ConfigurationError.exit_code


def _main() -> int:
    if sys.stdout is None:
        print("error: standard output is closed, where the answer would go; open it, or write > FILE", file=sys.stderr)
        return ConfigurationError.exit_code
    import click

    from agentkit.cli.app import app

    _make_notes_printable()
    verbose = "--verbose" in sys.argv or "-v" in sys.argv
    try:
        return int(app(prog_name="agentkit", standalone_mode=False) or 0)
    except click.Abort:  # what click makes of Ctrl-C
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except click.ClickException as error:
        return _show_usage(error)
    except BrokenPipeError as error:
        return _not_written(error)
    except AgentkitError as error:
        return _fail(error, error.exit_code, verbose=verbose)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            long = ConfigurationError(f"no file can be called {in_one_line(error.filename, 80)}; give a shorter name")
            return _fail(long, long.exit_code, verbose=verbose)
        return _not_written(error) if _is_of_output(error) else _fail(error, 1, verbose=verbose)
    except Exception as error:
        return _fail(error, 1, verbose=verbose)


def _is_of_output(error: OSError) -> bool:
    """Whether there was no room for what is printed; an error of a file has its name."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG) and error.filename is None


def _show_usage(error: click.ClickException) -> int:
    """Wrong options, in one line; a command alone shows its help."""
    import click

    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show(sys.stderr)
    else:
        path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx is not None else "agentkit"
        message = in_one_line(_without_secrets(error.format_message()))
        if "unexpected extra" in message:
            message += "; put what has spaces in quotes"
        print(f"error: {message.rstrip('.')}; {path} --help shows what there is", file=sys.stderr)
    return ConfigurationError.exit_code


def _fail(error: Exception, code: int, *, verbose: bool) -> int:
    if verbose:
        import traceback

        print(_without_secrets("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    message = in_one_line(_without_secrets(str(error)))
    if not isinstance(error, AgentkitError):
        message = f"{type(error).__name__}: {message}" + ("" if verbose else " (--verbose shows where)")
    print(f"error: {message}", file=sys.stderr)
    return code


def _without_secrets(text: str) -> str:
    """What an error, a log or a warning says, as it may be shown; a bug's text may hold any variable."""
    from agentkit.secrets import Secrets

    return printable(Secrets(os.environ).scrub_text(text))


def _make_notes_printable() -> None:
    """What libraries warn of and log may quote what a model or a server said."""
    import logging
    import warnings

    class Printable(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return _without_secrets(super().format(record))

    if logging.lastResort is not None:
        logging.lastResort.setFormatter(Printable())
    as_they_are = warnings.formatwarning
    warnings.formatwarning = lambda *args, **named: _without_secrets(as_they_are(*args, **named))
