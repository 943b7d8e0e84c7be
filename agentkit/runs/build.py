"""Builds runs: the one place where settings become a model, tools, a prompt, limits and a run.

    runner = build(RunSettings(model="builtin"))
    for event in runner.events({"input": "What is 2 + 2?"}):
        ...

Every way in builds here, live or not: a replay is the same run with a recorder active and a model that is not loaded.
LangChain is imported only for what is LangChain's: a model of one of its providers, one of its tools.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentkit.cassette.format.entries import plain
from agentkit.cassette.format.run_spec import RunSpec
from agentkit.core.agent import ReactAgent, check_native_calls, check_typed
from agentkit.core.compaction import FunctionSummary, ModelSummary, SumUp
from agentkit.core.loop import Limits
from agentkit.core.planner import Planner
from agentkit.core.run import Compactor, Run, Within
from agentkit.errors import CassetteError, ConfigurationError, MalformedTurn, described, in_one_line
from agentkit.events import Action, Event, Observation, Step
from agentkit.models import spec as specs
from agentkit.models.backend import Capabilities, ChatBackend, ChatRequest, Chunk
from agentkit.models.chat import BackendChat, ChatModel
from agentkit.models.spec import backend_of, read_spec
from agentkit.react_json import prompt as prompts
from agentkit.react_json.answer_type import AnswerType
from agentkit.react_json.prompt import Prompt
from agentkit.recorder import Recorder, active
from agentkit.secrets import without_redacted
from agentkit.settings import RunSettings
from agentkit.tool import Tool
from agentkit.toolbox.approval import DEFER, Answer, Approve, check_approve
from agentkit.toolbox.registry import canonical, check_names, find_tool, is_named, name_of
from agentkit.toolbox.toolbox import Toolbox

if TYPE_CHECKING:
    from agentkit.mcp import McpTools

MOST_SCHEMA_BYTES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Runs questions by one set of settings. `tools` are all there are, those of `mcp` servers among them."""

    settings: RunSettings
    agent: ReactAgent
    tools: Sequence[Tool]
    mcp: McpTools | None = None
    approve: Approve | None = None
    answer: Answer | None = None
    compaction: SumUp | None = None
    within: Within = field(default_factory=Within)

    def spec(self, inputs: dict[str, Any]) -> RunSpec:
        """What a run of these inputs is made of."""
        return RunSpec.of(inputs, self.settings, text=self.prompt)

    def joined(self, within: Within) -> Runner:
        """What runs one run, which belongs to this."""
        return replace(self, within=within.fitted(self.agent.model.capabilities.context_tokens))

    @property
    def prompt(self) -> Prompt:
        """The prompt, before the tools are filled in."""
        prompt = self.agent.chosen_prompt
        assert isinstance(prompt, Prompt)
        return prompt

    def run(self, inputs: dict[str, Any], *, stream: bool = True) -> Run:
        """One run; with `stream`, its events have the model's text piece by piece."""
        if (recorder := active()) is not None and recorder.mode != "replay":
            if self.mcp is not None:
                self.mcp.remember()
            remember_tools(recorder, self.settings.tools, self.tools)
        return make_run(
            self.settings,
            inputs,
            planner=self.agent.planner(stream=stream, history=self.within.history),
            tools=self.tools,
            approve=self.approve,
            answer=self.answer,
            compactor=compactor_of(self.compaction or self.settings.compaction, self.agent.model),
            within=self.within,
        )

    def events(self, inputs: dict[str, Any], *, stream: bool = True) -> Iterator[Event]:
        """The run as it happens; raises what the model cannot mend."""
        check_approve(self.approve, self.answer, blocking=True)
        return self.run(inputs, stream=stream).events()

    def aevents(self, inputs: dict[str, Any], *, stream: bool = True) -> AsyncIterator[Event]:
        """`events`, awaiting."""
        return self.run(inputs, stream=stream).aevents()


