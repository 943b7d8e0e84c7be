"""What a model is told of the earlier turns of a conversation: questions and answers, and the steps as far as they fit.

What it has read stays as it was, so that a model in this process computes each token once: what there is no room for is
left out all at once, and seldom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from agentkit.approximate_tokens import count_tokens
from agentkit.events import Step

COMMON_CONTEXT = 8_192  # tokens, where a model does not say how many it reads
FOR_STEPS = 3 / 8  # of a context, for the steps of earlier turns; the last turn's are shown also where they are more
FOR_ANSWERS = 1 / 4  # of a context, for questions and answers


@dataclass(frozen=True)
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

    @cached_property
    def confirms(self) -> str:
        """What of it a later answer may rest on."""
        answer = [self.answer] if self.is_confirmed else []
        return "\n".join([self.question, *(str(step.observation) for step in self.steps), *answer])

    @cached_property
    def step_tokens(self) -> int:
        """How long its steps are, by estimate."""
        return sum(count_tokens(f"{step.action.log}{step.observation}") for step in self.steps)

    @cached_property
    def tokens(self) -> int:
        """How long question and answer are, by estimate."""
        return count_tokens(self.question) + count_tokens(self.log or self.answer)


@dataclass(frozen=True, slots=True)
class History:
    """The turns before a run, in order, for a model that reads so many tokens.

    Those from `told_from` on are told, and of those from `shown_from` on the steps as well.
    """

    exchanges: Sequence[Exchange] = ()
    context_tokens: int | None = None
    told_from: int = field(init=False, default=0)
    shown_from: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        """The same turns for the same beginning, however many come later: what was left out is never told again."""
        context = min(self.context_tokens or COMMON_CONTEXT, 2**20)
        told_from = shown_from = answers = steps = 0
        for number, exchange in enumerate(self.exchanges):
            steps += exchange.step_tokens
            if steps > FOR_STEPS * context:
                shown_from, steps = number, exchange.step_tokens
            answers += exchange.tokens
            if answers > FOR_ANSWERS * context:
                while told_from < number and answers > FOR_ANSWERS * context / 2:
                    answers -= self.exchanges[told_from].tokens
                    told_from += 1
        object.__setattr__(self, "told_from", told_from)
        object.__setattr__(self, "shown_from", max(told_from, shown_from))

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
