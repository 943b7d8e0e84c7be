"""Files that are no cassettes are refused in one line; a recording is written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentkit.cassette import Cassette, Replay, RunSpec, read_run_spec
from agentkit.cassette.format.file import load
from agentkit.errors import CassetteError, ConfigurationError
from agentkit.models.backend import ChatRequest
from agentkit.models.scripted import ScriptedBackend
from agentkit.settings import RunSettings
from tests.cassette.runs import TURNS, Tools, answer, play, run

HEAD = "version: 1\nagentkit: {format: 1, version: x, run: {inputs: {input: q}}}\n"
TURN = (
    "interactions:\n- request: {method: POST, uri: 'model://m/turn', headers: {}, body: {messages: []}}\n  response: "
)
BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(24)
)

HOSTILE = {
    "empty": ("", "expected a mapping with interactions"),
    "text": ("hello", "expected a mapping with interactions"),
    "list": ("- 1\n- 2", "expected a mapping with interactions"),
    "binary": (b"\xff\xfe\x00\x01", "expected UTF-8 text"),
    "control characters": ("version: 1\nx: \x00", "expected YAML"),
    "python tag": ('version: 1\ninteractions: [!!python/object/apply:os.system ["touch {hacked}"]]', "expected YAML"),
    "unknown tag": ("version: 1\ninteractions: [!evil x]", "expected YAML"),
    "cut in a string": ('version: 1\ninteractions:\n- request: {body: "cut', "expected YAML"),
    "flow 100,000 deep": ("version: 1\ninteractions: " + "[" * 100_000, "at most 100 levels|maximum nesting depth"),
    "mapping 100,000 deep": ("version: 1\ninteractions: " + "{a: " * 100_000, "at most 100 levels"),
    "block 100,000 deep": ("- " * 100_000, "at most 100 levels"),
    "alias bomb": (BOMB + "version: 1\ninteractions: [*y]\n", "expand without bound"),
    "holds itself": ("version: 1\ninteractions: &a [*a]\n", "holds itself"),
    "month 13": ("version: 1\ninteractions: [2026-13-41]", "expected YAML"),
    "a long number": ("version: 1\ninteractions: [" + "9" * 10_000 + "]", "expected YAML|request to be a mapping"),
    "two documents": ("version: 1\ninteractions: []\n---\nversion: 1", "expected YAML"),
    "other version": ("version: 7\ninteractions: []", "expected version: 1, saw 7"),
    "newer format": (
        "version: 1\nagentkit: {format: 9}\ninteractions: []",
        "written in format 9, this version reads 3",
    ),
    "no request": (HEAD + "interactions: [{response: {}}]", "interaction 1: expected request to be a mapping"),
    "no uri": (HEAD + "interactions: [{request: {uri: 5}, response: {}}]", "request.uri to be an address, saw int"),
    "number for text": (HEAD + TURN + "{body: {string: 25}}", "response.body.string to be text, saw int; quote it"),
    "no reason": (HEAD + TURN + "{body: {string: x, finish_reason: 5}}", "finish_reason to be text, saw int"),
    "bad time": (HEAD + TURN + "{body: {string: x}}\n  ms: soon", "interaction 1: expected ms to be a number, saw str"),
    "endless time": (HEAD + TURN + "{body: {string: x}}\n  at_ms: .inf", "expected at_ms to be a number"),
    "bad run": (
        "version: 1\nagentkit: {format: 1, run: [1]}\ninteractions: []",
        "expected agentkit.run to be a mapping",
    ),
    "bad limit": (
        HEAD.replace("{inputs", "{max_iterations: many, inputs") + "interactions: []",
        "max_iterations: expected a whole number, saw 'many'",
    ),
    "bad tools": (HEAD.replace("{inputs", "{tools: [1], inputs") + "interactions: []", "tools: expected names"),
}


@pytest.mark.parametrize(("content", "said"), HOSTILE.values(), ids=HOSTILE)
def test_it_is_refused_in_one_line(tmp_path: Path, content: str | bytes, said: str) -> None:
    path = tmp_path / "run.yaml"
    hacked = tmp_path / "hacked"
    path.write_bytes(content if isinstance(content, bytes) else content.replace("{hacked}", str(hacked)).encode())
    with pytest.raises(CassetteError, match=said) as caught:
        Replay(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "response",
    [
        "{body: {string: x, pieces: [many]}}",
        "{body: {string: x, pieces: 5}}",
        "{body: {string: x, usage: {tokens: 5}}}",
        "{body: {string: x, usage: {prompt_tokens: many}}}",
        "{body: {string: x, pieces: [{text: 1, logprobs: [1]}]}}",
    ],
)
def test_a_reply_in_another_shape_is_refused_when_it_is_played(tmp_path: Path, response: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(HEAD + TURN.replace("messages: []", "model: m, messages: [], stop: []") + response)
    backend = ScriptedBackend(TURNS, model_id="m")
    with pytest.raises(CassetteError, match="in the recorded shape"):
        play(path, lambda cassette: list(cassette.backend(backend).generate_chat(ChatRequest(messages=[]))))


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    with path.open("wb") as file:
        file.truncate(60_000_000)
    with pytest.raises(CassetteError, match="at most 50 MB"):
        load(path)


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(CassetteError, match="no such cassette; agentkit run --record FILE writes one"):
        load(tmp_path / "none.yaml")
    with pytest.raises(CassetteError, match="cannot be read"):
        load(tmp_path)
    with pytest.raises(ConfigurationError, match="is a folder; name a file in it"), Cassette(tmp_path, "record"):
        pass


def test_any_beginning_of_a_cassette_is_refused_or_not_complete(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    run(path, "record", ScriptedBackend(TURNS), Tools())
    whole = path.read_bytes()
    for length in range(0, len(whole) - 2, 61):
        path.write_bytes(whole[:length])
        assert not _is_whole(path)


def _is_whole(path: Path) -> bool:
    try:
        return load(path).complete
    except CassetteError:
        return False


# -- saving ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("broken")], ids=["Ctrl-C", "error"])
def test_an_interrupted_run_is_saved_as_incomplete(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "new folder" / "run.yaml"
    with pytest.raises(type(error)):
        run(path, "record", ScriptedBackend((*TURNS[:1], error)), Tools())
    partial = path.with_name("run.partial.yaml")
    document = load(partial)
    assert not document.complete
    assert [entry.kind for entry in document.entries] == ["turn", "tool"]
    assert list(path.parent.iterdir()) == [partial]
    with pytest.raises(CassetteError, match=r"no such cassette, but run.partial.yaml is there; agentkit resume"):
        load(path)


def test_an_interrupted_run_never_replaces_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    run(path, "record", ScriptedBackend(TURNS), Tools())
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        run(path, "record", ScriptedBackend((*TURNS[:1], KeyboardInterrupt())), Tools())
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.partial.yaml", "run.yaml"]
    assert not load(tmp_path / "run.partial.yaml").complete


def test_a_turn_that_is_broken_off_is_not_recorded(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    for stop, recorded in ((("never",), 0), (("Action",), 1)):
        with Cassette(path, "record", environment={}) as cassette:
            chunks = cassette.backend(ScriptedBackend(TURNS)).generate_chat(ChatRequest(messages=[], stop=stop))
            for _ in range(6):
                next(chunks)
            chunks.close()  # type: ignore[attr-defined]
        assert len(load(path).entries) == recorded


def test_a_run_that_fails_at_once_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        run(tmp_path / "run.yaml", "record", ScriptedBackend((RuntimeError("broken"),)), Tools())
    assert list(tmp_path.iterdir()) == []


def test_recording_again_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    for found in ("Ada is 25.", "Ada is 26."):
        run(path, "record", ScriptedBackend(TURNS), Tools(found=found))
    assert "Ada is 26." in path.read_text()
    assert "Ada is 25." not in path.read_text()
    assert answer(run(path, "replay", ScriptedBackend(()), Tools())) == "125"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_cannot_be_written_is_told_before_the_run(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CassetteError, match="cannot be written"), Cassette(tmp_path / "a" / "run.yaml", "record"):
        raise AssertionError


# -- the description of a run ------------------------------------------------------------------------------------------


def test_a_runs_description_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    prompt = tmp_path / "mine.txt"
    prompt.write_text("Tools: {tools} {tool_names}\n{input}\n{agent_scratchpad}", encoding="utf-8")
    spec = RunSpec.of(
        {"input": "What is 2 + 2?"}, model="local:ORG/NAME", tools=("calculator",), prompt=str(prompt), max_tokens=500
    )
    with Cassette(path, "record", run=spec, environment={}):
        pass
    read = read_run_spec(path)
    assert read == spec
    assert read.settings == RunSettings(
        model="local:ORG/NAME", tools=("calculator",), prompt=str(prompt), max_tokens=500
    )
    prompt.unlink()
    assert read.read_prompt().sections == spec.read_prompt().sections


def test_a_scripts_cassette_cannot_be_replayed_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    run(path, "record", ScriptedBackend(TURNS), Tools())
    with pytest.raises(CassetteError, match="recorded by a script"):
        Replay(path)
