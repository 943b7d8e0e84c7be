"""What hosted models cost: `python tests/benchmarks/hosted.py [--peer PYTHON] [--openai PYTHON] [--only at-once]`.

Prints, each beside plain httpx in the same run: wall and processor time from the start of a process to the first byte
of its request; time per call; and calls per second of 1, 8 and 64 runs at once, asynchronous ones. `--peer` is a Python
that has langchain-huggingface, which is then asked the same; `--openai` one that has langchain-openai, whose ChatOpenAI
then takes turns with ours.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STARTS, CALLS, AT_ONCE, CALLS_IN_ALL, ROUNDS = 7, 300, (1, 8, 64), 384, 5
TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
MESSAGES = [{"role": "user", "content": "hi"}]
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "Final Answer: hello"}, "finish_reason": "stop"}
REPLY = {"model": "m", "choices": [CHOICE], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}
PIECES = [
    {"model": "m", "choices": [{"index": 0, "delta": {"content": "Final Answer: hello"}}]},
    {"model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
]
HOSTED = """
from agentkit.models.backend import ChatRequest
from agentkit.models.hosted.options import hosted_model
list(hosted_model(endpoint_url="URL").generate_chat(ChatRequest(messages=[{"role": "user", "content": "hi"}])))
"""
PROGRAMS = {
    "httpx": "import httpx; httpx.post('URL', json={})",
    "hosted backend": HOSTED,
    "chat_model(…).invoke": "from agentkit import chat_model; chat_model('URL').invoke('hi')",
    "AgentExecutor": "from agentkit import AgentExecutor\n"
    "AgentExecutor.from_model('URL', ['calculator'], mode='react-json').invoke('hi')",
}
PEER = """
from langchain_huggingface import ChatHuggingFace, HuggingFaceEndpoint
model = ChatHuggingFace(llm=HuggingFaceEndpoint(endpoint_url="URL", huggingfacehub_api_token="x"), model_id="m")
"""
PEER_CALLS = """
import statistics, sys, time, warnings
warnings.simplefilter("ignore")
def timed(call):
    call()
    taken = []
    for _ in range(CALLS):
        started = time.perf_counter(); call(); taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1000
print(timed(lambda: model.invoke("hi")))
"""


OPENAI = """
import asyncio, sys, time
from langchain_openai import ChatOpenAI
model = ChatOpenAI(base_url="URL/v1", api_key="x", model="m")
async def main():
    for line in iter(sys.stdin.readline, ""):
        count, each = map(int, line.split())
        async def task(times):
            for _ in range(times):
                await model.ainvoke("hi")
        await asyncio.gather(*(task(1) for _ in range(count)))
        started, used = time.perf_counter(), time.process_time()
        await asyncio.gather(*(task(each) for _ in range(count)))
        print(count * each / (time.perf_counter() - started), (time.process_time() - used) * 1000 / (count * each), flush=True)
asyncio.run(main())
"""  # noqa: E501


async def _serve() -> None:
    """A server that answers at once: the work of everybody else is what is measured."""
    whole = json.dumps(REPLY).encode()
    events = b"".join(b"data: " + json.dumps(piece).encode() + b"\n\n" for piece in PIECES) + b"data: [DONE]\n\n"
    plain = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(whole) + whole
    stream = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    stream += b"%x\r\n" % len(events) + events + b"\r\n0\r\n\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
                body = await reader.readexactly(length)
                writer.write(stream if b'"stream":true' in body.replace(b" ", b"") else plain)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def serving() -> Iterator[str]:
    words = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            yield f"http://127.0.0.1:{running.stdout.readline().strip()}"
        finally:
            running.kill()


# -- from the start of a process -------------------------------------------------------------------------------------


def first_byte_ms(words: list[str]) -> tuple[float, float]:
    """Wall and processor milliseconds until a request's first byte has come."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.settimeout(60)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        started_s = time.perf_counter()
        devnull = subprocess.DEVNULL
        running = subprocess.Popen([word.replace("URL", url) for word in words], stdout=devnull, stderr=devnull)
        try:
            connection, _ = listening.accept()
            connection.recv(1)
            wall_ms = (time.perf_counter() - started_s) * 1000
            fields = Path(f"/proc/{running.pid}/stat").read_text().rpartition(")")[2].split()
            connection.close()
            return wall_ms, (int(fields[11]) + int(fields[12])) * TICK_MS
        finally:
            running.kill()
            running.wait()


def starts(peer: str | None) -> None:
    print(f"from the start of a process to the first byte, median of {STARTS} (wall ms, processor ms)")
    rows = {name: [sys.executable, "-c", program] for name, program in PROGRAMS.items()}
    rows["agentkit run"] = [
        *(sys.executable, "-m", "agentkit", "run", "hi", "--model", "URL", "--tools", "calculator"),
        *("--mode", "react-json"),
    ]
    if peer:
        rows["langchain-huggingface"] = [peer, "-c", PEER + 'model.invoke("hi")']
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
    for _ in range(STARTS):
        for name, words in rows.items():
            taken[name].append(first_byte_ms(words))
    for name, pairs in taken.items():
        wall, processor = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"  {name:24}{wall:8.0f}{processor:8.0f}")


# -- per call ----------------------------------------------------------------------------------------------------------


def median_ms(call: Callable[[], Any]) -> float:
    call()
    taken = []
    for _ in range(CALLS):
        started_s = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started_s)
    return statistics.median(taken) * 1000


