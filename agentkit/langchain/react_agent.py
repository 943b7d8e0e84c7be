"""`create_react_json_agent`: model, tools and prompt as one Runnable that plans the next step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from langchain_core.agents import AgentAction, AgentFinish
from langchain_core.language_models import BaseChatModel
from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnablePassthrough, RunnableSequence

from agentkit.core.loop import ModelCall, Reply
from agentkit.core.mode import AutoPlanner, Planner
from agentkit.core.native_functions import Function, functions_of
from agentkit.core.native_planner import PROMPT as NATIVE_PROMPT
from agentkit.core.native_planner import NativePlanner
from agentkit.core.planner import STOP, Grammar, ReactJsonPlanner, TurnModel
from agentkit.errors import ConfigurationError, MalformedTurn
from agentkit.events import FinalAnswer, Mode
from agentkit.langchain.mode import asked_first, may_call_tools, mode_finder
from agentkit.langchain.model import LangChainModel
from agentkit.langchain.output_parser import ReActJsonSingleInputOutputParser
from agentkit.langchain.prompt import DEFAULT_PROMPT, from_template
from agentkit.langchain.steps import as_agent_action, as_output_parser_exception, as_steps
from agentkit.langchain.tools import as_langchain, schema_of
from agentkit.react_json.prompt import SCRATCHPAD, Prompt, read_prompt, render_text_description
from agentkit.react_json.scratchpad import format_log_to_str
from agentkit.recorder import active


def create_react_json_agent(
    model: BaseChatModel,
    tools: Sequence[Any],
    prompt: Prompt | BasePromptTemplate[Any] | str | None = None,
    *,
    mode: Literal["auto", "react-json", "tools"] = "auto",
) -> Runnable[dict[str, Any], Any]:
    """An agent in the ReAct-JSON dialect; `prompt` is a name, a file, `hub:OWNER/NAME` or a LangChain template.

    `mode` is how the model names a tool: "react-json", in the text of its turns; "tools", by calls in its own syntax;
    "auto", whichever works. A model in this process keeps to the dialect, to which a grammar can hold it, and so does
    a prompt of your own; any other model that takes tools is asked one small question, and what came of it is
    remembered for 30 days.
    """
    if mode not in ("auto", *get_args(Mode)):
        raise ConfigurationError(f'expected the mode "auto", "react-json" or "tools", saw {mode!r}')
    known = [as_langchain(tool) for tool in tools]
    if prompt is None or isinstance(prompt, str):
        prompt = read_prompt(prompt or DEFAULT_PROMPT)
    filling = {"tools": render_text_description(known), "tool_names": ", ".join(tool.name for tool in known)}
    if isinstance(prompt, BasePromptTemplate):
        ours = from_template(prompt)
        if ours is None and mode == "tools":
            raise ConfigurationError('expected a prompt of plain messages for mode="tools", saw a richer template')
        if ours is None:
            return _chain(model, prompt.partial(**filling))
        prompt = ours
    is_default = prompt == read_prompt(DEFAULT_PROMPT)
    if mode == "tools" and not is_default and not prompt.keeps_messages:
        raise ConfigurationError(
            f'prompt {prompt.name}: expected a line [messages agent_scratchpad] for mode="tools"; add it'
        )
    if mode == "auto" and not (is_default and may_call_tools(model)):
        mode = "react-json"
    filled = prompt.filled(**filling)
    return ReactJsonAgent(model, known, filled, mode=mode, native=NATIVE_PROMPT if is_default else filled)


class ReactJsonAgent(Runnable[dict[str, Any], AgentAction | AgentFinish]):
    """Plans the next step of `{"input", "intermediate_steps"}`. `AgentExecutor` asks it for a planner per run.

    `native` is the prompt for a model that calls tools in its own syntax.
    """

    def __init__(
        self,
        model: BaseChatModel,
        tools: Sequence[Any],
        prompt: Prompt,
        *,
        mode: Literal["auto", "react-json", "tools"] = "react-json",
        native: Prompt = NATIVE_PROMPT,
    ) -> None:
        self.model = model
        self.tools = tools
        self.prompt = prompt
        self.mode = mode
        self._native = native
        self._finder = mode_finder(model)

    def planner(self, *, config: RunnableConfig | None = None, stream: bool = False) -> Planner:
        """What plans one run."""
        model: TurnModel = LangChainModel(self.model, config=config, stream=stream)
        if (cassette := active()) is not None and not hasattr(self.model, "llm"):  # else its backend is recorded
            model = cassette.chat(model, model_id=getattr(self.model, "model_id", self.model._llm_type))
        planners: dict[Mode, Callable[[], Planner]] = {
            "react-json": lambda: ReactJsonPlanner(model, self.prompt, grammar=self._grammar()),
            "tools": lambda: NativePlanner(model, self._functions(), self._native),
        }
        if self.mode == "auto":
            return AutoPlanner(self._finder, LangChainModel(asked_first(self.model)), planners)
        return planners[self.mode]()

    def _functions(self) -> tuple[Function, ...]:
        return functions_of((tool.name, tool.description, schema_of(tool)) for tool in self.tools)

    def invoke(self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        for piece in self.planner(config=config).plan(_as_call(input)):
            if isinstance(piece, Reply):
                return _as_langchain(piece)
        raise AssertionError("a plan ends with a reply")

    async def ainvoke(self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        async for piece in self.planner(config=config).aplan(_as_call(input)):
            if isinstance(piece, Reply):
                return _as_langchain(piece)
        raise AssertionError("a plan ends with a reply")

    def _grammar(self) -> Grammar | None:
        """The grammar the model's turns are held to, where the model can be held to one."""
        held_to = getattr(self.model, "constrain", "off")
        if held_to == "off":
            return None
        from agentkit.react_json.grammar import react_json_grammar

        tools = [(tool.name, schema_of(tool)) for tool in self.tools]
        thought_open = not self.prompt.keeps_messages
        if held_to == "copy":
            return lambda question, observations: react_json_grammar(
                tools, sources=[question, *observations], thought_open=thought_open
            )
        grammar = react_json_grammar(tools, thought_open=thought_open)
        return lambda question, observations: grammar


def _as_call(inputs: dict[str, Any]) -> ModelCall:
    steps = as_steps(inputs.get("intermediate_steps", ()))
    return ModelCall({key: value for key, value in inputs.items() if key != "intermediate_steps"}, steps)


def _as_langchain(reply: Reply) -> AgentAction | list[AgentAction] | AgentFinish:
    if isinstance(reply.decision, MalformedTurn):
        reply.decision.text = reply.text
        raise as_output_parser_exception(reply.decision)
    if isinstance(reply.decision, FinalAnswer):
        return AgentFinish({"output": reply.decision.output}, reply.decision.log)
    actions = [as_agent_action(action) for action in reply.decision]
    return actions[0] if len(actions) == 1 else actions


def _chain(model: BaseChatModel, prompt: BasePromptTemplate[Any]) -> Runnable[dict[str, Any], Any]:
    """The agent as LangChain's users write it, for prompts that are more than f-string messages."""
    steps: Any = RunnableLambda(lambda inputs: format_log_to_str(inputs["intermediate_steps"]))
    return RunnableSequence(
        RunnablePassthrough.assign(**{SCRATCHPAD: steps}),
        prompt,
        model.bind(stop=list(STOP)),
        ReActJsonSingleInputOutputParser(),
    )
