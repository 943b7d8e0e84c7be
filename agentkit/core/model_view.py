"""What the model sees of a run's steps: all of them, until the oldest are summed up, or their observations dropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from agentkit.approximate_tokens import count_tokens
from agentkit.errors import PromptTooLong
from agentkit.events import Compacted, Step
from agentkit.react_json.scratchpad import DROPPED, OWN_WORDS

FOR_PROMPT, FOR_NOTES = 0.75, 0.125  # of a context; the rest is for the reply


class ModelView:
    """`steps` are those that the model sees; `summary` stands for the `first` ones, which it does not.

    Until something is left out, they are the very list of the run's. `fixed_tokens` are those of the prompt without
    steps, as the model counted them in the first turn.
    """

    def __init__(self, steps: list[Step]) -> None:
        self._all = steps
        self.steps = steps
        self.summary = ""
        self.first = 0
        self.fixed_tokens: int | None = None
        self._without_observation = 0

    def add(self, turn: Sequence[Step]) -> None:
        """A turn that was added to the run's steps."""
        if self.steps is not self._all:
            self.steps += turn

    @property
    def is_at_its_least(self) -> bool:
        """Whether nothing can be left out: of the newest turn something is seen in any case."""
        if len(self.steps) < 2:
            return True
        oldest, newest = self.steps[0].action.called, self.steps[-1].action.called
        return oldest is not None and newest is not None and oldest.turn == newest.turn

    def too_many(self, error: PromptTooLong) -> int:
        """The last of the steps, counted from 1 in the run, that have to go for a prompt that was too long to fit.

        Half of the room that there is for steps is left to the newest. Of no use where other parts of the prompt leave
        no room even for notes: 0.
        """
        sizes = [(len(turn), sum(map(_size, turn))) for _, turn in turns_of(self.steps)]
        total = max(sum(size for _, size in sizes), 1)
        prompt = error.prompt_tokens or total + (self.fixed_tokens or 0)
        fixed = min(prompt, max(prompt - total, 0) if self.fixed_tokens is None else self.fixed_tokens)
        room = min(prompt, FOR_PROMPT * (error.context_tokens or prompt)) - fixed
        if error.context_tokens and room < FOR_NOTES * error.context_tokens:
            return 0
        left, kept = room / 2, 0
        for count, size in reversed(sizes[1:]):
            left -= size * (prompt - fixed) / total
            if kept and left < 0:
                break
            kept += count
        return self.first + len(self.steps) - kept

    def first_to_go(self, last: int, how: str) -> int:
        """The first of the steps up to `last`, counted from 1, that go this time."""
        is_seen_in_part = how == "drop" and self._without_observation < last
        return 1 + (max(self.first, self._without_observation) if is_seen_in_part else self.first)

    def take(self, event: Compacted) -> None:
        """Leave out what an event of the run says."""
        count = event.last - self.first
        if event.within_call or count < 1:
            return
        oldest, newest = self.steps[:count], self.steps[count:]
        without = list(map(_without_observation, oldest))
        if event.how != "drop" or without == oldest:
            self.first, without = event.last, []
        self.steps = [*without, *newest]
        if event.how != "drop":
            self.summary = event.text
        self._without_observation = max(self._without_observation, event.last)


def _size(step: Step) -> int:
    return count_tokens(step.action.log) + count_tokens(str(step.observation))


def _without_observation(step: Step) -> Step:
    is_short = step.action.tool == OWN_WORDS or len(str(step.observation)) <= len(DROPPED)
    return step if is_short else step._replace(observation=DROPPED)


def turns_of(steps: Sequence[Step], first: int = 0) -> Iterator[tuple[int, list[Step]]]:
    """The steps of each turn: those that were called in one message, or one alone. With the number of its first step.

    `first` is the number in the run of `steps[0]`.
    """

    def turn(numbered: tuple[int, Step]) -> int:
        number, (action, _) = numbered
        return action.called.turn if action.called else -1 - number

    for _, numbered in groupby(enumerate(steps, first), key=turn):
        (number, step), *others = numbered
        yield number, [step, *(other for _, other in others)]
