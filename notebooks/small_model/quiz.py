"""Questions with scripted tools, what a right answer is, and a way to answer them in rounds.

Each line of a file of questions is {"kind", "question", "answer", "tools": [{"name", "about", "schema"?, "calculates"?,
"gives"?}], "held_back"?, "wording"?}.  `gives` is a list of [words that the input must hold, observation]; a tool that
`calculates` is the product's calculator.  Without "tools" there are a calculator and a search, whose results are
"search": {part of a query: observation}, and "tools": [] is plain chat.  "first_observation" stands in for what the
first action gives.  "calls" names what a right run must have called with which arguments ({"any": [...]} where several
will do), "refuses" marks what must be refused, "wording": "everyday" a question that a training template words alike.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentkit.errors import MalformedTurn, ToolError
from agentkit.events import FinalAnswer
from agentkit.react_json.parser import parse_turn
from agentkit.tool import STRING, Tool
from agentkit.tools.calculator import calculator

from .dialogue import Dialogue, Step
from .manners import said

ROUNDS = 7
NOT_FOUND = "No good search result found"
Case = dict[str, Any]


def load_questions(path: Path) -> list[Case]:
    """The questions of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


# -- tools -------------------------------------------------------------------------------------------------------------


def tools_of(case: Case) -> list[Tool]:
    """The question's tools, which give what its script says."""
    found = [[[part], seen] for part, seen in case.get("search", {}).items()]
    two = [
        {"name": "Search", "about": "looks facts up", "gives": found},
        {"name": "Calculator", "about": "calculates", "calculates": True},
    ]
    pending = [case["first_observation"]] if "first_observation" in case else []
    return [_tool_of(described, pending) for described in case.get("tools", two)]


def _tool_of(described: dict[str, Any], pending: list[str]) -> Tool:
    def run(given: Any) -> str:
        if pending:
            return pending.pop()
        if described.get("calculates"):
            text = given if isinstance(given, str) else str(next(iter(given.values())))
            return str(calculator.run(text))
        text = (given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)).casefold()
        for words, seen in described.get("gives", ()):
            if all(word.casefold() in text for word in words):
                return str(seen)
        return NOT_FOUND

    schema = described.get("schema", STRING)
    return Tool(name=described["name"], description=described["about"], run=run, schema=schema)


# -- what is right -----------------------------------------------------------------------------------------------------


def is_answered(case: Case, answer: str | None, calls: Sequence[tuple[str, Any]]) -> bool:
    """Whether a run with this answer and these calls did what the question asks."""
    if answer is None:
        return False
    if case.get("refuses"):
        return is_refusal(answer) and not calls
    for name, arguments in case.get("calls", ()):
        if not any(tool == name and _fits(given, arguments) for tool, given in calls):
            return False
    wanted = case.get("answer")
    return all(
        is_right(answer, each)
        for each in (wanted if isinstance(wanted, list) else [wanted] if wanted is not None else [])
    )


def is_right(answer: str, expected: str | float | dict[str, Any]) -> bool:
    """Whether the answer has the text, as words of its own, or ends in the number (0.1 %); {"any": …} names several."""
    if isinstance(expected, dict):
        return any(is_right(answer, each) for each in expected["any"])
    if isinstance(expected, str):
        wanted = re.escape(" ".join(expected.casefold().split()))
        return re.search(rf"(?<!\w){wanted}(?!\w)", " ".join(answer.casefold().split())) is not None
    numbers = re.findall(r"-?\d[\d,]*\.?\d*(?:e[-+]?\d+)?", answer)
    return bool(numbers) and abs(float(numbers[-1].replace(",", "")) - expected) <= 1e-3 * abs(expected) + 1e-9


def is_refusal(answer: str) -> bool:
    """Whether the answer says that it is none."""
    fixed = (said("unable"), said("foreign"), said("unread"))
    return answer.strip() in fixed or re.search(r"\b(cannot|can't|could not|unable)\b", answer.casefold()) is not None


def _fits(given: Any, wanted: dict[str, Any]) -> bool:
    if not isinstance(given, dict):
        return False
    return all(name in given and _same(given[name], value) for name, value in wanted.items())


def _same(given: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return any(_same(given, each) for each in wanted["any"])
    if isinstance(given, str) and isinstance(wanted, str):
        return given.strip(" .!?'\"").casefold() == wanted.casefold()
    return bool(given == wanted)


def right_by_kind(judged: Iterable[tuple[Case, bool]]) -> dict[str, list[int]]:
    """[right, all] by kind, the half that is held back apart."""
    right, total = Counter[str](), Counter[str]()
    for case, is_one in judged:
        name = case["kind"] + (" (held back)" if case.get("held_back") else "")
        total[name] += 1
        right[name] += is_one
    return {name: [right[name], total[name]] for name in sorted(total, key=lambda name: (name.endswith(")"), name))}


# -- in rounds ---------------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """One question on its way."""

    case: dict[str, Any]
    tools: dict[str, Tool]
    steps: list[Step] = field(default_factory=list)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    answer: str | None = None
    malformed: int = 0

    def dialogue(self) -> Dialogue:
        history = tuple((q, a) for q, a in self.case.get("history", ()))
        return Dialogue(
            self.case["kind"], self.case["question"], tuple(self.tools.values()), tuple(self.steps), "", "", history
        )

    def prompt(self) -> str:
        """The text up to the model's next turn."""
        pieces = [text for text, _ in self.dialogue().segments()]
        return "".join(pieces[:-3])  # without the last turn and its end

    def take(self, text: str) -> None:
        """Read the model's turn and run what it asks for."""
        text = text.split("\nObservation")[0].rstrip()
        try:
            decision = parse_turn(text, {name: tool.schema for name, tool in self.tools.items()}).decision
        except MalformedTurn as error:
            self.malformed += 1
            self.steps.append(Step("", "", "", str(error), raw=text, own_words=True))
            return
        if isinstance(decision, FinalAnswer):
            self.answer = decision.output
            return
        self.calls.append((decision.tool, decision.tool_input))
        tool = self.tools.get(decision.tool)
        if tool is None:
            seen = f"{decision.tool} is not a valid tool, try one of [{', '.join(self.tools)}]."
        else:
            try:
                seen = str(tool.call(decision.tool_input))
            except ToolError as error:
                seen = str(error)
        self.steps.append(Step("", decision.tool, "", seen, raw=text))

    @property
    def right(self) -> bool:
        return is_answered(self.case, self.answer, self.calls)


def run_all(cases: Sequence[dict[str, Any]], complete: Callable[[list[str]], list[str]]) -> list[Run]:
    """Every question, turn by turn; `complete` continues all prompts at once, up to the end of the turn."""
    runs = [Run(case, {tool.name: tool for tool in tools_of(case)}) for case in cases]
    for _ in range(ROUNDS):
        open_runs = [run for run in runs if run.answer is None]
        if not open_runs:
            break
        for run, text in zip(open_runs, complete([run.prompt() for run in open_runs]), strict=True):
            run.take(text)
    return runs


def counts(runs: Sequence[Run]) -> dict[str, Any]:
    """Right answers by kind, and what went wrong in form."""
    turns = sum(len(run.steps) + (run.answer is not None) for run in runs)
    return {
        "right": right_by_kind((run.case, run.right) for run in runs),
        "malformed": sum(run.malformed for run in runs),
        "turns": turns,
        "unanswered": sum(run.answer is None for run in runs),
    }
