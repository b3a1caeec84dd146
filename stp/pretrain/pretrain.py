"""`python -m stp.pretrain` makes the tiny base again, by masked-diffusion pretraining on generated text about a task."""

import itertools
import json
import math
import os
import platform
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import MISSING
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from stp.errors import require
from stp.evaluation.evaluator import Evaluator
from stp.evaluation.intervals import accuracy, measured
from stp.models.codec import Codec
from stp.models.policy import Policy
from stp.models.public import save_stock, save_tokenizer
from stp.models.tiny import BASES, new_tiny, tiny_tokenizer
from stp.ranks import Ranks
from stp.run import preflight
from stp.samplers import Standard
from stp.tasks import Countdown, Problem, Task


@dataclass
class Pretraining:
    """What `python -m stp.pretrain` runs: a corpus of three styles, so that the base knows more than it shows."""

    task: Any = MISSING
    seed: int = field(default=0, metadata={"help": "seed of the weights, the corpus and the masks"})
    updates: int = field(default=6000, metadata={"help": "optimizer updates"})
    batch: int = field(default=32, metadata={"help": "sequences per update"})
    lr: float = field(default=2e-3, metadata={"help": "peak learning rate (AdamW, cosine)"})
    length: int = field(default=48, metadata={"help": "response length in tokens, padded with EOS"})
    problems: int = field(default=1600, metadata={"help": "training-split problems the corpus is about"})
    careful_until: float = field(default=0.8, metadata={"help": "fraction of training with careful responses alone"})
    careful: float = field(default=0.34, metadata={"help": "afterwards: share that works the answer out rightly"})
    guess: float = field(default=0.33, metadata={"help": "afterwards: share that answers at once; the rest works carelessly"})
    lines: int | None = field(
        default=None, metadata={"help": "Countdown: tries in each response, so that all have one length; null: by chance"}
    )
    width: int = field(default=96, metadata={"help": "hidden size"})
    layers: int = field(default=4, metadata={"help": "transformer layers"})
    to: str | None = field(default=None, metadata={"help": "folder to write; null replaces the base in the package"})

    def __post_init__(self) -> None:
        for name in ("updates", "batch", "length", "problems", "width", "layers"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "choose at least 1")
        require(
            self.length >= 48 and self.length % 24 == 0,
            "length",
            self.length,
            "choose 48, 72, 96, …: blocks of 24, 40 forwards",
        )
        require(self.lines is None or 1 <= self.lines <= 4, "lines", self.lines, "choose 1 to 4 tries, or null")
        require(
            self.lines is None or isinstance(self.task, Countdown), "lines", self.lines, "tries are Countdown's; leave it out"
        )
        require(self.width % 8 == 0, "width", self.width, "four heads of even size share it; choose a multiple of 8")
        require(0 < self.lr < 1, "lr", self.lr, "the learning rate must lie in (0, 1)")
        require(0 <= self.careful_until <= 1, "careful_until", self.careful_until, "a fraction lies in [0, 1]")
        shares = (self.careful, self.guess)
        require(
            min(shares) >= 0 and sum(shares) <= 1, "careful + guess", shares, "shares are at least 0 and add up to at most 1"
        )


