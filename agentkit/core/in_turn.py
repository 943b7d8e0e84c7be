"""Plans a run with the first of several models that answers: one that failed for good is not asked again in it.

How a model calls tools, whether its server keeps a schema, and which prompt fits it are each model's own, so a planner
goes with it: the run moves on as a whole, and its steps stay as they are.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass

from agentkit.core.loop import ModelCall
from agentkit.core.planner import Planned, Planner
from agentkit.deadline import remaining_s
from agentkit.errors import AgentkitError, ModelError, PromptTooLong, said
from agentkit.recorder import active

logger = logging.getLogger("agentkit")

STAYS = "a model that failed is not asked again"  # by what name a cassette remembers that; before, it was, at each turn
Failures = tuple[type[BaseException], ...]
FAILED: Failures = (ModelError,)


@dataclass(frozen=True, slots=True)
class Alternative:
    """One of the models, by its name, and what makes its planner of a run."""

    model_id: str
    planner: Callable[[], Planner]


class PlannerInTurn:
    """Plans with the first alternative; where that fails by one of `failures`, with the next from there on."""

    def __init__(self, alternatives: Sequence[Alternative], failures: Failures = FAILED) -> None:
        self._alternatives = alternatives
        self._failures = failures
        self._place = 0
        self._planners: dict[int, Planner] = {}

    def plan(self, call: ModelCall) -> Iterator[Planned]:
        self._begin()
        while True:
            try:
                yield from self._planner.plan(call)
                return
            except Exception as error:
                if not self._goes_on(error):
                    raise

    async def aplan(self, call: ModelCall) -> AsyncIterator[Planned]:
        self._begin()
        while True:
            try:
                async for piece in self._planner.aplan(call):
                    yield piece
                return
            except Exception as error:
                if not self._goes_on(error):
                    raise

    @property
    def _planner(self) -> Planner:
        if self._place not in self._planners:
            self._planners[self._place] = self._alternatives[self._place].planner()
        return self._planners[self._place]

    def _begin(self) -> None:
        recorder = active()
        if recorder is not None and recorder.remembered(STAYS, lambda: True, default=False) is not True:
            self._place = 0

    def _goes_on(self, error: Exception) -> bool:
        """Whether the next one is asked now: not where time is over, nor where the next would be asked wrongly, too."""
        is_wrong_use = isinstance(error, AgentkitError) and not isinstance(error, ModelError)
        is_failure = isinstance(error, self._failures) and not is_wrong_use and not isinstance(error, PromptTooLong)
        if not is_failure or self._place + 1 == len(self._alternatives) or remaining_s() == 0:
            return False
        self._place += 1
        logger.info("%s; asking %s from here on", said(error), self._alternatives[self._place].model_id)
        return True
