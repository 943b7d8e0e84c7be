"""How often the parser is right on collected completions, and what it costs.

    python tests/benchmarks/parser_accuracy.py

langchain-classic's parser of the same name stands beside it where it is installed. "wrong" is what a run cannot mend:
another action than the one that was meant, or an answer where there is none.
"""

from __future__ import annotations

import json
import timeit
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

from agentkit.errors import MalformedTurn
from agentkit.events import Action
from agentkit.react_json.parser import parse_turn
from agentkit.react_json.verdict import parse_turn_thoroughly

OUTPUTS = Path(__file__).parent.parent / "react_json" / "react_outputs.jsonl"
CLEAN = 'Thought: I need the power.\nAction:\n```json\n{"action": "Calculator", "action_input": "25^0.43"}\n```'
LONG = 200_000
HOSTILE = {
    "open braces": "{\n",
    "open objects": '{"a":\n',
    "open actions": 'Action: {"a\n',
    "open comments": "Action: {/*\n",
    "fences": "```\n",
    "fenced braces": "```json\n{\n",
    "tildes behind Action Input": "~",
    "reasoning tags": "<think>\n",
    "tool-call tags": "<tool_call>\n",
    "observations": "Observation: x\n",
    "answers": "Final Answer: x\n",
    "blanks": " ",
    "new lines": "\n",
    "markup": "**\n",
}

Parse = Callable[[str], dict[str, Any]]


def ours(text: str) -> dict[str, Any]:
    """The judged form of what agentkit's parser says."""
    try:
        decision = parse_turn(text).decision
    except MalformedTurn:
        return {"kind": "error"}
    if isinstance(decision, Action):
        return {"kind": "action", "tool": decision.tool, "input": decision.tool_input}
    return {"kind": "final", "output": decision.output}


def parsers() -> dict[str, Parse]:
    """The parsers to compare."""
    found: dict[str, Parse] = {"agentkit": ours}
    try:
        from langchain_classic.agents.output_parsers import ReActJsonSingleInputOutputParser
    except ImportError:
        return found
    from langchain_core.exceptions import OutputParserException

    parser = ReActJsonSingleInputOutputParser()

    def theirs(text: str) -> dict[str, Any]:
        try:
            result = parser.parse(text)
        except OutputParserException:
            return {"kind": "error"}
        if hasattr(result, "tool"):
            return {"kind": "action", "tool": result.tool, "input": result.tool_input}
        return {"kind": "final", "output": result.return_values["output"]}

    return found | {"langchain-classic": theirs}


def outcome(case: dict[str, Any], parse: Parse) -> str:
    """exact, also_ok, retry, wrong or crash."""
    try:
        got = parse(case["completion"])
    except Exception:
        return "crash"
    judged = [case["expect"], *case["also_ok"]]
    fitting = [{key: right.get(key) for key in got} == got for right in judged]
    if any(fitting):
        return "exact" if fitting[0] else "also_ok"
    return "retry" if got["kind"] == "error" else "wrong"


def accuracy() -> None:
    """Print how each parser fares."""
    cases = [json.loads(line) for line in OUTPUTS.read_text(encoding="utf-8").splitlines()]
    columns = ["exact", "also_ok", "retry", "wrong", "crash"]
    print(f"{len(cases)} completions".ljust(26), *(column.rjust(8) for column in columns))
    for name, parse in parsers().items():
        counts = Counter(outcome(case, parse) for case in cases)
        print(name.ljust(26), *(f"{counts[column]:8}" for column in columns))


def cost() -> None:
    """Print the time of a usual turn, and of hostile text at one length and at twice that."""
    for name, parse in (("short way", parse_turn), ("thorough way", parse_turn_thoroughly)):
        seconds = min(timeit.repeat(lambda parse=parse: parse(CLEAN), number=2_000, repeat=5)) / 2_000
        print(f"a clean turn, {name}".ljust(34), f"{seconds * 1e6:8.1f} µs")
    for name, piece in HOSTILE.items():
        start = "Action: a\nAction Input: " if "Input" in name else "Thought: x\n"
        half, whole = (cpu_time(start + piece * (length // len(piece))) for length in (LONG // 2, LONG))
        print(f"{LONG // 1000} kB of {name}".ljust(34), f"{whole * 1e3:8.1f} ms, {whole / half:4.1f} times half of it")


def cpu_time(text: str) -> float:
    """Best of three."""
    times = []
    for _ in range(3):
        begin = process_time()
        ours(text)
        times.append(process_time() - begin)
    return max(min(times), 1e-9)


if __name__ == "__main__":
    accuracy()
    cost()
