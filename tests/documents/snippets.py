"""Python blocks: run, or compiled with every name, attribute and keyword looked up."""

from __future__ import annotations

import ast
import asyncio
import builtins
import inspect
from typing import Any

from tests.documents.pages import Block


def run(block: Block, namespace: dict[str, Any]) -> None:
    """Run it in the page's namespace; `await` may stand at the top."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(_at_its_line(block), block.place, "exec", flags=flags, dont_inherit=True)  # no __future__ of ours
    result = eval(code, namespace)
    if inspect.iscoroutine(result):
        asyncio.run(result)


def unknown(block: Block, namespace: dict[str, Any]) -> list[str]:
    """What it uses that is not there. Its imports are carried out, nothing else; they stay in the namespace."""
    tree = ast.parse(_at_its_line(block), block.place)
    nodes = list(ast.walk(tree))
    imports: list[ast.stmt] = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), block.place, "exec"), namespace)
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    stored |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    stored |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    namespace.update(dict.fromkeys(stored - namespace.keys(), _SomeValue))
    return [problem for node in nodes for problem in _problems(node, namespace)]


class _SomeValue:
    """What a name stands for that only running the block would give."""


def _problems(node: ast.AST, namespace: dict[str, Any]) -> list[str]:
    if isinstance(node, ast.Name) and node.id not in namespace and not hasattr(builtins, node.id):
        return [f"line {node.lineno}: no name {node.id}"]
    if isinstance(node, ast.Attribute) and (owner := _found(node.value, namespace)) is not None:
        missing = not hasattr(owner, node.attr) and node.attr not in getattr(owner, "model_fields", ())
        return [f"line {node.lineno}: {ast.unparse(node.value)} has no {node.attr}"] if missing else []
    if isinstance(node, ast.Call) and (called := _found(node.func, namespace)) is not None:
        strange = [word.arg for word in node.keywords if word.arg and not _takes(called, word.arg)]
        return [f"line {node.lineno}: {ast.unparse(node.func)} takes no {name}" for name in strange]
    return []


def _found(node: ast.expr, namespace: dict[str, Any]) -> Any:
    """The object an expression names, `None` where it is more than a name."""
    if isinstance(node, ast.Name):
        known = namespace.get(node.id)
        return None if known is _SomeValue or isinstance(known, str) else known
    if isinstance(node, ast.Attribute):
        owner = _found(node.value, namespace)
        return getattr(owner, node.attr, None) if owner is not None else None
    return None


def _takes(called: Any, keyword: str) -> bool:
    """Whether a call takes a keyword; a class of pydantic that forbids others takes its fields and their aliases."""
    fields = getattr(called, "model_fields", None)
    if fields is not None and called.model_config.get("extra") == "forbid":
        return keyword in fields or any(field.alias == keyword for field in fields.values())
    try:
        parameters = inspect.signature(called).parameters
    except (TypeError, ValueError):
        return True
    return keyword in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def _at_its_line(block: Block) -> str:
    return "\n" * (block.line - 1) + block.text
