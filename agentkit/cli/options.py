"""The options that several commands share: those of a run come from `RunSettings`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from agentkit.settings import SETTINGS, Group, choices_of, option, type_of

File = Annotated[Path, typer.Argument(help="A cassette.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show the answer only.")]
Yes = Annotated[bool, typer.Option("--yes", help="Run tools with side effects without asking.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the model's whole text, and tracebacks.")]

Given = dict[str, Any]
"""Settings as they were written on the command line: texts by their names, `None` where nothing was said."""


def with_settings(*groups: Group) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Gives a command an option for each setting of these groups (none named: all), in the place of `given`."""

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        options = {one.name: one for one in _options(groups or get_args(Group))}

        def run(**values: Any) -> int:
            given = {name: values.pop(name) for name in options}
            return command(given={name: None if value == [] else value for name, value in given.items()}, **values)

        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command, eval_str=True).parameters.values():
            own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
            parameters += options.values() if parameter.name == "given" else own
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        return run

    return decorate


def _options(groups: tuple[str, ...]) -> Iterator[inspect.Parameter]:
    for name, setting in SETTINGS.items():
        if setting.group not in groups:
            continue
        said, kind = option(name), type_of(name)
        if kind is bool:
            shape: Any = Annotated[bool | None, typer.Option(f"{said}/--no-{said[2:]}", help=setting.help)]
        else:
            metavar = setting.metavar or "|".join(choices_of(name)) or ("TEXT" if kind is str else "NUMBER")
            one = typer.Option(said, help=setting.help, metavar=metavar)
            shape = Annotated[list[str] | None, one] if setting.repeated else Annotated[str | None, one]
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=shape)
