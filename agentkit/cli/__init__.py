"""The command `agentkit`. Answer on stdout, everything else on stderr."""

from __future__ import annotations

import os
import sys
from io import StringIO

from agentkit.errors import AgentkitError
from agentkit.printable import printable

INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit.

    0 an answer, 1 none, 2 wrong use, 3 the model failed, 4 the cassette drifted, 130 interrupted.
    """
    try:
        sys.exit(_main())
    except KeyboardInterrupt:  # a second Ctrl-C, or one during imports
        sys.exit(INTERRUPTED)


def _main() -> int:
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
        shown = StringIO()
        error.show(shown)
        print(_without_secrets(shown.getvalue()), end="", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stdout = None  # the reader left: do not flush into its closed pipe at exit
        return 1
    except AgentkitError as error:
        return _fail(error, error.exit_code, verbose=verbose)
    except Exception as error:
        return _fail(error, 1, verbose=verbose)


def _fail(error: Exception, code: int, *, verbose: bool) -> int:
    if verbose:
        import traceback

        print(_without_secrets("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    message = " ".join(_without_secrets(str(error)).split())
    if not isinstance(error, AgentkitError):
        message = f"{type(error).__name__}: {message}" + ("" if verbose else " (--verbose shows where)")
    print(printable(f"error: {message}"), file=sys.stderr)
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
