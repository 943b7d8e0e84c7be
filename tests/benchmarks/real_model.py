"""A real open model on 100 questions: our prompts, with and without a grammar, native calls, and what peers make of it.

    python tests/benchmarks/real_model.py MODEL [--rows worked,zero,…] [--half open|held-out|all] [--most 30]
        [--dtype bfloat16] [--together 16] [--peer langchain=PYTHON] [--peer smolagents=PYTHON]

MODEL is a folder of transformers', such as SmolLM2-135M-Instruct, or a GGUF file, which peers cannot read. Each row is
a process of its own and is printed as it ends; its questions are one line of JSON each on standard error. A peer runs
in the Python that is named, an environment with langchain-huggingface or smolagents in it; a row whose library is not
installed says so.

The questions (real_model.jsonl) calculate, search with scripted results, or do one after the other. Half of them,
chosen by a seed, are held out: nobody looks at their results while the prompts are changed. All rows but "defaults"
have at most 256 tokens a turn and 6 turns. Seconds are CPU seconds of the row, with one thread; llama.cpp's include
half a second of loading.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FILE = HERE / "real_model.jsonl"
TURN_TOKENS, TURNS = 256, 6
NOT_FOUND = "No good search result found"
COLUMNS = ("right", "malformed", "empty", "loops", "turns", "tokens", "seconds")
DEFAULT_TOOLS = (
    {"name": "Search", "about": "Looks up facts about people, places and things. Input: a search query."},
    {"name": "Calculator", "about": "Calculates. Input: an arithmetic expression.", "calculates": True},
)


@dataclass
class Outcome:
    """What came of one question. `malformed` counts turns, `empty` calls without an input, `loops` runs without end."""

    answer: str = ""
    malformed: int = 0
    empty: int = 0
    loops: int = 0
    turns: int = 0
    tokens: int = 0
    log: list[str] = field(default_factory=list)


# -- the questions -----------------------------------------------------------------------------------------------------


def questions(half: str, most: int | None) -> list[dict[str, Any]]:
    """The questions of one half, or all; of `most` the first."""
    rows = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if half == "all" or row["held_out"] == (half == "held-out")][:most]


def is_right(answer: str, expected: str | float) -> bool:
    """Whether the answer holds the text, as words of its own, or the number is its last (to 0.1 %)."""
    if isinstance(expected, str) and not expected.isdigit():
        return re.search(rf"(?<!\w){re.escape(expected.casefold())}(?!\w)", answer.casefold()) is not None
    numbers = re.findall(r"-?\d[\d,]*\.?\d*(?:e[-+]?\d+)?", answer)
    wanted = float(expected)
    return bool(numbers) and abs(float(numbers[-1].replace(",", "")) - wanted) <= 1e-3 * abs(wanted)


def functions_of(case: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any], Callable[[Any], str]]]:
    """The question's tools: name, description, schema and what they do with an input, a text or a dict."""
    from agentkit.errors import ToolError
    from agentkit.tools.calculator import calculator

    def calculate(given: Any) -> str:
        try:
            return str(calculator.run(_only_text(given)))
        except ToolError as error:
            return str(error)

    def look_up(given: Any) -> str:
        text = json.dumps(given, ensure_ascii=False).casefold()
        found = (seen for words, seen in case.get("facts", ()) if all(word.casefold() in text for word in words))
        return next(found, NOT_FOUND)

    for tool in case.get("tools", DEFAULT_TOOLS):
        run = calculate if tool.get("calculates") else look_up
        yield tool["name"], tool["about"], tool.get("schema", {"type": "string"}), run


def _only_text(given: Any) -> str:
    return given if isinstance(given, str) else str(next(iter(given.values()), ""))


def is_empty(given: Any, schema: dict[str, Any]) -> bool:
    """Whether a call has no text where its tool wants some."""
    if schema.get("type") == "string" or schema.get("properties"):
        return not any(str(value).strip() for value in (given.values() if isinstance(given, dict) else [given]))
    return False


# -- ours --------------------------------------------------------------------------------------------------------------


def ours(args: argparse.Namespace, **settings: Any) -> Callable[[dict[str, Any]], Outcome]:
    """Our executor over the model; `settings` are the row's."""
    from agentkit import AgentExecutor, chat_model
    from agentkit.tool import Tool

    loading = {name: settings.pop(name) for name in ("constrain", "max_new_tokens") if name in settings}
    if args.dtype:
        loading["dtype"] = args.dtype
    model = chat_model(f"local:{args.model}", temperature=0, **loading)

    def ask(case: dict[str, Any]) -> Outcome:
        functions = list(functions_of(case))
        tools = [Tool(name=n, description=about, schema=schema, run=run) for n, about, schema, run in functions]
        executor = AgentExecutor.from_model(model, tools, return_run=True, return_intermediate_steps=True, **settings)
        result = executor.invoke({"input": case["question"]})
        run, schemas = result["run"], {name: schema for name, _, schema, _ in functions}
        steps = [(step.tool, step.tool_input, step.log) for step, _ in result["intermediate_steps"]]
        return Outcome(
            answer=str(result["output"]) if run["stop_reason"] == "answer" else "",
            malformed=run["parse_errors"],
            empty=sum(is_empty(given, schemas[name]) for name, given, _ in steps if name in schemas),
            loops=run["stop_reason"] != "answer",
            turns=run["model_calls"],
            tokens=run["usage"]["completion_tokens"],
            log=[log for _, _, log in steps],
        )

    return ask


