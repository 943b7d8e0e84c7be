"""The options that several commands share: those of a run come from `RunSettings`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, get_args

import click

from agentkit.cli.view import View
from agentkit.errors import ConfigurationError
from agentkit.settings import SETTINGS, Group, changes, choices_of, option, type_of

Command = Callable[..., int]
Given = dict[str, Any]
"""Settings as they were written on the command line: texts by their names, `None` where nothing was said."""

PATH = click.Path(path_type=Path)
file_argument = click.argument("file", type=PATH)
yes_option = click.option("--yes", is_flag=True, help="Run tools with side effects without asking.")
trust_option = click.option("--trust", is_flag=True, help="Let a file start, read and send what it names.")
force_option = click.option("--force", is_flag=True, help="Record over an earlier recording.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Show the answer only.")
verbose_option = click.option("--verbose", "-v", is_flag=True, help="Show the model's whole text, and tracebacks.")


def check_folder(file: Path) -> None:
    """Raise `ConfigurationError` where there is no folder for a file that is to be written; none is made."""
    if not file.absolute().parent.is_dir():
        raise ConfigurationError(f"no folder {file.absolute().parent} to write {file.name} into; make it first")


def with_view(command: Command) -> Command:
    """Gives a command --json, --quiet and --verbose, and hands it the `view` that they ask for."""

    @json_option
    @quiet_option
    @verbose_option
    @wraps(command)
    def run(*, as_json: bool, quiet: bool, verbose: bool, **values: Any) -> int:
        return command(view=View(as_json=as_json, quiet=quiet, verbose=verbose), **values)

    return run


def model_option(command: Command) -> Command:
    """Gives a command --option, and hands over the model's `options`."""

    @_option("options")
    @wraps(command)
    def run(*, options: tuple[str, ...], **values: Any) -> int:
        return command(options=changes({"options": options or None}).get("options", {}), **values)

    return run


def with_settings(*groups: Group) -> Callable[[Command], Command]:
    """Gives a command an option for each setting of these groups (none named: all), and hands them over as `given`."""
    names = [name for name, setting in SETTINGS.items() if setting.group in (groups or get_args(Group))]

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(**values: Any) -> int:
            given = {name: values.pop(name) for name in names}
            return command(given={name: None if value == () else value for name, value in given.items()}, **values)

        decorated: Command = run
        for name in reversed(names):
            decorated = _option(name)(decorated)
        return decorated

    return decorate


def _option(name: str) -> Callable[[Command], Command]:
    setting, written, kind = SETTINGS[name], option(name), type_of(name)
    if kind is bool:
        return click.option(f"{written}/--no-{written[2:]}", name, default=None, help=setting.help)
    metavar = setting.metavar or "|".join(choices_of(name)) or ("TEXT" if kind is str else "NUMBER")
    return click.option(written, name, multiple=setting.repeated, metavar=metavar, help=setting.help)
