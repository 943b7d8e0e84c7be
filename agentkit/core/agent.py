"""An agent: tools, a prompt and how the model names a tool. It makes the planner of each run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from agentkit.core.history import History
from agentkit.core.mode import AutoPlanner, KnownModes, ModeFinder, ServerSchema
from agentkit.core.native_planner import PROMPT as NATIVE_PROMPT
from agentkit.core.native_planner import Function, NativePlanner, functions_of
from agentkit.core.planner import Estimates, Grammar, Planner, ReactJsonPlanner
from agentkit.errors import ConfigurationError
from agentkit.events import CallMode, Step
from agentkit.models.backend import Capabilities
from agentkit.models.chat import ChatModel
from agentkit.react_json.examples import worked_runs
from agentkit.react_json.hostile import check_offered, without_markup
from agentkit.react_json.prompt import (
    DEFAULT_PROMPT,
    EXAMPLES,
    HISTORY,
    ChatPrompt,
    Prompt,
    describe_tools,
    read_prompt,
)
from agentkit.react_json.turn_object import turn_schema
from agentkit.recorder import active
from agentkit.tool import Tool, text_of
from agentkit.toolbox.registry import check_names

logger = logging.getLogger("agentkit")

AgentMode = Literal["auto", "react-json", "tools"]


@dataclass(frozen=True)
class ReactAgent:
    """`model` with `tools`, asked by `prompt`; where there is none, by the one that the model's backend declares.

    `mode` is how the model names a tool: "react-json", in the text of its turns; "tools", by calls in its own syntax;
    "auto", whichever works. A model in this process keeps to the dialect, to which a grammar can hold it, and so does
    a prompt of one's own; any other model that takes tools is asked one small question, and what came of it is
    remembered for 30 days. `first` is the model that is asked it, without its alternatives.
    """

    model: ChatModel
    tools: Sequence[Tool]
    prompt: ChatPrompt | None = None
    mode: AgentMode = "auto"
    first: ChatModel | None = None

    def __post_init__(self) -> None:
        if self.mode not in ("auto", *get_args(CallMode)):
            raise ConfigurationError(f'expected the mode "auto", "react-json" or "tools", saw {self.mode!r}')
        if self.mode == "tools" and self.prompt is not None and not self._is_default and not self.prompt.keeps_messages:
            raise ConfigurationError(
                f'prompt {self.prompt.name}: expected a line [messages agent_scratchpad] for mode="tools"; add it'
            )
        check_names([tool.name for tool in self.tools])
        check_offered(self.tools)
        if self.mode == "tools":
            check_native_calls(self.model.model_id, self.model.capabilities)
        if role_of := self._role_of:
            unused = ", ".join(tool.name for tool in self.tools if not role_of(tool))
            if not any(map(role_of, self.tools)):
                about = "The model only searches and calculates, and was given %s: it will decline every question"
                logger.warning(about, unused or "no tools")
            elif unused:
                logger.warning("The model only searches and calculates: it will not use %s", unused)

    def planner(
        self, model: ChatModel | None = None, *, stream: bool = False, history: History | None = None
    ) -> Planner:
        """What plans one run, after the turns of its `history`; `model` is the agent's own, watched."""
        asked = model or self.model
        schemas, estimates = {tool.name: tool.schema for tool in self.tools}, self._estimates
        planners: dict[CallMode, Callable[[], Planner]] = {
            "react-json": lambda: ReactJsonPlanner(
                asked,
                self.react_prompt,
                tools=schemas,
                grammar=self._grammar(),
                schema=self._turn_schema,
                stream=stream,
                estimates=estimates,
                names=self._roles,
                history=history,
            ),
            "tools": lambda: NativePlanner(
                asked, self._functions, self._native_prompt, stream=stream, estimates=estimates, history=history
            ),
        }
        if self.mode == "react-json" or (self.mode == "auto" and not self._may_call_tools):
            return planners["react-json"]()
        if self.mode == "tools":
            return planners["tools"]()
        return AutoPlanner(self._finder, self.first or self.model, planners)

    @cached_property
    def _estimates(self) -> Estimates:
        return Estimates()

    @property
    def chosen_prompt(self) -> ChatPrompt:
        """The prompt of the dialect, before the tools are filled in; in a cassette's block, that of the recording."""
        return self.prompt or read_prompt(self._fitting)

    @property
    def react_prompt(self) -> ChatPrompt:
        """The prompt of the dialect, with the tools filled in."""
        name = "" if self.prompt is not None else self._fitting
        if name not in self._filled:
            prompt = self.chosen_prompt
            values: dict[str, Any] = {"tools": without_markup(describe_tools(self.tools))}
            if _shows_examples(prompt):
                values[EXAMPLES] = lambda given: worked_runs(self.tools, _first_question(given))
            self._filled[name] = prompt.filled(**values, tool_names=", ".join(tool.name for tool in self.tools))
        return self._filled[name]

    @cached_property
    def _filled(self) -> dict[str, ChatPrompt]:
        return {}

    @property
    def _fitting(self) -> str:
        """The name of the prompt that fits the model; a replay, which may have no model, has the recorded one."""
        declared, recorder = self.model.capabilities.best_prompt, active()
        if recorder is None or not self.model.capabilities.in_process:
            return declared
        if declared == DEFAULT_PROMPT and recorder.mode != "replay":  # goes without saying, and is not recorded
            return declared
        return str(recorder.remembered("prompt", lambda: declared, default=DEFAULT_PROMPT))

    @cached_property
    def _is_default(self) -> bool:
        return self.prompt is None or self.prompt == read_prompt(DEFAULT_PROMPT)

    @property
    def _native_prompt(self) -> ChatPrompt:
        return NATIVE_PROMPT if self._is_default else self.react_prompt

    @property
    def _may_call_tools(self) -> bool:
        """Whether it is worth asking: not in this process, where a grammar can hold a model to the dialect."""
        capabilities = self.model.capabilities
        return self._is_default and capabilities.tools and not capabilities.in_process

    @cached_property
    def _finder(self) -> ModeFinder:
        capabilities = self.model.capabilities
        return ModeFinder(capabilities.identity, KnownModes(), has_fallbacks=bool(capabilities.alternatives))

    @cached_property
    def _functions(self) -> tuple[Function, ...]:
        return functions_of(self.tools)

    @property
    def _role_of(self) -> Callable[[Tool], str] | None:
        """What the model calls a tool, where it knows tools by roles alone."""
        capabilities = self.model.capabilities
        return capabilities.role_of if capabilities.constrain == "copy" else None

    @cached_property
    def _roles(self) -> Mapping[str, str]:
        """The tools' names by what the model calls them."""
        role_of = self._role_of
        return {role: tool.name for tool in reversed(self.tools) if role_of is not None and (role := role_of(tool))}

    @cached_property
    def _turn_schema(self) -> ServerSchema | None:
        """The schema that a server can be asked to hold turns to."""
        model = self.first or self.model
        if not model.capabilities.over_http or model.capabilities.grammar:
            return None
        schema = turn_schema([(tool.name, tool.schema) for tool in self.tools])
        return ServerSchema(schema, self._finder, model)

    def _grammar(self) -> Grammar | None:
        """The grammar the model's turns are held to, where the model can be held to one."""
        capabilities = self.model.capabilities
        make = capabilities.turn_grammars.get(capabilities.constrain)
        if make is None:
            return None
        thought_open = not self.react_prompt.keeps_messages
        needs_examples = _shows_examples(self.chosen_prompt) and not all(tool.side_effects for tool in self.tools)

        def grammar(question: str, steps: Sequence[Step]) -> str:
            acts = needs_examples and not steps
            return make(self.tools, question, steps, thought_open=thought_open, acts=acts)

        return grammar


def _first_question(values: Mapping[str, Any]) -> str:
    """The question that a conversation began with: what is made of it stays the same."""
    history = values.get(HISTORY) or ()
    questions = [one["content"] for one in history if isinstance(one, Mapping) and one.get("role") == "user"]
    return text_of(questions[0] if questions else values.get("input", ""))


def _shows_examples(prompt: ChatPrompt) -> bool:
    """Whether it is made for a model that does what it sees done; what that answers at once, it makes up."""
    return isinstance(prompt, Prompt) and EXAMPLES in prompt.fields


def check_native_calls(model_id: str, capabilities: Capabilities) -> None:
    """Refuse `mode="tools"` for a model that is not sent the tools, or is held to a grammar of the dialect."""
    if capabilities.constrain == "copy":
        raise ConfigurationError(
            f'{model_id} is held to ReAct-JSON by constrain="copy"; leave out mode="tools", or take constrain="actions"'
        )
    if not capabilities.tools:
        raise ConfigurationError(
            f'{model_id} takes no tools, which mode="tools" sends it; take mode="react-json", or let its backend '
            "declare Capabilities(tools=True)"
        )