# -- peers -------------------------------------------------------------------------------------------------------------


def langchain(args: argparse.Namespace) -> Callable[[dict[str, Any]], Outcome]:
    """The chain of langchain-huggingface's documentation: its chat model, LangChain's prompt, parser and executor."""
    import torch
    from langchain_classic.agents import AgentExecutor
    from langchain_classic.agents.chat import prompt as words
    from langchain_classic.agents.format_scratchpad import format_log_to_str
    from langchain_classic.agents.output_parsers import ReActJsonSingleInputOutputParser
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.tools import StructuredTool, render_text_description
    from langchain_huggingface import ChatHuggingFace, HuggingFacePipeline

    written: list[str] = []

    class Parser(ReActJsonSingleInputOutputParser):
        def parse(self, text: str) -> Any:
            written.append(text.rpartition("<|im_start|>assistant\n")[2])
            return super().parse(written[-1])

    options = {"max_new_tokens": TURN_TOKENS, "do_sample": False}
    loading = {"dtype": getattr(torch, args.dtype or "float32")}
    llm = HuggingFacePipeline.from_model_id(
        args.model, task="text-generation", pipeline_kwargs=options, model_kwargs=loading
    )
    chat = ChatHuggingFace(llm=llm)
    system = "\n\n".join(
        [words.SYSTEM_MESSAGE_PREFIX, "{tools}", words.FORMAT_INSTRUCTIONS, words.SYSTEM_MESSAGE_SUFFIX]
    )
    prompt = ChatPromptTemplate.from_messages([("system", system), ("human", words.HUMAN_MESSAGE)])

    def ask(case: dict[str, Any]) -> Outcome:
        written.clear()
        functions = list(functions_of(case))
        tools = [_langchain_tool(StructuredTool, *function) for function in functions]
        agent: Any = (
            {
                "input": lambda x: x["input"],
                "agent_scratchpad": lambda x: format_log_to_str(x["intermediate_steps"]),
            }
            | prompt.partial(tools=render_text_description(tools), tool_names=", ".join(tool.name for tool in tools))
            | chat.bind(stop=["\nObservation"])
            | Parser()
        )
        executor = AgentExecutor(
            agent=agent, tools=tools, max_iterations=TURNS, handle_parsing_errors=True, return_intermediate_steps=True
        )
        try:
            result = executor.invoke({"input": case["question"]})
        except Exception as error:  # what ends a run there is no answer
            return Outcome(loops=1, turns=len(written), log=[f"{type(error).__name__}: {error}"])
        schemas = {name: schema for name, _, schema, _ in functions}
        steps = [step for step, _ in result["intermediate_steps"]]
        ended = str(result["output"]).startswith("Agent stopped")
        return Outcome(
            answer="" if ended else str(result["output"]),
            malformed=sum(step.tool == "_Exception" for step in steps),
            empty=sum(is_empty(step.tool_input, schemas[step.tool]) for step in steps if step.tool in schemas),
            loops=ended,
            turns=len(written),
            tokens=sum(len(llm.pipeline.tokenizer(text)["input_ids"]) for text in written),
            log=list(written),
        )

    return ask


def _langchain_tool(kind: Any, name: str, about: str, schema: dict[str, Any], run: Callable[[Any], str]) -> Any:
    if schema.get("type") == "string":
        return kind.from_function(lambda tool_input: run(tool_input), name=name, description=about)
    return kind.from_function(lambda **given: run(given), name=name, description=about, args_schema=schema)