def build(
    settings: RunSettings,
    prompt: Prompt | None = None,
    *,
    model: ChatModel | None = None,
    tools: Sequence[Tool] | None = None,
    approve: Approve | None = None,
    compaction: SumUp | None = None,
    foreign: Collection[str] = (),
) -> Runner:
    """What runs questions by these settings; raises `ConfigurationError`.

    `prompt`, `model` and `tools` stand in for those that the settings name. `approve` is asked before a tool runs that
    does not say that it only reads, `compaction` for what stands in the place of the oldest steps, once a prompt leaves
    no room. `foreign` are names of settings whose values came out of a file instead of from the
    user: no key goes to an address that one of them names. What is cheap to check is checked before the model loads.
    """
    check_approve(approve)
    settings = settled(settings)
    answer = None if settings.schema is None else AnswerType.of(settings.schema, what="schema")
    spec = read_spec(settings.model, settings.options, loads=model is None)
    in_process = spec.place == "local" if model is None else model.capabilities.in_process
    check_max_cost(settings, settings.model, in_process=in_process)
    if answer is not None and model is None:
        check_typed(settings.model, Capabilities(constrain=spec.constrain))
    if settings.mode == "tools" and model is None:
        check_native_calls(settings.model, Capabilities(tools=True, constrain=spec.constrain))
    mcp = None
    if tools is None:
        tools, mcp = find_tools(settings), _connected(settings)
        tools += mcp or ()
    offered = allowed(tools, settings.allow)
    if prompt is None and settings.prompt != prompts.AUTO:
        prompt = read_prompt(settings.prompt)
    row: Sequence[ChatModel] = ()
    if model is None:
        model, row = _models(settings, foreign)
    if settings.allow is not None:
        settings = replace(settings, allow=tuple(tool.name for tool in offered))
    if settings.must_be_grounded is None:
        settings = replace(settings, must_be_grounded=spec.constrain == "copy" or settings.model == "small")
    row = row or (model.row if isinstance(model, BackendChat) else ())
    agent = ReactAgent(model, offered, prompt, settings.mode, answer=answer, row=row)
    if prompt is None:
        settings = replace(settings, prompt=agent.chosen_prompt.name)
    return Runner(settings=settings, agent=agent, tools=tools, mcp=mcp, approve=approve, compaction=compaction)


def settled(settings: RunSettings) -> RunSettings:
    """The settings with the model that is meant by `auto`, and the schema itself: it is what a recording keeps."""
    settings = replace(settings, model=specs.settled(settings.model))
    return replace(settings, schema=read_schema(settings.schema)) if isinstance(settings.schema, str) else settings


def read_schema(file: str) -> Mapping[str, Any]:
    """The JSON Schema in a file; raises `ConfigurationError`."""
    path = Path(file)
    try:
        if path.stat().st_size > MOST_SCHEMA_BYTES:
            raise ConfigurationError(f"schema {file}: expected a file of at most {MOST_SCHEMA_BYTES:,} bytes")
        schema = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"schema {file}: cannot be read ({error.strerror}); name a file that holds one"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"schema {file}: expected JSON ({in_one_line(error, 80)}); mend the file") from None
    if not isinstance(schema, Mapping):
        raise ConfigurationError(f"schema {file}: expected a JSON Schema, which is an object, saw {described(schema)}")
    return schema


def check_max_cost(settings: RunSettings, model: str, *, in_process: bool) -> None:
    """Raise `ConfigurationError` for a budget of money for a model that has no price."""
    if settings.max_cost is not None and in_process:
        raise ConfigurationError(
            f"max_cost cannot be held for {model}, which runs in this process and has no price; leave it out, "
            "or give max_tokens"
        )


def make_run(
    settings: RunSettings,
    inputs: dict[str, Any],
    *,
    planner: Planner,
    tools: Sequence[Tool],
    approve: Approve | None = None,
    answer: Answer | None = None,
    recover: Callable[[MalformedTurn], str] | None = str,
    trim: Callable[[Sequence[Step]], Sequence[Step]] | None = None,
    replayed: Callable[[Action, Observation], None] | None = None,
    compactor: Compactor | None = None,
    within: Within | None = None,
) -> Run:
    """One run of a planner and tools, held to the limits of `settings`. The rest is as `Run` has it."""
    if approve == DEFER and active() is not None:
        raise ConfigurationError(
            'approve="defer" keeps a run in the store until somebody decides, which a cassette cannot; leave one out'
        )
    return Run(
        inputs=inputs,
        planner=planner,
        toolbox=Toolbox(
            tools,
            timeout_s=settings.tool_timeout_s,
            approve=approve,
            answer=answer,
            allow=settings.allow,
            max_observation_tokens=settings.max_observation_tokens,
        ),
        limits=Limits(
            max_iterations=settings.max_iterations,
            max_execution_time_s=settings.timeout,
            max_tokens=settings.max_tokens,
            max_cost_usd=settings.max_cost,
            max_repeats=settings.max_repeats,
            early_stopping_method=settings.early_stopping_method,
        ),
        recover=recover,
        trim=trim or _last(settings.trim_intermediate_steps),
        must_be_grounded=bool(settings.must_be_grounded),
        given=AnswerType(settings.schema).given_words if isinstance(settings.schema, Mapping) else "",
        replayed=replayed,
        compactor=compactor,
        within=within or Within(),
    )


def compactor_of(compaction: str | SumUp, model: ChatModel) -> Compactor | None:
    """What carries the setting or the function out; `None` where prompts are shortened as they are sent."""
    if callable(compaction):
        return FunctionSummary(compaction)
    return ModelSummary(model) if compaction == "summary" else None


def _last(steps: int) -> Callable[[Sequence[Step]], Sequence[Step]] | None:
    """The last so many steps; LangChain takes 0 for all, too."""
    return (lambda taken: taken[-steps:]) if steps > 0 else None


# -- the parts ---------------------------------------------------------------------------------------------------------


def find_tools(settings: RunSettings) -> list[Tool]:
    """The tools that settings name, but for those of MCP servers."""
    tools = [as_tool(find_tool(name, _community_tool)) for name in settings.tools]
    if settings.docs is None:
        return tools
    from agentkit.tools.documents import with_documents

    return with_documents(tools, settings.docs, brief=settings.model == "builtin")


