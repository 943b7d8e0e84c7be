"""Results on their way through LangChain's tools, which know a text and an artifact but no `Result`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from langchain_core.messages import ToolMessage

from agentkit.events import Source
from agentkit.tool import Result, is_content, text_of
from agentkit.toolbox.run_scope import set_within

LINKS = ("link", "url", "source", "href", "uri", "path")
TITLES = ("title", "name", "file_name")
LISTS = ("sources", "documents", "context", "results")

_kept: ContextVar[list[Result] | None] = ContextVar("agentkit_results", default=None)


def plain(value: Any) -> Any:
    """What callbacks and LangChain's users see of a `Result`: its text. `kept_results` gets the rest."""
    if not isinstance(value, Result):
        return value
    if (kept := _kept.get()) is not None:
        kept.append(value)
    return value.text


@contextmanager
def kept_results() -> Iterator[list[Result]]:
    """The `Result`s that our tools give inside the block, however many adapters stand between."""
    kept: list[Result] = []
    with set_within(_kept, kept):
        yield kept


def whole(value: Any, kept: list[Result]) -> Any:
    """A LangChain tool's value with what `kept_results` kept, or with the sources its artifact names."""
    if isinstance(value, ToolMessage):
        content = value.content if is_content(value.content) else text_of(value.content)
        return Result(content, tuple(sources_in(value.artifact)))
    if not kept or not isinstance(value, str):
        return value
    sources = dict.fromkeys(source for result in kept for source in result.sources)
    return Result(value, tuple(sources), tuple(reading for result in kept for reading in result.readings))


def sources_in(artifact: Any) -> Iterator[Source]:
    """The sources an artifact names: documents, or mappings with an address, alone, in a list or under a usual key."""
    if isinstance(artifact, Source):
        yield artifact
    elif isinstance(artifact, list | tuple):
        for part in artifact:
            yield from sources_in(part)
    elif isinstance(metadata := getattr(artifact, "metadata", artifact), Mapping):
        lists = [metadata[key] for key in LISTS if isinstance(metadata.get(key), list | tuple)]
        link = next((metadata[key] for key in LINKS if isinstance(metadata.get(key), str)), None)
        title = next((metadata[key] for key in TITLES if isinstance(metadata.get(key), str)), link)
        if lists:
            yield from sources_in(lists)
        elif link is not None:
            yield Source(title or link, link)
