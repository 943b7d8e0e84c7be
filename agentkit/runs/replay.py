"""Replays a recorded run by itself: no key, no network, no weights.

A cassette is data, whoever wrote it. A replay starts no process, opens no connection, and reads nothing but the file
and this package: what a file names besides is in it, or the run has drifted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agentkit.cassette.cassette import Cassette
from agentkit.cassette.format.entries import Entry, is_chat
from agentkit.cassette.format.file import Document, load
from agentkit.cassette.format.run_spec import RunSpec
from agentkit.cassette.seams.model import ReplayedChat
from agentkit.core.in_turn import STAYS
from agentkit.errors import CassetteError
from agentkit.events import ActionChosen, Event, Finished
from agentkit.models.backend import ChatBackend
from agentkit.models.chat import BackendChat, ChatModel
from agentkit.models.spec import read_spec, shared
from agentkit.react_json.prompt import AUTO
from agentkit.runs.build import OURS, NotLoaded, build
from agentkit.secrets import REDACTED, Secrets
from agentkit.settings import RunSettings
from agentkit.tool import Tool
from agentkit.toolbox.registry import canonical


class Replay:
    """The run in a cassette that describes it. Raises `CassetteError` for one that cannot be read or does not."""

    def __init__(self, path: str | os.PathLike[str], *, environment: MutableMapping[str, str] | None = None) -> None:
        self.path = Path(path)
        self._environment = os.environ if environment is None else environment
        self._document = load(self.path)
        self.run = described(self.path, self._document.run)

    @property
    def inputs(self) -> dict[str, Any]:
        """What the run was given."""
        return dict(self.run.inputs)

    @property
    def model(self) -> str:
        """The spec of the model that was recorded."""
        return self.run.settings.model

    @property
    def is_complete(self) -> bool:
        """Whether the recording came to its end."""
        return self._document.complete

    @property
    def under_way(self) -> tuple[Entry, ...]:
        """Calls with side effects that began and did not end, as those of a recording's only run."""
        secrets = Secrets(self._environment)
        return tuple(replace(secrets.scrub(entry), run=1) for entry in self._document.begun)

    @property
    def title(self) -> str:
        """The recording in one line."""
        head = self._document.head
        how = "transcribed" if head.get("transcribed") is True else f"recorded {head.get('recorded', 'some time ago')}"
        cut = "" if self._document.complete else ", interrupted"
        return f"replay of {self.path}: {self.model}, {how}{cut}"

    def events(self) -> Generator[Event, None, None]:
        """The run as it happened, at once; raises `CassetteDrift`.

        The recorded run is built again, from its settings and with what the recording holds of tools, prompt and model.
        One that was asked over HTTP is asked again by its client, and the recorded HTTP answers.
        """
        with Cassette(self.path, mode="replay", environment=self._environment) as cassette:
            settings, prompt = self.run.settings, self.run.kept_prompt
            if prompt is None and settings.prompt != AUTO:
                raise cassette.replaying.missing(f"the prompt {settings.prompt}")
            tools, model = _tools(cassette, settings), self._model(cassette)
            settings = replace(settings, allow=_allowed(cassette, settings, tools))
            yield from build(settings, prompt, model=model, tools=tools).events(self.inputs)

    def _model(self, cassette: Cassette) -> ChatModel:
        """What asks; a client is made only of the models that are ours."""
        settings = self.run.settings
        recorded = any(entry.kind == "http" and entry.asks_a_model for entry in self._document.entries)
        place = read_spec(settings.model, settings.options, loads=False).place
        in_row = bool(settings.fallbacks) and cassette.replaying.remembered(STAYS, False) is True
        if place == "local" or not (recorded or in_row):
            thinks, refusals = _gives_thoughts_back(self._document), _refusals(self._document)
            return ReplayedChat(cassette, settings.model, in_process=thinks, refusals=refusals)
        if place == "langchain":
            raise cassette.replaying.missing(f"turns of {settings.model}, but HTTP that only its client can read")
        return BackendChat(_hosted(cassette, settings))


def replay_run(path: str | os.PathLike[str]) -> Iterator[Event]:
    """The events of the run in a cassette, as `Replay(path).events()`."""
    return Replay(path).events()


def read_run_spec(path: str | os.PathLike[str]) -> RunSpec:
    """What the run in a cassette was started with."""
    return described(Path(path), load(Path(path)).run)


def described(path: Path, run: RunSpec | None) -> RunSpec:
    """The description of a run, which every cassette of the command line has."""
    if run is None:
        raise CassetteError(
            f"{path}: expected agentkit.run, which says what to run; this was recorded by a script: "
            f'replay it there, with Cassette("{path}", mode="replay")'
        )
    return run


