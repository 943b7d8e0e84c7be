"""How a run ended, as its cassette keeps it: a replay that ends otherwise has drifted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from agentkit.cassette.format.entries import plain, without_surrogates
from agentkit.errors import CassetteError
from agentkit.events import Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of one run. `checksum` stands for all that its reader relies on: steps, answer and log."""

    stop_reason: str
    output: Any
    checksum: str

    def to_mapping(self) -> dict[str, Any]:
        """For the file."""
        return {"stop_reason": self.stop_reason, "output": self.output, "checksum": self.checksum}


def outcome_of(finished: Finished, scrub: Callable[[Any], Any]) -> Outcome:
    """The outcome of a run, without secrets."""
    steps = [
        [step.action.tool, plain(step.action.tool_input), step.action.log, str(step.observation)]
        for step in finished.steps
    ]
    reason, output = finished.summary.stop_reason, plain(finished.output)
    output, whole = without_surrogates(scrub([output, [steps, finished.answered, finished.log]]))
    text = json.dumps([reason, output, whole], sort_keys=True, ensure_ascii=False)
    return Outcome(stop_reason=reason, output=output, checksum=sha256(text.encode()).hexdigest()[:16])


def read_outcomes(value: Any) -> dict[int, Outcome]:
    """The outcomes of a file's runs by their number; raises `CassetteError`."""
    if not isinstance(value, list):
        raise CassetteError(f"expected end.runs to be a list, saw {type(value).__name__}")
    return {one.get("run", number): _read(one) for number, one in enumerate(map(_mapping, value), 1)}


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not isinstance(value.get("run", 1), int):
        raise CassetteError("expected end.runs to hold mappings; record it again")
    return value


def _read(value: Mapping[str, Any]) -> Outcome:
    return Outcome(
        stop_reason=str(value.get("stop_reason")),
        output=value.get("output"),
        checksum=str(value.get("checksum", "")),
    )
