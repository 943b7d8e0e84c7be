"""`create_react_json_agent`: model, tools and prompt as one Runnable that plans the next step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.agents import AgentAction, AgentFinish
from langchain_core.language_models import BaseChatModel
from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnablePassthrough, RunnableSequence

from agentkit.cassette import active
from agentkit.errors import MalformedTurn
from agentkit.events import Step
from agentkit.langchain_model import LangChainModel, as_agent_action, as_output_parser_exception
from agentkit.langchain_prompt import DEFAULT_PROMPT, from_template
from agentkit.langchain_tools import as_langchain, schema_of
from agentkit.loop import ModelCall, Reply
from agentkit.planner import STOP, Grammar, ReactJsonPlanner, TurnModel
from agentkit.react_json.output_parser import ReActJsonSingleInputOutputParser
from agentkit.react_json.prompt import SCRATCHPAD, Prompt, read_prompt, render_text_description
from agentkit.react_json.scratchpad import format_log_to_str
from agentkit.react_json.turn import Action, FinalAnswer


def create_react_json_agent(
    model: BaseChatModel, tools: Sequence[Any], prompt: Prompt | BasePromptTemplate[Any] | str | None = None
) -> Runnable[dict[str, Any], Any]:
    """An agent in the ReAct-JSON dialect; `prompt` is a name, a file, `hub:OWNER/NAME` or a LangChain template."""
    known = [as_langchain(tool) for tool in tools]
    if prompt is None or isinstance(prompt, str):
        prompt = read_prompt(prompt or DEFAULT_PROMPT)
    filling = {"tools": render_text_description(known), "tool_names": ", ".join(tool.name for tool in known)}
    if isinstance(prompt, BasePromptTemplate):
        ours = from_template(prompt)
        if ours is None:
            return _chain(model, prompt.partial(**filling))
        prompt = ours
    return ReactJsonAgent(model, known, prompt.filled(**filling))


class ReactJsonAgent(Runnable[dict[str, Any], AgentAction | AgentFinish]):
    """Plans the next step of `{"input", "intermediate_steps"}`. `AgentExecutor` asks it for a planner per run."""

    def __init__(self, model: BaseChatModel, tools: Sequence[Any], prompt: Prompt) -> None:
        self.model = model
        self.tools = tools
        self.prompt = prompt

    def planner(self, *, config: RunnableConfig | None = None, stream: bool = False) -> ReactJsonPlanner:
        """What plans one run."""
        model: TurnModel = LangChainModel(self.model, config=config, stream=stream)
        if (cassette := active()) is not None and not hasattr(self.model, "llm"):  # else its backend is recorded
            model = cassette.turn_model(model, model_id=getattr(self.model, "model_id", self.model._llm_type))
        return ReactJsonPlanner(model, self.prompt, grammar=self._grammar())

    def invoke(self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        for piece in self.planner(config=config).plan(_as_call(input)):
            if isinstance(piece, Reply):
                return _as_langchain(piece)
        raise AssertionError("a plan ends with a reply")

    async def ainvoke(self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
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
    steps = [Step(Action(a.tool, a.tool_input, a.log), obs) for a, obs in inputs.get("intermediate_steps", ())]
    return ModelCall({key: value for key, value in inputs.items() if key != "intermediate_steps"}, steps)


def _as_langchain(reply: Reply) -> AgentAction | AgentFinish:
    if isinstance(reply.decision, MalformedTurn):
        reply.decision.text = reply.text
        raise as_output_parser_exception(reply.decision)
    if isinstance(reply.decision, FinalAnswer):
        return AgentFinish({"output": reply.decision.output}, reply.decision.log)
    return as_agent_action(reply.decision[0])


def _chain(model: BaseChatModel, prompt: BasePromptTemplate[Any]) -> Runnable[dict[str, Any], Any]:
    """The agent as LangChain's users write it, for prompts that are more than f-string messages."""
    steps: Any = RunnableLambda(lambda inputs: format_log_to_str(inputs["intermediate_steps"]))
    return RunnableSequence(
        RunnablePassthrough.assign(**{SCRATCHPAD: steps}),
        prompt,
        model.bind(stop=list(STOP)),
        ReActJsonSingleInputOutputParser(),
    )
