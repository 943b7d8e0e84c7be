"""What grammar and stop cost per token, beside a decode step of a model with that vocabulary.

    python tests/benchmarks/local_grammar.py [--vocabularies 32000,150000] [--layers 12] [--tokens 300]

Prints median CPU microseconds on one thread: a decode step of a random Llama (about 85M parameters and the embedding),
stop and detokenising, and the grammar of a turn with its mask, and without where the likeliest token is allowed; then
the grammars of calls, one of each way to write arguments.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from local_models import llama, text_of, tokenizer

from agentkit.models.backend import Chunk
from agentkit.models.call_grammar import tool_grammar
from agentkit.models.local.constraint import Constraint, GrammarVocabulary
from agentkit.models.local.decoding import Detokenizer
from agentkit.models.local.forward import Forward
from agentkit.models.local.sampling import masked
from agentkit.models.reply import ReplyReader
from agentkit.react_json.grammar import react_json_grammar
from agentkit.react_json.marks import HERMES, TABLE, Pairs, Tags

SEARCH = ("Search", {"type": "string"})
BOOK = (
    "Book",
    {
        "type": "object",
        "properties": {"flight": {"type": "string", "maxLength": 9}, "seats": {"type": "integer"}},
        "required": ["flight", "seats"],
        "additionalProperties": False,
    },
)
SEE = (
    "See",
    {
        "type": "object",
        "properties": {"question": {"type": "string"}, "at": {"type": "array", "items": {"type": "integer"}}},
        "required": ["question"],
    },
)


def medians(work: Callable[[Any], Any], values: Iterable[Any]) -> tuple[float, float]:
    """Median and 95th percentile of CPU microseconds per value."""
    spent = []
    for value in values:
        started = time.process_time_ns()
        work(value)
        spent.append((time.process_time_ns() - started) / 1e3)
    return statistics.median(spent), statistics.quantiles(spent, n=20)[-1]


def measure(vocabulary: int, layers: int, tokens: int) -> None:
    words = tokenizer(vocabulary)
    size = len(words)
    model = llama(size, layers=layers)
    forward = Forward(model)
    ids = words(text_of(words, tokens, 1), add_special_tokens=False)["input_ids"]
    prompt = ids[:100]
    state: dict[str, Any] = {"cache": forward(prompt, 0, None)[1], "ids": list(prompt)}

    def step(token: int) -> None:
        state["ids"].append(token)
        state["logits"], state["cache"] = forward(state["ids"], len(state["ids"]) - 1, state["cache"])

    decode, _ = medians(step, ids[100:140])
    print(f"\nvocabulary {size}: decode step {decode:.0f} us, CPU, one thread")

    def report(name: str, spent: tuple[float, float]) -> None:
        print(f"  {name:34} {spent[0]:8.1f} us median {spent[1]:9.1f} us p95 {spent[0] / decode:8.2%} of a step")

    detokenizer, reader = Detokenizer(words, prompt), ReplyReader(["\nObservation"])
    report("stop and detokenising", medians(lambda t: reader.read(Chunk(text=detokenizer.feed(t))), ids))

    started = time.process_time()
    prepared = GrammarVocabulary.of(words, size=size, eos=[words.eos_token_id])
    print(f"  vocabulary prepared once: {time.process_time() - started:.2f} s")
    grammar = react_json_grammar([SEARCH, BOOK])
    started = time.process_time()
    constraint = Constraint(grammar, prepared)
    print(f"  grammar compiled per turn: {1e3 * (time.process_time() - started):.1f} ms")
    turn = f'Thought: {text_of(words, 25, 2)}\nAction:\n```json\n{{"action": "Search", "action_input": "'
    turn += " ".join(text_of(words, 30, 3).translate({ord(mark): None for mark in '"\\'}).split()) + '"}\n```'
    turn_ids = words(turn.replace("\n\n", "\n"), add_special_tokens=False)["input_ids"]
    logits = torch.randn(1, size)

    def with_mask(token: int) -> None:
        masked(logits, constraint)
        accept(token)

    def accept(token: int) -> None:
        constraint._matcher.consume_token(token)
        constraint._matcher.compute_ff_tokens()

    report("grammar, whole mask", medians(with_mask, turn_ids))
    constraint = Constraint(grammar, prepared)
    report("grammar, likeliest token allowed", medians(lambda t: (constraint.allows(t), accept(t)), turn_ids))
    pairs = [each for each in TABLE.calls if isinstance(each.arguments, Pairs)]
    tags = next(each for each in TABLE.calls if isinstance(each.arguments, Tags))
    tools = [{"function": {"name": name, "parameters": schema}} for name, schema in (BOOK, SEE)]
    for name, syntax in {"JSON": HERMES, "tags": tags, "Python": pairs[0], "quoted": pairs[-1]}.items():
        written = syntax.write(
            ("See", {"question": text_of(words, 60, 3).replace('"', "").replace("\\", ""), "at": [1, 2]})
        )
        started = time.process_time()
        constraint = Constraint(tool_grammar(tools, "any", syntax=syntax, special={}) or "", prepared)
        print(f"  grammar of calls, {name}: {1e3 * (time.process_time() - started):.1f} ms")
        report(f"calls, {name}, whole mask", medians(with_mask, words(written, add_special_tokens=False)["input_ids"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocabularies", default="32000,150000")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for vocabulary in map(int, options.vocabularies.split(",")):
        measure(vocabulary, options.layers, options.tokens)


if __name__ == "__main__":
    main()
