"""How many of the inputs that models really wrote come out right, per kind.

    python tests/benchmarks/calculator_inputs.py [FILE.jsonl]

Each line of the file: {"input", "accept": numbers, true or "error", "kind"}. Right is an outcome in `accept`, wrong a
number or truth value outside it; refusing what has a number only is a miss, not wrong.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from agentkit.errors import ToolError
from agentkit.tools.calculator import calculate

INPUTS = Path(__file__).parent.parent / "tools" / "calculator_inputs.jsonl"


def outcome(text: str) -> Any:
    """The number, the truth value or "error"."""
    try:
        value = calculate(text).value
    except ToolError:
        return "error"
    return value if isinstance(value, bool) else float(value)


def verdict(got: Any, accept: list[Any]) -> str:
    """right, missed (refused) or wrong."""
    if got == "error":
        return "right" if "error" in accept else "missed"
    numbers = [x for x in accept if isinstance(x, int | float) and not isinstance(x, bool)]
    if isinstance(got, bool):
        return "right" if got in [x for x in accept if isinstance(x, bool)] else "wrong"
    return "right" if any(math.isclose(got, x, rel_tol=1e-9, abs_tol=1e-12) for x in numbers) else "wrong"


def main(path: Path) -> None:
    counts: dict[str, Counter[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        found = outcome(case["input"])
        judged = verdict(found, case["accept"])
        counts.setdefault(case["kind"], Counter())[judged] += 1
        if judged != "right":
            print(f"{judged}: {case['input']!r} gave {found}, accepted are {case['accept']}")
    for kind, seen in sorted(counts.items()):
        total = seen.total()
        print(f"{kind:12} {seen['right']}/{total} right ({seen['right'] / total:.1%}), {seen['missed']} missed, "
              f"{seen['wrong']} wrong")  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else INPUTS)
