"""`mode="auto"`: asked once, remembered, and taken back where the server cannot keep it."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from agentkit import AgentExecutor, chat_model
from agentkit.cassette import Cassette
from agentkit.core.mode import FORGET_AFTER_S, KnownModes, ModeFinder, Traits
from agentkit.errors import CassetteError, ConfigurationError, ModelError
from agentkit.events import Finished, ModeFound
from agentkit.langchain.model import chat_of
from agentkit.models.backend import ChatRequest
from agentkit.models.scripted import ScriptedBackend
from tests.doubles.models import Scripted, action, final, reply
from tests.doubles.server import ChatServer, Play, Request, error, serving
from tests.hosted_agent.caller import TOOLS, Caller, RefusedError
from tests.hosted_agent.server import DIALECT, NATIVE, Server

QUESTION = {"input": "What is 2 + 2, squared?"}


class Another(Caller):
    """Of which something else is known."""


def answer(model: Any, **options: Any) -> Any:
    return AgentExecutor.from_model(model, TOOLS, **options).invoke(QUESTION)["output"]


def calls_natively(server: Server) -> bool:
    """Whether the last run did."""
    return "tools" in server.bodies[-1]


# -- asking ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tools", "native"), [("called", True), ("ignored", False), ("refused", False)])
def test_the_mode_that_works_is_found_out(server: Server, tools: str, native: bool) -> None:
    server.tools = tools
    assert answer(server.url) == "16"
    assert (server.probes, calls_natively(server)) == (1, native)


@pytest.mark.parametrize(("tools", "native"), [("called", True), ("ignored", False), ("refused", False)])
def test_any_chat_model_of_langchain_is_asked_too(tools: str, native: bool) -> None:
    server = Server(tools=tools)
    assert answer(Caller(script=server)) == "16"
    assert (server.probes, calls_natively(server)) == (1, native)


@dataclass
class Missing(Server):
    """Says of every request with tools that something is not there."""

    said: str = ""

    def answer(self, request: Request, number: int) -> Play:
        return error(404, self.said) if request.body.get("tools") else super().answer(request, number)


def test_a_model_that_is_not_there_is_no_model_without_calls() -> None:
    with serving(Missing(said="The model `m` does not exist.")) as server:
        events = AgentExecutor.from_model(server.url, TOOLS).events(QUESTION)
        next(events)
        with pytest.raises(ModelError, match="The model `m` does not exist"):
            next(events)
    assert not any(server.bodies)  # but the probe and lists of models


def test_a_model_that_is_not_there_with_tools_is_asked_in_the_dialect() -> None:
    with serving(Missing(tools="ignored", said="No endpoints found that support tool use.")) as server:  # OpenRouter
        assert answer(server.url) == "16"


def test_nothing_is_asked_before_the_first_turn(server: Server) -> None:
    executor = AgentExecutor.from_model(server.url, TOOLS)
    events = executor.events(QUESTION)
    next(events)
    assert server.probes == 0
    assert next(events) == ModeFound("tools")


def test_what_was_found_is_told_once(server: Server) -> None:
    executor = AgentExecutor.from_model(server.url, TOOLS)
    found = [[event for event in executor.events(QUESTION) if isinstance(event, ModeFound)] for _ in range(2)]
    assert found == [[ModeFound("tools")], []]


@pytest.mark.parametrize(
    "model",
    [Scripted(turns=[action("calculator", "2+2"), final("4")])],
    ids=["takes no tools"],
)
def test_a_model_that_cannot_be_bound_to_tools_is_not_asked(model: Any, cache: Path) -> None:
    assert answer(model) == "4"
    assert len(model.requests) == 2
    assert not cache.exists()


def test_a_model_in_this_process_is_not_asked(cache: Path) -> None:
    backend = ScriptedBackend([action("calculator", "2+2"), final("4")])
    from agentkit.models import ChatHuggingFace

    assert answer(ChatHuggingFace(llm=backend, constrain="off")) == "4"
    assert [len(request.tools) for request in backend.requests] == [0, 0]


def test_a_prompt_of_ones_own_is_not_asked_about(server: Server) -> None:
    server.by_request = True
    assert answer(server.url, prompt="react-json-text") == "16"
    assert (server.probes, calls_natively(server)) == (0, False)


@pytest.mark.parametrize("mode", ["react-json", "tools"])
def test_a_mode_that_was_chosen_is_not_asked_about(server: Server, mode: Any) -> None:
    assert answer(server.url, mode=mode) == "16"
    assert (server.probes, calls_natively(server)) == (0, mode == "tools")


# -- remembering -------------------------------------------------------------------------------------------------------


def test_it_is_remembered_in_the_process_and_in_a_file(server: Server, cache: Path) -> None:
    executor = AgentExecutor.from_model(server.url, TOOLS)
    for _ in range(2):
        executor.invoke(QUESTION)
    (cache / "agentkit" / "modes.json").write_text("no JSON")
    executor.invoke(QUESTION)
    assert server.probes == 1
    assert answer(server.url) == "16"
    assert server.probes == 2  # another executor, which found no file
    assert answer(server.url) == "16"
    assert server.probes == 2


def test_runs_at_the_same_time_wait_for_one_probe(server: Server) -> None:
    executor = AgentExecutor.from_model(server.url, TOOLS)
    assert [result["output"] for result in executor.batch([QUESTION] * 6)] == ["16"] * 6
    assert server.probes == 1


async def test_awaited_runs_wait_for_one_probe(server: Server) -> None:
    executor = AgentExecutor.from_model(server.url, TOOLS)
    results = await asyncio.gather(*[executor.ainvoke(QUESTION) for _ in range(6)])
    assert [result["output"] for result in results] == ["16"] * 6
    assert server.probes == 1


def test_another_server_is_asked_anew(server: Server, cache: Path) -> None:
    answer(server.url)
    with serving(Server(tools="ignored")) as other:
        answer(other.url.replace("://", "://ada:secret@"))
        assert (other.probes, calls_natively(other)) == (1, False)
    entries = json.loads((cache / "agentkit" / "modes.json").read_text())
    assert sorted(entry["mode"] for entry in entries.values()) == ["react-json", "tools"]
    assert "secret" not in str(entries)


def test_the_file_forgets(tmp_path: Path) -> None:
    now = [1_000_000.0]
    known = KnownModes(environment={"HOME": str(tmp_path)}, clock=lambda: now[0])
    known.put("model", Traits("tools"))
    assert known.path == tmp_path / ".cache" / "agentkit" / "modes.json"
    now[0] += FORGET_AFTER_S - 1
    assert known.get("model") == Traits("tools")
    known.put("other", Traits("react-json", keeps_schema=True))
    now[0] += 1
    assert (known.get("model"), known.get("other")) == (Traits(), Traits("react-json", keeps_schema=True))
    known.put("third", Traits(keeps_schema=False))
    assert set(json.loads(known.path.read_text())) == {"other", "third"}
    assert [path.name for path in known.path.parent.iterdir()] == ["modes.json"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", '{"model": 3}', "{" * 100_000),
        '{"model": {"mode": "magic", "found": 1}}',
        '{"model": {"mode": ["tools"], "found": 1}}',
        '{"model": {"mode": "tools", "keeps_schema": "yes", "found": 1}}',
    ],
)
def test_a_file_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    known = KnownModes(environment={"XDG_CACHE_HOME": str(tmp_path)}, clock=lambda: 2.0)
    known.path.parent.mkdir()
    known.path.write_text(text)
    assert known.get("model") == Traits()


def test_a_file_that_cannot_be_written_is_no_error(server: Server, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert answer(server.url) == "16"
    assert server.probes == 1


# -- when it goes wrong ------------------------------------------------------------------------------------------------


def test_a_server_that_refuses_a_tools_result_is_asked_in_the_dialect_from_there_on(server: Server) -> None:
    server.native = [NATIVE[0], 400]
    executor = AgentExecutor.from_model(server.url, TOOLS, return_intermediate_steps=True)
    for _ in range(2):
        result = executor.invoke(QUESTION)
        assert (result["output"], len(result["intermediate_steps"])) == ("16", 2)
        assert not calls_natively(server)
    assert server.probes == 1
    roles = [message["role"] for message in server.bodies[2]["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    assert server.bodies[2]["messages"][2]["content"] == DIALECT[0].text  # type: ignore[union-attr]


def test_a_mode_that_was_chosen_is_kept_and_its_refusal_raised(server: Server) -> None:
    server.native = [NATIVE[0], 400]
    with pytest.raises(ModelError, match="HTTP 400"):
        answer(server.url, mode="tools")


def test_a_server_that_is_down_is_an_error_and_nothing_is_remembered(cache: Path) -> None:
    model = chat_model("http://127.0.0.1:9", max_retries=0)
    with pytest.raises(ModelError):
        answer(model)
    assert not cache.exists()


@pytest.mark.parametrize(("tools", "native"), [("called", True), ("ignored", False)])
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_where_the_first_of_several_models_is_down_the_next_is_asked_as_it_is_alone(
    server: Server, cache: Path, caplog: pytest.LogCaptureFixture, tools: str, native: bool, way: str
) -> None:
    """Its way to call is found out and remembered, and the first is not asked again in the run."""
    caplog.set_level("INFO", "agentkit")
    server.tools = tools
    with serving(ChatServer(choose=lambda asked: error(503, "down"))) as first:
        executor = AgentExecutor.from_model(chat_model(first.url, max_retries=1, fallbacks=[server.url]), TOOLS)
        result = executor.invoke(QUESTION) if way == "invoke" else asyncio.run(executor.ainvoke(QUESTION))
        assert result["output"] == "16"
        assert (len(first.bodies), server.probes, calls_natively(server)) == (2, 1, native)
        answer(server.url)
    assert server.probes == 1
    (entry,) = json.loads((cache / "agentkit" / "modes.json").read_text()).values()
    assert entry["mode"] == ("tools" if native else "react-json")
    (line,) = [one.message for one in caplog.records if "asking" in one.message]
    assert line == f"{first.url} answered HTTP 503: down (tried 2 times); asking {server.url} from here on"


@pytest.mark.parametrize("fails_at", ["probe", "turn"])
def test_a_run_with_a_fallback_replays(server: Server, tmp_path: Path, fails_at: str) -> None:
    file = tmp_path / "run.yaml"
    down = ChatServer(choose=lambda asked: error(503, "down"))
    with serving(down if fails_at == "probe" else Server(native=[NATIVE[0], 503], dialect=[503])) as first:
        model = chat_model(first.url, max_retries=0, fallbacks=[server.url])
        with Cassette(file, "record", environment={}):
            assert answer(model) == "16"
        asked = len(first.requests), len(server.requests)
        for _ in range(2):
            with Cassette(file, "replay", environment={}):
                assert answer(chat_model(first.url, max_retries=0, fallbacks=[server.url])) == "16"
        assert (len(first.requests), len(server.requests)) == asked


def test_a_fallback_is_not_asked_in_place_of_a_model_that_refuses_tools(server: Server) -> None:
    with serving(Server(tools="refused")) as first:
        assert answer(chat_model(first.url, fallbacks=[server.url])) == "16"
        assert (first.probes, server.probes, server.bodies) == (1, 0, [])


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("tools", ["called", "ignored"])
def test_chat_models_of_langchain_with_fallbacks_are_asked_each_as_it_is_alone(tools: str, way: str) -> None:
    broken, second = Server(native=[NATIVE[0], 400], dialect=[400]), Server(tools=tools)
    models = Caller(script=broken).with_fallbacks([Another(script=second)])
    executor = AgentExecutor.from_model(models, TOOLS)
    result = executor.invoke(QUESTION) if way == "invoke" else asyncio.run(executor.ainvoke(QUESTION))
    assert (result["output"], second.probes, calls_natively(second)) == ("16", 1, tools == "called")
    assert len(broken.bodies) == 3  # a call, and what it gave in both modes


def test_with_fallbacks_of_langchain_goes_on_by_the_exceptions_that_it_names() -> None:
    broken, second = Server(tools="refused", dialect=[400]), Server()
    models = Caller(script=broken).with_fallbacks([Caller(script=second)], exceptions_to_handle=(KeyError,))
    with pytest.raises(RefusedError):
        answer(models)
    assert second.requests == []


@pytest.mark.parametrize(
    ("status", "kind"), [(400, ModelError), (503, ModelError), (401, ConfigurationError), (403, ConfigurationError)]
)
def test_what_a_providers_server_fails_by_is_an_error_of_ours(status: int, kind: type[Exception]) -> None:
    class Fails(Caller):
        def reply(self, request: ChatRequest) -> Any:
            error = RefusedError("no")
            error.status_code = status
            raise error

    model = chat_of(Fails(script=Server()), over_http=False)
    with pytest.raises(kind, match=r"^Fails: no") as told:
        list(model.complete(ChatRequest(messages=[{"role": "user", "content": "hi"}])))
    assert isinstance(told.value.__cause__, RefusedError)


# -- in a cassette -----------------------------------------------------------------------------------------------------


def test_a_replay_needs_neither_probe_nor_file(server: Server, tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "run.yaml"
    with Cassette(file, "record", environment={}):
        assert answer(server.url) == "16"
    assert server.probes == 1
    os.remove(cache / "agentkit" / "modes.json")
    for _ in range(2):
        with Cassette(file, "replay", environment={}):
            assert answer(server.url) == "16"
    assert (server.probes, len(server.bodies)) == (1, 3)


def test_a_recording_from_before_replays_in_the_dialect(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    with Cassette(file, "record", environment={}):
        answer(server.url, mode="react-json")
    with Cassette(file, "replay", environment={}):
        assert answer(server.url) == "16"
    assert server.probes == 0


def test_a_refusal_within_a_recorded_run_replays(server: Server, tmp_path: Path) -> None:
    server.native = [NATIVE[0], 400]
    file = tmp_path / "run.yaml"
    with Cassette(file, "record", environment={}):
        assert answer(server.url) == "16"
    asked = len(server.bodies)
    with Cassette(file, "replay", environment={}):
        assert answer(server.url) == "16"
    assert len(server.bodies) == asked


def test_a_mode_that_was_written_into_a_cassette_by_hand_is_checked(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    with Cassette(file, "record", environment={}):
        answer(server.url)
    file.write_text(file.read_text().replace("mode: tools", "mode: magic"))
    with pytest.raises(CassetteError, match="one of react-json, tools is expected"), Cassette(file, environment={}):
        answer(server.url)


def test_a_finder_learns() -> None:
    server = Server()
    known = KnownModes()
    finder = ModeFinder("model", known)
    finder.learn("tools", lasting=False)
    assert known.get("model") == Traits()
    finder.learn("react-json")
    assert known.get("model") == Traits("react-json")
    events = AgentExecutor.from_model(Caller(script=server), TOOLS).events(QUESTION)
    assert [type(event) for event in events][-1] is Finished


# -- what was learnt of another model, or no longer holds --------------------------------------------------------------


@pytest.mark.parametrize(("first", "then"), [("ignored", "called"), ("refused", "called"), ("called", "ignored")])
@pytest.mark.parametrize("models", [["first"], None], ids=["named by the server", "not named"])
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_another_model_at_the_same_address_is_asked_anew(
    server: Server, first: str, then: str, models: list[str] | None, way: str
) -> None:
    server.tools, server.models, server.strict = first, models, True
    assert answer(server.url) == "16"
    server.tools, server.models = then, models and ["second"]
    executor = AgentExecutor.from_model(server.url, TOOLS)
    result = executor.invoke(QUESTION) if way == "invoke" else asyncio.run(executor.ainvoke(QUESTION))
    assert (result["output"], calls_natively(server), server.probes) == ("16", then == "called", 2)


@pytest.mark.parametrize(("first", "then"), [("refused", "called"), ("called", "refused")])
def test_a_server_that_changes_under_a_process_is_asked_anew(server: Server, first: str, then: str) -> None:
    server.tools, server.strict = first, True
    executor = AgentExecutor.from_model(server.url, TOOLS)
    assert executor.invoke(QUESTION)["output"] == "16"
    server.tools = then
    assert [executor.invoke(QUESTION)["output"] for _ in range(2)] == ["16", "16"]
    assert calls_natively(server) == (then == "called")


def test_a_model_whose_first_turns_are_none_is_not_asked_again_and_again(server: Server) -> None:
    server.tools, server.dialect = "ignored", [reply("What?"), *DIALECT]
    executor = AgentExecutor.from_model(server.url, TOOLS)
    assert [executor.invoke(QUESTION)["output"] for _ in range(3)] == ["16"] * 3
    assert server.probes == 1


def test_what_no_good_turn_confirmed_is_not_written_down(server: Server, cache: Path) -> None:
    server.tools, server.dialect = "refused", [404]
    with pytest.raises(ModelError):
        answer(server.url)
    assert not cache.exists()
    server.dialect = DIALECT
    assert answer(server.url) == "16"
    assert [entry["mode"] for entry in json.loads((cache / "agentkit" / "modes.json").read_text()).values()] == [
        "react-json"
    ]


def test_a_probe_that_thought_to_its_limit_says_nothing_for_later(server: Server, cache: Path) -> None:
    server.probe = replace(reply("", thinking="Lisbon, Lisbon"), finish_reason="length")
    assert answer(server.url, mode="auto") == "16"
    entries = json.loads((cache / "agentkit" / "modes.json").read_text())
    assert [entry.keys() for entry in entries.values()] == [{"keeps_schema", "found"}]


def test_a_changed_mode_replays(server: Server, tmp_path: Path) -> None:
    server.tools, server.strict = "ignored", True
    assert answer(server.url) == "16"
    server.tools = "called"
    file = tmp_path / "run.yaml"
    with Cassette(file, "record", environment={}):
        assert answer(server.url) == "16"
    asked = len(server.bodies)
    with Cassette(file, "replay", environment={}):
        assert answer(server.url) == "16"
    assert (len(server.bodies), server.probes) == (asked, 2)


@dataclass
class WithoutTools(Server):
    """llama.cpp without its templates: it answers a request with tools by status 500."""

    said: str = "Unsupported param: tools"

    def answer(self, request: Request, number: int) -> Play:
        return error(500, self.said) if request.body.get("tools") else super().answer(request, number)


@pytest.mark.parametrize("said", ["Unsupported param: tools", "tools param requires --jinja flag"])
def test_a_500_that_says_why_is_remembered(said: str, cache: Path) -> None:
    with serving(WithoutTools(said=said)) as server:
        for _ in range(2):
            assert answer(server.url) == "16"  # by another executor, which finds it written down
    assert sum("tools" in one.body for one in server.requests) == 1
