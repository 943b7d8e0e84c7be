"""Prompts and streams stand in the file as what they add, and come back to the letter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.cassette.format.entries import Entry
from agentkit.cassette.format.event_stream import lengthened, shortened
from agentkit.cassette.format.file import Document, load
from agentkit.cassette.format.place import save
from agentkit.cassette.format.writer import render
from agentkit.errors import CassetteDrift, CassetteError
from agentkit.models.scripted import ScriptedBackend
from tests.cassette.runs import TURNS, Tools, run
from tests.doubles.models import action, final

SYSTEM = {"role": "system", "content": "You answer questions."}
GROWING = ["What is it? Think of that question for a while.\n", "Thought: look\nObservation: 4\nThought: ", "Final\n"]


def asked(uri: str, messages: list[Any], **more: Any) -> Entry:
    return Entry(uri=uri, body={"model": "m", "messages": messages, **more}, response={"string": "x"})


def written(tmp_path: Path, entries: list[Entry]) -> tuple[str, list[Entry]]:
    path = tmp_path / "run.yaml"
    save(path, render(Document(items=entries, complete=True)))
    return path.read_text(encoding="utf-8"), list(load(path).entries)


@pytest.mark.parametrize("uri", ["model://m/turn", "http://127.0.0.1/v1/chat/completions"])
def test_a_scratchpad_that_grows_stands_there_once(tmp_path: Path, uri: str) -> None:
    growing = [{"role": "user", "content": "".join(GROWING[:n])} for n in (1, 2, 3)]
    entries = [asked(uri, [SYSTEM, message], tools=[{"name": "Search"}]) for message in growing]
    text, read = written(tmp_path, entries)
    assert read == entries
    assert [text.count(one) for one in ("You answer", "What is it?", "Observation: 4", "Search")] == [1, 1, 1, 1]
    assert text.count("sha256: ") == 3


CONTENT = st.text(max_size=60) | st.sampled_from(GROWING)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant"]), "content": st.lists(CONTENT, max_size=4).map("".join)}
)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(MESSAGE, max_size=4), max_size=5))
def test_any_messages_come_back(tmp_path_factory: pytest.TempPathFactory, prompts: list[Any]) -> None:
    entries = [asked("model://m/turn", messages) for messages in prompts]
    assert written(tmp_path_factory.mktemp("run"), entries)[1] == entries


def test_a_prompt_that_was_changed_in_the_file_is_told_by_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    run(path, "record", ScriptedBackend(TURNS), Tools())
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("Tools: Search", "Tools: search", 1), encoding="utf-8")
    said = (
        r"recorded 'Tools: search, Calculator.', this run 'Tools: Search, .*' \(interaction 1 was changed in the file\)"
    )
    with pytest.raises(CassetteDrift, match=said):
        run(path, "replay", ScriptedBackend(()), Tools())


@pytest.mark.parametrize(("joined", "said"), [("5", "expected joined to be texts"), ("[1]", "expected joined to be")])
def test_pieces_that_are_no_texts_are_refused(tmp_path: Path, joined: str, said: str) -> None:
    path = tmp_path / "run.yaml"
    body = f"{{messages: [{{role: user, content: {{joined: {joined}}}}}]}}"
    path.write_text(f"version: 1\ninteractions: [{{request: {{uri: 'model://m/turn', body: {body}}}, response: {{}}}}]")
    with pytest.raises(CassetteError, match=said):
        load(path)


def test_a_run_of_ten_steps_is_small(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    long_prompt = (
        "[system]\n" + "You answer questions with tools. " * 30 + "\n[human]\n{input}\n[messages agent_scratchpad]"
    )
    turns = (*(action("Search", f"question {n}", "I should look. " * 6) for n in range(9)), final("42"))
    run(path, "record", ScriptedBackend(turns), Tools(found="A result of a search. " * 25), prompt=long_prompt)
    assert path.stat().st_size < 60_000


# -- streams of events -------------------------------------------------------------------------------------------------


def stream(*events: Any, style: dict[str, Any]) -> str:
    texts = [event if isinstance(event, str) else json.dumps(event, **style) for event in events]
    return "".join(f"data: {text}\n\n" for text in texts)


def chunk(content: str, **more: Any) -> dict[str, Any]:
    return {"id": "c1", "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": None}], **more}


EVENTS = (chunk("The"), chunk(" ans"), chunk("wér"), {**chunk(""), "usage": {"total_tokens": 5}}, "[DONE]")


@pytest.mark.parametrize("style", [{}, {"separators": (",", ":")}, {"ensure_ascii": False}])
def test_a_stream_is_told_by_what_changes(style: dict[str, Any]) -> None:
    text = stream(*EVENTS, style=style)
    pieces = [len((part + "\n\n").encode()) for part in text.removesuffix("\n\n").split("\n\n")]
    short = shortened({"string": text, "pieces": pieces, "closed": True})
    assert short["events"] == [
        {"event": chunk("The")},
        {"at": ["choices", 0, "delta", "content"], "then": [" ans", "wér"]},
        {"event": EVENTS[3]},
        {"text": "[DONE]"},
    ]
    assert (short["pieces"], short["closed"]) == ("events", True)
    assert lengthened(short) == {"string": text, "pieces": pieces, "closed": True}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
EVENT = st.dictionaries(st.text(max_size=3), JSON, max_size=3) | st.text(max_size=8)


@settings(deadline=None)
@given(st.lists(EVENT, max_size=6), st.sampled_from([{}, {"separators": (",", ":")}]), st.text(max_size=3))
def test_any_stream_comes_back(events: list[Any], style: dict[str, Any], rest: str) -> None:
    body = {"string": stream(*events, style=style) + rest}
    assert lengthened(shortened(body)) == body
