"""What a model is told of the earlier turns of a conversation: questions and answers, and the steps as far as they fit.

What it has read stays as it was, so that a model in this process computes each token once: steps are left out of the
conversation all at once, and seldom, when there are too many of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from agentkit.approximate_tokens import count_tokens
from agentkit.events import Step

MOST_TOKENS = 3_000
"""Of steps of earlier turns, by estimate. The last turn's are shown also where they are more."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """An earlier turn: what was asked, the steps that were taken, and what was answered.

    `log` is the model's own text of its answer, where there is one; `is_confirmed` says that nothing in the answer
    came from nowhere.
    """

    question: str
    answer: str
    steps: Sequence[Step] = ()
    log: str = ""
    is_confirmed: bool = True

    @property
    def confirms(self) -> str:
        """What of it a later answer may rest on."""
        answer = [self.answer] if self.is_confirmed else []
        return "\n".join([self.question, *(str(step.observation) for step in self.steps), *answer])

    @property
    def tokens(self) -> int:
        """How long its steps are, by estimate."""
        return sum(count_tokens(f"{step.action.log}{step.observation}") for step in self.steps)


@dataclass(frozen=True, slots=True)
class History:
    """The turns before a run, in order; the steps of those from `shown_from` on are shown."""

    exchanges: Sequence[Exchange] = ()
    shown_from: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        shown_from = total = 0
        for number, exchange in enumerate(self.exchanges):
            total += exchange.tokens
            if total > MOST_TOKENS:
                shown_from, total = number, exchange.tokens
        object.__setattr__(self, "shown_from", shown_from)

    def __bool__(self) -> bool:
        return bool(self.exchanges)

    @property
    def confirms(self) -> str:
        """What of it this run's answer may rest on."""
        return "\n".join(exchange.confirms for exchange in self.exchanges)

    @property
    def steps(self) -> int:
        """How many there were, shown or not: so many numbers are taken."""
        return sum(len(exchange.steps) for exchange in self.exchanges)