OURS = ("search", "calculator")
"""Names of tools that a cassette need not describe: they ship with the package."""
_DESCRIBED = ("name", "description", "schema", "return_direct", "side_effects", "idempotent")


def remember_tools(recorder: Recorder, names: Sequence[str], tools: Sequence[Tool]) -> None:
    """Keep in the recording what a replay has to know of the tools that others made: it loads none of them."""
    theirs = {name: tool for name, tool in zip(names, tools, strict=False) if canonical(name) not in OURS}
    if theirs:
        described = {name: {key: getattr(tool, key) for key in _DESCRIBED} for name, tool in theirs.items()}
        recorder.remembered("tools", lambda: plain(described))


def _community_tool(name: str) -> Any:
    from agentkit.langchain.community import community_tool

    return community_tool(name)


def as_tool(tool: Any) -> Tool:
    """A tool as the loop has it: one of ours, a typed function, or LangChain's."""
    if isinstance(tool, Tool):
        return tool
    from agentkit.langchain.tools import as_langchain, from_langchain

    return from_langchain(as_langchain(tool))


def allowed(tools: Sequence[Any], allow: Collection[str] | None) -> list[Any]:
    """The tools that `allow` names (`None`: all); raises for a name that is none of them, or that two of them have."""
    names = [name_of(tool) for tool in tools]
    check_names(names)
    if allow is None:
        return list(tools)
    if set(allow) <= set(names):
        return [tool for tool, name in zip(tools, names, strict=True) if name in allow]
    if strange := [one for one in allow if not any(is_named(name, [one]) for name in names)]:
        raise ConfigurationError(
            f"expected allow to name tools of this run ({', '.join(names)}), "
            f"saw {', '.join(strange)}; mend the name or add the tool"
        )
    return [tool for tool, name in zip(tools, names, strict=True) if is_named(name, allow)]


def read_prompt(name: str) -> Prompt:
    """A prompt by its name, its file, or its place in LangSmith's hub."""
    return prompts.read_prompt(name, pull=_pulled)


def _pulled(owner_repo: str) -> Prompt:
    from agentkit.langchain import hub

    return hub.read(owner_repo)


def _connected(settings: RunSettings) -> McpTools | None:
    """The tools of MCP servers, which end when nobody holds their tools any more; they start within the run's time."""
    if not settings.mcp:
        return None
    from agentkit.mcp import mcp_tools
    from agentkit.mcp.tools import START_S

    return mcp_tools(*settings.mcp, taken=settings.tools, start_timeout_s=min(START_S, settings.timeout or START_S))


def _models(settings: RunSettings, foreign: Collection[str]) -> tuple[ChatModel, Sequence[ChatModel]]:
    """The model that settings name, with its fallbacks; and where some are LangChain's, all of them in their order.

    What stands in the place of a secret is no option: the key is the environment's.
    """
    options = without_redacted(settings.options)
    names = (settings.model, *settings.fallbacks)
    if all(read_spec(one, loads=False).place != "langchain" for one in names):
        backend = backend_of(settings.model, fallbacks=settings.fallbacks, foreign=foreign, options=options)
        assert backend is not None  # with which any other spec ends
        return BackendChat(backend), ()
    row = [_chat(one) for one in specs.in_row(settings.model, settings.fallbacks, foreign=foreign, options=options)]
    return row[0], row if len(row) > 1 else ()


def _chat(one: specs.InRow) -> ChatModel:
    backend = backend_of(one.spec, foreign=one.foreign, options=one.options)
    if backend is not None:
        return BackendChat(backend)
    from agentkit.langchain.chat_model import chat_model
    from agentkit.langchain.model import chat_of

    return chat_of(chat_model(one.spec, **one.options), over_http=False)


# -- a model that a replay need not load -------------------------------------------------------------------------------


class NotLoaded:
    """A model in this process by its name and what it can do alone; its cassette answers in its place."""

    def __init__(self, spec: str) -> None:
        read = read_spec(spec, loads=False)
        self.model_id = read.name
        self.capabilities = Capabilities(
            in_process=True,
            over_http=False,
            grammar=True,
            constrain=read.constrain,
            tools=True,
            identity=read.name,
            refusals=read.refusals,
        )
        if read.constrain == "copy":
            from agentkit.models.builtin.copying import REFUSALS
            from agentkit.models.builtin.reading import role_of

            self.capabilities = replace(self.capabilities, role_of=role_of, refusals=REFUSALS)

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        raise CassetteError(f"{self.model_id} was not loaded, its cassette replays; ask it while the cassette is open")

    def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        raise CassetteError(f"{self.model_id} was not loaded, its cassette replays; ask it while the cassette is open")


def for_replay(spec: str) -> str | ChatBackend:
    """The model of a spec for a replay: one in this process is named, and not loaded."""
    return NotLoaded(spec) if read_spec(spec, loads=False).place == "local" else spec
