"""`agentkit sessions`: the conversations that are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agentkit.cli.group import Listing, is_listing, outer
from agentkit.cli.in_session import in_conversation, turns_of
from agentkit.cli.keeping import find_store, store_option
from agentkit.cli.logs import model_of, when
from agentkit.cli.options import json_option
from agentkit.cli.view import View, print_table
from agentkit.errors import in_one_line
from agentkit.printable import json_text, word

if TYPE_CHECKING:
    from agentkit.sessions.store import Store, StoredSession

QUESTION_CHARS = 48


@click.group(cls=Listing)
@store_option
@json_option
def sessions(store: str | None, as_json: bool) -> int:
    """List the sessions that are kept, the one used last first."""
    if not is_listing():
        return 0
    with find_store(store) as found:
        if as_json:
            print(json_text([_as_mapping(found, one) for one in found.sessions()]))
        else:
            print_sessions(found)
    return 0


@sessions.command()
@click.argument("name")
@store_option
def delete(name: str, store: str | None) -> int:
    """Delete a session. Its runs stay in the log."""
    with find_store(outer(store)) as found, found.held_session(name):
        found.delete_session(name)
    View().note(f"deleted: {word(name)}; its runs stay in the log")
    return 0


@sessions.command()
@click.argument("name")
@click.argument("new_name")
@store_option
def rename(name: str, new_name: str, store: str | None) -> int:
    """Give a session another name."""
    with find_store(outer(store)) as found, found.held_session(name):
        found.rename(name, new_name)
    View().note(f"renamed: {word(new_name)}")
    return 0


def print_sessions(store: Store) -> None:
    """The sessions as a table."""
    kept = store.sessions()
    if not kept:
        View().note(f"no session is kept in {store.address} yet; agentkit chat begins one")
        return
    rows = [_row(store, one) for one in kept]
    print_table(("name", "turns", "used", "model", "last question"), rows, figures=("turns",))


def _row(store: Store, session: StoredSession) -> tuple[str, ...]:
    turns = in_conversation(turns_of(store, session.name))
    last = turns[-1] if turns else None
    model = model_of(store, last) if last is not None else None
    question = in_one_line(last.question, QUESTION_CHARS) if last is not None else ""
    return session.name, str(len(turns)), when(session.used), model or "", question


def _as_mapping(store: Store, session: StoredSession) -> dict[str, Any]:
    return {
        "name": session.name,
        "turns": len(in_conversation(turns_of(store, session.name))),
        "created": session.created.isoformat(),
        "used": session.used.isoformat(),
        "facts": dict(session.facts),
    }
