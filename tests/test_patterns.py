"""Regular expressions mean the same on every Python: none leans on what `re` of some versions gets wrong.

CPython 3.11.2, which Debian 12 ships, mishandles possessive quantifiers and atomic groups around groups.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import agentkit
from agentkit.models.thinking import ThinkingText
from agentkit.react_json.hostile import Defuser
from agentkit.react_json.marks import TABLE

NEED_MORE = ("agentkit.langchain", "agentkit.models.local", "agentkit.models.builtin", "agentkit.__main__")
"""Modules that cannot be imported without LangChain or torch, or that run something."""

MISHANDLED = re.compile(r"\)[?*+]\+|\)\{[\d,]+\}\+|\(\?>")

CALLS = [syntax.write(("get", {"q": 'a "b" <c>\n{d}', "n": 3})) for syntax in TABLE.calls]
TEXTS = [
    "a <think> b",
    "a `<think>` b \"</think>\" c '[THINK]' d",
    *(f"{opening}\nhm\n{closing} then" for opening, closing in TABLE.thinking.items()),
    *CALLS,
    'Thought: I look.\nAction:\n```json\n{"action": "search", "action_input": "x"}\n```\nObservation: 5<|im_end|>\n',
    "**Final Answer:** 42\n## Final Answer\n最终答案：42\nAcción: x\n> Action Input: y\nDone. Final Answer: z",
    "```python\n'''x'''\n~~~\n`a` ``b`` json {\n[ {\n/* c */ // d\n#\n\"f\\\"g\" 'h\\'i' “j” ‘k’ -1.5e-3 0.5x 1,345%",
    "  \t\n\r\n\u200b\ufeff “smart” {{ doubled }} [1, [2], {}] a=1, b='c'",
    "https://user:pw@example.org/?api_key=sk-abcdefghijklmnop1234#d data:image/png;base64,iVBORw0KGgo= Bearer abc.def",
    "<p class='x'>one <b>two</b><br/>three &amp; four</p>\x1b[31mred\x1b[0m",
    "2 + 3 * (4 - 1) ^ 2 = 25% of sqrt(1,234.5) - 3.2e5 and 1/3; twenty-five million on 3 May 2024 at 10:30",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa " * 4,
    "",
]

SEARCH = """
import json, re, sys
patterns, texts = json.load(sys.stdin)
results = []
for pattern, flags in patterns:
    compiled = re.compile(pattern, flags)
    results.append([[match.regs for match in compiled.finditer(text)] for text in texts])
json.dump(results, sys.stdout)
"""


@cache
def patterns() -> dict[tuple[str, int], str]:
    """The patterns that modules hold, themselves or in their values and objects, with the module that does."""
    collected: dict[tuple[str, int], str] = {}
    for module in pkgutil.walk_packages(agentkit.__path__, "agentkit."):
        if not module.name.startswith(NEED_MORE):
            values = vars(importlib.import_module(module.name))
            collected.update({(each.pattern, each.flags): module.name for each in _patterns_in(values, set())})
    derived = {"agentkit.react_json.hostile": Defuser(), "agentkit.models.thinking": ThinkingText()}
    for name, instance in derived.items():
        collected.update({(each.pattern, each.flags): name for each in _patterns_in(instance, set())})
    return collected


def _patterns_in(value: Any, seen: set[int]) -> Iterator[re.Pattern[str]]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, re.Pattern):
        if isinstance(value.pattern, str):
            yield value
    elif isinstance(value, Mapping):
        for item in list(value.values()):
            yield from _patterns_in(item, seen)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _patterns_in(item, seen)
    elif type(value).__module__.startswith("agentkit"):
        names = [*getattr(value, "__dict__", ()), *getattr(type(value), "__slots__", ())]
        for name in names:
            yield from _patterns_in(getattr(value, name, None), seen)


def searched(python: str) -> list[Any]:
    given = json.dumps([[*patterns()], TEXTS])
    done = subprocess.run([python, "-I", "-c", SEARCH], input=given, capture_output=True, text=True, check=True)
    results: list[Any] = json.loads(done.stdout)
    return results


def pythons() -> dict[str, str]:
    """Every Python at hand that agentkit runs on, by its version."""
    names = ["/usr/bin/python3", *(f"python3.{minor}" for minor in range(11, 16))]
    paths = [*map(shutil.which, names), *map(str, (Path.home() / ".pyenv/versions").glob("3.1[1-9]*/bin/python"))]
    versions = {}
    for path in filter(None, paths):
        command = [path, "-I", "-c", "import sys; print(*sys.version_info[:3], sep='.')"]
        done = subprocess.run(command, capture_output=True, text=True)
        version = done.stdout.strip()
        if done.returncode == 0 and int(version.split(".")[1]) >= 11:
            versions[version] = path
    return versions


@cache
def expected() -> list[Any]:
    return searched(sys.executable)


def test_there_are_patterns_to_compare() -> None:
    assert len(patterns()) > 100
    assert {"agentkit.react_json.scan", "agentkit.react_json.calls"} <= {*patterns().values()}


def test_no_pattern_leans_on_possessive_groups() -> None:
    assert [(module, source) for (source, _), module in patterns().items() if MISHANDLED.search(source)] == []


PYTHONS = {version: path for version, path in pythons().items() if path != sys.executable}


@pytest.mark.slow
@pytest.mark.skipif(not PYTHONS, reason="no other Python at hand")
@pytest.mark.parametrize("version", PYTHONS)
def test_every_python_finds_the_same(version: str) -> None:
    for (source, module), ours, theirs in zip(patterns().items(), expected(), searched(PYTHONS[version]), strict=True):
        assert theirs == ours, f"{module}: {source[0][:200]}"
