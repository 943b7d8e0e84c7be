"""The ReAct loop as a state machine without I/O (Yao et al. 2022, https://arxiv.org/abs/2210.03629).

A driver asks `next(now_s)` what to do, does it, and hands the result back with `replied` or `observed`; both return the
events that this caused. Limits, the stuck guard and recovery from malformed turns live here, once. The state is what
the events add up to: a loop that is given those of a run that ended early goes on from where that was.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any, Literal

from agentkit.core.model_view import ModelView, turns_of
from agentkit.errors import ConfigurationError, MalformedTurn, PromptTooLong, RejectedAnswer, UnfitAnswer, in_one_line
from agentkit.events import (
    Action,
    ActionChosen,
    Compacted,
    Event,
    FinalAnswer,
    Finished,
    LimitReached,
    Observation,
    Observed,
    Outcome,
    ParseError,
    Pending,
    Replied,
    Resumed,
    RunSummary,
    Source,
    Step,
    StopReason,
    Thought,
    Usage,
    Verdict,
    Waiting,
)
from agentkit.number_words import count
from agentkit.react_json.grounding import confirming, leaves, says_why_not, ungrounded
from agentkit.react_json.scratchpad import CLOSING_NOTE, told_again

MALFORMED = "_Exception"  # the tool name LangChain gives to the step of a turn that could not be parsed
FORCED_OUTPUT: dict[StopReason, str] = {
    "max_iterations": "Agent stopped due to iteration limit or time limit.",  # LangChain's words
    "max_execution_time": "Agent stopped due to iteration limit or time limit.",
    "max_tokens": "Agent stopped due to its token budget.",
    "max_cost": "Agent stopped due to its cost budget.",
    "stuck": "Agent stopped because it repeated an action without getting further.",
    "answer_rejected": "Agent stopped because its answers did not pass their checks.",
    "waiting": "Agent waits for a decision.",
}
ERROR = "Error:"  # with which the observations of failed tools begin
LONGEST_MARKED = 80  # characters of an answer that is marked as a whole
NOT_GROUNDED_OUTPUT = "I could not find an answer that my tools confirm."


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of one model call: actions, a final answer, or a malformed turn. `is_call`: the answer came as one."""

    decision: tuple[Action, ...] | FinalAnswer | MalformedTurn
    text: str = ""
    thought: str = ""
    thinking: str = ""
    invented: int = 0
    usage: Usage = field(default_factory=Usage)
    return_values: dict[str, Any] | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)  # what was left out of its prompt, where that was sent
    is_call: bool = False


@dataclass(frozen=True, slots=True)
class ModelCall:
    """Do: ask the model for its next turn, given the steps so far.

    Where the prompt leaves no room for it, it loses old observations where it is sent, unless `shortens` is False: the
    loop is told with `too_long`. `closing`: no action of it would run, so that it is held to a final answer.
    """

    inputs: dict[str, Any]
    steps: Sequence[Step]
    first_step: int = 0  # index in the run of steps[0], when older steps are trimmed
    max_new_tokens: int | None = None  # what a budget leaves for this turn
    summary: str = ""  # what stands in the place of the steps before
    shortens: bool = True
    closing: bool = False


@dataclass(frozen=True, slots=True)
class Compaction:
    """Do: have these steps summed up, and the `summary` that stands for those before them."""

    inputs: dict[str, Any]
    steps: Sequence[Step]
    summary: str = ""
    context_tokens: int | None = None
    max_new_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of a `Compaction`: the text that stands for its steps, or the `reason` why there is none."""

    text: str = ""
    reason: str = ""
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """Do: run these actions; one outcome each, in this order."""

    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a run ends without the model's saying so. `None` is no limit."""

    max_iterations: int | None = 15
    max_execution_time_s: float | None = None
    max_tokens: int | None = None
    max_cost_usd: float | None = None
    max_repeats: int | None = 3
    early_stopping_method: Literal["force", "generate"] = "force"


