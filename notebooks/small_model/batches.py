"""Token batches from the stream of conversations; the loss is on the model's own turns only."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from random import Random
from typing import TYPE_CHECKING

import torch

from .conversations import traces
from .traces import Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Example = tuple[list[int], list[bool]]
LONGEST = 900  # tokens; longer conversations are left out


def encode(tokenizer: PreTrainedTokenizerFast, conversations: Iterable[Trace]) -> list[Example]:
    """(token ids, whether the model learns the token) of every conversation that is not too long."""
    pieces = [trace.segments() for trace in conversations]
    flat = [text for segments in pieces for text, _ in segments]
    encoded = iter(tokenizer._tokenizer.encode_batch(flat, add_special_tokens=False))
    examples = []
    for segments in pieces:
        ids: list[int] = []
        learned: list[bool] = []
        for _, learn in segments:
            tokens = next(encoded).ids
            ids += tokens
            learned += [learn] * len(tokens)
        if len(ids) <= LONGEST:
            examples.append((ids, learned))
    return examples


def collate(examples: list[Example], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, labels), both (batch, tokens), padded on the right; labels are -100 where nothing is learned."""
    width = max(len(ids) for ids, _ in examples)
    ids = torch.full((len(examples), width), pad)
    labels = torch.full((len(examples), width), -100)
    for row, (tokens, learned) in enumerate(examples):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        labels[row, : len(tokens)] = torch.tensor([t if k else -100 for t, k in zip(tokens, learned, strict=True)])
    return ids, labels


def batches(tokenizer: PreTrainedTokenizerFast, seed: int, tokens: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of about `tokens` tokens each, padding included, of conversations of similar length."""
    stream, random = traces(seed), Random(seed)
    while True:
        examples = sorted(
            encode(tokenizer, itertools.islice(stream, 768)), key=lambda e: len(e[0]) + random.random() * 20
        )
        groups: list[list[Example]] = [[]]
        for example in examples:
            if (len(groups[-1]) + 1) * len(example[0]) > tokens:
                groups.append([])
            groups[-1].append(example)
        random.shuffle(groups)
        for group in groups:
            if group:
                yield collate(group, tokenizer.pad_token_id)
