"""The four ways to ask a chat model, as one: every case of a table is asked in each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from langchain_core.messages import AIMessage

from agentkit.models import ChatHuggingFace

Ask = Callable[..., AIMessage]


def _invoke(model: ChatHuggingFace, asked: Any = "hi", **options: Any) -> AIMessage:
    return model.invoke(asked, **options)


def _stream(model: ChatHuggingFace, asked: Any = "hi", **options: Any) -> AIMessage:
    first, *rest = model.stream(asked, **options)
    return sum(rest, first)  # type: ignore[return-value]


def _ainvoke(model: ChatHuggingFace, asked: Any = "hi", **options: Any) -> AIMessage:
    return asyncio.run(model.ainvoke(asked, **options))


def _astream(model: ChatHuggingFace, asked: Any = "hi", **options: Any) -> AIMessage:
    async def run() -> AIMessage:
        first, *rest = [chunk async for chunk in model.astream(asked, **options)]
        return sum(rest, first)

    return asyncio.run(run())


WAYS: dict[str, Ask] = {"invoke": _invoke, "stream": _stream, "ainvoke": _ainvoke, "astream": _astream}
