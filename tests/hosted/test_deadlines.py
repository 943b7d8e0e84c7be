"""Deadlines, cancelled calls, and connections: that no call outlives its time, and nothing is left open."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable
from contextlib import aclosing, closing
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from agentkit.deadline import within
from agentkit.errors import ModelError
from agentkit.models.backend import ChatRequest
from agentkit.models.hosted.model import HostedModel
from tests.doubles.server import ChatServer, Play, body, error, reset, say, silent, stalls, trickle
from tests.hosted.asking import WAYS, Ask
from tests.hosted.conftest import Make, Waits

HI = ChatRequest(messages=[{"role": "user", "content": "hi"}])
Backend = Callable[..., HostedModel]

every_way = pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)


@every_way
@pytest.mark.parametrize("play", [trickle, silent], ids=["trickle", "silent"])
def test_the_total_deadline_holds(server: ChatServer, chat: Make, ask: Ask, play: Play) -> None:
    server.plays = [play]
    with pytest.raises(ModelError, match=r"gave no whole reply within 0\.2 s"):
        ask(chat(total_timeout=0.2))
    assert server.hung_up.wait(10)
    assert len(server.requests) == 1


@every_way
def test_the_deadline_of_the_run_holds(server: ChatServer, chat: Make, ask: Ask) -> None:
    server.plays = [trickle]
    with within(0.2), pytest.raises(ModelError, match="gave no whole reply within"):
        ask(chat())


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_stream_that_falls_silent_is_hung_up_on_at_the_deadline(
    server: ChatServer, chat: Make, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr("agentkit.models.hosted.wire.ALARM_S", -600.0)
    server.plays = [stalls("hello")]
    with pytest.raises(ModelError, match="gave no whole reply within"):
        WAYS[way](chat(total_timeout=0.3, timeout=100))


@dataclass
class Clock:
    """Moves when something waits."""

    now_s: float = 0.0
    waits: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now_s += seconds


def timed(model: HostedModel, clock: Clock) -> HostedModel:
    """The model with this clock, and with the shortest waits."""
    retries = replace(model.retries, clock=clock, jitter=lambda: 1.0)
    return replace(model, retries=retries, sleep=clock.wait, now_s=clock)


def test_retries_are_bounded_by_their_number(server: ChatServer, backend: Backend) -> None:
    server.plays = [say("hello"), *[error(500, "broke")] * 7]
    clock = Clock()
    model = timed(backend(max_retries=6, total_timeout=100), clock)
    list(model.generate_chat(HI))
    with pytest.raises(ModelError, match=r"broke \(tried 7 times\)$"):
        list(model.generate_chat(HI))
    assert clock.waits == [0.375, 0.75, 1.5, 3.0, 6.0, 6.0]


def test_a_loading_model_is_waited_for_until_the_deadline(server: ChatServer, backend: Backend) -> None:
    server.plays = [body(b'{"error": "Model is loading", "estimated_time": 500.0}', 503)] * 4
    clock = Clock()
    with pytest.raises(ModelError, match=r"loading; the next try would be in 30 s, after the deadline"):
        list(timed(backend(max_retries=0, total_timeout=100), clock).generate_chat(HI))
    assert clock.waits == [30.0] * 3


@pytest.mark.parametrize("retry_after_s", [0.0, 3.0, 60.0])
def test_the_server_says_when_to_come_again(server: ChatServer, backend: Backend, retry_after_s: float) -> None:
    server.plays = [error(429, retry_after=str(retry_after_s)), say("hello")]
    clock = Clock()
    list(timed(backend(total_timeout=100), clock).generate_chat(HI))
    assert clock.waits == [retry_after_s]


def test_a_closed_stream_closes_its_connection(server: ChatServer, backend: Backend) -> None:
    server.plays = [trickle]
    with closing(backend().generate_chat(HI)) as chunks:  # type: ignore[type-var]
        assert next(chunks).text == "x"
    assert server.hung_up.wait(10)


async def test_a_closed_stream_closes_its_connection_when_awaited(server: ChatServer, backend: Backend) -> None:
    server.plays = [trickle]
    async with aclosing(backend().agenerate_chat(HI)) as chunks:  # type: ignore[type-var]
        assert (await anext(chunks)).text == "x"
    assert await asyncio.to_thread(server.hung_up.wait, 10)


@pytest.mark.parametrize("play", [trickle, silent], ids=["trickle", "silent"])
async def test_a_cancelled_call_closes_its_connection(server: ChatServer, chat: Make, play: Play) -> None:
    server.plays = [play]
    call = asyncio.create_task(chat().ainvoke("hi"))
    while not server.requests:
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await asyncio.to_thread(server.hung_up.wait, 10)


def test_an_interrupt_ends_the_call_and_its_connection(server: ChatServer, backend: Backend) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    server.plays = [error(500)]
    with pytest.raises(KeyboardInterrupt):
        list(replace(backend(), sleep=interrupt).generate_chat(HI))
    assert len(server.requests) == 1


def test_a_stop_that_the_server_ignores_ends_its_stream(server: ChatServer, chat: Make) -> None:
    server.plays = [trickle]
    assert "".join(str(piece.content) for piece in chat().stream("hi", stop=["xxxx"])) == ""
    assert server.hung_up.wait(10)


@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_calls_in_a_row_share_a_connection(server: ChatServer, chat: Make, way: str) -> None:
    model = chat()
    server.plays = [say("a"), error(500), say("b"), say("c")]
    assert [WAYS[way](model).content for _ in range(3)] == ["a", "b", "c"]
    assert server.connections == 1


@pytest.mark.parametrize("way", ["ainvoke", "astream"])
async def test_awaited_calls_in_a_row_share_a_connection(server: ChatServer, chat: Make, way: str) -> None:
    model = chat()
    for _ in range(3):
        if way == "ainvoke":
            await model.ainvoke("hi")
        else:
            assert [chunk async for chunk in model.astream("hi")]
    assert server.connections == 1


ONCE_STALE: list[Play] = [say("a"), reset, say("b"), error(500), reset, reset, say("c")]


@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_the_end_of_a_kept_connection_is_no_failure(server: ChatServer, chat: Make, waits: Waits, way: str) -> None:
    """The same request goes out again at once; one that ends a new connection failed, as any other."""
    model, server.plays = chat(), ONCE_STALE
    assert [WAYS[way](model).content for _ in range(3)] == ["a", "b", "c"]
    assert (waits.seconds, len(server.bodies)) == ([0.5, 1.0], 7)


@pytest.mark.parametrize("way", ["ainvoke", "astream"])
async def test_nor_is_it_where_calls_are_awaited(server: ChatServer, chat: Make, waits: Waits, way: str) -> None:
    model, server.plays = chat(), ONCE_STALE
    for said in "abc":
        if way == "ainvoke":
            assert (await model.ainvoke("hi")).content == said
        else:
            assert "".join([str(piece.content) async for piece in model.astream("hi")]) == said
    assert (waits.seconds, len(server.bodies)) == ([0.5, 1.0], 7)


@pytest.mark.slow
def test_each_event_loop_has_connections_of_its_own_and_leaves_none(server: ChatServer, chat: Make) -> None:
    model = chat()

    async def twice() -> list[Any]:
        return await asyncio.gather(model.ainvoke("hi"), model.ainvoke("ho"))

    for _ in range(3):
        assert [reply.content for reply in asyncio.run(twice())] == ["hello", "hello"]
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    asyncio.run(twice())
    gc.collect()
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after <= before


def test_threads_share_a_model(server: ChatServer, chat: Make) -> None:
    replies = chat().batch([str(number) for number in range(16)], {"max_concurrency": 8})
    assert [reply.content for reply in replies] == ["hello"] * 16
    assert server.connections <= 8


async def test_a_batch_may_be_awaited(server: ChatServer, chat: Make) -> None:
    replies = await chat().abatch([str(number) for number in range(16)])
    assert [reply.content for reply in replies] == ["hello"] * 16


def test_closing_leaves_no_connection_and_the_model_usable(server: ChatServer, backend: Backend) -> None:
    model = backend()
    for _ in range(2):
        assert "".join(chunk.text for chunk in model.generate_chat(HI)) == "hello"
        model.close()
        model.close()
    assert server.connections == 2


@pytest.mark.slow
def test_a_model_that_goes_takes_its_connections_along(server: ChatServer, backend: Backend) -> None:
    model = backend()
    list(model.generate_chat(HI))
    server.hung_up.clear()
    del model
    gc.collect()
    assert server.hung_up.wait(10)


def test_no_thread_is_left(server: ChatServer, chat: Make) -> None:
    model = chat()
    before = set(threading.enumerate())  # among them one of pytest-timeout's
    list(model.stream("hi"))
    for thread in set(threading.enumerate()) - before:
        if isinstance(thread, threading.Timer):
            thread.join(10)
            assert thread.finished.is_set(), thread.name
