"""Tools that use `requests` in threads, replayed: how many of their calls reach the network.

python tests/benchmarks/cassette_network.py

Twenty times, eight tool calls of one batch run in eight threads, each with its own `requests.Session`, against a server
on loopback that counts; once recorded, then replayed. Beside it the same calls through vcrpy alone in record mode
`none`, whose patches of one thread open a gap for the others (vcrpy #849).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import requests
import vcr

from agentkit.cassette import Cassette
from tests.cassette.test_http import server

TIMES, CALLS = 20, 8


def together(base: str) -> list[str | None]:
    """Eight calls at once, in threads that know no context."""

    def ask(number: int) -> str | None:
        try:
            with requests.Session() as session:
                return session.post(f"{base}/search?n={number}", json={"q": number}, timeout=5).text
        except Exception:
            return None

    with ThreadPoolExecutor(CALLS) as pool:
        return list(pool.map(ask, range(CALLS)))


def measured(name: str, record: Callable[[str], list[str | None]], replay: Callable[[str], list[str | None]]) -> None:
    recorded = reached = right = 0
    with server() as (base, asked):
        for _ in range(TIMES):
            answers = record(base)
            recorded += sum(answer is not None for answer in answers)
            asked.clear()
            right += sum(a == b and b is not None for a, b in zip(answers, replay(base), strict=True))
            reached += len(asked)
    print(f"{name:12} {recorded:9d} {right:9d} {reached:20d}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours.yaml", Path(folder) / "theirs.yaml"

        def with_ours(mode: str) -> Callable[[str], list[str | None]]:
            def use(base: str) -> list[str | None]:
                with Cassette(ours, mode, environment={}):  # type: ignore[arg-type]
                    return together(base)

            return use

        def with_vcrpy(mode: str) -> Callable[[str], list[str | None]]:
            def use(base: str) -> list[str | None]:
                if mode == "all":
                    theirs.unlink(missing_ok=True)
                with vcr.use_cassette(str(theirs), record_mode=mode, match_on=["method", "uri", "body"]):
                    return together(base)

            return use

        print(f"{TIMES} x {CALLS} calls: answered  the same  reached the network")
        measured("agentkit", with_ours("record"), with_ours("replay"))
        measured("vcrpy", with_vcrpy("all"), with_vcrpy("none"))


if __name__ == "__main__":
    main()
