"""Measure the built-in model in the live loop: `python -m agentkit.models.builtin.evaluate HELDOUT.jsonl [--no-grammar]`.

Each line of the held-out file is {"kind", "question", "answer", "search": {part of a query: observation}} and for
recoveries "first_observation", which stands in for what the first action gave.  Greedy; an answer is right when it
contains the expected text, or when its last number is the expected number (to 0.1 %).
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import builtin_folder, chat
from .arithmetic import calculated

ACTION = re.compile(r'\{"action": "(?P<tool>[^"]*)", "action_input": "(?P<input>.*)"\}')
MAX_TURNS, MAX_TURN_TOKENS = 8, 160


@dataclass(frozen=True)
class Outcome:
    """What one run came to."""

    kind: str
    question: str
    answer: str
    right: bool
    seconds: float
    turns: tuple[str, ...]


class Speaker:
    """The model with one growing cache: reads text, writes turns."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.eos = self.tokenizer.eos_token_id
        self._vocabulary: Any = None

    def matcher(self, grammar: str) -> Any:
        """An llguidance matcher of this vocabulary."""
        import llguidance.hf
        from llguidance import LLMatcher

        if self._vocabulary is None:
            self._vocabulary = llguidance.hf.from_tokenizer(self.tokenizer, eos_token=self.eos)
        matcher = LLMatcher(self._vocabulary, LLMatcher.grammar_from_lark(grammar), log_level=1)
        if matcher.is_error():
            raise ValueError(matcher.get_error())
        return matcher

    def turn(self, ids: list[int], cache: Any, grammar: str | None) -> list[int]:
        """Write one turn greedily after `ids`, of which `cache` already holds a prefix; returns the new tokens."""
        import numpy
        import torch

        matcher = self.matcher(grammar) if grammar else None
        written: list[int] = []
        fence = self.tokenizer.convert_tokens_to_ids(chat.SKELETONS[9])
        fresh = ids[cache.get_seq_length() :]
        with torch.no_grad():
            while len(written) < MAX_TURN_TOKENS:
                logits = self.model(torch.tensor([fresh]), past_key_values=cache).logits[0, -1]
                if matcher is not None:
                    mask = numpy.frombuffer(matcher.compute_bitmask(), dtype=numpy.uint8)
                    allowed = torch.from_numpy(numpy.unpackbits(mask, bitorder="little")[: len(logits)].astype(bool))
                    logits = logits.masked_fill(~allowed, -torch.inf)
                token = int(logits.argmax())
                if token == self.eos:
                    break
                written.append(token)
                fresh = [token]
                if matcher is not None:
                    matcher.consume_token(token)
                    if matcher.is_error():
                        raise ValueError(matcher.get_error())
                if token == fence or (matcher is not None and matcher.is_stopped()):
                    break
        return written


def search(case: dict[str, Any], query: str) -> str:
    """The scripted search: the observation of the first key that stands in the query."""
    found = (text for key, text in case.get("search", {}).items() if key.casefold() in query.casefold())
    return next(found, "No good search result found")


def answer_case(speaker: Speaker, case: dict[str, Any], *, grammar: bool) -> Outcome:
    """One run of the loop."""
    from transformers import DynamicCache

    begun, turns, observations = time.perf_counter(), [], []
    prompt = speaker.tokenizer.apply_chat_template([{"role": "user", "content": case["question"]}], tokenize=False)
    encode = lambda text: speaker.tokenizer(text, add_special_tokens=False).input_ids  # noqa: E731
    ids, cache, answer = encode(prompt), DynamicCache(config=speaker.model.config), ""
    pending = case.get("first_observation")
    for _ in range(MAX_TURNS):
        text_grammar = _grammar(case["question"], observations) if grammar else None
        written = speaker.turn(ids, cache, text_grammar)
        ids += written
        text = speaker.tokenizer.decode(written)
        turns.append(text)
        if "Final Answer: " in text:
            answer = text.split("Final Answer: ", 1)[1].strip()
            break
        match = ACTION.search(text)
        observation, pending = pending or _observed(case, match), None
        observations.append(observation)
        turns.append(observation)
        ids += encode(f"\nObservation: {observation}\n")
    right = is_right(answer, case["answer"])
    return Outcome(case["kind"], case["question"], answer, right, time.perf_counter() - begun, tuple(turns))


def _observed(case: dict[str, Any], match: re.Match[str] | None) -> str:
    if match is None:
        return "Invalid format: no Action and no Final Answer found"
    if match["tool"] == "Search":
        return search(case, json.loads(f'"{match["input"]}"'))
    result = calculated(match["input"])
    return f"Answer: {result}" if result is not None else "Error: invalid expression"


def _grammar(question: str, observations: Sequence[str]) -> str:
    from agentkit.react_json.grammar import react_json_grammar

    tools = (("Search", {"type": "string"}), ("Calculator", {"type": "string"}))
    return react_json_grammar(tools, sources=(question, *observations))


def is_right(answer: str, expected: str | float) -> bool:
    """Whether the whole answer is right."""
    if isinstance(expected, str):
        return re.sub(r"\s+", " ", expected).casefold() in re.sub(r"\s+", " ", answer).casefold()
    numbers = re.findall(r"-?\d[\d,]*\.?\d*(?:e[-+]?\d+)?", answer)
    return bool(numbers) and abs(float(numbers[-1].replace(",", "")) - expected) <= 1e-3 * abs(expected) + 1e-9


def evaluate(folder: Path, cases: Sequence[dict[str, Any]], *, grammar: bool) -> list[Outcome]:
    """Every case once."""
    speaker = Speaker(folder)
    return [answer_case(speaker, case, grammar=grammar) for case in cases]


def table(outcomes: Sequence[Outcome]) -> dict[str, tuple[int, int]]:
    """(right, all) by kind."""
    total, right = Counter(o.kind for o in outcomes), Counter(o.kind for o in outcomes if o.right)
    return {kind: (right[kind], count) for kind, count in total.items()}


def main() -> None:
    """Read the options, run, print the table and on demand the failures."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m agentkit.models.builtin.evaluate", description=__doc__)
    parser.add_argument("heldout", type=Path)
    parser.add_argument("--folder", type=Path, default=builtin_folder())
    parser.add_argument("--no-grammar", action="store_true")
    parser.add_argument("--failures", action="store_true", help="print the runs that went wrong")
    parser.add_argument("--every", type=int, default=1, help="take only every n-th case")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cases = [json.loads(line) for line in args.heldout.read_text().splitlines()][:: args.every]
    outcomes = evaluate(args.folder, cases, grammar=not args.no_grammar)
    if args.failures:
        for outcome in (o for o in outcomes if not o.right):
            print(f"--- {outcome.kind}: {outcome.question}\n" + "\n".join(outcome.turns))
    for kind, (right, count) in table(outcomes).items():
        print(f"{kind:12} {right:3} of {count:3}  {100 * right / count:5.1f} %")
    print(f"mean {sum(o.seconds for o in outcomes) / len(outcomes):.2f} s a run")


if __name__ == "__main__":
    main()
