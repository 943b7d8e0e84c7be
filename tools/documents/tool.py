"""Documents as a tool: the best sentence, then the passages with file and line."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from agentkit.errors import AgentkitError, ConfigurationError, ToolError, in_one_line
from agentkit.tool import Result, Tool
from agentkit.tools.documents.index import bring_up_to_date, connect, default_file, is_safe, remove, unread
from agentkit.tools.documents.query import Found, find
from agentkit.tools.documents.reading import NO_TEXT
from agentkit.tools.documents.sentences import Sentence, answer_line, scored_sentences
from agentkit.tools.search_text import MOST_TOKENS, NAME, NOTHING_FOUND, Hit, checked_query, search_result

MOST_PASSAGES = 5
LONGEST_SNIPPET = 320
LONGEST_NAME = 160  # of a file, in a note
LOOKING_SHARE = 0.05  # of the time that may go into looking for changed files

T = TypeVar("T")


class Documents:
    """Full-text search over a folder.

    The index lies in the user's cache folder, or in the file `index`. It is brought up to date before a search, but not
    so often that this takes more than a twentieth of the time. With `brief`, the text is the best sentence alone, which
    is what a small model can read; the sources are the same. Raises `ConfigurationError` for a folder that is not
    there, at the first search: a replayed run needs none.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        index: str | os.PathLike[str] | None = None,
        most_passages: int = MOST_PASSAGES,
        most_tokens: int = MOST_TOKENS,
        brief: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection: sqlite3.Connection | None = None
        if folder == "":
            raise ConfigurationError("expected a folder to search, saw none named; write . for the current one")
        self.folder = Path(folder).expanduser()
        self._index = None if index is None else Path(index)
        self._most_passages = most_passages
        self._most_tokens = most_tokens
        self._brief = brief
        self._clock = clock
        self._lock = threading.RLock()
        self._look_again_s = float("-inf")
        self._is_renewed = self._is_temporary = False
        self.notes: tuple[str, ...] = ()
        self.index_note = ""

    def search(self, query: str) -> Result:
        """The observation for one query, with its sources; raises `ToolError`."""
        return self._with_index(partial(self._searched, checked_query(query)))

    def refresh(self) -> int:
        """Bring the index up to date now; how many files were read or forgotten. Raises `ToolError`."""
        return self._with_index(self._refreshed)

    def close(self) -> None:
        """Let go of the index; the next search opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def __del__(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _with_index(self, work: Callable[[], T]) -> T:
        """What `work` gives; an index that proves damaged is made anew, and one goes with the process where that fails.

        What it holds may be anything: of another type, without a column, without sense.
        """
        with self._lock:
            for is_last in (False, False, True):
                try:
                    return work()
                except AgentkitError:
                    raise
                except (sqlite3.Error, TypeError, ValueError, IndexError, AttributeError) as error:
                    self.close()
                    if is_last:
                        raise ToolError(f"Error: the index of {self.folder} cannot be used ({error}).") from error
                    self._look_again_s = float("-inf")
                    place = self._place()
                    if self._is_renewed or place is None or _would_fail_again(error):
                        self._is_temporary = True
                        self.index_note = f"the index {place} cannot be used ({error}): the documents are read anew"
                    else:
                        remove(place)
                        self._is_renewed = True
            raise AssertionError("the last attempt returns or raises")

    def _refreshed(self) -> int:
        started_s = self._clock()
        count = bring_up_to_date(self._connected(), self._checked_folder())
        self.notes = tuple(_notes(unread(self._connected())))
        now_s = self._clock()
        self._look_again_s = now_s + (now_s - started_s) / LOOKING_SHARE
        return count

    def _searched(self, query: str) -> Result:
        if self._clock() > self._look_again_s:
            self._refreshed()
        findings = find(self._connected(), query, most=self._most_passages)
        scored = scored_sentences(findings.passages, findings.weights)
        if not any(scored):
            return Result(NOTHING_FOUND, readings=self.notes)
        head = [answer_line(scored, findings.weights)]
        hits = [_hit(found, here) for found, here in zip(findings.passages, scored, strict=True) if here]
        result = search_result(head, hits, most_tokens=self._most_tokens)
        return Result(head[0] if self._brief else result.text, result.sources, self.notes)

    def _checked_folder(self) -> Path:
        if not self.folder.is_dir():
            raise ConfigurationError(f"expected a folder to search, saw {self.folder}; give one that is there")
        return self.folder

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._checked_folder()
            self._connection = connect("" if self._is_temporary else self._place() or "")
        return self._connection

    def _place(self) -> Path | None:
        """The index's file; none where the cache folder cannot be written."""
        if self._index is not None:
            return self._index
        place = default_file(self.folder)
        with suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if os.access(place.parent, os.W_OK) and is_safe(place):
                return place
        return None


