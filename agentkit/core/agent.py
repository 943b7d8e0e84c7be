"""An agent: tools, a prompt and how the model names a tool. It makes the planner of each run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from inspect import signature
from typing import Any, Literal, get_args

from agentkit.core.history import History
from agentkit.core.in_turn import FAILED, Alternative, Failures, PlannerInTurn
from agentkit.core.mode import AutoPlanner, KnownModes, ModeFinder, ServerSchema, of_place
from agentkit.core.native_planner import (
    FINAL_ANSWER,
    TYPED_PROMPT,
    AnswerFunction,
    Function,
    NativePlanner,
    functions_of,
)
from agentkit.core.native_planner import PROMPT as NATIVE_PROMPT
from agentkit.core.planner import Estimates, Grammar, Planner, ReactJsonPlanner, WantedAnswer
from agentkit.errors import ConfigurationError, in_one_line
from agentkit.events import CallMode, Step
from agentkit.models.backend import Capabilities, TurnGrammar
from agentkit.models.call_grammar import tool_grammar
from agentkit.models.chat import ChatModel
from agentkit.react_json.answer_type import AnswerType, Held
from agentkit.react_json.examples import worked_runs
from agentkit.react_json.hostile import check_offered, without_markup
from agentkit.react_json.marks import HERMES
from agentkit.react_json.prompt import (
    ANSWER_FORMAT,
    DEFAULT_PROMPT,
    EXAMPLES,
    HISTORY,
    ChatPrompt,
    Prompt,
    describe_tools,
    read_prompt,
)
from agentkit.react_json.schema_rules import bounded, json_rule
from agentkit.react_json.turn_object import turn_schema
from agentkit.recorder import active
from agentkit.tool import Tool, text_of
from agentkit.toolbox.registry import check_names

logger = logging.getLogger("agentkit")

AgentMode = Literal["auto", "react-json", "tools"]
DIALECT_NOTE = "The answer behind Final Answer: is JSON on one line, and nothing else. It fits this JSON schema: "
NATIVE_NOTE = f"When you know the answer, call {FINAL_ANSWER}, alone: what you give it is the answer."


@dataclass(frozen=True)
class ReactAgent:
    """`model` with `tools`, asked by `prompt`; where there is none, by the one that the model's backend declares.

    `mode` is how the model names a tool: "react-json", in the text of its turns; "tools", by calls in its own syntax;
    "auto", whichever works. A model in this process keeps to the dialect, to which a grammar can hold it, and so does
    a prompt of one's own; any other model that takes tools is asked one small question, and what came of it is
    remembered for 30 days. `answer` is the type of answers that are values. Where `model` stands for several that are
    asked in turn, those are the `row`; a run goes on to the next where one fails by one of `failures`. `place` is this
    one's in such a row, and others stand behind it unless it `is_last`.
    """

    model: ChatModel
    tools: Sequence[Tool]
    prompt: ChatPrompt | None = None
    mode: AgentMode = "auto"
    answer: AnswerType | None = None
    row: Sequence[ChatModel] = ()
    failures: Failures = FAILED
    place: int = 0
    is_last: bool = True

    def __post_init__(self) -> None:
        if self.mode not in ("auto", *get_args(CallMode)):
            raise ConfigurationError(f'expected the mode "auto", "react-json" or "tools", saw {self.mode!r}')
        if self.mode == "tools" and self.prompt is not None and not self._is_default and not self.prompt.keeps_messages:
            raise ConfigurationError(
                f'prompt {self.prompt.name}: expected a line [messages agent_scratchpad] for mode="tools"; add it'
            )
        check_names([tool.name for tool in self.tools])
        check_offered(self.tools)
        if self.row:
            self._in_turn  # noqa: B018 - which checks each of them
            return
        if self.mode == "tools":
            check_native_calls(self.model.model_id, self.model.capabilities)
        if self.answer is not None:
            check_typed(self.model.model_id, self.model.capabilities)
            make = self._make_grammar
            if make is not None and "answer_schema" not in signature(make).parameters:
                raise ConfigurationError(
                    f"The grammar of turns of {self.model.model_id} takes no answer_schema, and holds no answer to a "
                    'type; let it take one, or set constrain="off"'
                )
            if direct := [tool.name for tool in self.tools if tool.return_direct]:
                raise ConfigurationError(
                    f"What {direct[0]} gives is the answer (return_direct), and would not be of the type that is asked "
                    "for; leave out return_direct, or the type"
                )
            if self._held.not_held and self.model.capabilities.refuses is not None:
                about = "The grammar cannot hold the answer to %s; one that does not fit goes back to the model"
                logger.warning(about, ", ".join(self._held.not_held))
        if role_of := self._role_of:
            unused = ", ".join(tool.name for tool in self.tools if not role_of(tool))
            if not any(map(role_of, self.tools)):
                about = "The model only searches and calculates, and was given %s: it will decline every question"
                logger.warning(about, unused or "no tools")
            elif unused:
                logger.warning("The model only searches and calculates: it will not use %s", unused)

    def planner(
        self, models: Sequence[ChatModel] = (), *, stream: bool = False, history: History | None = None
    ) -> Planner:
        """What plans one run, after the turns of its `history`; `models` are the agent's own, watched."""
        if not self.row:
            return self._planner(models[0] if models else self.model, stream, history)
        return PlannerInTurn(
            [
                Alternative(model.model_id, partial(agent._planner, model, stream, history))
                for agent, model in zip(self._in_turn, models or self.row, strict=True)
            ],
            self.failures,
        )

    @cached_property
    def _in_turn(self) -> tuple[ReactAgent, ...]:
        """An agent for each of the row; what is known of a model is known there."""
        last = len(self.row) - 1
        return tuple(
            replace(self, model=model, row=(), place=place, is_last=place == last)
            for place, model in enumerate(self.row)
        )

    def _planner(self, asked: ChatModel, stream: bool, history: History | None) -> Planner:
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
                answer=self._wanted(self._dialect_note),
            ),
            "tools": lambda: NativePlanner(
                asked,
                self._functions,
                self._native_prompt,
                stream=stream,
                estimates=estimates,
                history=history,
                answer=self._wanted(self._native_note),
            ),
        }
        if self.mode == "react-json" or (self.mode == "auto" and not self._may_call_tools):
            return planners["react-json"]()
        if self.mode == "tools":
            return planners["tools"]()
        return AutoPlanner(self._finder, self.model, planners)

    @cached_property
    def _estimates(self) -> Estimates:
        return Estimates()

    @property
    def chosen_prompt(self) -> ChatPrompt:
        """The prompt of the dialect, before the tools are filled in; in a cassette's block, that of the recording.

        Of several models it is the first one's.
        """
        if self.row:
            return self._in_turn[0].chosen_prompt
        return self.prompt or read_prompt(self._fitting)

    @property
    def react_prompt(self) -> ChatPrompt:
        """The prompt of the dialect, with the tools filled in."""
        if self.row:
            return self._in_turn[0].react_prompt
        return self._filled_prompt(self._dialect_note)

    def _filled_prompt(self, note: str) -> ChatPrompt:
        """The prompt of the dialect; `note` is what it says of the answer's form, where it has a place for that."""
        name = note if self.prompt is not None else self._fitting
        if name not in self._filled:
            prompt = self.chosen_prompt
            values: dict[str, Any] = {"tools": without_markup(describe_tools(self.tools))}
            if ANSWER_FORMAT in prompt.fields:
                values[ANSWER_FORMAT] = note
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
        return str(recorder.remembered(of_place("prompt", self.place), lambda: declared, default=DEFAULT_PROMPT))

    @cached_property
    def _is_default(self) -> bool:
        return self.prompt is None or self.prompt == read_prompt(DEFAULT_PROMPT)

    @property
    def _native_prompt(self) -> ChatPrompt:
        if self._is_default:
            return NATIVE_PROMPT if self.answer is None else TYPED_PROMPT
        return self._filled_prompt(self._native_note)

    @property
    def _may_call_tools(self) -> bool:
        """Whether it is worth asking: not in this process, where a grammar can hold a model to the dialect."""
        capabilities = self.model.capabilities
        return self._is_default and capabilities.tools and not capabilities.in_process

    @cached_property
    def _finder(self) -> ModeFinder:
        return ModeFinder(self.model.capabilities.identity, KnownModes(), place=self.place, is_last=self.is_last)

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

    # -- answers that are values -----------------------------------------------------------------------------------

    @property
    def _dialect_note(self) -> str:
        return "" if self.answer is None else DIALECT_NOTE + without_markup(self.answer.shown)

    @property
    def _native_note(self) -> str:
        if self.answer is None:
            return ""
        rest = without_markup(self.answer.shown) if self.answer.held.not_held else ""
        return f"{NATIVE_NOTE} It fits this JSON schema: {rest}" if rest else NATIVE_NOTE

    def _wanted(self, note: str) -> WantedAnswer | None:
        """The answer that is wanted, and what the model is told of its form unless its prompt says it."""
        if self.answer is None:
            return None
        is_said = not self._is_default and ANSWER_FORMAT in self.chosen_prompt.fields
        return WantedAnswer(self.answer, "" if is_said else note)

    @cached_property
    def _held(self) -> Held:
        """What a grammar can hold the answer to. What a model is shown of it is the same in a replay."""
        assert self.answer is not None
        capabilities = self.model.capabilities
        if not capabilities.grammar or capabilities.constrain == "off":
            return Held(self.answer.schema)
        refuses = capabilities.refuses
        if refuses is None:
            return self.answer.held
        if self.mode == "tools":
            function, syntax = AnswerFunction(self.answer), capabilities.call_syntax or HERMES
            grammar = tool_grammar(
                [function.as_openai()], "required", syntax=syntax, special=capabilities.special_tokens
            )
            if grammar and (reason := refuses(grammar)):
                raise ConfigurationError(
                    f"No grammar of this model's calls can hold the answer: {in_one_line(reason, 200)}; take "
                    'mode="react-json", or a simpler type'
                )
            return self.answer.held

        def problem(schema: Any) -> str | None:
            try:
                rule = json_rule(bounded(schema))
            except ConfigurationError as error:
                return str(error)
            return refuses(f"start: value\nvalue: {rule}\n")

        return self.answer.held_by(problem)

    @cached_property
    def _turn_schema(self) -> ServerSchema | None:
        """The schema that a server can be asked to hold turns to."""
        model = self.model
        if not model.capabilities.over_http or model.capabilities.grammar:
            return None
        answer_schema = self.answer.held.schema if self.answer is not None else None
        schemas = [(tool.name, tool.schema) for tool in self.tools]
        whole, closing = (turn_schema(one, answer_schema=answer_schema) for one in (schemas, ()))
        return ServerSchema(whole, closing, self._finder, model)

    @property
    def _make_grammar(self) -> TurnGrammar | None:
        capabilities = self.model.capabilities
        return capabilities.turn_grammars.get(capabilities.constrain)

    def _grammar(self) -> Grammar | None:
        """The grammar the model's turns are held to, where the model can be held to one."""
        make = self._make_grammar
        if make is None:
            return None
        thought_open = not self.react_prompt.keeps_messages
        held = {"answer_schema": self._held.schema} if self.answer is not None else {}
        needs_examples = _shows_examples(self.chosen_prompt) and not all(tool.side_effects for tool in self.tools)
        may_close = "closes" in signature(make).parameters

        def grammar(question: str, steps: Sequence[Step], *, closes: bool = False) -> str:
            acts = needs_examples and not steps and not closes
            more = {"closes": True} if closes and may_close else {}
            return make(self.tools, question, steps, thought_open=thought_open, acts=acts, **held, **more)

        return grammar


def _first_question(values: Mapping[str, Any]) -> str:
    """The question that a conversation began with: what is made of it stays the same."""
    history = values.get(HISTORY) or ()
    questions = [one["content"] for one in history if isinstance(one, Mapping) and one.get("role") == "user"]
    return text_of(questions[0] if questions else values.get("input", ""))


def _shows_examples(prompt: ChatPrompt) -> bool:
    """Whether it is made for a model that does what it sees done; what that answers at once, it makes up."""
    return isinstance(prompt, Prompt) and EXAMPLES in prompt.fields


def check_typed(model_id: str, capabilities: Capabilities) -> None:
    """Refuse an answer that is a value for a model whose answers are copied."""
    if capabilities.constrain == "copy":
        raise ConfigurationError(
            f'{model_id} answers with text that it copies (constrain="copy"), and no answer of it fits a schema; leave '
            'out the type of the answer, or take another model or constrain="actions"'
        )


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
