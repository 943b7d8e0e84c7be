"""Train the built-in model: `python -m small_model.train --out FOLDER [--minutes N] [--seed S] [--resume]`.

Processes of one thread each average their gradients (gloo); the rate falls linearly with the time used, so a run that
is resumed with more minutes goes on smoothly.  FOLDER receives checkpoint.pt, log.csv and export/ (the model folder).
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy

from agentkit.models.builtin.copying import FINAL

from . import chat
from .architecture import configuration, new_model
from .attention import use_float32_attention
from .batches import batches, collate, encode
from .conversations import traces
from .muon import Muon
from .tokenizer import build_tokenizer, save_tokenizer

VALIDATION_SEED = 999_983
DECISIVE = 5.0
AVERAGE = 0.99  # of the exported weights, per step


def loss_of(
    model: torch.nn.Module, ids: torch.Tensor, labels: torch.Tensor, deciders: torch.Tensor, body: Any = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(mean loss, logits, targets) over the learned tokens only; the head runs on those alone.

    `deciders` are the token ids after which the model decides something (a tool, where a copy begins): what follows
    them weighs DECISIVE times as much.  `body` is a compiled form of `model.model`.
    """
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = (model.model if body is None else body)(ids, use_cache=False).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        learned = targets != -100
        logits = (hidden[learned] @ model.lm_head.weight.T).float()
        weights = DECISIVE ** torch.isin(ids[:, :-1], deciders)[learned].float()
    losses = cross_entropy(logits, targets[learned], reduction="none")
    return (losses * weights).sum() / weights.sum(), logits, targets[learned]


