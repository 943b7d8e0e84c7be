"""An agent: tools, a prompt and how the model names a tool. It makes the planner of each run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from agentkit.core.mode import AutoPlanner, KnownModes, ModeFinder
from agentkit.core.native_planner import PROMPT as NATIVE_PROMPT
from agentkit.core.native_planner import Function, NativePlanner, functions_of
from agentkit.core.planner import Grammar, Planner, ReactJsonPlanner
from agentkit.errors import ConfigurationError
from agentkit.events import CallMode
from agentkit.models.backend import Capabilities
from agentkit.models.chat import ChatModel
from agentkit.react_json.hostile import check_offered, without_markup
from agentkit.react_json.prompt import DEFAULT_PROMPT, Prompt, read_prompt, render_text_description
from agentkit.tool import Tool
from agentkit.toolbox.registry import check_names

logger = logging.getLogger("agentkit")

AgentMode = Literal["auto", "react-json", "tools"]


@dataclass(frozen=True)
class ReactAgent:
    """`model` with `tools`, asked by `prompt` (the default one where there is none).

    `mode` is how the model names a tool: "react-json", in the text of its turns; "tools", by calls in its own syntax;
    "auto", whichever works. A model in this process keeps to the dialect, to which a grammar can hold it, and so does
    a prompt of one's own; any other model that takes tools is asked one small question, and what came of it is
    remembered for 30 days. `first` is the model that is asked it, without its alternatives.
    """

    model: ChatModel
    tools: Sequence[Tool]
    prompt: Prompt | None = None
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
        made_for = self.model.capabilities.made_for
        if made_for and (strange := [tool.name for tool in self.tools if tool.name not in made_for]):
            logger.warning(
                "The model was trained with %s alone, and may not know how to use %s; take another one for that",
                " and ".join(sorted(made_for)),
                ", ".join(strange),
            )

    def planner(self, model: ChatModel | None = None, *, stream: bool = False) -> Planner:
        """What plans one run; `model` stands in for the agent's own, the same one watched."""
        asked = model or self.model
        schemas = {tool.name: tool.schema for tool in self.tools}
        planners: dict[CallMode, Callable[[], Planner]] = {
            "react-json": lambda: ReactJsonPlanner(
                asked, self.react_prompt, tools=schemas, grammar=self._grammar(), stream=stream
            ),
            "tools": lambda: NativePlanner(asked, self._functions, self._native_prompt, stream=stream),
        }
        if self.mode == "react-json" or (self.mode == "auto" and not self._may_call_tools):
            return planners["react-json"]()
        if self.mode == "tools":
            return planners["tools"]()
        return AutoPlanner(self._finder, self.first or self.model, planners)

    @cached_property
    def react_prompt(self) -> Prompt:
        """The prompt of the dialect, with the tools filled in."""
        prompt = self.prompt or read_prompt(DEFAULT_PROMPT)
        names = ", ".join(tool.name for tool in self.tools)
        return prompt.filled(tools=without_markup(render_text_description(self.tools)), tool_names=names)

    @cached_property
    def _is_default(self) -> bool:
        return self.prompt is None or self.prompt == read_prompt(DEFAULT_PROMPT)

    @property
    def _native_prompt(self) -> Prompt:
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

    def _grammar(self) -> Grammar | None:
        """The grammar the model's turns are held to, where the model can be held to one."""
        capabilities = self.model.capabilities
        make = capabilities.turn_grammars.get(capabilities.constrain)
        if make is None:
            return None
        tools = [(tool.name, tool.schema) for tool in self.tools]
        thought_open = not self.react_prompt.keeps_messages
        return lambda question, observations: make(tools, question, observations, thought_open=thought_open)


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
