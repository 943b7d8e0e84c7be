"""`create_react_json_agent`: model, tools and prompt as one Runnable that plans the next step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.agents import AgentAction, AgentFinish
from langchain_core.language_models import BaseChatModel
from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnablePassthrough, RunnableSequence

from agentkit.core.agent import AgentMode, ReactAgent
from agentkit.core.loop import ModelCall, Turn
from agentkit.core.planner import STOP, Planner
from agentkit.errors import ConfigurationError, MalformedTurn, described
from agentkit.events import FinalAnswer
from agentkit.langchain import hub
from agentkit.langchain.chat_model import as_chat_model
from agentkit.langchain.model import chat_of, first_of
from agentkit.langchain.output_parser import ReActJsonSingleInputOutputParser
from agentkit.langchain.prompt import from_template
from agentkit.langchain.steps import as_agent_action, as_output_parser_exception, as_steps
from agentkit.langchain.tools import listed
from agentkit.models.backend import ChatBackend
from agentkit.react_json.hostile import check_offered, without_markup
from agentkit.react_json.prompt import SCRATCHPAD, Prompt, read_prompt, render_text_description
from agentkit.react_json.scratchpad import format_log_to_str
from agentkit.runs.build import as_tool
from agentkit.tool import Tool


def create_react_json_agent(
    model: BaseChatModel | ChatBackend | str,
    tools: Sequence[Any],
    prompt: Prompt | BasePromptTemplate[Any] | str | None = None,
    *,
    mode: AgentMode = "auto",
) -> Runnable[dict[str, Any], Any]:
    """An agent in the ReAct-JSON dialect; `prompt` is a name, a file, `hub:OWNER/NAME` or a LangChain template.

    `mode` is how the model names a tool: see `agentkit.core.agent.ReactAgent`. Raises `ConfigurationError`.
    """
    ours = [as_tool(tool) for tool in listed(tools)]
    prompt = as_prompt(prompt)
    model = as_chat_model(model)
    if isinstance(prompt, BasePromptTemplate):
        plain = from_template(prompt)
        if plain is None and mode == "tools":
            raise ConfigurationError('expected a prompt of plain messages for mode="tools", saw a richer template')
        if plain is None:
            return _chain(model, prompt, ours)
        prompt = plain
    return ReactJsonAgent(model, ReactAgent(chat_of(model), ours, prompt, mode, first=first_of(model)))


def as_prompt(prompt: Any) -> Prompt | BasePromptTemplate[Any] | None:
    """A prompt, by its name or its file where it is none yet. Raises `ConfigurationError`."""
    if isinstance(prompt, str | Path):
        return read_prompt(str(prompt), pull=hub.read)
    if prompt is None or isinstance(prompt, Prompt | BasePromptTemplate):
        return prompt
    raise ConfigurationError(
        f"expected a prompt's name or file, or a LangChain prompt template, saw {described(prompt)}; "
        "load_prompt and ChatPromptTemplate.from_messages make one"
    )


class ReactJsonAgent(Runnable[dict[str, Any], AgentAction | AgentFinish]):
    """Plans the next step of `{"input", "intermediate_steps"}`. `AgentExecutor` asks it for a planner per run."""

    def __init__(self, model: BaseChatModel, agent: ReactAgent) -> None:
        self.model = model
        self.agent = agent

    def planner(self, *, config: RunnableConfig | None = None, stream: bool = False) -> Planner:
        """What plans one run, whose model tells the callbacks of `config`."""
        return self.agent.planner(None if config is None else chat_of(self.model, config), stream=stream)

    def invoke(self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        for piece in self.planner(config=config).plan(_as_call(input)):
            if isinstance(piece, Turn):
                return _as_langchain(piece)
        raise AssertionError("a plan ends with a turn")

    async def ainvoke(self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        async for piece in self.planner(config=config).aplan(_as_call(input)):
            if isinstance(piece, Turn):
                return _as_langchain(piece)
        raise AssertionError("a plan ends with a turn")


def _as_call(inputs: dict[str, Any]) -> ModelCall:
    steps = as_steps(inputs.get("intermediate_steps", ()))
    return ModelCall({key: value for key, value in inputs.items() if key != "intermediate_steps"}, steps)


def _as_langchain(turn: Turn) -> AgentAction | list[AgentAction] | AgentFinish:
    if isinstance(turn.decision, MalformedTurn):
        turn.decision.text = turn.text
        raise as_output_parser_exception(turn.decision)
    if isinstance(turn.decision, FinalAnswer):
        return AgentFinish({"output": turn.decision.output}, turn.decision.log)
    actions = [as_agent_action(action) for action in turn.decision]
    return actions[0] if len(actions) == 1 else actions


def _chain(model: BaseChatModel, prompt: BasePromptTemplate[Any], tools: Sequence[Tool]) -> Runnable[Any, Any]:
    """The agent as LangChain's users write it, for prompts that are more than f-string messages."""
    check_offered(tools)
    filled = prompt.partial(
        tools=without_markup(render_text_description(tools)), tool_names=", ".join(tool.name for tool in tools)
    )
    steps: Any = RunnableLambda(_scratchpad)
    return RunnableSequence(
        RunnablePassthrough.assign(**{SCRATCHPAD: steps}),
        filled,
        model.bind(stop=list(STOP)),
        ReActJsonSingleInputOutputParser(tools={tool.name: dict(tool.schema) for tool in tools}),
    )


def _scratchpad(inputs: dict[str, Any]) -> str:
    return format_log_to_str(inputs["intermediate_steps"])
