"""Damages a cassette in many ways and replays it: each is refused in one line, or replayed as it was.

python tests/benchmarks/cassette_mutations.py [MUTATIONS]

Truncated, bits flipped, lines lost, doubled or swapped, bytes that are no UTF-8, hostile tags, 100,000 levels of
nesting, aliases that double without end, 100 MB. Prints for each kind how many were refused and how many replayed, then
whatever was worse: another answer or other steps, an exception that is none of ours, a message of several lines, a file
that changed or appeared, as it would where a tag was executed.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from agentkit.cassette import Replay
from agentkit.errors import AgentkitError
from agentkit.events import ActionChosen, Finished, Observed
from tests.cassette.transcribe import FILE

HOSTILE = (
    '!!python/object/apply:os.system ["touch {hacked}"]',
    '!!python/object/new:subprocess.Popen [["touch", "{hacked}"]]',
    "!!python/name:os.system",
    "!!python/module:os",
    "!!python/object/apply:builtins.eval [\"open('{hacked}', 'w')\"]",
    "!evil x",
    "!!binary xyz",
    "!!timestamp 2026-13-45",
    "!!float nan",
    "*nowhere",
    "&a [*a]",
    "9" * 10_000,
)


def bomb() -> str:
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 12)]
    return "\n".join(lines) + "\n"


def truncated(text: bytes, chance: random.Random) -> bytes:
    return text[: chance.randrange(len(text))]


def flipped(text: bytes, chance: random.Random) -> bytes:
    changed = bytearray(text)
    for _ in range(chance.choice((1, 1, 2, 8))):
        changed[chance.randrange(len(text))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def shuffled(text: bytes, chance: random.Random) -> bytes:
    lines = text.splitlines(keepends=True)
    place, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    kind = chance.randrange(3)
    if kind == 0:
        del lines[place]
    elif kind == 1:
        lines.insert(other, lines[place])
    else:
        lines[place], lines[other] = lines[other], lines[place]
    return b"".join(lines)


def no_utf8(text: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(text) - 8)
    return text[:place] + bytes(chance.choice((0xFF, 0xFE, 0xC0, 0x80)) for _ in range(3)) + text[place:]


def hostile(text: bytes, chance: random.Random, hacked: Path) -> bytes:
    lines = text.splitlines()
    places = [n for n, line in enumerate(lines) if line.rstrip().count(b": ") == 1 or line.endswith(b":")]
    place = chance.choice(places)
    tag = chance.choice(HOSTILE).replace("{hacked}", str(hacked)).encode()
    lines[place] = lines[place].partition(b":")[0] + b": " + tag
    return b"\n".join(lines) + b"\n"


def deep(text: bytes, chance: random.Random) -> bytes:
    opening = chance.choice((b"[", b"{a: ", b"- ", b"? "))
    head = chance.choice((b"", b"version: 1\nagentkit: ", b"version: 1\ninteractions: "))
    return (b"" if opening in (b"- ", b"? ") else head) + opening * 100_000


def bombed(text: bytes, chance: random.Random) -> bytes:
    name = f"*l{chance.randrange(8, 12)}".encode()
    return bomb().encode() + text.replace(b"input: Who", b"x: " + name + b"\n      input: Who", 1)


KINDS: dict[str, tuple[int, Callable[..., bytes]]] = {
    "truncated": (250, truncated),
    "bits flipped": (400, flipped),
    "lines lost, doubled, swapped": (150, shuffled),
    "not UTF-8": (50, no_utf8),
    "hostile tags": (120, hostile),
    "100,000 deep": (15, deep),
    "alias bombs": (13, bombed),
    "100 MB": (2, lambda text, chance: text + b"# filler\n" * 11_200_000),
}


def told(path: Path) -> list[Any]:
    """All that a replay says, less the time it took."""
    events = list(Replay(path, environment={}).events())
    kept: list[Any] = [event for event in events if isinstance(event, ActionChosen | Observed)]
    last = events[-1]
    assert isinstance(last, Finished)
    return [*kept, last.output, last.answered, last.log]


def outcome(path: Path, right: list[Any]) -> str:
    try:
        return "replayed" if told(path) == right else "BAD: replayed otherwise"
    except AgentkitError as error:
        return "refused" if "\n" not in str(error) else f"BAD: several lines: {error!r}"
    except Exception as error:
        return f"BAD: {type(error).__name__}: {error}"


def main(wanted: int) -> None:
    right, text = told(FILE), FILE.read_bytes()
    chance = random.Random(7)
    counts: dict[str, Counter[str]] = {}
    started_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path, hacked = Path(folder) / "run.yaml", Path(folder) / "hacked"
        for kind, (share, mutate) in KINDS.items():
            counts[kind] = Counter()
            for _ in range(max(1, round(share * wanted / 1000))):
                damaged = mutate(text, chance, hacked) if kind == "hostile tags" else mutate(text, chance)
                path.write_bytes(damaged)
                counts[kind][outcome(path, right)] += 1
                if path.read_bytes() != damaged or list(Path(folder).iterdir()) != [path]:
                    counts[kind]["BAD: files changed"] += 1
    total = sum(counts.values(), Counter[str]())
    print(f"{'':32} {'refused':>8} {'replayed':>9} {'bad':>5}")
    for kind, found in (*counts.items(), ("all", total)):
        bad = sum(times for name, times in found.items() if name.startswith("BAD"))
        print(f"{kind:32} {found['refused']:8d} {found['replayed']:9d} {bad:5d}")
    for name in sorted(name for name in total if name.startswith("BAD")):
        print(f"{total[name]:5d} {name}")
    print(f"{time.perf_counter() - started_s:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
