"""An agent as one node of a LangGraph graph: the graph decides who is asked, the agent answers with its tools."""

from functools import cache
from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from agentkit import AgentExecutor


class State(TypedDict, total=False):
    question: str
    answer: str
    steps: list[str]


@cache
def agent() -> AgentExecutor:
    return AgentExecutor.from_model("small", tools=["calculator"], return_intermediate_steps=True)


def calculate(state: State) -> State:
    result = agent().invoke({"input": state["question"]})
    steps = [f"{action.tool}({action.tool_input}) = {observed}" for action, observed in result["intermediate_steps"]]
    return {"answer": result["output"], "steps": steps}


def decline(state: State) -> State:
    return {"answer": "I only calculate.", "steps": []}


def has_a_number(state: State) -> str:
    return "calculate" if any(letter.isdigit() for letter in state["question"]) else "decline"


graph = StateGraph(State)
graph.add_node("calculate", calculate)
graph.add_node("decline", decline)
graph.add_conditional_edges(START, has_a_number, ["calculate", "decline"])
graph.add_edge("calculate", END)
graph.add_edge("decline", END)
app = graph.compile()
