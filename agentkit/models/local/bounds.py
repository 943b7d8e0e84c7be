"""Bounds for what comes with a download and is run: chat templates, which their sandbox lets loop, call themselves and
multiply without end, and the patterns of adapters."""

from __future__ import annotations

import ctypes
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from re import _parser  # type: ignore[attr-defined]
from typing import Any

from agentkit.errors import ConfigurationError

LONGEST_S = 2.0  # CPU seconds of one prompt: those of real templates take milliseconds, for long conversations, too
POLL_S = 0.1
MOST_TIMES = 1000  # that a text or list may be repeated
MOST_REPEATS = 5  # in a row, in a pattern for names: each more multiplies its time by the length of a name
_MAY_MULTIPLY = re.compile(r"\*|(?<!\w)\d{6}")


class _OutOfTime(Exception):
    """Raised inside a template that runs too long."""


def check_template(template: str) -> None:
    """Raise `ConfigurationError` for one that multiplies more than a prompt needs: no clock stops one operation."""
    if not _MAY_MULTIPLY.search(template):
        return
    from jinja2 import TemplateError, nodes

    try:
        tree = parsed(template)
    except (TemplateError, RecursionError):  # who renders it says so
        return
    for node in tree.find_all(nodes.Const):
        if isinstance(node.value, int | float) and abs(node.value) >= 10 * MOST_TIMES**2:
            raise _too_much(f"holds the number {node.value:.4g}")
    for product in tree.find_all((nodes.Mul, nodes.Pow)):
        sides = (product.left, product.right)
        few = any(isinstance(side, nodes.Const) and _is_few(side.value) for side in sides)
        again = any(isinstance(side, nodes.Mul) or side.find(nodes.Mul) for side in sides)
        if isinstance(product, nodes.Pow) or again or not few:
            raise _too_much(f"multiplies what it does not limit (line {product.lineno})")


def _is_few(value: Any) -> bool:
    return isinstance(value, int) and abs(value) <= MOST_TIMES


def parsed(template: str) -> Any:
    """The template as jinja2 reads it; raises what that raises."""
    from jinja2 import Environment

    plain = re.sub(r"{%-?\s*(?:end)?generation\s*-?%}", "", template)  # a tag of transformers' own
    return Environment(extensions=["jinja2.ext.loopcontrols"]).parse(plain)


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
