"""Bounds for what comes with a download and is run: chat templates, which their sandbox lets loop, call themselves and
multiply without end, and the patterns of adapters."""

from __future__ import annotations

import ctypes
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from re import _parser  # type: ignore[attr-defined]
from string import Formatter
from typing import Any

from agentkit.errors import ConfigurationError

LONGEST_S = 2.0  # CPU seconds of one prompt: those of real templates take milliseconds, for long conversations, too
POLL_S = 0.1
MOST_TIMES = 1000  # that a text or list may be repeated
MOST_REPEATS = 5  # in a row, in a pattern for names: each more multiplies its time by the length of a name


class _OutOfTime(Exception):
    """Raised inside a template that runs too long."""


def check_template(template: str) -> None:
    """Raise `ConfigurationError` for one that multiplies more than a prompt needs: no clock stops one operation."""
    from jinja2 import TemplateError

    try:
        _check(parsed(template))
    except TemplateError:  # who renders it says so
        return
    except RecursionError:
        raise too_deep() from None


def _check(tree: Any) -> None:
    from jinja2 import nodes

    for node in tree.find_all(nodes.Const):
        if isinstance(node.value, int | float) and abs(node.value) >= 10 * MOST_TIMES**2:
            raise _too_much(f"holds the number {node.value:.4g}")
    for product in tree.find_all((nodes.Mul, nodes.Pow)):
        sides = (product.left, product.right)
        few = any(isinstance(side, nodes.Const) and _is_few(side.value) for side in sides)
        again = any(isinstance(side, nodes.Mul) or side.find(nodes.Mul) for side in sides)
        if isinstance(product, nodes.Pow) or again or not few:
            raise _too_much(f"multiplies what it does not limit (line {product.lineno})")
    _Widths(tree).check()


def _is_few(value: Any) -> bool:
    return isinstance(value, int) and abs(value) <= MOST_TIMES


