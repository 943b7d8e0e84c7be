"""Throws random and mutated strings at the calculator: nothing but an answer or a refusal may come out, quickly.

python tests/benchmarks/calculator_fuzz.py [COUNT=1000000] [SEED=0]
"""

from __future__ import annotations

import math
import random
import sys
import time

from agentkit.errors import ToolError
from agentkit.tools.calculator import calculate

PIECES = [
    *"0123456789+-*/^%!(),.=<>?$x {}[]'\"\n\x00:;e",
    *"** // == != <= 999999999999 1e300 1e-300 1,234 0.1 pi sqrt( log( sin( max( round( factorial( comb( pow(".split(),
    *"root( lcm( cbrt( exp( acosh( asin( atanh( __import__ \\frac{ ² ½ √ × ÷ − ° € а １ \u200b".split(),
    *(f" {words} " for words in "million dozen half percent of and hours minutes per km times squared power".split()),
    *(" raised to the power of ", " to the ", " square root of ", " sum of "),
]
SEEDS = [
    "25^0.43", "150 people * 7 days", "13200 square feet / 2 square feet per second", "200*15% + 3", "sqrt(2)*sqrt(8)",
    "{'expression': '110 * 120'}", "max(1, 234) - 3!", "(12+8)*3/4 = ?", "two hundred and five plus a dozen", "9**9**9",
    "sin(30 degrees)^2", "1.05^120 * 1,000", "log(8, 2) mod 2", "half of 60 - 2 1/2",
]  # fmt: skip


def random_text(rng: random.Random) -> str:
    if rng.random() < 0.5:
        return "".join(rng.choice(PIECES) for _ in range(rng.randint(1, rng.choice((6, 14, 40)))))
    text = rng.choice(SEEDS)
    for _ in range(rng.randint(1, 4)):
        place = rng.randint(0, len(text))
        text = text[:place] + rng.choice(PIECES) + text[place + rng.choice((0, 0, 1, 2)) :]
    return text


def main(count: int, seed: int) -> None:
    rng = random.Random(seed)
    calculate("2^0.5")  # numexpr's import is not what is measured
    answered, slowest, worst = 0, 0.0, ""
    for _ in range(count):
        text = random_text(rng)
        start = time.process_time()
        try:
            result = calculate(text)
        except ToolError as error:
            if "\n" in str(error):
                raise SystemExit(f"not one line: {text!r} gave {error}") from error
        else:
            answered += 1
            if isinstance(result.value, float) and not math.isfinite(result.value):
                raise SystemExit(f"not a number: {text!r} gave {result}")
        seconds = time.process_time() - start
        if seconds > slowest:
            slowest, worst = seconds, text
    print(f"{count} strings, {answered} answered, the others refused; slowest {slowest * 1000:.1f} ms: {worst!r}")


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    main(*(arguments + [1_000_000, 0][len(arguments) :]))
