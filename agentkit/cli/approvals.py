"""`agentkit approvals`: the calls of kept runs that wait for a decision, and the decision; then the run goes on."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import click

from agentkit.cli.approval import MARGIN, MARGIN_OF_QUESTION, in_margin
from agentkit.cli.group import Listing, is_listing, outer
from agentkit.cli.keeping import defer_option, find_store, is_own, store_option
from agentkit.cli.logs import when
from agentkit.cli.options import Command, json_option, trust_option, with_view, yes_option
from agentkit.cli.stored_run import MadeInPython, OpenedRun, confirm_calls, go_on, opened_run
from agentkit.cli.view import WAITS, View, output_console, say, shortened
from agentkit.errors import ConfigurationError, StoreError, in_one_line
from agentkit.number_words import count
from agentkit.printable import escaped, json_text, printable, word

if TYPE_CHECKING:
    from agentkit.events import ToolInput
    from agentkit.sessions.store import Decision, Store, StoredRun

QUESTION_CHARS = 300
MARGIN_OF_RUN = "  run | "


@click.group(cls=Listing)
@store_option
@json_option
def approvals(store: str | None, as_json: bool) -> int:
    """List the calls that wait for a decision, and what tools ask."""
    if not is_listing():
        return 0
    with find_store(store) as found:
        waiting = found.waiting()
        if as_json:
            print(json_text([_as_mapping(found, one) for one in waiting]))
            return 0
        for one in waiting:
            _print(found, one)
        if not waiting:
            View().note(f"nothing waits in {found.address}")
    return 0


def _with_going_on(command: Command) -> Command:
    """Gives a command what it takes to go on with the run."""
    no_resume = click.option("--no-resume", is_flag=True, help="Only decide.")
    for option in (with_view, yes_option, trust_option, store_option, defer_option, no_resume):
        command = option(command)
    return command


@approvals.command()
@click.argument("id")
@click.option("--edit", metavar="JSON", help="Run it with this input instead.")
@_with_going_on
def yes(id: str, edit: str | None, **options: Any) -> int:
    """Let a call run. Its run goes on here."""
    return _decide(id, True, edit=_read_edit(edit), **options)


@approvals.command()
@click.argument("id")
@click.option("--message", metavar="TEXT", help="What the model is told.")
@_with_going_on
def no(id: str, message: str | None, **options: Any) -> int:
    """Do not let a call run. Its run goes on here, and the model is told."""
    return _decide(id, False, message=message, **options)


@approvals.command()
@click.argument("id")
@click.argument("text")
@_with_going_on
def answer(id: str, text: str, **options: Any) -> int:
    """Answer what a tool asks. Its run goes on here."""
    return _decide(id, None, message=text, **options)


def _decide(
    id: str,
    says: bool | None,
    *,
    store: str | None,
    no_resume: bool,
    defer: bool,
    trust: bool,
    yes: bool,
    view: View,
    edit: ToolInput | None = None,
    message: str | None = None,
) -> int:
    with find_store(outer(store)) as found:

        def opened(run: StoredRun) -> AbstractContextManager[OpenedRun]:
            return opened_run(found, run, view, {}, trust=trust, yes=yes, defer=defer)

        return decide(found, id, says, view, opened, trust=trust, no_resume=no_resume, edit=edit, message=message)


def decide(
    store: Store,
    id: str,
    says: bool | None,
    view: View,
    opened: Callable[[StoredRun], AbstractContextManager[OpenedRun]],
    *,
    trust: bool,
    no_resume: bool = False,
    edit: ToolInput | None = None,
    message: str | None = None,
) -> int:
    """Decide, and go on with the run that is `opened`; all that can fail before is done before."""
    from agentkit.sessions.stored_runs import check_edit

    asked = store.decision(id)
    run = store.run(asked.run)
    left = [one for one in store.waiting(run.id) if one.id != asked.id]
    _check(store, asked, says, edit, view)
    goes_on = not no_resume and not left
    calls = _calls(store, run, asked, says, edit)
    if not trust and not is_own(store):
        confirm_calls(store, calls, view)
    if not goes_on and edit is None:
        return _decided(store, asked, says, edit, message, left, view)
    try:
        with opened(run) as one:
            if edit is not None:
                check_edit(asked, one.tools, edit, name="--edit")
            if not goes_on:
                return _decided(store, asked, says, edit, message, left, view)
            store.decide(asked.id, says, edit=edit, message=message, by=_who())
            now = store.run(run.id)
            if now.events != run.events or _calls(store, now) != calls:
                raise StoreError(f"Run {run.id} was changed meanwhile; look at it again: agentkit show {run.id}")
            return go_on(one, view, agreed=True)
    except MadeInPython:
        code = _decided(store, asked, says, edit, message, left, view)
        say(f"its model was made in Python: executor.resume({run.id!r}) goes on there", to=sys.stderr)
        return 0 if not left else code


def _decided(
    store: Store,
    asked: Decision,
    says: bool | None,
    edit: ToolInput | None,
    message: str | None,
    left: Sequence[Decision],
    view: View,
) -> int:
    """Only the decision; the exit code says whether others are still waited for."""
    store.decide(asked.id, says, edit=edit, message=message, by=_who())
    if not left:
        return 0
    say(f"run {asked.run} waits for {count(len(left), 'decision')} more:", to=sys.stderr)
    for one in left:
        say(how_to_decide(one, view), to=sys.stderr)
    return WAITS


def how_to_decide(one: Decision, view: View) -> str:
    """What to write for a call that waits."""
    return view.how_to_decide(one.id, one.tool, is_question=one.kind == "question")


def _check(store: Store, asked: Decision, says: bool | None, edit: ToolInput | None, view: View) -> None:
    """Raise `AgentkitError` for what cannot be decided so."""
    from agentkit.sessions.stored_runs import check_calls, check_whole

    if asked.status == "waiting":  # the store says who decided otherwise
        check_calls(store.run(asked.run), [asked])
        if (asked.kind == "question") is not (says is None):
            raise StoreError(f"Decision {asked.id} is {_kind(asked)}; {how_to_decide(asked, view)}")
        if says and edit is None:
            check_whole(asked)


def _kind(asked: Decision) -> str:
    if asked.kind == "question":
        return f"a question ({in_one_line(asked.question, 80)})"
    return f"whether {word(asked.tool)} may run"


def _calls(
    store: Store, run: StoredRun, asked: Decision | None = None, says: bool | None = None, edit: ToolInput | None = None
) -> list[tuple[str, Any]]:
    """The calls that run when a run goes on, and the one that is about to be let run."""
    from agentkit.sessions.stored_runs import running_calls

    calls = running_calls(run, store.decisions(run.id))
    if asked is not None and says:
        calls.append((asked.tool, asked.tool_input if edit is None else edit))
    return sorted(calls, key=json_text)


def _read_edit(text: str | None) -> ToolInput | None:
    """The input, a JSON object or text; raises `ConfigurationError`."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(
            f'--edit: expected JSON ({in_one_line(error, 80)}); write \'"text"\', or \'{{"name": "value"}}\''
        ) from None
    if not isinstance(value, str | dict):
        raise ConfigurationError(f"--edit: expected an object or a text, saw {in_one_line(text, 80)}")
    from agentkit.secrets import Secrets

    if Secrets(os.environ).scrub(value) != value:
        raise ConfigurationError("--edit holds a secret, which is not kept, so that it could not run; leave it out")
    return value


