"""`agentkit memory`: what the tools `remember` and `recall` keep from one run to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from agentkit.cli.group import Listing, is_listing, outer
from agentkit.cli.keeping import find_store, store_option
from agentkit.cli.logs import when
from agentkit.cli.options import json_option
from agentkit.cli.view import View, print_table
from agentkit.printable import json_text

if TYPE_CHECKING:
    from agentkit.sessions.store import Memory


@click.group(cls=Listing)
@store_option
@json_option
def memory(store: str | None, as_json: bool) -> int:
    """List what is remembered, the newest last. --tools remember,recall gives a model the use of it."""
    if is_listing():
        with find_store(store) as found:
            _print(found.memories()[::-1], as_json=as_json, otherwise=f"nothing is remembered in {found.address} yet")
    return 0


@memory.command()
@click.argument("text")
@store_option
def add(text: str, store: str | None) -> int:
    """Remember a text: one sentence that says all of it."""
    with find_store(outer(store)) as found:
        View().note(f"remembered: {found.remember(text).id}")
    return 0


@memory.command()
@click.argument("id")
@store_option
def forget(id: str, store: str | None) -> int:
    """Forget what has this id."""
    with find_store(outer(store)) as found:
        View().note(f"forgotten: {found.forget(id).text}")
    return 0


@memory.command()
@click.argument("words")
@store_option
@json_option
def search(words: str, store: str | None, as_json: bool) -> int:
    """Look for what shares most with a text, as a model does with recall."""
    with find_store(outer(store)) as found:
        _print(found.recall(words), as_json=as_json, otherwise="nothing about that is remembered")
    return 0


def _print(memories: Sequence[Memory], *, as_json: bool, otherwise: str) -> None:
    if as_json:
        print(json_text([_as_mapping(one) for one in memories]))
    elif memories:
        print_table(("id", "at", "text"), [(one.id, when(one.at), one.text) for one in memories])
    else:
        View().note(otherwise)


def _as_mapping(one: Memory) -> dict[str, Any]:
    return {"id": one.id, "text": one.text, "at": one.at.isoformat()}
