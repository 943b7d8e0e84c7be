"""What the loop itself costs: a scripted model of zero latency, a trivial tool, N steps, then an answer.

    python tests/benchmarks/overhead.py [--steps 1,10,100,300] [--rounds 5]

Prints the median CPU time per step in microseconds, all rows interleaved in one process. The rows of langchain-classic
and of langchain's create_agent are there when those are installed. Every run is checked: N tool calls, one answer.
Rows with calls in the model's own syntax stand beside each other: create_agent knows no other.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool

from agentkit import AgentExecutor, ReActJsonSingleInputOutputParser, create_react_json_agent, format_log_to_str
from agentkit.core.loop import Limits, ModelCall, Turn
from agentkit.core.run import Run
from agentkit.events import Action, FinalAnswer, Observation
from agentkit.models.backend import ChatRequest
from agentkit.models.scripted import ScriptedBackend
from agentkit.react_json.parser import parse_turn
from agentkit.tool import Tool

QUESTION = {"input": "What is the sum?"}
ANSWER = "The answer is 42."
FINAL = f"Thought: I now know the final answer\nFinal Answer: {ANSWER}"


def turn(number: int) -> str:
    call = f'{{"action": "calculator", "action_input": "2 + {number}"}}'
    return f"Thought: I need the calculator.\nAction:\n```json\n{call}\n```"


class Script(BaseChatModel):
    """Says `steps` actions, then the answer; starts again by itself. `native`: in tool calls, else in ReAct-JSON."""

    steps: int
    at: int = 0
    native: bool = False

    @property
    def _llm_type(self) -> str:
        return "script"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(tools=tools)

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        acts = self.at < self.steps
        message = AIMessage(turn(self.at) if acts else FINAL)
        if self.native:
            call = {"name": "calculator", "args": {"expression": f"2 + {self.at}"}, "id": f"c{self.at}"}
            message = AIMessage("", tool_calls=[call]) if acts else AIMessage(ANSWER)
        self.at = (self.at + 1) % (self.steps + 1)
        return ChatResult(generations=[ChatGeneration(message=message)])


calls = 0


@tool
def calculator(expression: str) -> str:
    """Evaluate a math expression."""
    global calls
    calls += 1
    return "42"


def calculate(expression: str) -> str:
    global calls
    calls += 1
    return "42"


own_calculator = Tool(name="calculator", description="Evaluate a math expression.", run=calculate)


def seeds_chain(model: BaseChatModel, parser: Any) -> Any:
    prompt = ChatPromptTemplate.from_template("Tools: calculator\n\n{input}\n\n{agent_scratchpad}")
    return (
        {"input": lambda x: x["input"], "agent_scratchpad": lambda x: format_log_to_str(x["intermediate_steps"])}
        | prompt
        | model.bind(stop=["\nObservation"])
        | parser
    )


def with_backend(steps: int) -> Callable[[], Any]:
    """A model in a backend of ours and a tool of ours: nothing of LangChain's runs between them."""

    def reply(request: ChatRequest) -> str:
        steps_so_far = (len(request.messages) - 2) // 2
        return turn(steps_so_far) if steps_so_far < steps else FINAL

    executor = AgentExecutor.from_model(ScriptedBackend(reply), [own_calculator], max_iterations=None)
    return lambda: executor.invoke(QUESTION)["output"]


def with_native_calls(steps: int) -> Callable[[], Any]:
    agent = create_react_json_agent(Script(steps=steps, native=True), [calculator], mode="tools")
    executor = AgentExecutor(agent, [calculator], max_iterations=None)
    return lambda: executor.invoke(QUESTION)["output"]


def with_create_agent(steps: int) -> Callable[[], Any]:
    from langchain.agents import create_agent

    agent = create_agent(Script(steps=steps, native=True), [calculator])
    question = {"messages": [{"role": "user", "content": QUESTION["input"]}]}
    return lambda: agent.invoke(question, {"recursion_limit": 10_000})["messages"][-1].content


