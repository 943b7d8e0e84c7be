"""The run printed in LangChain's documentation replays, by itself and from the program that is printed there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agentkit.cassette import Cassette, Replay
from agentkit.errors import CassetteDrift
from agentkit.events import ActionChosen, Finished, Observed
from tests.cassette.transcribe import ANSWER, FILE, MODEL, OBSERVATIONS, QUESTION, transcript

FORMAT_2 = Path(__file__).with_name("format-2.yaml")
ACTIONS = [
    ("Search", "leo dicaprio girlfriend"),
    ("Search", "vittoria ceretti age"),
    ("Calculator", "25^0.43"),
]


def test_the_file_is_what_was_printed() -> None:
    again = "prompt or tools changed: python -m tests.cassette.transcribe"
    assert FILE.read_text(encoding="utf-8") == transcript(), again


def test_it_replays_by_itself() -> None:
    replay = Replay(FILE, environment={})
    events = list(replay.events())
    assert [(e.action.tool, e.action.tool_input) for e in events if isinstance(e, ActionChosen)] == ACTIONS
    assert [e.observation for e in events if isinstance(e, Observed)] == list(OBSERVATIONS)
    last = events[-1]
    assert isinstance(last, Finished)
    assert (last.output, last.answered) == (ANSWER, True)
    assert replay.title.endswith(f"hf:{MODEL}, transcribed")


@pytest.mark.parametrize("format", ["format-1", "format-2"])
def test_a_file_of_an_earlier_format_replays_as_well(format: str) -> None:
    *_, last = Replay(Path(__file__).with_name(f"{format}.yaml"), environment={}).events()
    assert isinstance(last, Finished)
    assert last.output == ANSWER


def test_an_answer_that_differs_drifts(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    before, end, after = FORMAT_2.read_text(encoding="utf-8").rpartition("\nend:")
    for old, new, message in (
        ("25 years old", "26 years old", "output changed: recorded '…Her current age is 26 years old.', this run"),
        ("reason: answer", "reason: stuck", "stop_reason changed: recorded 'stuck', this run 'answer'"),
    ):
        path.write_text(before + end + after.replace(old, new, 1), encoding="utf-8")
        with pytest.raises(CassetteDrift, match=f"step 4: the run's {message}"):
            list(Replay(path, environment={}).events())
    path.write_text(before.replace("is approximately 4.0", "is exactly 4.0") + end + after, encoding="utf-8")
    with pytest.raises(CassetteDrift, match="step 4: the run's output changed: recorded '…"):
        list(Replay(path, environment={}).events())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "finished: answer",
            "finished: stuck",
            "step 4: the run's stop_reason changed: recorded 'stuck', this run 'ans",
        ),
        ("action: Calculator", "action: Abacus", "step 3: the run's tool changed: recorded 'Abacus', this run 'Calc"),
        (
            'input: "25^0.43"\n    log',
            'input: "26^0.43"\n    log',
            "step 3: the run's input changed: recorded '26^0.43'",
        ),
        ('observed: "25 years"', 'observed: "26 years"', "step 2: the run's observation changed: recorded '26 years'"),
        ("from: 0, to: 270", "from: 0, to: 260", "step 1: the run's thought changed"),
        ("is approximately 4.0", "is approximatelv 4.0", "step 4: what was asked of the model, or its reply"),
        (
            "tools_executed: 3",
            "tools_executed: 4",
            "step 4: the run's tools_executed changed: recorded '4', this run '3'",
        ),
    ],
)
def test_an_event_that_is_changed_in_the_file_drifts(tmp_path: Path, old: str, new: str, message: str) -> None:
    path, text = tmp_path / "run.yaml", FILE.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(CassetteDrift, match=re.escape(message)):
        list(Replay(path, environment={}).events())


def test_the_calculator_is_executed_again(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    text = FILE.read_text(encoding="utf-8")
    path.write_text(text.replace(OBSERVATIONS[2], "Answer: 3.99", 1), encoding="utf-8")
    with pytest.raises(CassetteDrift, match=r"step 3: Calculator's result changed: recorded 'Answer: 3.99', this run"):
        list(Replay(path, environment={}).events())


@pytest.mark.slow
def test_it_replays_without_frameworks_and_without_keys() -> None:
    heavy = ("langchain", "langchain_core", "pydantic", "torch", "transformers", "vcr", "requests", "huggingface_hub")
    code = (
        "import sys; from agentkit.cassette import replay_run\n"
        f"*_, last = replay_run({str(FILE)!r})\n"
        f"print(last.output); print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [ANSWER, "[]"]


@pytest.mark.slow
def test_the_command_shows_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agentkit", "replay", str(FILE), "--json"],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    shown = json.loads(done.stdout)
    assert (shown["input"], shown["output"]) == (QUESTION, ANSWER)
    assert [(step["tool"], step["tool_input"]) for step in shown["steps"]] == ACTIONS
    assert [step["observation"] for step in shown["steps"]] == list(OBSERVATIONS)


@pytest.mark.filterwarnings("ignore:HuggingFaceHub.* is an old name:FutureWarning")
def test_the_printed_program_replays_with_only_its_imports_changed(capsys: pytest.CaptureFixture[str]) -> None:
    with Cassette(FILE, mode="replay"):
        answer = _printed_program()
    assert answer == {"input": QUESTION, "output": ANSWER}
    printed = capsys.readouterr().out
    assert "Entering new AgentExecutor chain" in printed
    assert OBSERVATIONS[0] in printed


def _printed_program() -> dict[str, str]:
    from agentkit import (
        AgentExecutor,
        ReActJsonSingleInputOutputParser,
        format_log_to_str,
        hub,
        load_tools,
        render_text_description,
    )
    from agentkit.models import ChatHuggingFace, HuggingFaceHub

    llm = HuggingFaceHub(
        repo_id="HuggingFaceH4/zephyr-7b-beta",
        task="text-generation",
        model_kwargs={
            "max_new_tokens": 512,
            "top_k": 30,
            "temperature": 0.1,
            "repetition_penalty": 1.03,
        },
    )
    chat_model = ChatHuggingFace(llm=llm)

    # setup tools
    tools = load_tools(["serpapi", "llm-math"], llm=llm)

    # setup ReAct style prompt
    prompt = hub.pull("hwchase17/react-json")
    prompt = prompt.partial(
        tools=render_text_description(tools),
        tool_names=", ".join([t.name for t in tools]),
    )

    # define the agent
    chat_model_with_stop = chat_model.bind(stop=["\nObservation"])
    agent = (
        {
            "input": lambda x: x["input"],
            "agent_scratchpad": lambda x: format_log_to_str(x["intermediate_steps"]),
        }
        | prompt
        | chat_model_with_stop
        | ReActJsonSingleInputOutputParser()
    )

    # instantiate AgentExecutor
    agent_executor = AgentExecutor(agent=agent, tools=tools, verbose=True)

    return agent_executor.invoke(
        {"input": "Who is Leo DiCaprio's girlfriend? What is her current age raised to the 0.43 power?"}
    )