def batches(options: Pretraining, tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yields batches without end: (ids_BS, attend_BS), each row padding, prompt, response, and EOS to the end.

    attend_BS is None if nothing is padded.
    """
    rng = random.Random(f"pretrain/{options.seed}")
    data = replace(options.task.data, seed=options.seed, train_size=options.problems)
    problems = replace(options.task, data=data).problems("train")
    example = options.task.example if options.lines is None else partial(options.task.example, lines=options.lines)
    eos = tokenizer.eos_token_id
    questions = {p.id: tokenizer(p.question)["input_ids"] for p in problems}
    widest = max(map(len, questions.values()))
    for update in itertools.count():
        mixed = update >= options.careful_until * options.updates
        rows = []
        chosen = rng.choices(problems, k=options.batch)
        weights = [options.careful, options.guess, 1 - options.careful - options.guess] if mixed else [1, 0, 0]
        styles = rng.choices(["careful", "guess", "careless"], weights, k=options.batch)
        texts = [example(p, style, rng) for p, style in zip(chosen, styles, strict=True)]
        for p, ids in zip(chosen, tokenizer(texts)["input_ids"], strict=True):
            ids = ids[: options.length]
            prompt = questions[p.id]
            rows.append([eos] * (widest - len(prompt)) + prompt + ids + [eos] * (options.length - len(ids)))
        lengths_B1 = torch.tensor([[len(questions[p.id]) + options.length] for p in chosen])
        attend_BS = torch.arange(widest + options.length) >= widest + options.length - lengths_B1
        yield torch.tensor(rows), None if attend_BS.all() else attend_BS


def pretrain(options: Pretraining, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Pretrains by masked diffusion: Eq. 2 on the response, and unweighted cross-entropy on the masked tokens."""
    model = new_tiny(tokenizer, options.seed, options.width, options.layers).train()
    policy = Policy(model, tokenizer.mask_token_id, tokenizer.eos_token_id)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    generator = torch.Generator().manual_seed(options.seed)
    started = time.perf_counter()
    running = 0.0
    for update, (ids_BS, attend_BS) in enumerate(itertools.islice(batches(options, tokenizer), options.updates)):
        progress = update / options.updates
        warm = min(1.0, (update + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = options.lr * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        response_BL = ids_BS[:, -options.length :]
        times_B1 = (torch.rand(1, generator=generator) + torch.arange(options.batch) / options.batch).remainder(1)[:, None]
        masked_BL = torch.rand(response_BL.shape, generator=generator) < times_B1.clamp(min=0.02)
        noisy_BS = ids_BS.clone()
        noisy_BS[:, -options.length :] = response_BL.masked_fill(masked_BL, tokenizer.mask_token_id)
        index_M = (noisy_BS == tokenizer.mask_token_id).flatten().nonzero()[:, 0]
        logits_MV = policy(noisy_BS, attend_BS, index_M)
        loss = torch.nn.functional.cross_entropy(logits_MV, response_BL[masked_BL])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        running = 0.98 * running + 0.02 * loss.item() if update else loss.item()
        if (update + 1) % 100 == 0:
            seconds = time.perf_counter() - started
            print(f"update {update + 1}/{options.updates}  loss {running:.4f}  {seconds:.0f} s", flush=True)
    return model.eval()


def base_accuracy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, task: Task, length: int) -> dict[str, Any]:
    """Measures the base on 512 validation problems: greedy, sampled, pass@8, and groups of 8 with unequal rewards."""
    policy = Policy(model, tokenizer.mask_token_id, tokenizer.eos_token_id)
    codec = Codec(tokenizer, "", 200)
    held_out = task.problems("validation")

    def measure(temperature: float, problems: list[Problem], samples: int) -> list[dict[str, Any]]:
        sampler = Standard(length, 40, 24, temperature)
        chunks = Evaluator(task, codec, problems, seed=0, rows=512)(policy, sampler, Ranks(), samples)
        return list(itertools.chain.from_iterable(chunks))

    sampled = measure(1.0, held_out[:128], 8)
    groups = [sampled[i : i + 8] for i in range(0, len(sampled), 8)]
    unequal = sum(len({r["reward"] for r in group}) > 1 for group in groups)
    return {
        "greedy": accuracy(measure(0.0, held_out, 1)),
        "sampled": accuracy(measure(1.0, held_out, 1)),
        "pass@8 (128 problems)": measured(sampled, 8)["pass@8"],
        "groups of 8 with unequal rewards": unequal / len(groups),
    }


def main(options: Pretraining) -> None:
    """Pretrains, measures, and writes weights, tokenizer and pretraining.json (options, seconds, machine, accuracy)."""
    folder = BASES / options.task.name if options.to is None else Path(options.to)
    preflight.writable("to", folder)
    empty = options.to is None or not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    require(empty, "to", folder, "something is there already; remove it or give another folder")
    tokenizer = tiny_tokenizer(options.task.phrases, options.task.largest_token)
    started = time.perf_counter()
    model = pretrain(options, tokenizer)
    seconds = time.perf_counter() - started
    save_stock(model, folder, tokenizer.mask_token_id)
    save_tokenizer(tokenizer, folder)
    result = base_accuracy(model, tokenizer, options.task, options.length)
    record = {
        "command": " ".join(["python -m stp.pretrain", *(a for a in sys.argv[1:] if not a.startswith("to="))]),
        "options": {k: v for k, v in asdict(options).items() if k not in ("to", "task")},
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(seconds),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, torch {torch.__version__}",
        "validation": result,
    }
    (folder / "pretraining.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    print(f"{folder}: {record['parameters']:,} parameters, {seconds:.0f} s")
