"""Who may import whom, imports inside functions included; no circles; and what must stay out of a quick start."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LEAVES = {
    *("errors", "option_kinds", "events", "deadline", "recorder", "secrets", "tool", "number_words", "retry"),
    *("approximate_tokens", "printable", "http_body", "toml_file", "user_files", "file_lock"),
}
"""Values and contracts at the top of the package: each may import those before it in this order, none anything else."""

DIALECT = LEAVES | {"react_json"}
TOOLBOX = LEAVES | {"toolbox"}
MODELS = DIALECT | {"models"}
CORE = MODELS | TOOLBOX | {"core"}
OWN_MODELS = {"models.builtin", "models.small"}
RUNNERS = {"models.local", "models.gguf", "models.hosted"}
ADAPTERS = CORE | OWN_MODELS | RUNNERS | {"settings", "langchain", "prompts"}
RUNS = ADAPTERS | {"cassette", "mcp", "tools", "runs"}

STORE = LEAVES | {f"sessions.{name}" for name in ("address", "schema", "database", "locks", "store")}

# Each part, and the parts it may import. A part is the longest name here that a module's begins with.
MAY_IMPORT: Mapping[str, set[str]] = {
    **dict.fromkeys(LEAVES, LEAVES),
    "settings": {"errors", "toml_file", "user_files"},
    "prompts": set(),
    "react_json": DIALECT | {"prompts"},
    "toolbox": TOOLBOX,
    "tools": TOOLBOX | {"tools"},
    "models": MODELS,
    "models.builtin": MODELS | {"models.builtin"},
    "models.local": MODELS | {"models.local", "models.builtin"},
    "models.gguf": MODELS | {"models.gguf", "models.local", "models.builtin"},
    "models.hosted": MODELS | {"models.hosted"},
    "models.small": LEAVES | {"models.small"},
    "models.spec": MODELS | OWN_MODELS | RUNNERS | {"models.spec"},
    "core": CORE,
    # Towards LangChain: what its models, tools, prompts and steps are to ours, and ours to it.
    "langchain": ADAPTERS | {"models.spec"},
    "mcp": DIALECT | TOOLBOX | {"mcp"},
    "cassette": CORE | {"cassette", "settings", "prompts"},
    "runs": RUNS | {"models.spec"},
    # The store knows no run; who keeps runs in it does.
    "sessions": RUNS | STORE | {"sessions", "sessions.memory"},
    "sessions.store": STORE | {"cassette", "settings"},
    "sessions.memory": STORE,
    **dict.fromkeys(("sessions.address", "sessions.schema", "sessions.database", "sessions.locks"), STORE),
    "report": CORE | {"cassette", "report"},
    # The face that LangChain's users see, over the runs.
    "langchain.executor": RUNS
    | {"langchain.react_agent", "langchain.stored_runs", "langchain.executor", "sessions", "sessions.store"},
    "langchain.stored_runs": RUNS | {"langchain.react_agent", "langchain.stored_runs", "sessions", "sessions.store"},
    "langchain.react_agent": RUNS | {"langchain.react_agent"},
    "doctor": ADAPTERS | {"doctor", "models.spec"},
    "mcp.serving": TOOLBOX | {"mcp", "mcp.serving"},
    "pytest_plugin": {"errors", "cassette", "runs", "langchain.executor", "models.spec"},
    "cli": RUNS
    | STORE
    | {"cli", "sessions", "sessions.memory", "report", "doctor", "mcp.serving", "models.spec", "langchain.executor"},
    "__main__": {"cli"},
}
FACADES = {"agentkit", "agentkit.models", "agentkit.cassette"}
"""Packages whose public names are looked up where they live, when they are asked for."""

ONLY_IN = {
    "langchain": {"langchain", "langchain_core", "langchain_community", "langsmith"},
    "sessions": {"sqlalchemy", "psycopg"},
    "models.local": {"torch", "transformers", "bitsandbytes", "accelerate", "llguidance"},
}
"""Libraries, by the one part that may import them (and parts within it)."""

HEAVY = {
    "accelerate",
    "bitsandbytes",
    "langchain",
    "langchain_core",
    "prompt_toolkit",
    "pydantic",
    "sqlalchemy",
    "torch",
    "transformers",
    "vcr",
}


def part_of(module: str) -> str:
    name = module.removeprefix("agentkit.")
    return max((part for part in MAY_IMPORT if name == part or name.startswith(f"{part}.")), key=len, default=name)


@cache
def modules() -> dict[str, Path]:
    """Every module that ships, by name."""
    folders = {"agentkit": ROOT / "agentkit", "agentkit.tools": ROOT / "tools", "agentkit.prompts": ROOT / "prompts"}
    found = {}
    for package, folder in folders.items():
        for path in folder.rglob("*.py"):
            inside = path.relative_to(folder)
            if package == "agentkit" and inside.parts[0] in ("tools", "prompts"):
                continue  # the symlinks
            found[".".join([package, *inside.with_suffix("").parts]).removesuffix(".__init__")] = path
    return found


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Every node but those that only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _walk(child)


@cache
def imports_of(module: str, *, types: bool = False) -> frozenset[str]:
    """What a module imports, anywhere in it: modules of ours by their full names, libraries by their first."""
    found: set[str] = set()
    tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
    for node in ast.walk(tree) if types else _walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in modules() else node.module)
    return frozenset(name if name.startswith("agentkit") else name.partition(".")[0] for name in found)


def ours(module: str, *, types: bool = False) -> set[str]:
    return {name for name in imports_of(module, types=types) if name in modules() and name != "agentkit"}


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_go_one_way(module: str) -> None:
    if module == "agentkit":
        return
    allowed = MAY_IMPORT[part_of(module)] | {part_of(module)}
    assert {name: part_of(name) for name in ours(module) if part_of(name) not in allowed} == {}


@pytest.mark.parametrize("module", sorted(modules()))
def test_libraries_have_one_home(module: str) -> None:
    for home, libraries in ONLY_IN.items():
        if not part_of(module).startswith(home):
            assert imports_of(module) & libraries == set()


def test_no_circles() -> None:
    """Between files, late imports and those for types included. A facade's look-ups by name are no imports."""
    graph = {module: ours(module, types=True) - FACADES for module in modules()}
    while True:
        leaves = {module for module, targets in graph.items() if not targets & graph.keys()}
        if not leaves:
            break
        graph = {module: targets for module, targets in graph.items() if module not in leaves}
    assert graph == {}


@pytest.mark.parametrize(
    "statement",
    [
        "import agentkit",
        "import agentkit.cli.app",
        "import agentkit.pytest_plugin",
        "import agentkit.report.page, agentkit.report.compare, agentkit.runs.folder",
        "import agentkit.core.loop, agentkit.core.run, agentkit.core.planner, agentkit.toolbox.registry",
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


def test_help_loads_the_command_line_alone() -> None:
    """It is asked for often, and answers at once: what a command runs is imported when it runs."""
    code = "import agentkit.cli.app, sys; print(*sorted(name for name in sys.modules if name.startswith('agentkit.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    parts = {part_of(module) for module in done.stdout.split()}
    assert parts <= {
        "cli",
        "settings",
        "errors",
        "events",
        "printable",
        "number_words",
        "report",
        "toml_file",
        "user_files",
    }