_PASSING = {3, 5, 6, 8, 10, 13, 14}  # SQLITE_PERM, BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN


def _would_fail_again(error: Exception) -> bool:
    """Whether a new index in the same place would fare no better: there is no room, no permission, a folder."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _PASSING


def document_search(folder: str | os.PathLike[str], **options: Any) -> Tool:
    """A Search tool over the files of a folder; `options` are those of `Documents`."""
    documents = Documents(folder, **options)
    name = _escaped(re.split(r"[\\/]", os.fspath(folder).rstrip("\\/"))[-1].strip(".~")) or "the folder"
    return Tool(
        name=NAME,
        description=(
            f"Useful for when you need to answer questions from the documents in {name}. Input is a search query."
        ),
        run=documents.search,
        idempotent=True,
        side_effects=False,
    )


def _hit(found: Found, sentences: Sequence[Sentence]) -> Hit:
    """A passage as a search result: its heading, where it stands, its best sentences."""
    place = max(range(len(sentences)), key=lambda n: sentences[n].score)
    first, last = place, place + 1
    size = len(sentences[place].text)
    while last < len(sentences) and size + len(sentences[last].text) < LONGEST_SNIPPET:
        size += len(sentences[last].text) + 1
        last += 1
    while first > 0 and size + len(sentences[first - 1].text) < LONGEST_SNIPPET:
        first -= 1
        size += len(sentences[first].text) + 1
    snippet = " ".join(sentence.text for sentence in sentences[first:last])
    where = f"#page={found.page}" if found.page else f":{sentences[place].line}"
    path = _escaped(found.path)
    return Hit(_escaped(found.heading) or PurePosixPath(path).stem, path + where, snippet)


def _escaped(text: str) -> str:
    """The text with what cannot be seen escaped: a file's name may hold line breaks."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _notes(reasons: Sequence[tuple[str, int, str, bool]]) -> Iterator[str]:
    """What a user should know of files that are not searched; pictures and the like are none."""
    for reason, count, path, partly in reasons:
        if reason != NO_TEXT:
            path = in_one_line(_escaped(path), LONGEST_NAME)
            files = f"{path} is" if count == 1 else f"{count} files such as {path} are"
            how = "searched at the beginning only" if partly else "not searched"
            yield f"{files} {how}: {reason}"


def with_documents(tools: Sequence[Any], folder: str, *, brief: bool = False) -> list[Any]:
    """The tools with a Search of the folder in the place of Search, or behind them where there is none."""
    ours = document_search(folder, brief=brief)
    kept = [ours if getattr(tool, "name", None) == NAME else tool for tool in tools]
    return kept if ours in kept else [*kept, ours]


def read_folder(folder: str) -> tuple[str, ...]:
    """Bring the folder's index up to date; what a user should know of files that are not searched."""
    documents = Documents(folder)
    try:
        documents.refresh()
        return (*filter(None, [documents.index_note]), *documents.notes)
    finally:
        documents.close()
