"""Measure a model in the live loop: `python -m small_model.evaluate QUESTIONS.jsonl --model SPEC`.

The real executor and the real calculator run, greedy; the other tools say what the question's script says (see
quiz.py).  SPEC is what `--model` of the product takes: `builtin`, `local:FOLDER`, the address of a server.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .quiz import Case, is_answered, load_questions, right_by_kind, tools_of

MAX_TURNS = 8


@dataclass(frozen=True)
class Outcome:
    """What one run came to."""

    case: Case
    answer: str
    right: bool
    ungrounded: bool
    malformed: int
    seconds: float
    steps: tuple[tuple[str, str], ...]


def answer_case(model: Any, case: Case, mode: Any = "react-json") -> Outcome:
    """One run of the loop; without tools, one reply of the model."""
    if case.get("tools") == []:
        return _chat(model, case)
    from agentkit.langchain.executor import AgentExecutor
    from agentkit.react_json.grounding import ungrounded

    options = {"max_iterations": MAX_TURNS, "must_be_grounded": False, "return_intermediate_steps": True}
    executor = AgentExecutor.from_model(model, tools_of(case), mode=mode, **options)
    begun = time.perf_counter()
    result = executor.invoke({"input": case["question"]})
    seconds = time.perf_counter() - begun
    taken = result["intermediate_steps"]
    steps = tuple((action.log, str(observation)) for action, observation in taken)
    calls = [(action.tool, action.tool_input) for action, _ in taken if action.tool != "_Exception"]
    strange = ungrounded(result["output"], case["question"], [observation for _, observation in steps])
    right = is_answered(case, result["output"], calls)
    return Outcome(case, result["output"], right, bool(strange), len(taken) - len(calls), seconds, steps)


def _chat(model: Any, case: Case) -> Outcome:
    begun = time.perf_counter()
    answer = str(model.invoke(case["question"]).content)
    right = is_answered(case, answer, ())
    return Outcome(case, answer, right, False, 0, time.perf_counter() - begun, ())


def load_model(spec: str, constrain: str | None) -> Any:
    """A model, greedy; `constrain` is "copy", "actions" or "off" for one that runs in process."""
    from agentkit.models import chat_model

    options: dict[str, Any] = {"temperature": 0} if spec.startswith("http") else {}
    return chat_model(spec, **options, **({"constrain": constrain} if constrain else {}))


def evaluate(model: Any, cases: Sequence[Case], mode: str = "react-json") -> Iterator[Outcome]:
    """Every case once, those with the same tools one after the other: a server then reads their prompt once."""
    for case in sorted(cases, key=lambda case: json.dumps(case.get("tools"))):
        yield answer_case(model, case, mode)


def table(outcomes: Sequence[Outcome]) -> dict[str, list[int]]:
    """[right, all] by kind."""
    return right_by_kind((outcome.case, outcome.right) for outcome in outcomes)


def report(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The numbers of one way to decode."""
    return {
        "right": table(outcomes),
        "right_new_wording": table([o for o in outcomes if o.case.get("wording") != "everyday"]),
        "ungrounded": sum(o.ungrounded for o in outcomes),
        "malformed": sum(o.malformed for o in outcomes),
        "turns": sum(len(o.steps) + 1 for o in outcomes),
        "mean_seconds": round(sum(o.seconds for o in outcomes) / len(outcomes), 2),
    }


def print_failure(outcome: Outcome) -> None:
    """A run that went wrong, step by step."""
    print(f"--- {outcome.case['kind']}: {outcome.case['question']}")
    for log, observation in outcome.steps:
        print(f"{log}\n{observation}")
    print(f"= {outcome.answer}", flush=True)


def main() -> None:
    """Read the options, run, print the table and on demand the failures."""
    parser = argparse.ArgumentParser(prog="python -m small_model.evaluate", description=__doc__)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--model", default="builtin", metavar="SPEC", help="as agentkit run takes it")
    parser.add_argument("--mode", default="react-json", choices=("auto", "react-json", "tools"))
    parser.add_argument("--constrain", nargs="+", default=[None], choices=("copy", "actions", "off"))
    parser.add_argument("--failures", action="store_true", help="print the runs that went wrong")
    parser.add_argument("--every", type=int, default=1, help="take only every n-th case")
    parser.add_argument("--kinds", nargs="+", help="take only these kinds")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    args = parser.parse_args()
    chosen = [case for case in load_questions(args.questions) if not args.kinds or case["kind"] in args.kinds]
    reports = {}
    for constrain in args.constrain:
        outcomes = []
        for outcome in evaluate(load_model(args.model, constrain), chosen[:: args.every], args.mode):
            outcomes.append(outcome)
            if args.failures and not outcome.right:
                print_failure(outcome)
        name = constrain or args.mode
        reports[name] = found = report(outcomes)
        for kind, (right, count) in found["right"].items():
            print(f"{name:10} {kind:24} {right:3} of {count:3}  {100 * right / count:5.1f} %")
        print(f"{name:10} {', '.join(f'{key} {found[key]}' for key in list(found)[2:])}")
    if args.json:
        args.json.write_text(json.dumps(reports, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
