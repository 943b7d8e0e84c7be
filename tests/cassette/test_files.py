"""Files that are no cassettes are refused in one line; a recording is written whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agentkit.cassette import Cassette, Replay, RunSpec, read_run_spec
from agentkit.cassette.format.file import load
from agentkit.cassette.format.place import Place
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
MERGED = "a: &a {k: 1}\n" + "".join(
    f"b{n}: &b{n}\n  <<: [{', '.join([f'*b{n - 1}' if n else '*a'] * 10)}]\n" for n in range(8)
)
EXCHANGE = "interactions:\n- request: {method: GET, uri: 'http://a/', body: null}\n  response: "

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
    "merge keys that multiply": (MERGED + "version: 1\ninteractions: []", "merge keys"),
    "endless hexadecimal": ("version: 1\nagentkit: {format: 0x" + "f" * 100_000 + "}", "a number of 100,002 digits"),
    "sexagesimal": ("version: 1\ninteractions: [1" + ":1" * 50_000 + "]", "a number of 100,001 digits"),
    "sexagesimal fraction": ("version: 1\ninteractions: [1" + ":1" * 50_000 + ".5]", "a number of 100,003 digits"),
    "no integer": ("version: 1\ninteractions: [!!int x]", "expected YAML"),
    "no truth": ("version: 1\ninteractions: [!!bool maybe]", "expected YAML"),
    "a set": ("version: 1\ninteractions: !!set {a, b}", "expected YAML"),
    "a key twice": ("version: 1\nversion: 1\ninteractions: []", "each key of a mapping once, saw 'version' twice"),
    "a key that is no text": ("version: 1\n1: 2\ninteractions: []", "the keys of mappings to be text, saw int"),
    "a mapping for a key": ("version: 1\n? {a: 1}\n: 2\ninteractions: []", "to be text, saw dict"),
    "no such anchor": ("version: 1\ninteractions: [*x]", "undefined alias 'x'"),
    "long texts again and again": (
        f"version: 1\na: &a {'x' * 100_000}\ninteractions: [{', '.join(['*a'] * 5_000)}]",
        "aliases that expand without bound",
    ),
    "a run that ends twice": (
        HEAD + "interactions: []\nend: {events: [" + "{finished: answer, output: x, run: 1}, " * 2 + "]}",
        "a run ends once",
    ),
    "an unknown end": (
        HEAD + "interactions: []\nend: {events: [{finished: [answer], output: x, run: 1}]}",
        "one of answer, return_direct",
    ),
    "a run's number that is none": (HEAD + "interactions: []\nend: {runs: [{run: {a: 1}}]}", "numbers of end.runs"),
    "true for a format": ("version: 1\nagentkit: {format: true}\ninteractions: []", "written in format True"),
    "a header that is no text": (HEAD + EXCHANGE + "{headers: {location: [true]}}", "values of headers to be text"),
    "a status that is none": (HEAD + EXCHANGE + "{status: {code: [200]}}", "code to be a status, saw list"),
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


STREAM = f"[event: {{a: {'x' * 10_000}, b: y}}, {{at: [b], then: [{', '.join('z' * 10_000)}]}}]"
EXHAUSTING = {
    "very many entries": ("version: 1\ninteractions:\n" + "- {a: 1}\n" * 1_500_000, "at most 300,000 values"),
    "an endless stream": (HEAD + EXCHANGE + f"{{body: {{style: compact, events: {STREAM}}}}}", "than 50,000,000 char"),
    "a very long number": ("version: 1\nx: 1" + ":1" * 10_000_000, "a number of 20,000,001 digits"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("content", "said"), EXHAUSTING.values(), ids=EXHAUSTING)
def test_what_would_exhaust_the_reader_is_refused_soon(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(content)
    started_s = time.process_time()
    with pytest.raises(CassetteError, match=said):
        load(path)
    assert time.process_time() - started_s < 4


def test_a_date_is_its_text(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("version: 1\nagentkit: {format: 1, recorded: 2026-11-27}\ninteractions: []\n")
    assert load(path).head == {"recorded": "2026-11-27"}


def test_many_calls_that_began_are_matched_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    call = "- {request: {uri: 'tool://t', body: {input: %d}}, response: {body: %s}}\n"
    calls = [call % (n, "{begun: true}") for n in range(300)] + [call % (n, "{string: x}") for n in range(299)]
    path.write_text(HEAD + "interactions:\n" + "".join(calls))
    assert [entry.body for entry in load(path).begun] == [{"input": 299}]


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


# -- what is there already ---------------------------------------------------------------------------------------------

OTHERS = {
    "a folder": (Path.mkdir, "is a folder"),
    "a pipe": (os.mkfifo, "is no regular file"),
    "a link to a device": (lambda path: path.symlink_to("/dev/null"), "is no regular file"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "is a link to nothing"),
    "somebody's text": (lambda path: path.write_text("do not lose me"), "is not a cassette of agentkit's"),
    "an empty file": (Path.touch, "is not a cassette of agentkit's"),
    "a cassette of vcrpy": (lambda path: path.write_text("version: 1\ninteractions: []"), "is not a cassette of"),
}


@pytest.mark.parametrize("name", ["run.yaml", "run.partial.yaml"])
@pytest.mark.parametrize(("make", "said"), OTHERS.values(), ids=OTHERS)
def test_what_was_not_recorded_is_not_written_over(tmp_path: Path, name: str, make: Any, said: str) -> None:
    make(tmp_path / name)
    before = (tmp_path / name).lstat()
    with pytest.raises(ConfigurationError, match=said), Cassette(tmp_path / "run.yaml", "record"):
        raise AssertionError
    assert os.path.samestat(before, (tmp_path / name).lstat())
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["run.yaml", "run.partial.yaml"])
def test_a_recording_is_replaced_where_that_is_meant(tmp_path: Path, name: str) -> None:
    run(tmp_path / "run.yaml", "record", ScriptedBackend(TURNS), Tools())
    (tmp_path / "run.yaml").rename(tmp_path / name)
    with pytest.raises(ConfigurationError, match=rf"{name} holds a recording; --force"):
        Place(tmp_path / "run.yaml", replaces=False)
    Place(tmp_path / "run.yaml").release()


def test_a_recording_that_was_changed_by_hand_is_still_ours(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    run(path, "record", ScriptedBackend(TURNS), Tools())
    path.write_text(path.read_text() + "<<<<<<< HEAD\n")
    run(path, "record", ScriptedBackend(TURNS), Tools())
    assert load(path).complete


def test_a_link_to_a_recording_goes_on_to_lead_there(tmp_path: Path) -> None:
    path, link = tmp_path / "run.yaml", tmp_path / "link.yaml"
    run(path, "record", ScriptedBackend(TURNS), Tools())
    link.symlink_to(path)
    run(link, "record", ScriptedBackend(TURNS), Tools(found="Ada is 26."))
    assert link.is_symlink()
    assert "Ada is 26." in path.read_text()


def test_a_recording_is_as_private_as_the_user_has_it(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        run(tmp_path / "run.yaml", "record", ScriptedBackend(TURNS), Tools())
    finally:
        os.umask(before)
    assert (tmp_path / "run.yaml").stat().st_mode & 0o777 == 0o600


def test_a_second_recorder_of_a_file_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    with Cassette(path, "record", environment={}):
        for other in (path, tmp_path / "run.partial.yaml"):
            with pytest.raises(ConfigurationError, match="is being recorded by another run"):
                Place(other)
        Place(tmp_path / "another.yaml").release()
    Place(path).release()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_a_recorder_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from agentkit.cassette.format.place import Place; "
        f"place = Place(Path({str(tmp_path / 'run.yaml')!r})); print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(ConfigurationError, match="is being recorded"):
        Place(tmp_path / "run.yaml")
    process.kill()
    process.communicate()
    Place(tmp_path / "run.yaml").release()
    assert list(tmp_path.iterdir()) == []


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
