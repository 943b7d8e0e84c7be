"""`agentkit logs`: the runs that are kept, like a log; where they are; and how one is deleted."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from agentkit.cli.keeping import find_store, store_option
from agentkit.cli.options import json_option
from agentkit.cli.view import View, output_console, say, shortened
from agentkit.errors import StoreError, in_one_line
from agentkit.printable import json_text, printable, word
from agentkit.report.wording import ENDED

if TYPE_CHECKING:
    from agentkit.sessions.store import RunEntry, Store

MOST = 20
SHOWN_CHARS = 300
KEPT = (
    "kept of each run: its question, its settings, what the model and the tools said, its answer; no key, no password. "
    "--no-log keeps a run out, AGENTKIT_STORE=none all of them, agentkit logs --delete RUN deletes one"
)


@click.command()
@click.argument("search", required=False, metavar="[WORDS]")
@click.option("-n", "most", type=click.IntRange(1), default=MOST, metavar="NUMBER", help=f"How many at most ({MOST}).")
@click.option("--session", metavar="NAME", help="Those of this session.")
@click.option("--path", is_flag=True, help="Say where runs are kept, what of them, and how to turn it off.")
@click.option("--delete", multiple=True, metavar="RUN", help="Delete this run; may be repeated.")
@store_option
@json_option
def logs(
    search: str | None,
    most: int,
    session: str | None,
    path: bool,
    delete: tuple[str, ...],
    store: str | None,
    as_json: bool,
) -> int:
    """List the runs that are kept, the newest last. With WORDS, those in which all of them stand."""
    if path:
        return _print_path(store)
    with find_store(store) as found:
        if delete:
            for one in delete:
                View().note(f"deleted: {found.delete(one)}")
            return 0
        if session is not None:
            check_session(found, session)
        entries = found.runs(most=most, search=search, session=session)[::-1]
        if as_json:
            print(json_text([as_mapping(found, entry) for entry in entries]))
            return 0
        for entry in entries:
            _print_entry(found, entry)
        if not entries:
            View().note("no run is kept that fits" if search or session else f"no run is kept in {found.address} yet")
    return 0


def check_session(store: Store, name: str) -> None:
    """Raise `StoreError` for a session that is not there."""
    store.turns(name)


def _print_path(given: str | None) -> int:
    from agentkit.sessions.address import find_address

    if (address := find_address(given, os.environ)) is None:
        say("nothing is kept: AGENTKIT_STORE or --store says none")
        return 0
    say(address)
    View().note(KEPT)
    return 0


def as_mapping(store: Store, entry: RunEntry) -> dict[str, Any]:
    """A run in a list of runs, for programs."""
    return {
        "id": entry.id,
        "started": entry.started.isoformat(),
        "ended": entry.ended.isoformat() if entry.ended else None,
        "model": model_of(store, entry),
        "session": entry.session,
        "status": entry.status,
        "stop_reason": entry.stop_reason,
        "input": entry.question,
        "output": entry.output,
    }


def model_of(store: Store, entry: RunEntry) -> str | None:
    """The model that a run was asked of; None for a run that cannot be read."""
    try:
        return store.run(entry.id).spec.settings.model
    except StoreError:
        return None


def when(at: datetime) -> str:
    """A time of the clock here."""
    return f"{at.astimezone():%Y-%m-%d %H:%M}"


def ended(entry: RunEntry) -> str:
    """How a run ended, in a few words."""
    if entry.status == "finished":
        return "" if entry.stop_reason in ("answer", "return_direct") else _reason(entry.stop_reason)
    return {"running": "running", "waiting": "waits for a decision", "broken_off": "broken off"}[entry.status]


def _reason(reason: str | None) -> str:
    return ENDED.get(str(reason), str(reason))


def _print_entry(store: Store, entry: RunEntry) -> None:
    console = output_console()
    session = f"session {word(entry.session)}" if entry.session else ""
    facts = [when(entry.started), model_of(store, entry) or "", session, ended(entry)]
    console.print(printable(f"{entry.id}  {'  '.join(filter(None, facts))}"), style="dim")
    console.print(printable(shortened(in_one_line(entry.question), SHOWN_CHARS)), style="bold")
    if entry.output is not None:
        console.print(printable(shortened(in_one_line(entry.output), SHOWN_CHARS)))
    console.print()