class ReActLoop:
    """One run, from its beginning, after `steps` that were taken before, or after the events that `begun` it.

    `known` is what was said before it, on which its answer may rest. Not to be used again.
    """

    def __init__(
        self,
        inputs: dict[str, Any],
        *,
        limits: Limits | None = None,
        recover: Callable[[MalformedTurn], str] | None = str,
        trim: Callable[[Sequence[Step]], Sequence[Step]] | None = None,
        must_be_grounded: bool = False,
        started_s: float = 0.0,
        steps: Sequence[Step] = (),
        begun: Iterable[Event] = (),
        known: str = "",
        compacts: Literal["summary", "function"] | None = None,
    ) -> None:
        self.inputs = inputs
        self._known = known
        self.steps: list[Step] = []
        self._view = ModelView(self.steps)
        self._compacts: Literal["summary", "function"] | None = compacts
        self._too_long: PromptTooLong | None = None
        self._last_to_go = 0
        self._shortened_at: int | None = None
        self._dropped: Mapping[str, int] = {}
        self._limits = limits or Limits()
        self._recover = recover
        self._trim = trim
        self._must_be_grounded = must_be_grounded
        self._started_s = started_s
        self._usage = Usage()
        self._cost_unknown = False
        self._iterations = self._tools_executed = self._invented = self._parse_errors = 0
        self._sources: dict[Source, None] = {}
        self._readings: dict[str, None] = {}
        outcomes = {str(step.observation).startswith(ERROR) for step in steps if step.action.tool != MALFORMED}
        self._has_failure, self._has_result = True in outcomes, False in outcomes
        self._last_turn: frozenset[Hashable] = frozenset()
        self._repeats = 0
        self._pending: tuple[Action, ...] = ()
        self._outcomes: tuple[Outcome, ...] = ()  # of those that are pending
        self._is_under_way = False  # those, or they wait
        self._stopped: StopReason | None = None
        self._ended_by: StopReason | None = None
        self._closing = False
        self._end: tuple[Any, bool, FinalAnswer | None, dict[str, Any] | None] | None = None
        for _, turn in turns_of(steps):
            self._record(turn)
        self._take_up(begun)

    # -- what to do next -------------------------------------------------------------------------------------------

    def next(self, now_s: float) -> ModelCall | ToolCalls | Compaction | Finished | LimitReached:
        """The next thing to do. `LimitReached` is news to pass on: call again."""
        if self._end is not None:
            return self._finished(now_s)
        if self._pending:
            return ToolCalls(tuple(action for action, _ in self.open_calls))
        if self._stopped is None and (reason := self._limit_reached(now_s)) is not None:
            return self._stop(reason)
        if self._stopped is not None and not self._closing:
            self._end = (self._forced_output(self._stopped), False, None, None)
            return self._finished(now_s)
        return self._model_call() if self._too_long is None else self._compaction(self._too_long)

    def _forced_output(self, reason: StopReason) -> str:
        if reason == "stuck" and self.steps[-1].action.tool == MALFORMED:
            return f"Agent stopped because the model gave no readable turn {self._repeats} times in a row."
        return FORCED_OUTPUT[reason]

    def _limit_reached(self, now_s: float) -> StopReason | None:
        limits = self._limits
        if self._ended_by is not None:
            return self._ended_by
        if limits.max_repeats is not None and self._repeats >= limits.max_repeats:
            return "stuck"
        if limits.max_iterations is not None and self._iterations >= limits.max_iterations:
            return "max_iterations"
        if limits.max_execution_time_s is not None and now_s - self._started_s >= limits.max_execution_time_s:
            return "max_execution_time"
        if limits.max_tokens is not None and self._usage.total_tokens >= limits.max_tokens:
            return "max_tokens"
        cost_usd = self._usage.cost_usd or 0.0
        if limits.max_cost_usd is not None and (self._cost_unknown or cost_usd >= limits.max_cost_usd):
            return "max_cost"
        return None

    def _stop(self, reason: StopReason) -> LimitReached:
        self._stopped = reason
        # A closing turn is paid for in tokens, money and time, so only what limits none of them has one.
        asked = reason == "stuck" or (self._limits.early_stopping_method == "generate" and reason == "max_iterations")
        self._closing = asked and bool(self.steps)
        return LimitReached(reason, self._closing)

    def _model_call(self) -> ModelCall:
        steps: Sequence[Step] = self._view.steps
        if self._trim is not None:
            steps = self._trim(steps)
        if self._closing:
            *earlier, last = steps
            steps = [*earlier, last._replace(observation=f"{last.observation}{CLOSING_NOTE}")]
        return ModelCall(
            self.inputs,
            steps,
            first_step=len(self.steps) - len(steps),
            max_new_tokens=self._tokens_left(),
            summary=self._view.summary,
            shortens=self._compacts is None or self._view.is_at_its_least or self._shortened_at == len(self.steps),
            closing=self._closing,
        )

    def _tokens_left(self) -> int | None:
        budget = self._limits.max_tokens
        return None if budget is None else max(1, budget - self._usage.total_tokens)

    def _compaction(self, error: PromptTooLong) -> Compaction:
        summary, first = (self._view.summary, self._view.first) if self._compacts == "summary" else ("", 0)
        steps = self.steps[first : self._last_to_go]
        return Compaction(self.inputs, steps, summary, error.context_tokens, self._tokens_left())

    # -- results ---------------------------------------------------------------------------------------------------

    def too_long(self, error: PromptTooLong, last: int | None = None) -> None:
        """The prompt of the last `ModelCall` leaves no room: the oldest steps go, up to `last` where that is known.

        Where it is not the steps that are too long, the next one may be shortened where it is sent.
        """
        self._last_to_go = self._view.too_many(error) if last is None else last
        self._shortened_at = None if self._last_to_go else len(self.steps)
        self._too_long = error if self._last_to_go else None

    def compacted(self, summary: Summary) -> Iterator[Event]:
        """What came of the last `Compaction`; raises `ConfigurationError` where `max_cost_usd` cannot be held."""
        how = self._compacts if summary.text and self._compacts else "drop"
        last = self._last_to_go
        first = self._view.first_to_go(last, how)
        yield from self._compact(Compacted(how, first, last, summary.text, summary.reason, usage=summary.usage))
        if summary.usage != Usage():
            self._check_cost(summary.usage)

    def _compact(self, event: Compacted) -> Iterator[Event]:
        self._too_long = None
        if event.within_call and not self.steps:
            self._view.fixed_tokens = None
        self._usage += event.usage
        self._view.take(event)
        yield event

    def _shortened(self, dropped: Mapping[str, int]) -> Iterator[Event]:
        """What was left out of a prompt where it was sent, where that is not what it was at the turn before."""
        if dropped and not self.steps:
            self._view.fixed_tokens = None
        if dropped and dropped != self._dropped:
            first, observations = self._view.first, dropped.get("observations", 0)
            yield Compacted("drop", first + 1, first + observations, in_words(dropped), within_call=True)
        self._dropped = dropped

    def replied(self, turn: Turn) -> Iterator[Event]:
        """The model's turn; raises `ConfigurationError` where `max_cost_usd` cannot be held."""
        self._spend(turn.usage, turn.invented)
        self._check_cost(turn.usage)
        yield Replied(turn.usage, turn.invented)
        yield from self._shortened(turn.dropped)
        if turn.thought or turn.thinking:
            yield Thought(turn.thought, turn.thinking)
        if isinstance(turn.decision, FinalAnswer):
            self._answer(turn.decision, turn.return_values)
        elif self._closing:
            self._closing = False  # asked for an answer, it gave none
        elif isinstance(turn.decision, MalformedTurn):
            yield self._malformed(turn.decision, turn.text)
        else:
            self._pending, self._outcomes = turn.decision, (None,) * len(turn.decision)
            for action in turn.decision:
                yield ActionChosen(action)

    def _spend(self, usage: Usage, invented: int) -> None:
        if not self.steps:
            self._view.fixed_tokens = usage.prompt_tokens or None
        self._iterations += 1
        self._usage += usage
        self._invented += invented

    def _check_cost(self, usage: Usage) -> None:
        if self._limits.max_cost_usd is None or usage.cost_usd is not None:
            return
        if self._usage.cost_usd is None:
            raise ConfigurationError(
                "max_cost cannot be held: neither the server nor a price table says what this model costs, "
                "or the server does not count its tokens; give max_tokens instead"
            )
        self._cost_unknown = True  # money was spent already: end the run, keep its steps

    def _malformed(self, error: MalformedTurn, text: str) -> ParseError:
        error.text = error.text or text
        if isinstance(error, RejectedAnswer):  # a proper turn, of which no handler of others is told
            observation = str(error)
            self._ended_by = "answer_rejected" if error.ends_run else self._ended_by
        else:
            observation = self._told(error)
        self._record([Step(Action(MALFORMED, observation, text), observation)], error.text)
        if isinstance(error, RejectedAnswer):  # how often the model may answer again is for the checks to say
            self._repeats = 0
        return ParseError(text, observation)

    def _told(self, error: MalformedTurn) -> str:
        """What the model is told of a turn that could not be parsed."""
        self._parse_errors += 1
        if self._recover is None:
            raise error
        observation = self._recover(error)
        if isinstance(error, UnfitAnswer):  # its message says what to write
            return observation
        if self._recover is str and (before := self._malformed_in_a_row()):
            observation = told_again(observation, before)
        return observation

    def _malformed_in_a_row(self) -> int:
        """How many of the last turns could not be parsed."""
        return sum(1 for _ in takewhile(lambda step: step.action.tool == MALFORMED, reversed(self.steps)))

    def observed(self, outcomes: Sequence[Outcome]) -> Iterator[Event]:
        """The results of the last `ToolCalls`, in its order. Where one of them waits, the run ends there for now."""
        came = iter(outcomes)
        every = [one if isinstance(one, Observation) else next(came) for one in self._outcomes]
        observations = [one for one in every if isinstance(one, Observation)]
        if len(observations) == len(every):
            yield from self._observed(observations)
        else:
            self._outcomes = tuple(every)
            self._stopped, self._end = "waiting", (FORCED_OUTPUT["waiting"], False, None, None)
            yield Waiting(self._outcomes)

    def _observed(self, observations: Sequence[Observation]) -> Iterator[Event]:
        actions, self._pending, self._outcomes = self._pending, (), ()
        self._record([Step(action, seen.value) for action, seen in zip(actions, observations, strict=True)])
        for action, observation in zip(actions, observations, strict=True):
            self._tools_executed += observation.executed
            self._sources |= dict.fromkeys(observation.sources)
            self._readings |= dict.fromkeys(observation.readings)
            self._has_failure |= observation.failed
            self._has_result |= observation.executed and not observation.failed
            facts = (observation.executed, observation.sources, observation.readings, observation.failed)
            yield Observed(action, observation.value, *facts)
        if len(observations) == 1 and observations[0].return_direct:
            self._stopped = "return_direct"
            self._end = (observations[0].value, True, None, None)

    def stop(self, reason: StopReason) -> None:
        """End the run from outside, by a deadline that struck within a call."""
        self._pending, self._outcomes, self._closing, self._stopped, self._ended_by = (), (), False, None, reason

    def _record(self, turn: Sequence[Step], text: str | None = None) -> None:
        """Take in a turn, and count how often just the same came of it, with nothing else between.

        A malformed turn is the same by its `text`: what the model is told of it may be the same for any.
        """
        self.steps += turn
        self._view.add(turn)
        seen = frozenset(_identity(step, text) for step in turn)
        self._repeats = self._repeats + 1 if seen == self._last_turn else 1
        self._last_turn = seen

    def _answer(self, answer: FinalAnswer, return_values: dict[str, Any] | None) -> None:
        if answer.declines:
            self._stopped = "declined"
            self._end = (answer.output, False, answer, None)
        elif self._must_be_grounded and self.ungrounded(answer.output):
            self._stopped = "not_grounded"
            said = answer.output if isinstance(answer.output, str) else json.dumps(answer.output, default=str)
            self._end = (f"{NOT_GROUNDED_OUTPUT} (Not confirmed: {said})", False, answer, None)
        else:
            self._stopped = self._stopped or "answer"
            self._end = (answer.output, True, answer, return_values)

    # -- a run that goes on ----------------------------------------------------------------------------------------

    def _take_up(self, begun: Iterable[Event]) -> None:
        """Add up what happened before."""
        seen: list[Observation] = []
        for event in begun:
            match event:
                case Replied(usage, invented):
                    self._spend(usage, invented)
                    self._cost_unknown |= self._limits.max_cost_usd is not None and usage.cost_usd is None
                case Compacted():
                    deque(self._compact(event), maxlen=0)
                case ActionChosen(action):
                    self._pending += (action,)
                    self._outcomes += (None,)
                    self._is_under_way = True
                case Waiting(outcomes):
                    self._check_fits(outcomes)
                    self._outcomes = outcomes
                    self._is_under_way = False
                case Resumed(verdicts):
                    self._check_fits(verdicts)
                    self._decide(verdicts)
                case Observed(_, value, executed, sources, readings, failed):
                    seen.append(Observation(value, executed, False, sources, readings, failed))
                    if len(seen) == len(self._pending):
                        deque(self._observed(seen), maxlen=0)
                        seen = []
                case ParseError(text, observation):
                    self._parse_errors += 1
                    self._record([Step(Action(MALFORMED, observation, text), observation)], text)

    def _check_fits(self, of_each_call: Sequence[Any]) -> None:
        if len(of_each_call) != len(self._pending):
            raise ConfigurationError("the events of this run do not follow from each other; it cannot go on")

    def _decide(self, verdicts: Sequence[Verdict | None]) -> None:
        decided = zip(self._pending, verdicts, strict=True)
        self._pending = tuple(replace(action, verdict=verdict) for action, verdict in decided)
        self._is_under_way = True

    @property
    def open_calls(self) -> list[tuple[Action, Outcome]]:
        """The calls of the last turn that have no observation, each with what it waits for."""
        calls = zip(self._pending, self._outcomes, strict=True)
        return [(action, outcome) for action, outcome in calls if not isinstance(outcome, Observation)]

    def resume(self, decide: Callable[[Action, Outcome, bool], Verdict | None]) -> Iterator[Event]:
        """Go on after `begun`. `decide` gives the verdict on each call of the last turn that has no observation.

        It is told of a call what it waited for, and whether it was under way, so that it may have run.
        """
        outcomes = zip(self._pending, self._outcomes, strict=True)
        verdicts = tuple(
            action.verdict if isinstance(outcome, Observation) else decide(action, outcome, self._is_under_way)
            for action, outcome in outcomes
        )
        self._decide(verdicts)
        yield Resumed(verdicts)

    # -- the end ---------------------------------------------------------------------------------------------------

    def ungrounded(self, answer: Any) -> tuple[str, ...]:
        """Numbers and names in `answer` that stand in no observation and not in the question.

        All of it where tools gave nothing but errors, unless it says so.
        """
        question = f"{self.inputs.get('input', '')}\n{self._known}"
        done = [step for step in self.steps if step.action.tool != MALFORMED]
        taken = [(step.action.tool_input, str(step.observation)) for step in done]
        texts = [*leaves(answer)]
        strange = ungrounded(texts, question, confirming(question, taken))
        if strange or self._has_result or not self._has_failure or says_why_not("\n".join(texts)):
            return strange
        return (in_one_line(" ".join(texts), LONGEST_MARKED),)

    def _finished(self, now_s: float) -> Finished:
        assert self._end is not None
        assert self._stopped is not None
        output, answered, final, return_values = self._end
        summary = RunSummary(
            stop_reason=self._stopped,
            usage=self._usage,
            seconds=now_s - self._started_s,
            model_calls=self._iterations,
            tools_executed=self._tools_executed,
            invented_observations=self._invented,
            parse_errors=self._parse_errors,
            ungrounded=self.ungrounded(final.output) if final is not None and not final.declines else (),
            sources=tuple(self._sources),
            readings=tuple(self._readings),
        )
        log = final.log if final else ""
        waiting = tuple(one for one in self._outcomes if isinstance(one, Pending))
        made = final.made if final is not None and answered else ()
        return Finished(output, answered, summary, tuple(self.steps), log, return_values, waiting, made)


def in_words(dropped: Mapping[str, int]) -> str:
    """What was left out of a prompt."""
    return " and ".join(count(number, name.removesuffix("s")) for name, number in dropped.items() if number)


def _identity(step: Step, text: str | None) -> Hashable:
    """What makes a step the same as another: of JSON, neither the order of keys nor white space between them."""
    action, observation = step
    if action.tool == MALFORMED:
        return MALFORMED, (action.log if text is None else text).strip()
    try:
        given = json.dumps(action.tool_input, sort_keys=True, default=str)
    except (TypeError, ValueError, RecursionError):  # keys of several types, or a value that holds itself
        given = repr(action.tool_input)
    return action.tool.strip().casefold(), given, str(observation)
