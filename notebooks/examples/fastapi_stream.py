"""An endpoint that streams an agent's steps as server-sent events.

    uvicorn fastapi_stream:app
    curl -N "localhost:8000/ask?question=What is 17 times 23?" -G

Each event is named after its class in agentkit.events (Token, Thought, ActionChosen, Observed, …, Finished), and its
data is that value as JSON. When the client goes away the run ends.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from functools import cache
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse

from agentkit import AgentExecutor
from agentkit.errors import AgentkitError

app = FastAPI()


@cache
def agent() -> AgentExecutor:
    """One for all requests: an executor keeps nothing of a run."""
    return AgentExecutor.from_model("small", tools=["calculator"], max_iterations=6, max_execution_time=60)


@app.get("/ask")
async def ask(question: str, executor: Annotated[AgentExecutor, Depends(agent)]) -> StreamingResponse:
    return StreamingResponse(steps(executor, question), media_type="text/event-stream")


async def steps(executor: AgentExecutor, question: str) -> AsyncIterator[str]:
    try:
        async for event in executor.aevents({"input": question}):
            yield server_sent(type(event).__name__, asdict(event))
    except AgentkitError as error:  # the response has begun: an error can only be told as an event
        yield server_sent("Error", {"message": str(error)})


def server_sent(name: str, values: dict[str, object]) -> str:
    return f"event: {name}\ndata: {json.dumps(values, ensure_ascii=False, default=str)}\n\n"
