"""A run of several steps on a random Llama: ours beside the limit, and beside what people run today.

    python tests/benchmarks/local_steps.py [--steps 5] [--threads 1] [--rounds 3] [--only agentkit,limit]
        [--hidden 768] [--layers 12] [--device cpu] [--dtype float32] [--quantization nf4]

Prints after each measurement the median CPU and wall seconds of that row so far, all rows interleaved in one process,
and the CPU seconds as a multiple of the limit's. The limit is a raw loop over one of transformers' caches, in which
every token goes through the model exactly once; the constrained run's turns are longer, so it has a limit of its own.
The row of langchain-huggingface is there when it can be imported (its stop does not stop: it runs to max_new_tokens);
"whole prompt" is the same with an ideal stop.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from local_models import add_size, chosen_llama, seconds, text_of, tokenizer

from agentkit.models import ChatHuggingFace, HuggingFacePipeline

SYSTEM, TURN, OBSERVATION, RUN_ON = 456, 60, 121, 256
FORCED = '"\\nAction:\\n```json\\n{\\"action\\": \\"Search\\", \\"action_input\\": \\""'
GRAMMAR = f'start: "Thought: " /[a-z]{{60,80}}/ {FORCED} /[a-z]{{20,30}}/ "\\"}}\\n```"'


class Bench:
    """One model, and a conversation that all rows see alike."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.tokenizer = tokenizer(32_000)
        self.model = chosen_llama(options, 32_000)
        self.observations = [f"Observation: {text_of(self.tokenizer, OBSERVATION, n)}" for n in range(options.steps)]
        self.start = [SystemMessage(text_of(self.tokenizer, SYSTEM, 99)), HumanMessage("What is it?")]

    def chat(self) -> ChatHuggingFace:
        return ChatHuggingFace(llm=HuggingFacePipeline(model=self.model, tokenizer=self.tokenizer))

    def converse(self, ask: Callable[[list[Any]], str]) -> None:
        messages: list[Any] = list(self.start)
        for observation in self.observations:
            messages += [AIMessage(ask(messages)), HumanMessage(observation)]

    def agentkit(self, grammar: str | None = None) -> list[int]:
        """Our run; the lengths of its turns."""
        chat, lengths = self.chat(), list[int]()

        def ask(messages: list[Any]) -> str:
            limit = 200 if grammar else TURN
            options = {"stop": ["\nObservation"], "max_new_tokens": limit, "do_sample": False}
            reply = chat.invoke(messages, grammar=grammar, **options)
            lengths.append(reply.usage_metadata["output_tokens"])  # type: ignore[index]
            return str(reply.content)

        self.converse(ask)
        return lengths

    def limit(self, lengths: Sequence[int]) -> None:
        """Every token through the model exactly once."""
        from transformers import DynamicCache

        cache, prompt = DynamicCache(), self._ids(self.start)
        with torch.inference_mode():
            for length, observation in zip(lengths, self.observations, strict=True):
                ids = prompt
                for _ in range(length):
                    output = self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
                    ids = output.logits[:, -1].argmax(-1, keepdim=True)
                prompt = torch.cat([ids, self._ids([HumanMessage(observation)])], dim=1)

    def whole_prompt(self) -> None:
        """The prompt computed again at every step, with a stop that stops at once."""

        def ask(messages: list[Any]) -> str:
            ids = self._ids(messages)
            with torch.inference_mode():
                output = self.model.generate(ids, max_new_tokens=TURN, do_sample=False)
            return str(self.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))

        self.converse(ask)

    def langchain_huggingface(self) -> None:
        import transformers
        from langchain_huggingface import ChatHuggingFace as Theirs
        from langchain_huggingface import HuggingFacePipeline as TheirPipeline

        pipeline = transformers.pipeline("text-generation", model=self.model, tokenizer=self.tokenizer)
        options = {"max_new_tokens": RUN_ON, "do_sample": False, "return_full_text": False}
        llm = TheirPipeline(pipeline=pipeline, pipeline_kwargs=options)
        chat = Theirs(llm=llm, tokenizer=self.tokenizer, model_id="tiny")

        def ask(messages: list[Any]) -> str:
            return str(chat.invoke(messages, stop=["\nObservation"], pipeline_kwargs=options).content)[: TURN * 4]

        self.converse(ask)

    def _ids(self, messages: list[Any]) -> torch.Tensor:
        roles = {"human": "user", "ai": "assistant", "system": "system"}
        dicts = [{"role": roles[m.type], "content": m.content} for m in messages]
        ids = self.tokenizer.apply_chat_template(dicts, add_generation_prompt=True, return_dict=True)["input_ids"]
        return torch.tensor([ids], device=self.model.device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    add_size(parser)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bench = Bench(options)
    turns = bench.agentkit()
    constrained = bench.agentkit(GRAMMAR)
    rows: dict[str, Callable[[], Any]] = {
        "limit": lambda: bench.limit(turns),
        "agentkit": bench.agentkit,
        "limit of the constrained run": lambda: bench.limit(constrained),
        "agentkit with grammar": lambda: bench.agentkit(GRAMMAR),
        "whole prompt": bench.whole_prompt,
        "langchain-huggingface": bench.langchain_huggingface,
    }
    chosen = {name: row for name, row in rows.items() if not options.only or name in options.only.split(",")}
    print(f"{options.steps} steps, {options.threads} threads, turns of {turns[0]} tokens")
    print(f"constrained turns of {constrained} tokens", flush=True)
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in chosen}
    for number in range(1, options.rounds + 1):
        print(f"medians of {number} rounds" if number > 1 else "first round")
        for name, row in list(chosen.items()):
            try:
                spent[name].append(seconds(row))
            except ImportError:
                print(f"{name:30} not installed")
                del chosen[name], spent[name]
                continue
            cpu, wall = map(statistics.median, zip(*spent[name], strict=True))
            limit = spent.get("limit of the constrained run" if "grammar" in name else "limit") or spent.get("limit")
            times = f"{cpu / statistics.median(s for s, _ in limit):6.2f} x its limit" if limit else ""
            print(f"{name:30} {cpu:8.2f} CPU s {wall:8.2f} s {times}", flush=True)


if __name__ == "__main__":
    main()