class Trainer:
    """One process of the run."""

    def __init__(self, args: argparse.Namespace, rank: int) -> None:
        self.args, self.rank, self.out = args, rank, Path(args.out)
        self.tokenizer = self._tokenizer()
        ids = self.tokenizer
        self.deciders = torch.tensor(ids.convert_tokens_to_ids([*chat.SKELETONS[:3], FINAL]))
        self.model = new_model(configuration(len(ids), ids.bos_token_id, ids.eos_token_id, ids.pad_token_id), args.seed)
        use_float32_attention(self.model)
        # compiled, two to three times as fast
        self.body = torch.compile(self.model.model, dynamic=True) if args.compile else None
        named = [(n, p) for n, p in self.model.named_parameters()]
        matrices = [p for n, p in named if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
        others = [p for n, p in named if not any(p is m for m in matrices)]
        self.muon = Muon(matrices, lr=args.muon)
        self.adam = torch.optim.Adam(others, lr=args.adam, betas=(0.9, 0.95))
        self.average = {name: p.detach().clone() for name, p in named}
        self.state: dict[str, Any] = {"step": 0, "tokens": 0, "seconds": 0.0, "runs": 0}
        if args.resume and (self.out / "checkpoint.pt").exists():
            self._load()
        self.state["runs"] += 1

    def _tokenizer(self) -> Any:
        """The tokenizer of the folder, made by the first process if it is not there."""
        from transformers import AutoTokenizer

        folder = self.out / "export"
        if self.rank == 0 and not (folder / "tokenizer.json").exists():
            save_tokenizer(build_tokenizer(self.args.seed), folder)
        if self.args.processes > 1:
            dist.barrier()
        return AutoTokenizer.from_pretrained(folder)

    def _load(self) -> None:
        saved = torch.load(self.out / "checkpoint.pt", weights_only=False)
        self.model.load_state_dict(saved["model"])
        self.muon.load_state_dict(saved["muon"])
        self.adam.load_state_dict(saved["adam"])
        self.average, self.state = saved["average"], saved["state"]

    def run(self) -> None:
        """Train until the minutes are used up."""
        seed = self.args.seed + 1000 * self.state["runs"] + self.rank
        stream = batches(self.tokenizer, seed, self.args.tokens)
        saved_at, noted, begun = self.state["seconds"], [], time.monotonic()
        before = self.state["seconds"]
        while self.state["seconds"] < 60 * self.args.minutes:
            rate = self._set_rate()
            ids, labels = next(stream)
            noted.append(self.step(ids, labels))
            self.state["seconds"] = self._shared(before + time.monotonic() - begun)
            self.state["step"] += 1
            self.state["tokens"] += ids.numel() * self.args.processes
            if self.state["step"] % 25 == 0:
                self._note(sum(noted) / len(noted), rate)
                noted = []
            if self.state["seconds"] - saved_at > 60 * self.args.save_minutes:
                saved_at = self.state["seconds"]
                self._save()
        self._save()

    def _shared(self, seconds: float) -> float:
        """The first process's clock, so that all stop at the same step."""
        clock = torch.tensor([seconds], dtype=torch.float64)
        if self.args.processes > 1:
            dist.broadcast(clock, 0)
        return float(clock)

    def _set_rate(self) -> float:
        """Warm-up over 40 steps, then straight down to 3 % at the end of the minutes."""
        used = self.state["seconds"] / (60 * self.args.minutes)
        rate = min(1.0, (self.state["step"] + 1) / 40) * max(0.03, 1 - used)
        self.muon.param_groups[0]["lr"] = self.args.muon * rate
        self.adam.param_groups[0]["lr"] = self.args.adam * rate
        return rate

    def step(self, ids: torch.Tensor, labels: torch.Tensor) -> float:
        """One update with the gradient averaged over the processes."""
        loss, _, _ = loss_of(self.model, ids, labels, self.deciders, self.body)
        loss.backward()
        gradients = [p.grad for p in self.model.parameters()]
        if self.args.processes > 1:
            flat = torch.cat([g.flatten() for g in gradients]) / self.args.processes
            dist.all_reduce(flat)
            for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.muon.step()
        self.adam.step()
        self.model.zero_grad(set_to_none=False)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                self.average[name].lerp_(parameter, 1 - AVERAGE)
        return loss.item()

    def _note(self, loss: float, rate: float) -> None:
        if self.rank:
            return
        row = {
            "minutes": round(self.state["seconds"] / 60, 2),
            "step": self.state["step"],
            "tokens": self.state["tokens"],
        }
        row |= {"loss": round(loss, 4), "rate": round(rate, 4)}
        path = self.out / "log.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)
        print(" ".join(f"{key}={value}" for key, value in row.items()), flush=True)

    def _save(self) -> None:
        if self.rank:
            return
        saved = {"model": self.model.state_dict(), "muon": self.muon.state_dict(), "adam": self.adam.state_dict()}
        torch.save(saved | {"average": self.average, "state": self.state}, self.out / "checkpoint.tmp")
        (self.out / "checkpoint.tmp").replace(self.out / "checkpoint.pt")
        self.export()

    def export(self) -> None:
        """Write the averaged weights as a bf16 model folder and print how many validation conversations are whole."""
        live = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self._put(self.average)
        print(f"validation: {self._whole():.3f} of generated conversations without a wrong token", flush=True)
        self.model.to(torch.bfloat16).save_pretrained(self.out / "export")
        written = self.out / "export" / "config.json"
        written.write_text(written.read_text().replace('"bfloat16"', '"float32"'))  # stored small, computed in fp32
        self.model.float()
        self._put(live)

    @torch.no_grad()
    def _put(self, weights: dict[str, torch.Tensor]) -> None:
        for name, parameter in self.model.named_parameters():
            parameter.copy_(weights[name])

    @torch.no_grad()
    def _whole(self) -> float:
        """The share of fixed generated conversations of which every learned token is predicted."""
        stream, right, seen = traces(VALIDATION_SEED), 0, 0
        examples = encode(self.tokenizer, [next(stream) for _ in range(self.args.validation)])
        for example in examples:
            _, logits, targets = loss_of(self.model, *collate([example], self.tokenizer.pad_token_id), self.deciders)
            right += bool((logits.argmax(-1) == targets).all())
            seen += 1
        return right / seen


def _process(rank: int, args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    os.nice(args.nice)
    if args.processes > 1:
        store = f"tcp://127.0.0.1:{args.port}"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=args.processes)
    Trainer(args, rank).run()


def main() -> None:
    """Read the options and start the processes."""
    parser = argparse.ArgumentParser(prog="python -m small_model.train", description=__doc__)
    parser.add_argument("--out", default="builtin-training", help="folder for checkpoint, log and export")
    parser.add_argument("--minutes", type=float, default=100, help="training time in all, earlier runs included")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--resume", action="store_true", help="go on from FOLDER/checkpoint.pt")
    parser.add_argument("--processes", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--tokens", type=int, default=6000, help="tokens of a batch, per process")
    parser.add_argument("--muon", type=float, default=0.02, help="highest rate of the matrices")
    parser.add_argument("--adam", type=float, default=0.003, help="highest rate of embeddings and norms")
    parser.add_argument("--save-minutes", type=float, default=3)
    parser.add_argument("--validation", type=int, default=160, help="conversations that every saved model is tried on")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="needs a C++ compiler")
    parser.add_argument("--nice", type=int, default=5)
    parser.add_argument("--port", type=int, default=29517)
    args = parser.parse_args()
    Path(args.out).mkdir(parents=True, exist_ok=True)
    if args.processes == 1:
        _process(0, args)
    else:
        torch.multiprocessing.spawn(_process, (args,), nprocs=args.processes)


if __name__ == "__main__":
    main()