def calls(url: str, peer: str | None) -> None:
    import httpx

    from agentkit import chat_model
    from agentkit.models.backend import ChatRequest
    from agentkit.models.hosted.options import hosted_model

    client = httpx.Client()
    body = {"messages": MESSAGES, "max_tokens": 512, "stop": ["\nObservation"], "stream": False}
    backend, chat = hosted_model(endpoint_url=url), chat_model(url)
    whole, streamed = ChatRequest(messages=MESSAGES, stream=False), ChatRequest(messages=MESSAGES)
    rows: dict[str, Callable[[], Any]] = {
        "httpx": lambda: client.post(f"{url}/v1/chat/completions", json=body).json(),
        "hosted backend": lambda: list(backend.generate_chat(whole)),
        "hosted backend, streaming": lambda: list(backend.generate_chat(streamed)),
        "chat_model(…).invoke": lambda: chat.invoke("hi"),
        "chat_model(…).stream": lambda: list(chat.stream("hi")),
    }
    medians = {name: median_ms(call) for name, call in rows.items()}
    if peer:
        program = (PEER + PEER_CALLS).replace("URL", url).replace("CALLS", str(CALLS))
        said = subprocess.run([peer, "-c", program], capture_output=True, text=True, check=True)
        medians["langchain-huggingface"] = float(said.stdout)
    print(f"per call, median of {CALLS} (ms, times httpx)")
    for name, ms in medians.items():
        print(f"  {name:26}{ms:8.2f}{ms / medians['httpx']:8.2f}")


# -- many at once ------------------------------------------------------------------------------------------------------


async def rate(call: Callable[[int], Awaitable[Any]], count: int) -> tuple[float, float]:
    """Calls per second, and processor milliseconds per call, of tasks that each make calls one after the other."""

    async def task(number: int, times: int) -> None:
        for _ in range(times):
            await call(number)

    await asyncio.gather(*(task(number, 1) for number in range(count)))
    started_s, used_s = time.perf_counter(), time.process_time()
    await asyncio.gather(*(task(number, CALLS_IN_ALL // count) for number in range(count)))
    return CALLS_IN_ALL / (time.perf_counter() - started_s), (time.process_time() - used_s) * 1000 / CALLS_IN_ALL


@contextmanager
def beside(openai: str | None, url: str) -> Iterator[Callable[[int], tuple[float, float]] | None]:
    """What measures langchain-openai in a process of its own, as `rate` does."""
    if openai is None:
        yield None
        return
    words = [openai, "-c", OPENAI.replace("URL", url)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:

        def measured(count: int) -> tuple[float, float]:
            assert running.stdin is not None
            assert running.stdout is not None
            print(count, CALLS_IN_ALL // count, file=running.stdin, flush=True)
            per_second, processor_ms = map(float, running.stdout.readline().split())
            return per_second, processor_ms

        try:
            yield measured
        finally:
            running.kill()


async def at_once(url: str, openai: str | None) -> None:
    import httpx

    from agentkit import AgentExecutor, chat_model
    from agentkit.models.backend import ChatRequest
    from agentkit.models.hosted.options import hosted_model

    request = ChatRequest(messages=MESSAGES, stream=False)
    backend = hosted_model(endpoint_url=url)
    chat = chat_model(url)
    executor = AgentExecutor.from_model(chat, ["calculator"], mode="react-json")

    body = {"messages": MESSAGES, "max_tokens": 512, "stream": False}
    limits = httpx.Limits(max_connections=None)

    async def ask(_: int) -> list[Any]:
        return [chunk async for chunk in backend.agenerate_chat(request)]

    async with contextlib.AsyncExitStack() as stack:
        shared = await stack.enter_async_context(httpx.AsyncClient(limits=limits))
        own = [await stack.enter_async_context(httpx.AsyncClient()) for _ in range(max(AT_ONCE))]
        peer = stack.enter_context(beside(openai, url))

        async def post(client: httpx.AsyncClient) -> Any:
            return (await client.post(f"{url}/v1/chat/completions", json=body)).json()

        rows: dict[str, Callable[[int], Awaitable[Any]]] = {
            "httpx": lambda _: post(shared),
            "httpx, a client each": lambda number: post(own[number]),
            "hosted backend": ask,
            "chat_model(…).ainvoke": lambda _: chat.ainvoke("hi"),
            "AgentExecutor.ainvoke": lambda _: executor.ainvoke({"input": "hi"}),
        }
        for count in AT_ONCE:
            taken: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
            for _ in range(ROUNDS):
                for name, call in rows.items():
                    taken[name].append(await rate(call, count))
                if peer is not None:
                    taken.setdefault("ChatOpenAI(…).ainvoke", []).append(await asyncio.to_thread(peer, count))
            print(f"{count} at once, median of {ROUNDS} (calls per second, processor ms per call)")
            for name, pairs in taken.items():
                per_second, processor_ms = (statistics.median(column) for column in zip(*pairs, strict=True))
                print(f"  {name:26}{per_second:8.0f}{processor_ms:8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", help="a Python that has langchain-huggingface")
    parser.add_argument("--openai", help="a Python that has langchain-openai")
    parser.add_argument("--only", choices=["starts", "calls", "at-once"])
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(_serve())
    if given.only in (None, "starts"):
        starts(given.peer)
    with serving() as url:
        if given.only in (None, "calls"):
            calls(url, given.peer)
        if given.only in (None, "at-once"):
            asyncio.run(at_once(url, given.openai))


if __name__ == "__main__":
    main()
