"""What happens in a run, as small values. Produced once, by the loop; everything that shows, records or streams a run
consumes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

ToolInput = str | dict[str, Any]

StopReason = Literal[
    "answer",  # the model gave a final answer
    "return_direct",  # a tool's result is the answer
    "max_iterations",
    "max_execution_time",
    "max_tokens",
    "max_cost",
    "stuck",  # the same came of several turns in a row
    "not_grounded",  # the answer holds a number or a name that no observation gave
    "declined",  # the model says that it has no answer
    "answer_rejected",  # no answer passed the checks of it
    "waiting",  # for a decision about a call
]

CallMode = Literal["react-json", "tools"]
"""How a model names its tools: in the text of its turns, or by calls in its own syntax."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one model call, or of a run: `cached_tokens` of the `prompt_tokens` were not computed again.

    `cost_usd` is in US dollars, `None` where neither the server nor a price table says. A count that is stated as less
    than none, as text or as no number says nothing, and neither does such a cost: a budget is held to what is known.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float | None = None

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "completion_tokens", "cached_tokens"):
            stated = getattr(self, name)
            if type(stated) is not int or stated < 0:
                object.__setattr__(self, name, int(stated) if type(stated) is float and 0 <= stated < math.inf else 0)
        cost = self.cost_usd
        if cost is not None and not (type(cost) in (int, float) and 0 <= cost < math.inf):
            object.__setattr__(self, "cost_usd", None)

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cost_usd if other.cost_usd is None else (self.cost_usd or 0.0) + other.cost_usd,
        )

    def updated(self, later: Usage | None) -> Usage:
        """This with what the same reply said later: totals so far, of which some come once and then as none."""
        if later is None:
            return self
        return Usage(
            max(self.prompt_tokens, later.prompt_tokens),
            max(self.completion_tokens, later.completion_tokens),
            max(self.cached_tokens, later.cached_tokens),
            self.cost_usd if later.cost_usd is None else max(self.cost_usd or 0.0, later.cost_usd),
        )

    @property
    def total_tokens(self) -> int:
        """Prompt and completion."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Source:
    """Where a part of an observation comes from: an address, or a file with its line."""

    title: str
    link: str


@dataclass(frozen=True, slots=True)
class Called:
    """How a model called a tool in its own syntax: the call's `id`, the `text` beside it, and the step its turn began.

    Calls of one `turn` stood in one message. `thinking` is what came before them, of a model that is given it back;
    `provider_fields` are what else of the call its server wants back.
    """

    id: str
    turn: int
    text: str = ""
    thinking: str = ""
    provider_fields: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided of a call that waited, by the `id` of what it waited for.

    "yes": it runs, with `tool_input` where there is one instead of its own; "no": it does not, and the model is told
    `message`; "answer": `message` is what its tool asked for; "interrupted": it was under way when its run was broken
    off, and nobody knows whether it ran.
    """

    id: str
    says: Literal["yes", "no", "answer", "interrupted"]
    message: str = ""
    tool_input: ToolInput | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """Call `tool` with `tool_input`; `log` is the model's own text up to and including the action.

    For one that was `called` in the model's own syntax, `log` is what the dialect would say. `origin` is the object it
    was made of, where an agent of others decided it, which is given back as it came. `verdict` is what was decided of
    it, where it waited.
    """

    tool: str
    tool_input: ToolInput
    log: str = ""
    called: Called | None = None
    origin: Any = field(default=None, compare=False, repr=False)
    verdict: Verdict | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Pending:
    """A call that waits for a decision: whether it may run, or where there is a `question`, what its tool asks.

    `id` is the decision's, of which there is no second anywhere. `action` has the arguments that the tool gets.
    """

    id: str
    action: Action
    question: str = ""

    def answered(self, answer: str) -> str:
        """What the model is told, once somebody has answered."""
        return f"{self.question} The answer: {answer}"


