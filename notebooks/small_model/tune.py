"""Tune SmolLM2-135M-Instruct for tools: `python -m small_model.tune --base FILE.gguf --tokenizer FOLDER --out FOLDER`.

Low-rank changes to all linear layers, from generated conversations and, for a share, from plain chat that the untuned
model answers itself at the start.  Worker processes make the conversations; batches hold conversations of similar
length, padded on the right, so that plain causal attention needs no mask.  The rate rises over some steps and falls
straight to nothing at the end of `--seconds`, counted from the start of the process, or of `--steps`.
`--start ADAPTER` begins with what an earlier training left.  OUT receives the adapter (every minute), log.jsonl,
curve.svg and counts.json; WORK the checkpoint that `--resume` goes on from.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

BEGUN = time.monotonic()
VALIDATION_SEED = 999_983
LONGEST = 1536  # tokens; longer conversations are left out
STEP = 64  # widths of batches are multiples of this
POOL = 3072  # conversations that are sorted by length at a time
CHECKPOINT_S = 60.0
Example = tuple[Any, Any]  # (token ids, whether each is learned), arrays of uint16 and bool


def seconds() -> float:
    """Since the process began."""
    return time.monotonic() - BEGUN


# -- data --------------------------------------------------------------------------------------------------------------


def encoded(tokenizer: Any, conversations: Sequence[Sequence[tuple[str, bool]]]) -> list[Example]:
    """(ids, learned) of conversations in pieces, without those that are too long."""
    import numpy as np

    flat = [text for segments in conversations for text, _ in segments]
    pieces = iter(tokenizer.encode_batch(flat, add_special_tokens=False))
    made = []
    for segments in conversations:
        parts = [(next(pieces).ids, learned) for _, learned in segments]
        ids = np.fromiter(itertools.chain.from_iterable(ids for ids, _ in parts), np.uint16)
        learned = np.repeat([learned for _, learned in parts], [len(ids) for ids, _ in parts])
        if len(ids) <= LONGEST:
            made.append((ids, learned))
    return made


def work(tokenizer_file: str, seed: int, together: int, made: Any) -> None:
    """A worker: conversations without end, those `together` with the same tools."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from tokenizers import Tokenizer

    from .curriculum import companions

    tokenizer, random, failures = Tokenizer.from_file(tokenizer_file), Random(seed), 0
    while True:
        conversations: list[list[tuple[str, bool]]] = []
        while len(conversations) < (64 if together == 1 else together):
            try:
                conversations += [each.segments() for each in companions(random, together)]
            except Exception as error:  # one draw in many thousands must not end a run
                failures += 1
                if failures > 100:
                    raise
                print(f"worker {seed}: a conversation was left out ({type(error).__name__}: {error})", flush=True)
            if together > 1:
                break
        made.put(encoded(tokenizer, conversations))


def workers(tokenizer_file: str, seed: int, count: int, together: int) -> tuple[Any, list[Any]]:
    """The queue that worker processes fill, and the processes."""
    context = multiprocessing.get_context("spawn")
    made = context.Queue(maxsize=4 * count * together)
    processes = [
        context.Process(target=work, args=(tokenizer_file, seed * 1000 + n, together, made), daemon=True)
        for n in range(count)
    ]
    for process in processes:
        process.start()
    return made, processes


def packs(
    made: Any, random: Random, tokens: int, chat: Sequence[Example], share: float
) -> Iterator[list[list[Example]]]:
    """Steps of about `tokens` tokens, in packs of conversations that begin alike."""
    while True:
        step: list[list[Example]] = []
        while sum(map(packed_size, step)) < tokens:
            pack = made.get(timeout=300)
            step += [pack] if pack else []
            step += [[random.choice(chat)] for _ in pack if chat and random.random() < share]
        yield step


def packed_size(pack: Sequence[Example]) -> int:
    """The tokens of a pack whose beginning is computed once."""
    return sum(len(ids) for ids, _ in pack) - (len(pack) - 1) * beginning(pack)


def beginning(pack: Sequence[Example]) -> int:
    """How many tokens all begin with, none of which is learned."""
    (first, learned), *others = pack
    shared = int(learned.argmax()) if learned.any() else 0
    for ids, _ in others:
        same = first[: len(ids)] == ids[: len(first)]
        shared = min(shared, len(same) if same.all() else int(same.argmin()))
    return shared