def _gives_thoughts_back(document: Document) -> bool:
    """Whether the recorded model was shown its thoughts of earlier turns: not in every recording of one in process."""
    actions = (one.event.action for one in document.events if isinstance(one.event, ActionChosen))
    if any(action.called is not None and action.called.thinking for action in actions):
        return True
    asked = (entry.body["messages"] for entry in document.entries if entry.kind == "turn" and is_chat(entry.body))
    return any(isinstance(one, Mapping) and one.get("reasoning_content") for messages in asked for one in messages)


def _refusals(document: Document) -> frozenset[str]:
    """The final answers by which the recorded model declined."""
    ends = (one.event for one in document.events if isinstance(one.event, Finished))
    return frozenset(end.output for end in ends if end.summary.stop_reason == "declined")


# -- what a replay has of a run ----------------------------------------------------------------------------------------


def _tools(cassette: Cassette, settings: RunSettings) -> list[Tool]:
    """The tools of a recorded run: nothing is loaded, started or read.

    Of ours the calculator runs again, and Search over the recorded HTTP; what any other gave is in the recording.
    """
    is_theirs = any(canonical(name) not in OURS for name in settings.tools)
    theirs = cassette.remembered("tools", dict, default={}) if is_theirs else {}
    tools: list[Any] = [_ours(cassette, name) or _theirs(cassette, name, theirs) for name in settings.tools]
    if settings.docs is not None:
        from agentkit.tools.documents import with_documents
        from agentkit.tools.search_text import NAME

        tools = with_documents(tools, settings.docs, brief=settings.model == "builtin")
        tools = [_unavailable(cassette, tool) if tool.name == NAME else tool for tool in tools]
    if settings.mcp:
        from agentkit.mcp import mcp_tools

        try:
            with mcp_tools(*settings.mcp, taken=settings.tools) as offered:  # within the cassette, which starts none
                tools += [_unavailable(cassette, tool) for tool in offered if _is_schema(tool.schema)]
        except (TypeError, KeyError, AttributeError):
            raise cassette.replaying.missing("what the MCP servers offer, in the recorded shape") from None
    return tools


def _ours(cassette: Cassette, name: str) -> Tool | None:
    from agentkit.tools.calculator import calculator
    from agentkit.tools.search import Search
    from agentkit.tools.web_search import WebSearch

    if canonical(name) == "calculator":
        return calculator
    if canonical(name) == "search":
        return Search(web=WebSearch(engine=_missing(cassette, "Search"))).as_tool()  # no cassette sees its own HTTP
    return None


def _theirs(cassette: Cassette, name: str, described: Any) -> Tool:
    try:
        tool = Tool(**dict(described[name]), run=str)
        if isinstance(tool.description, str) and _is_schema(tool.schema):
            return _unavailable(cassette, tool)
        raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError):
        raise cassette.replaying.missing(f"the tool {name}, which a replay does not load") from None


def _is_schema(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    return all(isinstance(one, Mapping) for one in dict(value.get("properties", {})).values())


def _unavailable(cassette: Cassette, tool: Tool) -> Tool:
    """The tool as a model reads of it."""
    return replace(tool, run=_missing(cassette, tool.name), arun=None, deterministic=False, parse=None)


def _missing(cassette: Cassette, name: str) -> Callable[[Any], Any]:
    def run(_: Any) -> Any:
        raise cassette.replaying.missing(f"what {name} gave, which a replay does not ask")

    return run


def _allowed(cassette: Cassette, settings: RunSettings, tools: Sequence[Tool]) -> tuple[str, ...] | None:
    """The names of the allowed tools as the model reads them."""
    if settings.allow is None:
        return None
    names = {canonical(name): tool.name for name, tool in zip(settings.tools, tools, strict=False)}
    names |= {tool.name: tool.name for tool in tools}
    if missing := [name for name in settings.allow if name not in names and canonical(name) not in names]:
        raise cassette.replaying.missing(f"the tools {', '.join(missing)}, which allow names")
    return tuple(names.get(name) or names[canonical(name)] for name in settings.allow)


def _hosted(cassette: Cassette, settings: RunSettings) -> ChatBackend:
    """The client of the recorded model, with its fallbacks."""
    from agentkit.models.hosted.fallbacks import WithFallbacks

    first = _client(cassette, settings.model, settings.options)
    reach = cassette.replaying.remembered(STAYS, False) is True  # as options did not before
    others = [_client(cassette, one, shared(settings.options, one) if reach else {}) for one in settings.fallbacks]
    return WithFallbacks([first, *others]) if others else first


def _client(cassette: Cassette, spec: str, options: Mapping[str, Any]) -> ChatBackend:
    """A client without a key; one in this process is not loaded."""
    from agentkit.models.hosted.options import OTHER_NAMES, hosted_model

    read = read_spec(spec, options, loads=False)
    if read.place != "hosted":
        return NotLoaded(spec)
    if isinstance(prices := read.options.get("prices"), str):
        raise cassette.replaying.missing(f"the prices in {prices}")
    key = "huggingfacehub_api_token"
    options = {name: value for name, value in read.options.items() if OTHER_NAMES.get(name, name) != key}
    return hosted_model(**options, **{key: REDACTED})
