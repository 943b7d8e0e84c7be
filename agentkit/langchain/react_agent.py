"""`create_react_json_agent`: model, tools and prompt as one Runnable that plans the next step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from langchain_core.agents import AgentAction, AgentFinish
from langchain_core.language_models import BaseChatModel
from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.fallbacks import RunnableWithFallbacks

from agentkit.core.agent import AgentMode, ReactAgent
from agentkit.core.history import History
from agentkit.core.loop import ModelCall, Turn
from agentkit.core.planner import Planner
from agentkit.errors import ConfigurationError, MalformedTurn, described
from agentkit.events import FinalAnswer
from agentkit.langchain import hub
from agentkit.langchain.model import as_model, chat_of, failures_in, models_in
from agentkit.langchain.prompt import TemplatePrompt, asked
from agentkit.langchain.steps import as_agent_action, as_output_parser_exception, as_steps
from agentkit.langchain.tools import listed
from agentkit.models.backend import ChatBackend
from agentkit.react_json.answer_type import AnswerType
from agentkit.react_json.prompt import AUTO, BUNDLED, ChatPrompt, Prompt, read_prompt
from agentkit.runs.build import as_tool


def create_react_json_agent(
    model: BaseChatModel | RunnableWithFallbacks[Any, Any] | ChatBackend | str,
    tools: Sequence[Any],
    prompt: ChatPrompt | BasePromptTemplate[Any] | str | None = None,
    *,
    mode: AgentMode = "auto",
    output_type: Any = None,
) -> Runnable[dict[str, Any], Any]:
    """An agent in the ReAct-JSON dialect; `prompt` is a name, a file, `hub:OWNER/NAME` or a LangChain template.

    `model` may be chat models in a row, as `model.with_fallbacks([…])` makes one; what sums up old steps is the first.
    `mode` is how the model names a tool: see `agentkit.core.agent.ReactAgent`. `output_type` is what an answer is: a
    class (pydantic's, a dataclass, a TypedDict), any other annotation, or a JSON schema. Raises `ConfigurationError`.
    """
    answer = None if output_type is None else AnswerType.of(output_type)
    ours = [as_tool(tool) for tool in listed(tools)]
    prompt = as_prompt(prompt)
    asked = as_model(model)
    models, failures = models_in(asked), failures_in(asked)
    model = models[0] if isinstance(asked, RunnableWithFallbacks) else asked
    row = [chat_of(one) for one in models] if len(models) > 1 else []
    agent = ReactAgent(chat_of(model), ours, prompt, mode, answer=answer, row=row, failures=failures)
    return ReactJsonAgent(model, agent, models)


def as_prompt(prompt: Any) -> ChatPrompt | None:
    """A prompt for a planner, by its name or its file where it is none yet. Raises `ConfigurationError`."""
    if isinstance(prompt, str) and prompt.startswith("hub:") and prompt.removeprefix("hub:") not in BUNDLED:
        return TemplatePrompt(template=hub.pull(prompt.removeprefix("hub:")), name=prompt)
    if prompt == AUTO:
        return None
    if isinstance(prompt, str | Path):
        return read_prompt(str(prompt))
    if isinstance(prompt, BasePromptTemplate):
        return TemplatePrompt(template=prompt)
    if prompt is None or isinstance(prompt, Prompt | TemplatePrompt):
        return prompt
    raise ConfigurationError(
        f"expected a prompt's name or file, or a LangChain prompt template, saw {described(prompt)}; "
        "load_prompt and ChatPromptTemplate.from_messages make one"
    )


class ReactJsonAgent(Runnable[dict[str, Any], AgentAction | AgentFinish]):
    """Plans the next step of `{"input", "intermediate_steps"}`. `AgentExecutor` asks it for a planner per run."""

    def __init__(self, model: BaseChatModel, agent: ReactAgent, models: Sequence[BaseChatModel] = ()) -> None:
        self.model = model
        self.agent = agent
        self.models = tuple(models) or (model,)

    def with_tools(self, tools: Sequence[Any]) -> ReactJsonAgent:
        """The same agent with other tools, which its prompt then tells of."""
        agent = replace(self.agent, tools=[as_tool(tool) for tool in tools])
        return ReactJsonAgent(self.model, agent, self.models)

    def with_answer(self, answer: AnswerType | None) -> ReactJsonAgent:
        """The same agent with answers of another type."""
        return ReactJsonAgent(self.model, replace(self.agent, answer=answer), self.models)

    @property
    def answer(self) -> AnswerType | None:
        """The type of its answers, where they are values."""
        return self.agent.answer

    def asked(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """A run's inputs as its planner takes them."""
        return asked(self.agent.react_prompt, inputs)

    def planner(
        self, *, config: RunnableConfig | None = None, stream: bool = False, history: History | None = None
    ) -> Planner:
        """What plans one run, whose model tells the callbacks of `config`, after the turns of its `history`."""
        models = () if config is None else [chat_of(model, config) for model in self.models]
        return self.agent.planner(models, stream=stream, history=history)

    def invoke(self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        *_, turn = self.planner(config=config).plan(self._as_call(input))
        return self._as_langchain(turn)

    async def ainvoke(self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        *_, turn = [piece async for piece in self.planner(config=config).aplan(self._as_call(input))]
        return self._as_langchain(turn)

    def _as_call(self, inputs: dict[str, Any]) -> ModelCall:
        steps = as_steps(inputs.get("intermediate_steps", ()))
        return ModelCall(self.asked({key: inputs[key] for key in inputs if key != "intermediate_steps"}), steps)

    def _as_langchain(self, turn: Any) -> AgentAction | list[AgentAction] | AgentFinish:
        assert isinstance(turn, Turn)  # with which every plan ends
        if isinstance(turn.decision, MalformedTurn):
            turn.decision.text = turn.text
            raise as_output_parser_exception(turn.decision)
        if isinstance(turn.decision, FinalAnswer):
            output = turn.decision.output if self.answer is None else self.answer.object_of(turn.decision)
            return AgentFinish({"output": output}, turn.decision.log)
        actions = [as_agent_action(action) for action in turn.decision]
        return actions[0] if len(actions) == 1 else actions
