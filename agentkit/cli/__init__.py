"""The command `agentkit`. Answer on stdout, everything else on stderr."""

from __future__ import annotations

import sys

from agentkit.errors import AgentkitError

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

    verbose = "--verbose" in sys.argv or "-v" in sys.argv
    try:
        return int(app(prog_name="agentkit", standalone_mode=False) or 0)
    except click.Abort:  # what click makes of Ctrl-C
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
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

        traceback.print_exception(error)
    message = " ".join(str(error).split())
    if not isinstance(error, AgentkitError):
        message = f"{type(error).__name__}: {message}" + ("" if verbose else " (--verbose shows where)")
    print(f"error: {message}", file=sys.stderr)
    return code
