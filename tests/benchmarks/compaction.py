"""A run of 60 steps in a context of 4,096 tokens, with each way to make room: what the model reads, and what it takes.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.compaction [--steps 60] [--context 4096] [--hidden 256] [--layers 4]

The model is a random Llama that reads every prompt, with the built-in model's tokenizer, and writes one token; what it
says then is written beforehand. So the times are those of reading, and of a summary, whose tokens it does write. The
first row has a context in which everything fits. "seen" is the share of the results that stand in the last prompt.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from agentkit.events import Compacted, Finished, Usage
from agentkit.models import builtin
from agentkit.models.backend import DROPPED_TO_FIT, Capabilities, ChatRequest, Chunk
from agentkit.models.chat import BackendChat
from agentkit.models.local.backend import LocalBackend
from agentkit.models.messages import shortenings
from agentkit.models.scripted import ScriptedBackend
from agentkit.runs.build import build
from agentkit.settings import RunSettings
from tests.doubles.long_runs import LOOK, QUESTION, Traveller, is_for_notes, people

PLENTY = 32_768
WRITTEN = 60  # tokens of a summary
Row = tuple[str, Mapping[str, Any]]


def by_the_steps(steps: Sequence[Any]) -> str:
    """What a user's function may keep: the first sentence of each observation."""
    return " ".join(str(observation).partition(". ")[0] + "." for _, observation in steps)


def copied(request: Any) -> str:
    """The summary that a good model would give: the results as they stand in what it is asked."""
    return " ".join(re.findall(r"Town \d+ has \d+ people\.", request.messages[-1]["content"])[:12])


@dataclass
class Reading(ScriptedBackend):
    """Reads each prompt with a `real` model, then gives the reply that is written beforehand."""

    real: Any = None
    read: list[Usage] = field(default_factory=list)
    last: str = ""
    dropped: Mapping[str, int] = field(default_factory=dict)

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        is_summary = is_for_notes(request.messages)
        usage, count, self.dropped = Usage(), 0, {}
        reply = {"max_new_tokens": 512, "min_new_tokens": WRITTEN, "do_sample": False}
        asked = replace(request, options={**request.options, **reply}, stop=(), stream=True)
        with closing(self.real.generate_chat(asked)) as chunks:
            for chunk in chunks:
                if chunk.metadata:
                    self.dropped = chunk.metadata.get(DROPPED_TO_FIT, {})
                usage, count = chunk.usage or usage, count + bool(chunk.usage)
                if count >= (WRITTEN if is_summary else 1):
                    break
        if self.dropped:
            yield Chunk(metadata={DROPPED_TO_FIT: self.dropped})
        self.read.append(usage)
        if not is_summary:
            self.last = " ".join(str(message["content"]) for message in _fitted(request.messages, self.dropped))
        for chunk in super().generate_chat(request):
            yield chunk if chunk.usage is None else replace(chunk, usage=replace(usage, completion_tokens=20))


def _fitted(messages: Sequence[Any], dropped: Mapping[str, int]) -> Sequence[Any]:
    """What a model saw of the messages, of which so much was dropped."""
    return next(one.messages for one in chain(*shortenings(messages)) if one.dropped == dropped)


def random_llama(options: argparse.Namespace, context: int) -> LocalBackend:
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(Path(builtin.__file__).parent / "model")
    size = {"hidden_size": options.hidden, "intermediate_size": 2 * options.hidden, "num_attention_heads": 4}
    config = LlamaConfig(
        vocab_size=len(tokenizer), num_hidden_layers=options.layers, max_position_embeddings=context, **size
    )
    model = LlamaForCausalLM(config).eval()
    return LocalBackend(model, tokenizer, model_id="random")


def measured(options: argparse.Namespace, compaction: Any, context: int) -> list[str]:
    real = random_llama(options, context)
    traveller = Traveller(options.steps, notes=copied)
    can = Capabilities(in_process=True, over_http=False, max_new_tokens=512)
    model = Reading(traveller, real=real, capabilities=can)
    own = None if isinstance(compaction, str) else compaction
    chosen: Any = compaction if isinstance(compaction, str) else "drop"
    settings = RunSettings(model="builtin", tools=(), compaction=chosen, max_iterations=None)
    runner = build(settings, model=BackendChat(model), tools=[LOOK], compaction=own)
    list(real.generate_chat(ChatRequest(messages=[{"role": "user", "content": "hi"}], options={"max_new_tokens": 1})))
    started_s = time.process_time()
    events = list(runner.events({"input": QUESTION}, stream=False))
    seconds = time.process_time() - started_s
    assert isinstance(events[-1], Finished)
    told = [event for event in events if isinstance(event, Compacted)]
    read = sum(usage.prompt_tokens for usage in model.read)
    computed = read - sum(usage.cached_tokens for usage in model.read)
    longest = max(usage.prompt_tokens for usage in model.read)
    seen = sum(str(people(town)) in model.last for town in range(1, options.steps + 1)) / options.steps
    figures = [len(model.read), read, computed, longest, len(told)]
    return [*(f"{figure:,}" for figure in figures), f"{seen:.0%}", f"{seconds:.1f}"]


TITLES = ("way", "calls", "tokens read", "computed", "longest", "compactions", "seen", "CPU s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("steps", 60), ("context", 4096), ("hidden", 256), ("layers", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    ways: list[tuple[str, Any, int]] = [
        ("all fits", "drop", PLENTY),
        ("drop", "drop", options.context),
        ("summary", "summary", options.context),
        ("function", by_the_steps, options.context),
    ]
    print(" | ".join(TITLES))
    print(" | ".join("-" for _ in TITLES))
    for name, compaction, context in ways:
        print(" | ".join([name, *measured(options, compaction, context)]), flush=True)


if __name__ == "__main__":
    main()