class _Widths:
    """The widths to which a template fills texts up: each has to be a small number that stands in it, a format's too.

    A format is a text, which may be made of others: it has to stand in the template as a whole, and what is called
    has to be a macro, a function or a method by its name.
    """

    def __init__(self, tree: Any) -> None:
        from jinja2 import nodes

        self._nodes = nodes
        self._tree = tree
        self._values: dict[str, list[Any]] = {}  # all that each name is given, None where that is not known
        self._fields: dict[str, list[Any]] = {}  # and each field of a namespace, whichever
        self._keys: set[Any] = set()  # of objects that the template makes
        self._seen: dict[int, bool] = {}
        for kind in (nodes.Assign, nodes.AssignBlock, nodes.For, nodes.With):
            for node in tree.find_all(kind):
                self._assign(node)
        for macro in tree.find_all((nodes.Macro, nodes.CallBlock)):
            for argument in macro.args:
                self._values.setdefault(argument.name, []).append(None)
        self._macros = {macro.name for macro in tree.find_all(nodes.Macro)} - self._values.keys()
        for call in tree.find_all(nodes.Call):
            for field in call.kwargs if self._is_named(call.node, "namespace", "dict") else ():
                self._fields.setdefault(field.key, []).append(field.value)
        for pair in tree.find_all(nodes.Pair):
            self._keys.add(self._constant(pair.key, None))

    def _assign(self, node: Any) -> None:
        nodes = self._nodes
        if isinstance(node, nodes.With):
            given = [*zip(node.targets, node.values, strict=True)]
        elif isinstance(node, nodes.For):
            is_counted = isinstance(node.iter, nodes.Call) and self._is_named(node.iter.node, "range")
            given = [(node.target, nodes.Const(0) if is_counted else None)]
        else:
            given = [(node.target, getattr(node, "node", None))]
        for target, value in given:
            if isinstance(target, nodes.Tuple):
                given += [(each, None) for each in target.items]
            else:
                is_field = isinstance(target, nodes.NSRef)
                name = target.attr if is_field else target.name
                (self._fields if is_field else self._values).setdefault(name, []).append(value)

    def check(self) -> None:
        """Raise `ConfigurationError` for a width without a limit."""
        nodes = self._nodes
        for node in self._tree.find_all((nodes.Mod, nodes.Filter, nodes.Call)):
            if isinstance(node, nodes.Mod):
                is_fine = self._is_number(node.left) or self._is_short(node.left, _of_percent)
            elif isinstance(node, nodes.Filter):
                is_fine = self._is_fine_filter(node)
            else:
                is_fine = self._is_fine_call(node)
            if not is_fine:
                raise _too_much(f"may fill a text up to any width (line {node.lineno})")

    def _is_fine_filter(self, node: Any) -> bool:
        if node.name == "format":
            return self._is_short(node.node, _of_percent)
        if node.name == "map" and not any(each.key == "attribute" for each in node.kwargs):
            name = self._constant(node.args[0], "format") if node.args else ""
            return name not in _WIDTHS and name != "format"
        return self._is_little(node.name, node)

    def _is_fine_call(self, call: Any) -> bool:
        nodes, called = self._nodes, call.node
        if isinstance(called, nodes.Name):
            if called.name == "strftime_now":
                return bool(call.args) and self._is_short(call.args[0], _of_percent)
            return called.name in self._macros or called.name not in self._values
        if not isinstance(called, nodes.Getattr):
            return False
        if called.attr == "format":
            return self._is_short(called.node, _of_braces)
        if called.attr in _OF_LOOPS:
            return self._is_named(called.node, "loop")
        is_own = called.attr in self._fields or (called.attr in self._keys and not hasattr(dict, called.attr))
        return called.attr in _METHODS and not is_own and self._is_little(called.attr, call)

    def _is_little(self, name: str, call: Any) -> bool:
        """Whether the width that a method or filter is given, if it takes one, is small and stands in the template."""
        if name not in _WIDTHS:
            return True
        place, keyword = _WIDTHS[name]
        given = [*call.args[place : place + 1], *(each.value for each in call.kwargs if each.key == keyword)]
        if call.dyn_args or call.dyn_kwargs or not all(isinstance(each, self._nodes.Const) for each in given):
            return False
        return all(
            len(each.value) <= MOST_TIMES if isinstance(each.value, str) else _is_few(each.value or 0) for each in given
        )

    def _is_short(self, node: Any, widths: Callable[[str], Iterator[str]]) -> bool:
        """Whether a format stands in the template, and has small widths only."""
        text = self._constant(node, None)
        if not isinstance(text, str):
            return False
        return all(width.isdecimal() and len(width) < 9 and int(width) <= MOST_TIMES for width in widths(text))

    def _constant(self, node: Any, other: Any) -> Any:
        return node.value if isinstance(node, self._nodes.Const) else other

    def _is_named(self, node: Any, *names: str) -> bool:
        """Whether it is one of these, and they are what they are anywhere."""
        return isinstance(node, self._nodes.Name) and node.name in names and node.name not in self._values

    def _is_number(self, node: Any) -> bool:
        """Whether an expression can be no text: what follows `%` is no format then."""
        nodes = self._nodes
        if isinstance(node, nodes.Const):
            return isinstance(node.value, int | float)
        if isinstance(node, nodes.Sub | nodes.Div | nodes.FloorDiv | nodes.Neg | nodes.Pos):
            return True
        if isinstance(node, nodes.Add | nodes.Mul):
            return self._is_number(node.left) and self._is_number(node.right)
        if isinstance(node, nodes.Mod):
            return self._is_number(node.left)
        if isinstance(node, nodes.Filter):
            is_plain = not (node.args or node.kwargs or node.dyn_args or node.dyn_kwargs)
            return is_plain and node.name in ("length", "count", "int", "float", "round")
        if isinstance(node, nodes.CondExpr):
            return node.expr2 is not None and self._is_number(node.expr1) and self._is_number(node.expr2)
        if isinstance(node, nodes.Name):
            return self._are_numbers(self._values.get(node.name))
        if not isinstance(node, nodes.Getattr) or not isinstance(node.node, nodes.Name):
            return False
        if self._is_named(node.node, "loop"):
            return node.attr in ("index", "index0", "revindex", "revindex0", "length", "depth", "depth0")
        return self._is_namespace(node.node.name) and self._are_numbers(self._fields.get(node.attr))

    def _is_namespace(self, name: str) -> bool:
        return all(
            isinstance(value, self._nodes.Call)
            and self._is_named(value.node, "namespace")
            and not (value.args or value.dyn_args or value.dyn_kwargs)
            for value in self._values.get(name, [None])
        )

    def _are_numbers(self, values: list[Any] | None) -> bool:
        if not values:
            return False
        if id(values) not in self._seen:
            self._seen[id(values)] = True  # what is counted up is given itself
            self._seen[id(values)] = all(value is not None and self._is_number(value) for value in values)
        return self._seen[id(values)]