def smolagents(args: argparse.Namespace, kind: str) -> Callable[[dict[str, Any]], Outcome]:
    """smolagents' agent of that kind over its TransformersModel."""
    import smolagents as library
    from smolagents.utils import AgentParsingError

    model = library.TransformersModel(
        args.model, device_map="cpu", torch_dtype=args.dtype or "float32", max_new_tokens=TURN_TOKENS, do_sample=False
    )

    def tool_of(name: str, about: str, schema: dict[str, Any], run: Callable[[Any], str]) -> Any:
        properties = schema.get("properties", {"query": {"type": "string"}} if schema.get("type") == "string" else {})
        inputs = {key: {"type": each["type"], "description": key} for key, each in properties.items()}

        class Scripted(library.Tool):  # type: ignore[misc]
            skip_forward_signature_validation = True
            output_type = "string"

            def forward(self, *args: Any, **given: Any) -> str:
                return run({**dict(zip(inputs, args, strict=False)), **given})

        Scripted.name, Scripted.description, Scripted.inputs = name.lower(), about, inputs
        return Scripted()

    def ask(case: dict[str, Any]) -> Outcome:
        functions = list(functions_of(case))
        tools = [tool_of(*function) for function in functions]
        agent = getattr(library, kind)(tools=tools, model=model, max_steps=TURNS, verbosity_level=0)
        schemas = {name.lower(): schema for name, _, schema, _ in functions}
        try:
            result = agent.run(case["question"], return_full_result=True)
        except Exception as error:  # what ends a run there is no answer
            return Outcome(loops=1, log=[f"{type(error).__name__}: {error}"])
        steps = [step for step in agent.memory.steps if isinstance(step, library.ActionStep)]
        calls = [call for step in steps for call in step.tool_calls or ()]
        return Outcome(
            answer=str(result.output) if result.state == "success" else "",
            malformed=sum(isinstance(step.error, AgentParsingError) for step in steps),
            empty=sum(is_empty(call.arguments, schemas[call.name]) for call in calls if call.name in schemas),
            loops=result.state != "success",
            turns=len(steps),
            tokens=sum(step.token_usage.output_tokens for step in steps if step.token_usage),
            log=[str(step.model_output) for step in steps],
        )

    return ask


# -- the rows ----------------------------------------------------------------------------------------------------------

PEERS = ("langchain", "smolagents")
BOUNDS = {"max_new_tokens": TURN_TOKENS, "max_iterations": TURNS}
ROWS: dict[str, Callable[[argparse.Namespace], Callable[[dict[str, Any]], Outcome]]] = {
    "defaults": lambda args: ours(args),
    **{
        f"{prompt}{', no grammar' if constrain == 'off' else ''}": (
            lambda args, prompt=prompt, constrain=constrain: ours(args, prompt=prompt, constrain=constrain, **BOUNDS)
        )
        for prompt in ("react-json", "react-json-text", "react-json-examples")
        for constrain in ("actions", "off")
    },
    "native calls": lambda args: ours(args, mode="tools", **BOUNDS),
    "langchain": langchain,
    "smolagents, tool calls": lambda args: smolagents(args, "ToolCallingAgent"),
    "smolagents, code": lambda args: smolagents(args, "CodeAgent"),
}
"""What each row asks, made when its process runs."""


def measure(row: str, args: argparse.Namespace) -> None:
    """One row in this process: each question on standard error, the sum on standard output."""
    ask, cases, total = ROWS[row](args), questions(args.half, args.most), dict.fromkeys(COLUMNS, 0.0)
    started_s = cpu_s()
    with ThreadPoolExecutor(args.together) as pool:
        for case, outcome in zip(cases, pool.map(ask, cases), strict=True):
            right = is_right(outcome.answer, case["answer"])
            sys.stderr.write(json.dumps({"question": case["question"], "right": right, **vars(outcome)}) + "\n")
            sys.stderr.flush()
            for name, value in {**vars(outcome), "right": right}.items():
                if name in total:
                    total[name] += value
    del ask
    gc.collect()  # llama.cpp's process ends, and is counted
    total["seconds"] = cpu_s() - started_s
    report(row, [*(f"{total[name]:.0f}" for name in COLUMNS)], len(cases))


def cpu_s() -> float:
    """CPU seconds of this process, and of those that it started and that have ended."""
    return sum(os.times()[:4])


def report(row: str, values: list[str], count: int) -> None:
    """One line of the table."""
    sys.stdout.write(f"| {row} | {count} | " + " | ".join(values) + " |\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rows", default=",".join(each.replace(", ", "/") for each in ROWS), help="names, with commas")
    parser.add_argument("--half", choices=["open", "held-out", "all"], default="open")
    parser.add_argument("--most", type=int)
    parser.add_argument("--dtype")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--together", type=int, default=1, help="questions asked at the same time; of ours only")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row:
        measure(args.row, args)
        return
    pythons = dict(each.split("=", 1) for each in args.peer)
    report("row", list(COLUMNS), 0)
    for row in (each.replace("/", ", ") for each in args.rows.split(",")):
        peer = row.split(",")[0]
        python = pythons.get(peer, sys.executable)
        command = [python, __file__, args.model, "--row", row, "--half", args.half]
        command += ["--together", str(1 if peer in PEERS else args.together)]
        command += ["--dtype", args.dtype] if args.dtype else []
        command += ["--most", str(args.most)] if args.most else []
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])}
        if subprocess.run(command, env=environment, check=False).returncode:
            report(row, ["not run: is its library installed?"], 0)


if __name__ == "__main__":
    main()
