"""`agentkit show`: a recorded run as text, as JSON and as a page."""

from __future__ import annotations

import html
import json
import re
from contextlib import closing
from pathlib import Path

import pytest

from agentkit import AgentExecutor
from agentkit.cassette import Cassette
from agentkit.cassette.format.file import load, partial_of
from agentkit.cli.run import next_command
from agentkit.cli.show import show
from agentkit.errors import ModelError
from agentkit.events import Finished, Observed, StopReason, Usage
from agentkit.models import ChatHuggingFace
from agentkit.recorder import RecorderMode
from agentkit.report.compare import compare
from agentkit.report.page import page
from agentkit.report.story import read_story
from agentkit.report.wording import ending, made_with
from agentkit.secrets import REDACTED
from tests.cassette_use.recordings import QUESTION, TURNS, record, speaker, tools
from tests.doubles.models import action, final
from tests.test_cli import SEEDS_RUN, agentkit

SHOWN = """\
Who is 25, and what is 5 times that?
local:ORG/SPEAKER · search, calculator · prompt react-json · at most 15 turns
{path}, recorded {day}

Step 1{times}100 (40 cached) + 60 tokens
Thinking: whom to ask
Thought: I look it up.
Action: Search(who is 25)
Observation: Ada is 25. See https://example.org/ada.

Step 2{times}100 (40 cached) + 60 tokens
Wrote: I would say 125.
Not understood: Invalid format: there is neither an action nor a final answer. \
Write Action: and below it a ```json block with the keys "action", which names a tool, and "action_input", \
or Final Answer: and the answer.

Step 3{times}100 (40 cached) + 60 tokens
Thought: Five times.
Action: Calculator(25*5)
Read as: 25 × 5
Observation: Answer: 125

Step 4{times}100 (40 cached) + 60 tokens
Thought: I now know the final answer

Answer: Ada, and 125
Source: Ada's page, https://example.org/ada
Source: notes, javascript:alert(1)
4 turns · 2 tool calls · 400 (160 cached) + 240 tokens
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return record(tmp_path / "run.yaml")


def without_times(text: str) -> str:
    """How long it took differs from run to run."""
    text = re.sub(r"  \(\d+ ms\)", "", text)
    return re.sub(r" · (?:model|tools) [\d.]+ m?s", "", text)


@pytest.mark.slow
def test_a_run_reads_from_top_to_bottom(path: Path) -> None:
    done = agentkit("show", str(path))
    shown = SHOWN.format(path=path, day=load(path).head["recorded"], times=" · ")
    assert (done.returncode, done.stderr) == (0, "")
    assert without_times(done.stdout).strip() == shown.strip()


def test_a_run_as_json(path: Path) -> None:
    shown = json.loads(agentkit("show", str(path), "--json").stdout)
    (run,) = shown.pop("runs")
    assert (shown["model"], shown["complete"], shown["settings"]["max_iterations"]) == ("local:ORG/SPEAKER", True, 15)
    assert {name: run[name] for name in ("input", "output", "stop_reason")} == {
        "input": QUESTION,
        "output": "Ada, and 125",
        "stop_reason": "answer",
    }
    assert Usage(**run["usage"]) == Usage(400, 240, 160)
    assert [step["thought"] for step in run["steps"]] == [
        "I look it up.",
        "",
        "Five times.",
        "I now know the final answer",
    ]
    assert [call["observation"] for step in run["steps"] for call in step["calls"]] == [
        "Ada is 25. See https://example.org/ada.",
        "Answer: 125",
    ]


def test_the_seeds_run_shows() -> None:
    shown = agentkit("show", str(SEEDS_RUN)).stdout
    assert "Action: Search(vittoria ceretti age)\nObservation: 25 years\n" in shown
    assert "transcribed" in shown
    assert "https://python.langchain.com" in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "lines"),
    [
        (
            "format-1",
            ["Action: Search(vittoria ceretti age)", "Observation: 25 years", "Answer: Vittoria Ceretti, Leo"],
        ),
        (
            "format-2",
            ["Action: Search(vittoria ceretti age)", "Observation: 25 years", "Answer: Vittoria Ceretti, Leo"],
        ),
        (
            "format-2-script",
            ["What is 17 times 23?", "Action: Calculator(17*23)", "Observation: Answer: 391", "Answer: 391"],
        ),
    ],
)
def test_earlier_formats_show(file: str, lines: list[str]) -> None:
    path = Path(__file__).parents[1] / "cassette" / f"{file}.yaml"
    shown = without_times(agentkit("show", str(path)).stdout)
    assert [line for line in lines if f"\n{line}" not in f"\n{shown}"] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("turns", "settings", "said"),
    [
        ((*TURNS[:1], TURNS[0], TURNS[0], final("Ada")), {}, "Ended: the same came of several turns in a row"),
        ((TURNS[0], TURNS[2]), {"max_iterations": 1}, "Ended: the iteration limit is reached"),
        ((TURNS[0], TURNS[2]), {"max_tokens": 10}, "Ended: the token budget is spent"),
    ],
)
def test_a_limit_is_told(tmp_path: Path, turns: tuple[str, ...], settings: dict[str, int], said: str) -> None:
    path = record(tmp_path / "run.yaml", turns, **settings)
    assert said in agentkit("show", str(path)).stdout


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_iterations": 1, "max_tokens": 1}, ["at most 1 turn", "at most 1 token"]),
        ({"max_iterations": 2, "max_tokens": 2_000}, ["at most 2 turns", "at most 2,000 tokens"]),
    ],
)
def test_what_is_counted_is_written_as_one_or_as_several(
    tmp_path: Path, limits: dict[str, int], said: list[str]
) -> None:
    assert list(made_with(read_story(record(tmp_path / "run.yaml", **limits))))[-2:] == said


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("answer", "agentkit replay run.yaml shows it again"),
        ("return_direct", "agentkit replay run.yaml shows it again"),
        ("max_iterations", "agentkit resume run.yaml goes on with it, given more --max-iterations"),
        ("max_execution_time", "agentkit resume run.yaml goes on with it, given more --timeout"),
        ("max_tokens", "agentkit resume run.yaml goes on with it, given more --max-tokens"),
        ("max_cost", "agentkit resume run.yaml goes on with it, given more --max-cost"),
        ("stuck", "agentkit fork run.yaml --step NUMBER goes another way"),
        ("not_grounded", "agentkit fork run.yaml --step NUMBER goes another way"),
    ],
)
def test_what_to_do_next_depends_on_what_ended_the_run(reason: StopReason, says: str) -> None:
    assert says in next_command(Path("run.yaml"), reason)


def test_an_interrupted_run_shows_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        record(tmp_path / "run.yaml", (*TURNS[:1], KeyboardInterrupt()))
    (partial,) = tmp_path.iterdir()
    shown = agentkit("show", str(partial)).stdout
    assert "cut off" in shown
    assert "Observation: Ada is 25." in shown
    assert "Ended: it was interrupted" in shown


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyboardInterrupt(), "it was interrupted"),
        (
            ModelError("http://host answered HTTP 401: no such key"),
            "an error broke it off: http://host answered HTTP 401",
        ),
        (RuntimeError("out of\nmemory"), "an error broke it off: RuntimeError: out of memory"),
        (ValueError(), "an error broke it off: ValueError"),
        (SystemExit(1), "its process was told to end"),
    ],
    ids=repr,
)
def test_how_a_run_was_broken_off_is_told_everywhere(tmp_path: Path, error: BaseException, said: str) -> None:
    with pytest.raises(type(error)):
        record(tmp_path / "run.yaml", (*TURNS[:1], error))
    (partial,) = tmp_path.iterdir()
    story = read_story(partial)
    assert ending(story.runs[0]).startswith(said)
    assert said in html.unescape(page(story)).replace(f"{said[:1].upper()}{said[1:]}", said)
    assert compare(story, read_story(record(tmp_path / "whole.yaml", TURNS))).endings[-1].label == "ended by"


@pytest.mark.slow
def test_the_command_tells_how_a_run_was_broken_off(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        record(tmp_path / "run.yaml", (*TURNS[:1], ModelError("HTTP 401: no such key")))
    (partial,) = tmp_path.iterdir()
    told = "an error broke it off: HTTP 401: no such key"
    assert f"Ended: {told}\n" in agentkit("show", str(partial)).stdout
    shown = json.loads(agentkit("show", str(partial), "--json").stdout)
    assert (shown["ended"], shown["runs"][0]["ended"], shown["stop_reason"]) == (told, told, None)


def test_a_run_whose_reader_goes_away(tmp_path: Path) -> None:
    """Once it was read to its end nothing more is said; and a replay compares no exceptions."""

    def read(mode: RecorderMode, until: type, name: str = "run.yaml") -> None:
        executor = AgentExecutor.from_model(speaker(TURNS), tools())
        with Cassette(tmp_path / name, mode, environment={}), closing(executor.events({"input": "?"})) as events:
            for event in events:
                if isinstance(event, until):
                    raise LookupError

    with pytest.raises(LookupError):
        read("record", Observed)
    partial = partial_of(tmp_path / "run.yaml")
    assert ending(read_story(partial).runs[0]) == "whoever followed it stopped before its end"
    with pytest.raises(LookupError):
        read("record", Finished, "read.yaml")
    assert read_story(partial_of(tmp_path / "read.yaml")).runs[0].broken_off is None
    read("resume", type(None))
    assert read_story(tmp_path / "run.yaml").runs[0].answered
    with pytest.raises(LookupError):
        read("replay", Observed)


def test_a_scripts_recording_shows_each_of_its_runs(tmp_path: Path) -> None:
    path = record(tmp_path / "run.yaml", described=False)
    assert "speaker\n" in (shown := agentkit("show", str(path)).stdout)
    assert "recorded" in shown
    assert "by a script" in shown
    assert "Answer: Ada, and 125" in shown


def test_a_model_that_was_asked_for_plain_text_shows(tmp_path: Path) -> None:
    with Cassette(tmp_path / "run.yaml", "record", environment={}):
        ChatHuggingFace(llm=speaker(["Hello yourself."]), constrain="off").invoke("Hello")
    shown = agentkit("show", str(tmp_path / "run.yaml")).stdout
    assert shown.startswith("Hello\n")
    assert "Answer: Hello yourself." in shown


def test_a_text_scratchpad_gives_no_observation_twice(tmp_path: Path) -> None:
    path = record(tmp_path / "run.yaml", prompt="react-json-text")
    shown = json.loads(agentkit("show", str(path), "--json").stdout)
    rejection = shown["runs"][0]["steps"][1]["rejection"]
    assert rejection.startswith("Invalid format: there is neither")
    assert "Observation:" not in rejection


@pytest.mark.slow
def test_a_file_that_is_no_cassette_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("hello")
    for command in (["show"], ["diff", str(SEEDS_RUN)]):
        done = agentkit(*command, str(tmp_path / "x.yaml"))
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (4, "", 1)


@pytest.mark.slow
def test_control_characters_of_a_stranger_do_not_reach_the_terminal(tmp_path: Path) -> None:
    path = record(tmp_path / "run.yaml", found="\x1b[2Jgone\x07")
    assert "\ufffd[2Jgone\ufffd" in agentkit("show", str(path)).stdout


@pytest.mark.slow
def test_a_page_is_written_beside_the_cassette_or_where_it_is_wanted(path: Path, tmp_path: Path) -> None:
    assert agentkit("show", str(path), "--html").stderr == f"written: {tmp_path / 'run.html'}\n"
    agentkit("show", str(path), "--html", str(tmp_path / "other.html"))
    assert (tmp_path / "run.html").read_bytes() == (tmp_path / "other.html").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--html", "run.yaml"], "expected a page named *.html, saw run.yaml"),
        (["page.html"], "a page is written with --html"),
    ],
)
def test_a_page_never_replaces_a_cassette(path: Path, words: list[str], said: str) -> None:
    before = path.read_bytes()
    done = agentkit("show", "run.yaml", *words, cwd=path.parent)
    assert done.returncode == 2
    assert said in done.stderr
    assert path.read_bytes() == before


@pytest.mark.slow
def test_tools_over_http_show_what_the_model_was_told_of_them(tmp_path: Path) -> None:
    """Their results are not in the file, but in the prompt that follows."""
    path = tmp_path / "run.yaml"
    with Cassette(path, "record", environment={}):
        model = ChatHuggingFace(llm=speaker([TURNS[0], final("x")]), constrain="off")
        said = model.invoke("q").text
        model.invoke([("human", "q"), ("ai", said), ("human", "Observation: over HTTP")])
    assert path.exists()
    assert "Action: Search(who is 25)\nObservation: over HTTP\n" in agentkit("show", str(path)).stdout


@pytest.mark.slow
def test_a_talk_without_an_agent_has_an_answer_and_no_turn_that_failed(tmp_path: Path) -> None:
    path = tmp_path / "talk.yaml"
    with Cassette(path, "record"):
        ChatHuggingFace(llm=speaker(["Hello, Ada."])).invoke("Say hello to Ada.")
    shown = agentkit("show", str(path)).stdout
    assert "Answer: Hello, Ada." in shown
    assert "Not understood" not in shown


def test_a_recording_without_any_reply_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused = {
        "request": {
            "method": "POST",
            "uri": "http://model/v1/chat",
            "headers": {},
            "body": {"messages": [{"role": "user", "content": "Who is Ada?"}]},
        },
        "response": {"status": {"code": 401, "message": "Unauthorized"}, "headers": {}, "body": {"string": "no"}},
    }
    file = tmp_path / "run.partial.yaml"
    file.write_text(json.dumps({"version": 1, "interactions": [refused]}))
    assert show([str(file), "--json"], standalone_mode=False) == 0
    assert "401" in capsys.readouterr().out


# -- files that a hand changed, or that came from elsewhere ------------------------------------------------------------

STAND_IN = "Z" * 40  # as long as a key: a file holds lengths of texts
KEYS = {
    "a variable's value": "Umbra-5521-copper-Umbra-5521-copper-9917",
    "a model provider's": "sk-proj-abcdefgh1234567890ABCDEFGH123456",
    "a code host's": "ghp_abcdefgh1234567890ABCDEFGH1234567890",
}


def edited(path: Path, key: str) -> Path:
    """A cassette that holds the key wherever a text can stand."""
    at = f" {STAND_IN} "
    turns = (
        f"<think>t{at}</think>" + action("Search", {"query": at, "api": [at]}, f"It is{at}."),
        f"Nonsense{at}" * 60,
        action(f"No{at}", at),
        final(f"Answer{at}"),
    )
    settings = {"model": f"http://127.0.0.1:1/v1?a={STAND_IN}", "options": {"stop": [STAND_IN], "user": STAND_IN}}
    record(path, turns, question=f"Q{at}", found=f"found{at}" * 60, **settings)
    text = path.read_text(encoding="utf-8").replace(STAND_IN, key)
    path.write_text(text.replace("agentkit:\n", f"agentkit:\n  note: kept {key}\n", 1), encoding="utf-8")
    return path


@pytest.mark.parametrize("words", [[], ["--json"], ["--html"]])
@pytest.mark.parametrize("key", KEYS.values(), ids=list(KEYS))
def test_a_key_in_a_file_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], key: str
) -> None:
    path = edited(tmp_path / "run.yaml", key)
    before = path.read_bytes()
    assert key.encode() in before
    monkeypatch.setenv("SHOP_PASSWORD", KEYS["a variable's value"])
    assert show.main([str(path), *words], standalone_mode=False) == 0
    out = path.with_suffix(".html").read_text(encoding="utf-8") if "--html" in words else capsys.readouterr().out
    assert out.count(REDACTED) + out.count(html.escape(REDACTED)) > 9
    assert not [part for part in (key, key[12:]) if part in out]
    assert path.read_bytes() == before