_WIDTHS: Mapping[str, tuple[int, str]] = {
    "center": (0, "width"),
    "expandtabs": (0, "tabsize"),
    "indent": (0, "width"),
    "ljust": (0, ""),
    "rjust": (0, ""),
    "tojson": (1, "indent"),
    "zfill": (0, ""),
}
"""Filters and methods that fill up to a width: which of their arguments that is."""
_METHODS = {name for kind in (str, list, dict) for name in dir(kind)} - {"format_map", "translate"}
_OF_LOOPS = ("cycle", "changed")
_PRINTF = re.compile(r"%(?:\([^)]*\))?[-+#0 _^]*(\d+|\*)?(?:\.(\d+|\*))?")


def _of_percent(text: str) -> Iterator[str]:
    """The widths and precisions that a format of `%` has; `*` for one that is given to it."""
    return (width for found in _PRINTF.finditer(text) for width in found.groups() if width)


def _of_braces(text: str) -> Iterator[str]:
    """The widths and precisions that a format of `str.format` has; `*` for one that is given to it."""
    try:
        fields = [spec or "" for _, _, spec, _ in Formatter().parse(text)]
    except ValueError:  # who renders it says so
        return
    for spec in fields:
        yield from ["*"] if "{" in spec else re.findall(r"\d+", spec)


def parsed(template: str) -> Any:
    """The template as jinja2 reads it; raises what that raises."""
    from jinja2 import Environment

    plain = re.sub(r"{%-?\s*(?:end)?generation\s*-?%}", "", template)  # a tag of transformers' own
    return Environment(extensions=["jinja2.ext.loopcontrols"]).parse(plain)


def too_deep() -> ConfigurationError:
    """What is said of a template that Python does not take for a program."""
    return _too_much("is nested too deep")


def _too_much(what: str) -> ConfigurationError:
    return ConfigurationError(f"The chat template {what}: it is not run. Give another with chat_template=.")


@contextmanager
def in_bounds() -> Iterator[None]:
    """Ends what this thread does after `LONGEST_S` CPU seconds, or without memory, with a `ConfigurationError`.

    An exception is set in the thread from outside: rendered templates are Python, so that each step of theirs can be
    interrupted, in any thread.
    """
    thread, clock, done, lock = threading.get_ident(), _clock(), threading.Event(), threading.Lock()
    end = clock() + LONGEST_S

    def watch() -> None:
        while not done.wait(POLL_S):
            with lock:
                if not done.is_set() and clock() > end:
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(_OutOfTime))
                    return

    try:
        threading.Thread(target=watch, name="agentkit-template", daemon=True).start()
        try:
            yield
        finally:
            with lock:
                done.set()
    except MemoryError:
        raise _too_much("needs more memory than there is for one prompt") from None
    except _OutOfTime:
        raise _too_much(f"took more than {LONGEST_S:g} seconds for one prompt") from None


def _clock() -> Callable[[], float]:
    """The CPU time of this thread, whoever asks; where a system does not tell it, what a clock says."""
    if hasattr(time, "pthread_getcpuclockid"):
        own = time.pthread_getcpuclockid(threading.get_ident())
        return lambda: time.clock_gettime(own)
    return time.monotonic


def backtracks(pattern: str) -> bool:
    """Whether a regular expression may take forever: repeats or alternatives in repeats, or too many in a row."""
    try:
        return _repeats(_parser.parse(pattern)) > MOST_REPEATS
    except (re.error, RecursionError, OverflowError):  # who uses it says so
        return False


def _repeats(tree: Any) -> int:
    """How many unlimited repeats stand in a row at most."""
    count = 0
    for kind, value in tree:
        name = str(kind)
        if name.endswith("_REPEAT"):
            inner = _repeats(value[2])
            is_open = value[1] > MOST_REPEATS
            count += (MOST_REPEATS + 1 if inner or _branches(value[2]) else 1) if is_open else inner * value[1]
        elif name == "BRANCH":
            count += max(map(_repeats, value[1]))
        elif name in ("SUBPATTERN", "ASSERT", "ASSERT_NOT"):
            count += _repeats(value[-1])
        elif name == "ATOMIC_GROUP":
            count += _repeats(value)
        elif name == "GROUPREF_EXISTS":
            count += max(_repeats(each) for each in value[1:] if each is not None)
    return count


def _branches(tree: Any) -> bool:
    """Whether what stands in a repeat has alternatives."""
    return any(str(kind) == "BRANCH" or (str(kind) == "SUBPATTERN" and _branches(value[-1])) for kind, value in tree)