@dataclass(frozen=True, slots=True)
class FinalAnswer:
    """The run's answer: a text, or plain JSON where it is a value; `log` is the model's own text.

    One that `declines` says that the model has none. `made` holds the object that was made of the value when it was
    read, if one was: it is not recorded, and no part of the answer's equality.
    """

    output: Any
    log: str = ""
    declines: bool = False
    made: tuple[Any, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Observation:
    """What came of one action.

    `executed`: its tool ran; `failed`: it gave an error, and no result; `return_direct`: it is the run's answer.
    """

    value: Any
    executed: bool = True
    return_direct: bool = False
    sources: tuple[Source, ...] = ()
    readings: tuple[str, ...] = ()
    failed: bool = False


Outcome = Observation | Pending | None
"""What came of a call: its observation; what it waits for; nothing, for others of its turn wait and it did not run."""


class Step(NamedTuple):
    """One action and its observation."""

    action: Action
    observation: Any


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run begins."""

    inputs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Of the earlier turns of its session, the model is not told the first `turns`, nor the `steps` of the first so
    many."""

    turns: int
    steps: int


@dataclass(frozen=True, slots=True)
class ModeFound:
    """The model was asked, for the first time, whether it calls tools in its own syntax."""

    mode: CallMode


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the model's text as it arrives."""

    text: str


@dataclass(frozen=True, slots=True)
class PartialAnswer:
    """The answer as far as it came, of a run whose answer is a value: plain JSON, of which more may follow anywhere."""

    value: Any


@dataclass(frozen=True, slots=True)
class Replied:
    """The model's turn came. It used so much, and holds so many `invented` observations."""

    usage: Usage
    invented: int = 0


@dataclass(frozen=True, slots=True)
class Thought:
    """The free text of a turn; `thinking` is what a reasoning model wrote inside `<think>`."""

    text: str
    thinking: str = ""


@dataclass(frozen=True, slots=True)
class ActionChosen:
    """The model chose a tool; it has not run yet."""

    action: Action


@dataclass(frozen=True, slots=True)
class Observed:
    """A tool's result (or why there is none: unknown tool, bad arguments)."""

    action: Action
    observation: Any
    executed: bool = True
    sources: tuple[Source, ...] = ()
    readings: tuple[str, ...] = ()
    failed: bool = False


@dataclass(frozen=True, slots=True)
class ParseError:
    """The model's text was no valid turn, or an answer that a check rejected; `observation` is what it is told."""

    text: str
    observation: str


IN_EVENTS = "agentkit_in_events"
"""The attribute of a log's record that says what a run's events say, too."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """The model sees less of the steps `first` to `last`, counted from 1; the run keeps all of them.

    "summary": its own, "function": what a function gave of them stands in their place, and of those before, as `text`.
    "drop": their observations are left out, or the steps, where those were; for this `reason`, where something else was
    asked for. `within_call`: only from one prompt, where it was sent, with what else was missing of it as `text`.
    `usage` is that of the call which summed up, in vain or not.
    """

    how: Literal["drop", "summary", "function"]
    first: int
    last: int
    text: str = ""
    reason: str = ""
    within_call: bool = False
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class LimitReached:
    """A limit ended the loop; with `closing_turn` the model is asked once more for its best answer."""

    reason: StopReason
    closing_turn: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """Calls of a turn wait for decisions; `outcomes` has all of the turn's, in their order. The run ends here."""

    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Resumed:
    """A run goes on that waited, was broken off, or had reached a limit; `verdicts` are those on its open calls."""

    verdicts: tuple[Verdict | None, ...] = ()


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run came to, for `result["run"]`, `--json` and cassettes."""

    stop_reason: StopReason
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    model_calls: int = 0
    tools_executed: int = 0
    invented_observations: int = 0
    parse_errors: int = 0
    ungrounded: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    readings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """A run ended; `output` is what the caller gets, `answered` whether it is an answer.

    One that is `waiting` goes on when these calls are decided.
    """

    output: Any
    answered: bool
    summary: RunSummary
    steps: tuple[Step, ...] = ()
    log: str = ""
    return_values: dict[str, Any] | None = None
    waiting: tuple[Pending, ...] = ()
    made: tuple[Any, ...] = field(default=(), compare=False, repr=False)  # as that of its `FinalAnswer`


@dataclass(frozen=True, slots=True)
class BrokenOff:
    """A run ended without its end: by an exception of the class `error`, which says `message`.

    Only what records a run is told: to everyone else the exception itself comes.
    """

    error: str
    message: str = ""


Event = (
    RunStarted
    | Forgotten
    | ModeFound
    | Token
    | PartialAnswer
    | Replied
    | Thought
    | ActionChosen
    | Observed
    | ParseError
    | Compacted
    | LimitReached
    | Waiting
    | Resumed
    | Finished
    | BrokenOff
)