def batches(
    made: Any, random: Random, tokens: int, pool: int, chat: Sequence[Example], share: float
) -> Iterator[list[Example]]:
    """Batches of about `tokens` tokens, padding included, of conversations of similar length, in random order."""
    while True:
        examples: list[Example] = []
        while len(examples) < pool:
            examples += made.get(timeout=300)
        if chat:
            examples += random.choices(chat, k=int(len(examples) * share))
        examples.sort(key=lambda e: len(e[0]) + 16 * random.random())
        groups: list[list[Example]] = [[]]
        for example in examples:
            if groups[-1] and width_of([*groups[-1], example]) * (len(groups[-1]) + 1) > tokens:
                groups.append([])
            groups[-1].append(example)
        random.shuffle(groups)
        yield from groups


def width_of(group: Sequence[Example]) -> int:
    longest = max(len(ids) for ids, _ in (group[0], group[-1]))
    return -(-longest // STEP) * STEP


def collate(group: Sequence[Example], pad: int) -> tuple[Any, Any]:
    """(ids, labels), both (batch, tokens) of int64; labels are -100 where nothing is learned."""
    import numpy as np
    import torch

    width = -(-max(len(ids) for ids, _ in group) // STEP) * STEP
    ids = np.full((len(group), width), pad, np.int64)
    labels = np.full((len(group), width), -100, np.int64)
    for row, (tokens, learned) in enumerate(group):
        ids[row, : len(tokens)] = tokens
        labels[row, : len(tokens)] = np.where(learned, tokens.astype(np.int64), -100)
    return torch.from_numpy(ids), torch.from_numpy(labels)


# -- the trainer -------------------------------------------------------------------------------------------------------


class Tuner:
    """One run."""

    def __init__(self, args: argparse.Namespace) -> None:
        import torch
        from tokenizers import Tokenizer

        from . import base

        self.args, self.torch, self.base = args, torch, base
        self.out, self.work = Path(args.out), Path(args.work)
        for folder in (self.out, self.work):
            folder.mkdir(parents=True, exist_ok=True)
        tokenizer_file = str(Path(args.tokenizer) / "tokenizer.json")
        self.state: dict[str, Any] = {
            "step": 0,
            "tokens": 0,
            "conversations": 0,
            "runs": 0,
            "seconds": 0.0,
            "rate": args.rate,
        }
        saved = self._saved()
        self.state["runs"] += 1
        self.made, self.processes = workers(
            tokenizer_file, args.seed + 100 * self.state["runs"], args.workers, args.together
        )
        self.tokenizer = Tokenizer.from_file(tokenizer_file)
        torch.manual_seed(args.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        self.dtype = torch.bfloat16 if has_bf16 or self.device.type == "cuda" else torch.float32  # others emulate it
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")
        self.note(
            event="start",
            device=torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu",
            torch=torch.__version__,
        )
        config = base.configuration()
        if args.tiny:
            config.num_hidden_layers, config.hidden_size, config.intermediate_size = 2, 72, 96
            config.head_dim = 8
        self.model = base.load_base(None if args.tiny or args.random else Path(args.base), config).to(self.device)
        self.pieces, self.compiled = 1, False
        self.changed = base.adapt(self.model, args.rank)
        for name, module in self.model.named_modules():
            if not isinstance(module, base.LowRank) and "proj" not in name:
                for parameter in module.parameters(recurse=False):
                    parameter.data = parameter.data.to(self.dtype)
        self.parameters = [p for module in self.changed.values() for p in (module.down, module.up)]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=args.rate, betas=(0.9, 0.98), weight_decay=0.0, fused=self.device.type == "cuda"
        )
        if saved:
            base.put(self.changed, saved["adapter"])
            self.optimizer.load_state_dict(saved["optimizer"])
        self.note(event="loaded", parameters=sum(p.numel() for p in self.parameters))

    def _saved(self) -> Any:
        path = self.work / "checkpoint.pt"
        if not (self.args.resume and path.exists()):
            return None
        saved = self.torch.load(path, weights_only=False, map_location="cpu")
        self.state = saved["state"]
        return saved

    # -- one step

    def hidden(self, ids: Any) -> Any:
        """(batch, tokens, width)."""
        return self.model.model(input_ids=ids, use_cache=False).last_hidden_state

    def losses(self, ids: Any, labels: Any) -> tuple[Any, Any, Any]:
        """(loss of each learned token, logits, targets); the head runs on those alone."""
        torch = self.torch
        hidden = self.hidden(ids)[:, :-1]
        targets = labels[:, 1:]
        learned = targets != -100
        logits = (hidden[learned] @ self.model.lm_head.weight.T.to(hidden.dtype)).float()
        return torch.nn.functional.cross_entropy(logits, targets[learned], reduction="none"), logits, targets[learned]

    def step(self, group: Any, rate: float) -> Any:
        """One update by a batch, or by packs of conversations (--together); the loss stays on the device."""
        torch = self.torch
        while True:
            try:
                loss = self.gradient(group) if self.args.together == 1 else self.packed_gradient(group)
                break
            except torch.OutOfMemoryError:
                if self.pieces >= 16:
                    raise
                self.pieces *= 2
                self.optimizer.zero_grad(set_to_none=True)
                torch.cuda.empty_cache()
                self.note(event="out of memory", pieces=self.pieces)
            except Exception as error:
                if not self.compiled:
                    raise
                self.uncompile()
                self.optimizer.zero_grad(set_to_none=True)
                self.note(event="compiled no longer", why=f"{type(error).__name__}: {error}"[:300])
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for settings in self.optimizer.param_groups:
            settings["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.state["step"] += 1
        examples = group if self.args.together == 1 else list(itertools.chain.from_iterable(group))
        self.state["tokens"] += sum(len(ids) for ids, _ in examples)
        self.state["conversations"] += len(examples)
        return loss

    def gradient(self, group: Sequence[Example]) -> Any:
        """The mean loss of a batch, whose gradient is taken, in so many pieces as the memory asks for."""
        learned = sum(int(each.sum()) for _, each in group)
        total = self.torch.zeros((), device=self.device)
        for start in range(self.pieces):
            piece = group[start :: self.pieces]
            if piece:
                ids, labels = (part.to(self.device, non_blocking=True) for part in collate(piece, self.base.IM_END))
                loss = self.losses(ids, labels)[0].sum() / learned
                loss.backward()
                total += loss.detach()
        return total

    def packed_gradient(self, step: Sequence[Sequence[Example]]) -> Any:
        """The same mean loss, with what the conversations of a pack begin with computed once."""
        import numpy as np

        torch = self.torch
        count = sum(int(learned.sum()) for pack in step for _, learned in pack)
        total = torch.zeros((), device=self.device)
        for pack in step:
            shared = beginning(pack)
            lengths = [len(ids) - shared for ids, _ in pack]
            parts = [pack[0][0][:shared], *(ids[shared:] for ids, _ in pack)]
            ids = torch.from_numpy(np.concatenate(parts).astype(np.int64)).to(self.device)
            learned = np.concatenate([np.zeros(shared, bool), *(each[shared:] for _, each in pack)])
            places = torch.from_numpy(learned.nonzero()[0]).to(self.device)  # a text never begins with what is learned
            hidden = self.base.packed_hidden(self.model, ids, shared, lengths)[places - 1]
            logits = (hidden @ self.model.lm_head.weight.T.to(hidden.dtype)).float()
            loss = torch.nn.functional.cross_entropy(logits, ids[places], reduction="sum") / count
            loss.backward()
            total += loss.detach()
        return total

    def compile(self) -> None:
        """Compile the layers, all of which share one program; go on without where that fails."""
        torch = self.torch
        if not self.args.compile:
            return
        try:
            torch._dynamo.config.cache_size_limit = 64
            for layer in self.model.model.layers:
                layer.forward = torch.compile(layer.forward, dynamic=True)
            first, second, third = (self._time_layer(place, width) for place, width in ((0, 6), (1, 7), (2, 9)))
            self.note(event="compiled", first=round(first, 1), second=round(second, 1), third=round(third, 1))
            if third > 3.0:
                raise RuntimeError("each layer is compiled anew, which takes too long")
            self.compiled = True
        except Exception as error:  # whatever a compiler does wrong: it only makes this faster
            self.uncompile()
            self.note(event="not compiled", why=f"{type(error).__name__}: {error}"[:300])
        self.optimizer.zero_grad(set_to_none=True)

    def _time_layer(self, place: int, width: int) -> float:
        """Seconds for one layer there and back."""
        torch = self.torch
        layers = self.model.model.layers
        begun = seconds()
        hidden = torch.randn(
            2 + place,
            STEP * width,
            self.model.config.hidden_size,
            device=self.device,
            dtype=self.dtype,
            requires_grad=True,
        )
        around = self.model.model.rotary_emb(hidden, torch.arange(STEP * width, device=self.device)[None])
        out = layers[place % len(layers)](hidden, attention_mask=None, position_embeddings=around)
        float((out[0] if isinstance(out, tuple) else out).float().mean().backward() or 0)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return seconds() - begun

    def uncompile(self) -> None:
        self.compiled = False
        for layer in self.model.model.layers:
            layer.__dict__.pop("forward", None)

    # -- the run

    def run(self) -> None:
        args = self.args
        chat = self.own_chat()
        if args.start and not self.state["step"]:
            self.base.put(self.changed, self.base.read_parts(Path(args.start))[0])
        self.compile()
        random = Random(args.seed + self.state["runs"])
        stream: Iterator[Any] = (
            batches(self.made, random, args.tokens, args.pool, chat, args.chat_share)
            if args.together == 1
            else packs(self.made, random, args.tokens, chat, args.chat_share)
        )
        if args.probe and not args.resume:
            self.probe(stream)
        begun, before, saved_at, noted = seconds(), self.state["seconds"], seconds(), []
        span = before + max(args.seconds - begun, 1e-3)
        kept, worst = self.snapshot(), 0
        waited, last = 0.0, seconds()
        while seconds() < args.seconds and self.state["step"] < args.steps:
            self.state["seconds"] = before + seconds() - begun
            done = max(self.state["seconds"] / span, self.state["step"] / args.steps)
            rate = self.state["rate"] * min(1.0, (self.state["step"] + 1) / args.warm_up) * max(0.01, 1 - done)
            asked = seconds()
            group = next(stream)
            waited += seconds() - asked
            noted.append(self.step(group, rate))
            if self.state["step"] % args.note_every == 0:
                loss = float(self.torch.stack(noted).mean())
                self.note(
                    step=self.state["step"],
                    tokens=self.state["tokens"],
                    conversations=self.state["conversations"],
                    loss=round(loss, 4),
                    rate=round(rate, 6),
                    memory=self._memory_gib(),
                    waited=round(waited, 2),
                    steps_s=round(len(noted) / (seconds() - last), 2),
                )
                noted, waited, last = [], 0.0, seconds()
                if not loss < 2.0 and self.state["step"] > 4 * args.warm_up and worst < 3:  # it has come apart
                    self.restore(kept)
                    self.state["rate"] *= 0.5
                    worst += 1
                    self.note(event="taken back", rate=self.state["rate"])
                elif loss < 2.0 or self.state["step"] <= 4 * args.warm_up:
                    kept = self.snapshot()
            if seconds() - saved_at > CHECKPOINT_S:
                saved_at = seconds()
                self.save()
        self.save()
        self.finish()

    def _memory_gib(self) -> float:
        return round(self.torch.cuda.max_memory_allocated() / 2**30, 1) if self.device.type == "cuda" else 0.0

    def snapshot(self) -> Any:
        return [p.detach().clone() for p in self.parameters], copy.deepcopy(self.optimizer.state_dict())

    def restore(self, kept: Any) -> None:
        with self.torch.no_grad():
            for parameter, value in zip(self.parameters, kept[0], strict=True):
                parameter.copy_(value)
        self.optimizer.load_state_dict(copy.deepcopy(kept[1]))

    def probe(self, stream: Iterator[Any]) -> None:
        """Try each rate for some steps from the same start, on the same batches; go on from the best."""
        groups = list(itertools.islice(stream, self.args.probe_steps))
        start, best = self.snapshot(), (float("inf"), 0.0, None)
        for rate in self.args.probe:
            self.restore(start)
            losses = [self.step(group, rate * min(1.0, (n + 1) / 20)) for n, group in enumerate(groups)]
            loss = float(self.torch.stack(losses[-len(losses) // 4 :]).mean())
            self.note(event="probe", rate=rate, loss=round(loss, 4))
            if loss < best[0]:
                best = (loss, rate, self.snapshot())
            if seconds() > self.args.seconds / 4:
                break
        self.restore(best[2])
        self.state["rate"] = best[1]
        self.note(event="rate", rate=best[1])

    @property
    def _inference(self) -> Any:
        return self.torch.inference_mode()

    def own_chat(self) -> list[Example]:
        """Plain requests with the replies of the untuned model, which it shall keep giving."""
        from .dialogue import DEFAULT_SYSTEM, Dialogue
        from .manners import chat_prompt

        path = self.work / "chat.json"
        if self.args.resume and path.exists():
            pairs = json.loads(path.read_text(encoding="utf-8"))
        else:
            random = Random(self.args.seed)
            wanted = [chat_prompt(random) for _ in range(self.args.chat)]
            asked = [Dialogue("chat", q, (), (), "", form="plain", system=s) for s, q in wanted]
            prompts = ["".join(text for text, _ in each.segments()[:-3]) for each in asked]
            replies: list[str] = []
            for start in range(0, len(prompts), self.args.chat_batch):
                replies += self.continued(
                    prompts[start : start + self.args.chat_batch], self.args.chat_tokens, sample=True
                )
            pairs = [
                [s, q, reply] for (s, q), reply in zip(wanted, replies, strict=True) if reply.endswith("<|im_end|>")
            ]
            path.write_text(json.dumps(pairs), encoding="utf-8")
            self.note(event="own chat", replies=len(pairs), asked=len(wanted), example=pairs[0] if pairs else None)
        made = [
            Dialogue("chat", q, (), (), r.removesuffix("<|im_end|>").strip(), form="plain", system=s or DEFAULT_SYSTEM)
            for s, q, r in pairs
        ]
        return encoded(self.tokenizer, [each.segments() for each in made]) if made else []

    def continued(self, prompts: Sequence[str], most: int, *, sample: bool = False) -> list[str]:
        """What the model writes behind each prompt, with <|im_end|> where it ended."""
        torch = self.torch
        ids = [self.tokenizer.encode(prompt, add_special_tokens=False).ids for prompt in prompts]
        width = max(map(len, ids))
        end = self.base.IM_END
        padded = torch.tensor([[end] * (width - len(each)) + each for each in ids], device=self.device)
        mask = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in ids], device=self.device)
        drawn = {"do_sample": True, "temperature": 0.6, "top_p": 0.95} if sample else {"do_sample": False}
        with self._inference:
            written = self.model.generate(
                input_ids=padded, attention_mask=mask, max_new_tokens=most, eos_token_id=end, pad_token_id=0, **drawn
            )
        texts = []
        for row in written[:, width:].tolist():
            stop = row.index(end) if end in row else len(row)
            text = self.tokenizer.decode(row[:stop], skip_special_tokens=False)
            texts.append(text + ("<|im_end|>" if stop < len(row) else ""))
        return texts

    # -- results

    def note(self, **row: Any) -> None:
        row = {"t": round(seconds(), 1), **row}
        print(json.dumps(row, ensure_ascii=False), flush=True)
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def save(self) -> None:
        self.base.save_parts(self.changed, self.out, self.args.rank, 1.0)
        saved = {
            "adapter": self.base.peft_tensors(self.changed),
            "optimizer": self.optimizer.state_dict(),
            "state": self.state,
        }
        self.torch.save(saved, self.work / "checkpoint.tmp")
        (self.work / "checkpoint.tmp").replace(self.work / "checkpoint.pt")

    def finish(self) -> None:
        """Write the curve and the counts; each by itself, so that a failure leaves the rest."""
        for process in self.processes:
            process.terminate()
        self.uncompile()
        self.note(event="trained", memory=self._memory_gib(), **self.state)
        found: dict[str, Any] = {"state": self.state, "rank": self.args.rank}
        for name, measure in (("validation", self.whole_turns), ("questions", self.answered)):
            try:
                found[name] = measure()
            except Exception as error:
                found[name] = f"{type(error).__name__}: {error}"
            self.note(event=name, found=found[name])
            (self.out / "counts.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        try:
            from .curve import draw

            rows = [json.loads(line) for line in (self.out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
            points = [(row["tokens"] / 1e6, row["loss"]) for row in rows if "tokens" in row and "loss" in row]
            (self.out / "curve.svg").write_text(draw(points), encoding="utf-8")
        except Exception as error:
            self.note(event="no curve", why=f"{type(error).__name__}: {error}")

    def whole_turns(self) -> dict[str, list[int]]:
        """By kind: generated conversations of another seed of which every learned token is predicted, and all."""
        from .curriculum import dialogues

        stream = dialogues(VALIDATION_SEED)
        right, total = Counter[str](), Counter[str]()
        with self._inference:
            for done in range(0, self.args.validation, 32):
                some = itertools.islice(stream, min(32, self.args.validation - done))
                made = [(d.kind, encoded(self.tokenizer, [d.segments()])) for d in some]
                kinds = [kind for kind, example in made if example]
                ids, labels = (p.to(self.device) for p in collate([e[0] for _, e in made if e], self.base.IM_END))
                _, logits, targets = self.losses(ids, labels)
                rows = (labels[:, 1:] != -100).nonzero()[:, 0]
                wrong = set(rows[logits.argmax(-1) != targets].tolist())
                total.update(kinds)
                right.update(kind for row, kind in enumerate(kinds) if row not in wrong)
        return {kind: [right[kind], total[kind]] for kind in sorted(total)}

    def answered(self) -> dict[str, Any]:
        """The questions of --questions, in rounds of one greedy turn for all that are open; and a few plain ones."""
        from .quiz import counts, load_questions, run_all

        self.base.merge(self.model, self.dtype)
        plain = [
            f"<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n"
            for q in ("What is the capital of France?", "Hi, who are you?", "Write a short poem about rain.")
        ]
        for reply in self.continued(plain, 60):
            self.note(event="plain chat", reply=reply)
        if not self.args.questions or not Path(self.args.questions).exists():
            return {}
        cases = load_questions(Path(self.args.questions))[: self.args.most_questions]

        def complete(prompts: list[str]) -> list[str]:
            return [text.removesuffix("<|im_end|>") for text in self.continued(prompts, self.args.turn_tokens)]

        runs = run_all(cases, complete)
        with (self.out / "answers.jsonl").open("w", encoding="utf-8") as file:
            for run in runs:
                turns = [step.raw for step in run.steps]
                row = {
                    "kind": run.case["kind"],
                    "question": run.case["question"],
                    "right": run.right,
                    "answer": run.answer,
                    "turns": turns,
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        return counts(runs)


def main() -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser(prog="python -m small_model.tune", description=__doc__)
    parser.add_argument("--base", help="the GGUF file of SmolLM2-135M-Instruct")
    parser.add_argument("--tokenizer", required=True, help="a folder with tokenizer.json")
    parser.add_argument("--out", default="small-training", help="folder for adapter, log, curve and counts")
    parser.add_argument("--work", default="small-training", help="folder for the checkpoint")
    parser.add_argument(
        "--seconds", type=float, default=3600, help="until training ends, from the start of the process"
    )
    parser.add_argument("--steps", type=int, default=1_000_000, help="at most so many, those of earlier runs included")
    parser.add_argument("--resume", action="store_true", help="go on from WORK/checkpoint.pt")
    parser.add_argument("--start", help="an adapter of this rank to begin with, a folder or a GGUF file")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--probe", type=float, nargs="*", default=[], help="rates to try first")
    parser.add_argument("--probe-steps", type=int, default=60)
    parser.add_argument("--warm-up", type=int, default=60, help="steps")
    parser.add_argument("--tokens", type=int, default=32_768, help="tokens of a batch, padding included")
    parser.add_argument("--pool", type=int, default=POOL)
    parser.add_argument(
        "--together", type=int, default=1, help="conversations with the same tools, which are then computed once"
    )
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    parser.add_argument("--chat", type=int, default=1024, help="plain requests that the untuned model answers")
    parser.add_argument("--chat-batch", type=int, default=512)
    parser.add_argument("--chat-tokens", type=int, default=160)
    parser.add_argument("--chat-share", type=float, default=0.05)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--note-every", type=int, default=25)
    parser.add_argument("--validation", type=int, default=640)
    parser.add_argument("--questions", help="a file of questions to answer at the end")
    parser.add_argument("--most-questions", type=int, default=1000)
    parser.add_argument("--turn-tokens", type=int, default=160)
    parser.add_argument("--random", action="store_true", help="random weights instead of the base, to try a machine")
    parser.add_argument("--tiny", action="store_true", help="a small model with random weights, for tests")
    Tuner(parser.parse_args()).run()


if __name__ == "__main__":
    main()
