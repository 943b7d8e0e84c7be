"""Measure the built-in model in the live loop: `python -m small_model.evaluate HELDOUT.jsonl`.

Each line of the held-out file is {"kind", "question", "answer", "search": {part of a query: observation}} and, for
recoveries, "first_observation", which stands in for what the first action gave; "wording": "everyday" marks a question
that a training template words alike.  The real executor and the real
calculator run, greedy; only the search is scripted.  An answer is right when it contains the expected text, or when its
last number is the expected number (to 0.1 %).
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentkit.models.builtin import builtin_folder

MAX_TURNS = 8
KINDS = ("calculator", "search", "two", "three", "recovery", "scope")


@dataclass(frozen=True)
class Outcome:
    """What one run came to."""

    kind: str
    question: str
    answer: str
    right: bool
    ungrounded: bool
    everyday: bool
    seconds: float
    steps: tuple[tuple[str, str], ...]


def scripted_tools(case: dict[str, Any]) -> list[Any]:
    """The real calculator and a search that knows this case's results; the first call may be told to go wrong."""
    from agentkit.tool import Tool
    from agentkit.tools.calculator import calculator

    pending = [case["first_observation"]] if "first_observation" in case else []

    def once(run: Callable[[str], str]) -> Callable[[str], str]:
        return lambda tool_input: pending.pop() if pending else run(tool_input)

    def search(query: str) -> str:
        found = (text for key, text in case.get("search", {}).items() if key.casefold() in query.casefold())
        return next(found, "No good search result found")

    described = {"Search": "looks facts up", "Calculator": "calculates"}
    runs = {"Search": once(search), "Calculator": once(calculator.run)}
    return [Tool(name=name, description=described[name], run=run) for name, run in runs.items()]


def answer_case(model: Any, case: dict[str, Any]) -> Outcome:
    """One run of the loop."""
    from agentkit.langchain.executor import AgentExecutor
    from agentkit.react_json.grounding import ungrounded

    options = {"max_iterations": MAX_TURNS, "must_be_grounded": False, "return_intermediate_steps": True}
    executor = AgentExecutor.from_model(model, scripted_tools(case), **options)
    begun = time.perf_counter()
    result = executor.invoke({"input": case["question"]})
    steps = tuple((action.log, str(observation)) for action, observation in result["intermediate_steps"])
    answer = result["output"]
    strange = ungrounded(answer, case["question"], [observation for _, observation in steps])
    right = is_right(answer, case["answer"])
    seconds = time.perf_counter() - begun
    everyday = case.get("wording") == "everyday"
    return Outcome(case["kind"], case["question"], answer, right, bool(strange), everyday, seconds, steps)


def is_right(answer: str, expected: str | float) -> bool:
    """Whether the whole answer is right."""
    if isinstance(expected, str):
        return re.sub(r"\s+", " ", expected).casefold() in re.sub(r"\s+", " ", answer).casefold()
    numbers = re.findall(r"-?\d[\d,]*\.?\d*(?:e[-+]?\d+)?", answer)
    return bool(numbers) and abs(float(numbers[-1].replace(",", "")) - expected) <= 1e-3 * abs(expected) + 1e-9


def load_model(folder: Path, constrain: str) -> Any:
    """The model of a folder, greedy as always; `constrain` is "copy", "actions" or "off"."""
    from agentkit.models import chat_model

    if folder == builtin_folder():
        return chat_model("builtin", constrain=constrain)
    return chat_model(f"local:{folder}", constrain=constrain)


def evaluate(folder: Path, cases: Sequence[dict[str, Any]], *, constrain: str = "copy") -> list[Outcome]:
    """Every case once."""
    model = load_model(folder, constrain)
    return [answer_case(model, case) for case in cases]


def load_cases(path: Path) -> list[dict[str, Any]]:
    """The cases of a held-out file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def table(outcomes: Sequence[Outcome]) -> dict[str, tuple[int, int]]:
    """(right, all) by kind."""
    total, right = Counter(o.kind for o in outcomes), Counter(o.kind for o in outcomes if o.right)
    return {kind: (right[kind], total[kind]) for kind in KINDS if total[kind]}


def report(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What evaluation.json holds of one way to decode."""
    count = len(outcomes)
    return {
        "right": {kind: list(numbers) for kind, numbers in table(outcomes).items()},
        "right_new_wording": {k: list(n) for k, n in table([o for o in outcomes if not o.everyday]).items()},
        "ungrounded": sum(o.ungrounded for o in outcomes),
        "mean_seconds": round(sum(o.seconds for o in outcomes) / count, 2),
    }


def print_failures(outcomes: Sequence[Outcome]) -> None:
    """The runs that went wrong, step by step."""
    for outcome in (o for o in outcomes if not o.right):
        print(f"--- {outcome.kind}: {outcome.question}")
        for log, observation in outcome.steps:
            print(f"{log}\n{observation}")
        print(f"= {outcome.answer}")


def main() -> None:
    """Read the options, run, print the table and on demand the failures."""
    parser = argparse.ArgumentParser(prog="python -m small_model.evaluate", description=__doc__)
    parser.add_argument("heldout", type=Path)
    parser.add_argument("--folder", type=Path, default=builtin_folder())
    parser.add_argument("--constrain", nargs="+", default=["copy"], choices=("copy", "actions", "off"))
    parser.add_argument("--failures", action="store_true", help="print the runs that went wrong")
    parser.add_argument("--every", type=int, default=1, help="take only every n-th case")
    parser.add_argument("--kinds", nargs="+", default=KINDS, help="take only these kinds")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    args = parser.parse_args()
    cases = [case for case in load_cases(args.heldout) if case["kind"] in args.kinds][:: args.every]
    reports = {}
    for constrain in args.constrain:
        outcomes = evaluate(args.folder, cases, constrain=constrain)
        reports[constrain] = report(outcomes)
        if args.failures:
            print_failures(outcomes)
        for kind, (right, count) in table(outcomes).items():
            print(f"{constrain:8} {kind:12} {right:3} of {count:3}  {100 * right / count:5.1f} %")
        print(
            f"{constrain:8} ungrounded {reports[constrain]['ungrounded']}, {reports[constrain]['mean_seconds']} s a run"
        )
    if args.json:
        args.json.write_text(json.dumps(reports, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