def _who() -> str:
    """Who decides, for whoever decides second."""
    import getpass
    import socket

    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):
        return socket.gethostname()


def _print(store: Store, one: Decision) -> None:
    console = output_console()
    head, *lines = lines_of(one)
    console.print(printable(head), style="bold")
    for line in lines:
        console.print(printable(line))
    if (question := _question_of(store, one)) is not None:
        asked = escaped(in_one_line(shortened(question, QUESTION_CHARS)))
        for line in in_margin(asked, MARGIN_OF_RUN):
            console.print(printable(line), style="dim")
    console.print()


def lines_of(one: Decision) -> list[str]:
    """A decision as it is shown: what it is about, the whole input, and what the tool asks."""
    waits = "asks" if one.kind == "question" else "may it run?"
    lines = [f"{word(one.id)}  {when(one.asked)}  run {word(one.run)}  {word(one.tool)}: {waits}"]
    lines += in_margin(escaped(one.tool_input), MARGIN)
    return [*lines, *(in_margin(escaped(one.question), MARGIN_OF_QUESTION) if one.question else ())]


def _as_mapping(store: Store, one: Decision) -> dict[str, Any]:
    return {
        "id": one.id,
        "run": one.run,
        "asked": one.asked.isoformat(),
        "kind": one.kind,
        "tool": one.tool,
        "tool_input": one.tool_input,
        "question": one.question,
        "input": _question_of(store, one),
    }


def _question_of(store: Store, one: Decision) -> str | None:
    """What its run was asked; None for a run that cannot be read."""
    try:
        return store.run(one.run).question
    except StoreError:
        return None
