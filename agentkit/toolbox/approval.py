"""What counts as a yes: a function that is asked says True, and nothing else does.

An answer of any other kind, and a failure to answer, is a no: the model is told, and the run goes on. With "defer"
nobody is asked now: the run waits.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Literal

from agentkit.errors import ConfigurationError, said
from agentkit.events import Action
from agentkit.toolbox.calling import in_daemon_thread

logger = logging.getLogger("agentkit.toolbox")

DEFER: Literal["defer"] = "defer"
Approve = Callable[[Action], bool | Awaitable[bool]] | Literal["defer"]
"""Asked before a tool runs that does not say that it only reads; a plain or an async function. "defer": it waits."""
Answer = Callable[[str, Action], str | Awaitable[str | None] | None]
"""Asked what a tool wants to know; None is no answer. A plain or an async function."""


def check_approve(approve: Approve | None, answer: Answer | None = None, *, blocking: bool = False) -> None:
    """Raise `ConfigurationError` for what cannot be asked, by a `blocking` run an async function."""
    if approve is not None and approve != DEFER and not callable(approve):
        raise ConfigurationError(
            f"approve is {approve!r}, which cannot be asked; give a function of the action that returns True or False, "
            'or "defer"'
        )
    if answer is not None and not callable(answer):
        raise ConfigurationError(
            f"answer is {answer!r}, which cannot be asked; give a function of the question and the action"
        )
    for name, function in (("approve", approve), ("answer", answer)):
        if blocking and _is_async(function):
            raise _cannot_await(name)


def interrupted(tool: str) -> str:
    """What the model is told of a call that may have run, and is not to run again."""
    return f"{tool} was interrupted, and whether it took effect is not known. Do without it."


def is_yes(answer: Any, asked: str) -> bool:
    """Whether this is the value True; what is neither a yes nor a no is noted in the log."""
    if answer is not True and answer is not False and answer is not None:
        kind = f"{type(answer).__module__}.{type(answer).__qualname__}".removeprefix("builtins.")
        logger.warning(f"{asked} gave a value of the type {kind}, which is no yes: only True is")
    return answer is True


def ask(function: Callable[..., Any], *asked: Any, name: str = "approve") -> bool:
    """Whether it says yes; raises `ConfigurationError` for an answer that has to be awaited."""
    return is_yes(answer_of(function, *asked, name=name), name)


async def aask(function: Callable[..., Any], *asked: Any) -> bool:
    """The answer, awaited; a plain function is asked in a thread, for it may wait for a person."""
    return is_yes(await aanswer_of(function, *asked, name="approve"), "approve")


def answer_of(function: Callable[..., Any], *asked: Any, name: str) -> Any:
    """What it says, None where it fails; raises `ConfigurationError` for an answer that has to be awaited."""
    answer = _answer(name, function, *asked)
    if inspect.isawaitable(answer):
        _dismiss(answer)
        raise _cannot_await(name)
    return answer


async def aanswer_of(function: Callable[..., Any], *asked: Any, name: str) -> Any:
    """`answer_of`, awaited; a plain function is asked in a thread."""
    import asyncio

    answer: Any
    if _is_async(function):
        answer = _answer(name, function, *asked)
    else:
        answer = await asyncio.wrap_future(in_daemon_thread(_answer, name, function, *asked))
    try:
        return await answer if inspect.isawaitable(answer) else answer
    except Exception as error:
        return _failed(name, error)


def _answer(name: str, function: Callable[..., Any], *asked: Any) -> Any:
    try:
        return function(*asked)
    except Exception as error:
        return _failed(name, error)


def _failed(name: str, error: Exception) -> None:
    logger.warning(f"{name} failed, which is no yes ({type(error).__name__}: {said(error)})")


def _is_async(function: Any) -> bool:
    while isinstance(function, partial):
        function = function.func
    call = getattr(type(function), "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _dismiss(answer: Any) -> None:
    """Close a coroutine, which otherwise warns that nobody awaited it."""
    if inspect.iscoroutine(answer):
        answer.close()


def _cannot_await(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name} is async, which cannot be awaited here; give a plain function"
        + (", or run with ainvoke or astream" if name in ("approve", "answer") else "")
    )
