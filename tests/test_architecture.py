"""Who may import whom, and what must stay out of a quick start."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Each part, and the parts it may import at its top. Longer names win: `react_json.output_parser` is not `react_json`.
MAY_IMPORT = {
    "errors": set(),
    "react_json.turn": set(),
    "react_json": {"errors", "react_json", "react_json.turn", "tool"},
    "react_json.output_parser": {"errors", "react_json", "react_json.turn"},
    "arguments": {"errors", "react_json.turn"},
    "deadline": set(),
    "tool": {"arguments", "errors", "events", "react_json.turn"},
    "run_scope": set(),
    "approximate_tokens": set(),
    "tools": {"approximate_tokens", "errors", "events", "run_scope", "tool", "tools"},
    "prompts": set(),
    "events": {"react_json.turn"},
    "loop": {"errors", "events", "react_json", "react_json.turn"},
    "runner": {"deadline", "errors", "events", "loop", "react_json.turn"},
    "planner": {"errors", "events", "loop", "react_json", "react_json.turn"},
    "native_functions": {"errors", "planner", "react_json", "react_json.turn"},
    "native_planner": {
        *("errors", "events", "loop", "native_functions", "planner", "react_json", "react_json.turn"),
    },
    "known_modes": {"events"},
    "auto_planner": {"calling", "cassette", "errors", "events", "known_modes", "loop", "planner"},
    "toolbox": {"calling", "deadline", "errors", "loop", "observed_text", "react_json.turn", "tool", "tool_registry"},
    "calling": {"deadline", "errors", "react_json.turn", "tool"},
    "observed_text": {"approximate_tokens", "events", "loop"},
    "tool_registry": {"errors"},
    "community_tools": {"errors"},
    "mcp": {"calling", "cassette", "errors", "loop", "mcp", "observed_text", "tool"},
    "settings": {"errors"},
    "hub": {"errors"},
    "langchain": {
        *("auto_planner", "known_modes"),
        *("arguments", "calling", "deadline", "errors", "events", "langchain", "loop", "planner", "react_json"),
        *("react_json.turn", "tool", "tool_registry"),
    },
    "react_agent": {
        *("auto_planner", "cassette", "native_functions", "native_planner"),
        *("errors", "events", "langchain", "loop", "planner", "react_json", "react_json.output_parser"),
        "react_json.turn",
    },
    "executor": {
        *("errors", "events", "langchain", "loop", "react_agent", "react_json.turn", "runner", "toolbox"),
        "cassette",
        "run_scope",
    },
    "models": {"errors", "events", "models", "models.hosted", "cassette"},
    "models.hosted": {"cassette", "deadline", "errors", "events", "models"},
    "models.builtin": {"errors", "models.builtin", "react_json"},
    "cassette": {
        "models",
        *("errors", "events", "cassette", "tool_registry", "loop", "planner", "react_json", "react_json.turn"),
        *("calling", "runner", "tool", "toolbox"),
    },
    "__main__": {"cli"},
    "pytest_plugin": set(),
    "cli": {"errors", "events", "cli", "settings"},
}
HEAVY = {"accelerate", "bitsandbytes", "langchain", "langchain_core", "pydantic", "torch", "transformers", "vcr"}


def parts_of(module: str) -> str:
    name = module.removeprefix("agentkit.")
    if name.startswith("langchain_"):
        return "langchain"
    return max((part for part in MAY_IMPORT if name == part or name.startswith(part + ".")), key=len, default=name)


def sources() -> list[tuple[str, Path]]:
    folders = {"agentkit": ROOT / "agentkit", "agentkit.tools": ROOT / "tools", "agentkit.prompts": ROOT / "prompts"}
    found = []
    for package, folder in folders.items():
        for path in folder.rglob("*.py"):
            inside = path.relative_to(folder)
            if package == "agentkit" and inside.parts[0] in ("tools", "prompts"):
                continue  # the symlinks
            name = ".".join([package, *inside.with_suffix("").parts]).removesuffix(".__init__")
            if name != "agentkit":
                found.append((name, path))
    return found


def imported_at_the_top(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "agentkit":
            found.update(f"agentkit.{alias.name}" for alias in node.names if alias.name != "__version__")
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize(("module", "path"), sources(), ids=[name for name, _ in sources()])
def test_imports_go_one_way(module: str, path: Path) -> None:
    allowed = MAY_IMPORT[parts_of(module)] | {parts_of(module)}
    ours = {parts_of(name) for name in imported_at_the_top(path) if name.startswith("agentkit.")}
    assert ours <= allowed


@pytest.mark.parametrize(
    "statement",
    [
        "import agentkit",
        "import agentkit.cli.app",
        "import agentkit.pytest_plugin",
        "import agentkit.report.page, agentkit.report.compare, agentkit.report.telling, agentkit.runs.folder",
        "import agentkit.core.loop, agentkit.core.runner, agentkit.core.planner, agentkit.toolbox.registry",
        "import agentkit.settings, agentkit.react_json.prompt, agentkit.cli.view",
        "from agentkit.tools.calculator import calculator",
        "from agentkit.tools.search import search",
        "from agentkit.models.hosted.options import hosted_model",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(statement: str) -> None:
    code = f"{statement}; import sys; print(*sorted({HEAVY!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