def with_agent(steps: int, config: Any = None) -> Callable[[], Any]:
    agent = create_react_json_agent(Script(steps=steps), [calculator])
    executor = AgentExecutor(agent, [calculator], max_iterations=None)
    return lambda: executor.invoke(QUESTION, config)["output"]


def with_callbacks(steps: int) -> Callable[[], Any]:
    return with_agent(steps, {"callbacks": [BaseCallbackHandler()]})


def with_seeds_chain(steps: int) -> Callable[[], Any]:
    agent = seeds_chain(Script(steps=steps), ReActJsonSingleInputOutputParser())
    executor = AgentExecutor(agent, [calculator], max_iterations=None)
    return lambda: executor.invoke(QUESTION)["output"]


def with_classic(steps: int) -> Callable[[], Any]:
    from langchain_classic.agents import AgentExecutor as ClassicExecutor
    from langchain_classic.agents.output_parsers import ReActJsonSingleInputOutputParser as ClassicParser

    agent = seeds_chain(Script(steps=steps), ClassicParser())
    executor = ClassicExecutor(agent=agent, tools=[calculator], max_iterations=None)
    return lambda: executor.invoke(QUESTION)["output"]


class BarePlanner:
    """The dialect without LangChain: what the loop, the runner and the parser cost."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def plan(self, call: ModelCall) -> Iterator[Turn]:
        parsed = parse_turn(turn(len(call.steps)) if len(call.steps) < self.steps else FINAL)
        decision = parsed.decision
        yield Turn(decision if isinstance(decision, FinalAnswer) else (decision,), thought=parsed.thought)


class BareToolbox:
    def run(self, actions: tuple[Action, ...]) -> list[Observation]:
        global calls
        calls += 1
        return [Observation("42")]


def loop_alone(steps: int) -> Callable[[], Any]:
    def once() -> Any:
        run = Run(
            inputs=QUESTION,
            planner=BarePlanner(steps),  # type: ignore[arg-type]
            toolbox=BareToolbox(),  # type: ignore[arg-type]
            limits=Limits(max_iterations=None),
        )
        *_, last = run.events()
        return last.output  # type: ignore[union-attr]

    return once


ROWS = {
    "the loop alone (loop, runner, parser)": loop_alone,
    "agentkit, a backend and a tool of its own": with_backend,
    "agentkit, LangChain's chat model and tool": with_agent,
    "agentkit, the same with a callback handler": with_callbacks,
    "agentkit, the chain dict | prompt | model | parser": with_seeds_chain,
    "langchain-classic AgentExecutor, the same chain": with_classic,
    "agentkit, a LangChain chat model, native calls": with_native_calls,
    "langchain create_agent, the same model": with_create_agent,
}


def cpu_us_per_step(once: Callable[[], Any], steps: int) -> float:
    global calls
    calls = 0
    gc.collect()
    start = time.process_time()
    answer = once()
    spent = time.process_time() - start
    assert (answer, calls) == (ANSWER, steps), (answer, calls)
    return spent / (steps + 1) * 1e6


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--steps", default="1,10,100,300")
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    steps = [int(n) for n in given.steps.split(",")]
    print(f"{'median CPU microseconds per step at N =':52}" + "".join(f"{n:>8}" for n in steps))
    rows: dict[str, dict[int, list[float]]] = {name: {n: [] for n in steps} for name in ROWS}
    for _ in range(given.rounds):
        for name, build in ROWS.items():
            for n in steps:
                try:
                    once = build(n)
                except ImportError:
                    continue
                once()
                rows[name][n] += [cpu_us_per_step(once, n) for _ in range(max(1, 60 // n))]
    for name, by_steps in rows.items():
        if all(by_steps.values()):
            print(f"{name:52}" + "".join(f"{statistics.median(by_steps[n]):8.0f}" for n in steps))


if __name__ == "__main__":
    main()
