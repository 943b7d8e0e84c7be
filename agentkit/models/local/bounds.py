"""Bounds for what comes with a download and is run: chat templates, which their sandbox lets loop, call themselves and
multiply without end, and the patterns of adapters."""

from __future__ import annotations

import ctypes
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
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

    compared = {id(side) for one in tree.find_all(nodes.Compare) for side in (one.expr, *(op.expr for op in one.ops))}
    for node in tree.find_all(nodes.Const):
        is_number = isinstance(node.value, int | float) and id(node) not in compared
        if is_number and abs(node.value) >= 10 * MOST_TIMES**2:
            raise _too_much(f"holds the number {node.value:.4g}")
    for product in tree.find_all((nodes.Mul, nodes.Pow)):
        sides = (product.left, product.right)
        few = any(isinstance(side, nodes.Const) and _is_few(side.value) for side in sides)
        again = any(isinstance(side, nodes.Mul) or side.find(nodes.Mul) for side in sides)
        if isinstance(product, nodes.Pow) or again or not few:
            raise _too_much(f"multiplies what it does not limit (line {product.lineno})")
    for node in tree.find_all((nodes.Mod, nodes.Filter, nodes.Call)):
        if _fills_up(node, tree):
            raise _fills_too_much(node)
    blocks = tree.find_all((nodes.AssignBlock, nodes.FilterBlock, nodes.Macro, nodes.CallBlock))
    for text in (
        *tree.find_all(nodes.Const),
        *(text for block in blocks for text in block.find_all(nodes.TemplateData)),
    ):
        written = text.data if isinstance(text, nodes.TemplateData) else text.value
        if isinstance(written, str) and _FAR.search(written):  # wherever it is made a format of
            raise _fills_too_much(text)


def _fills_up(node: Any, tree: Any) -> bool:
    """Whether it fills a text up to a width above `MOST_TIMES` that stands in the template.

    What a template may do with numbers and texts that it is given or puts together is not known before it does it: that
    is no reason to refuse it.
    """
    from jinja2 import nodes

    if isinstance(node, nodes.Mod):
        return _is_wide(node.left, _of_percent, [node.right], tree)
    given = [*node.args, *(each.value for each in node.kwargs), *filter(None, (node.dyn_args, node.dyn_kwargs))]
    if isinstance(node, nodes.Filter):
        if node.name == "format":
            return _is_wide(node.node, _of_percent, given, tree)
        mapped = node.args[0] if node.name == "map" and node.args else None
        name = mapped.value if isinstance(mapped, nodes.Const) else node.name
        return name in FILLING and _holds_large(given, tree)
    if isinstance(node.node, nodes.Name):
        return bool(node.node.name == "strftime_now" and given and _is_wide(given[0], _of_percent, [], tree))
    if not isinstance(node.node, nodes.Getattr):
        return False
    if node.node.attr in ("format", "format_map"):
        return _is_wide(node.node.node, _of_braces, given, tree)
    return node.node.attr in FILLING and _holds_large(given, tree)


def _is_wide(text: Any, widths: Callable[[str], Iterator[str]], given: Sequence[Any], tree: Any) -> bool:
    """Whether a format has such a width, or is given one."""
    found = [*widths(_written(text))]
    return any(len(width) > 9 or int(width) > MOST_TIMES for width in found if width.isdecimal()) or (
        "*" in found and _holds_large(given, tree)
    )


def _written(node: Any) -> str:
    """What an expression says, if it is a text or puts some together; else ""."""
    from jinja2 import nodes

    if isinstance(node, nodes.Concat):
        return "".join(map(_written, node.nodes))
    if isinstance(node, nodes.Add):
        return _written(node.left) + _written(node.right)
    return node.value if isinstance(node, nodes.Const) and isinstance(node.value, str) else ""


def _holds_large(given: Sequence[Any], tree: Any) -> bool:
    """Whether a number above `MOST_TIMES` stands in these expressions, or is what a name in them is set to."""
    from jinja2 import nodes

    inner = [part for each in given for part in (each, *each.find_all((nodes.Const, nodes.Name)))]
    names = {part.name for part in inner if isinstance(part, nodes.Name)}
    for node in tree.find_all(nodes.Assign) if names else ():
        if isinstance(node.target, nodes.Name) and node.target.name in names:
            inner.append(node.node)
    values = [part.value for part in inner if isinstance(part, nodes.Const)]
    return any(
        (isinstance(value, int | float) and abs(value) > MOST_TIMES)
        or (isinstance(value, str) and value.isdecimal() and len(value) > len(str(MOST_TIMES)))
        for value in values
    )


def _fills_too_much(node: Any) -> ConfigurationError:
    return _too_much(f"fills a text up to more than {MOST_TIMES:,} characters (line {node.lineno})")


def _is_few(value: Any) -> bool:
    return isinstance(value, int) and abs(value) <= MOST_TIMES


FILLING = frozenset("center expandtabs indent ljust rjust tojson zfill".split())
"""Filters and methods that fill up to a width."""
_FAR = re.compile(r"%(?:\([^)]{0,99}\))?[-+#0 _^]*\d*\.?\d{7}|\{[\w.\[\]]*(?:![rsa])?:[^\s{}\"']{0,6}\d{7}")
"""A width of millions in a format of either kind."""
_PRINTF = re.compile(r"%(?:\([^)]{0,99}\))?[-+#0 _^]*(\d+|\*)?(?:\.(\d+|\*))?")


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
