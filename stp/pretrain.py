"""`python -m stp.pretrain`: make the tiny base again, by masked-diffusion pretraining on generated Countdown text."""

import itertools
import json
import math
import os
import platform
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from stp.cli import run
from stp.config import Pretraining
from stp.models.tiny import BASE, new_tiny, tiny_tokenizer
from stp.tasks import Countdown, Problem, format_response
from stp.tasks.base import Data


def attempts(numbers: list[int], rng: random.Random) -> list[tuple[str, str, int]]:
    """Each sum or difference of all the numbers that is not negative, once, in random order: (expression, working, value).

    Added numbers stand before subtracted ones. The working shows the value after every number: `13+7=20-4=16`.
    """
    found = {}
    for signs in itertools.product((1, -1), repeat=len(numbers)):
        terms = sorted(zip(signs, numbers, strict=True), key=lambda term: -term[0])
        value = sum(sign * number for sign, number in terms)
        if value < 0 or value in found:
            continue
        texts = [f"{'+' if sign == 1 else '-'}{number}" for sign, number in terms]
        sums = itertools.accumulate(sign * number for sign, number in terms)
        steps = "".join(f"{text}={total}" for text, total in list(zip(texts, sums, strict=True))[1:])
        found[value] = ("".join(texts)[1:], f"{texts[0][1:]}{steps}", value)
    shuffled = list(found.values())
    rng.shuffle(shuffled)
    return shuffled


def response(problem: Problem, style: str, rng: random.Random) -> str:
    """One training response. careful: tries, stopping at the one that hits. guess: any answer, nothing before it.
    careless: tries that all miss, then one of them as the answer."""
    target = problem.gold["target"]
    tries = attempts(problem.gold["numbers"], rng)
    if style == "guess":
        return format_response("", tries[0][0], False).lstrip()
    if style == "careful":
        hit = next(i for i, (_, _, value) in enumerate(tries) if value == target)
        shown, answer = tries[: hit + 1], tries[hit][0]
    else:
        misses = [t for t in tries if t[2] != target] or tries
        shown = misses[: rng.randint(1, 3)]
        answer = shown[-1][0]
    return format_response("\n".join(working for _, working, _ in shown), answer, False)


def batches(options: Pretraining, tokenizer: PreTrainedTokenizerFast) -> Iterator[Tensor]:
    """Endless ids_BS: prompt, response, EOS to the end. All prompts have the same number of tokens."""
    rng = random.Random(f"pretrain/{options.seed}")
    task = Countdown(data=Data(seed=options.seed, train_size=options.problems))
    problems = task.problems("train")
    eos = tokenizer.eos_token_id
    questions = {p.id: tokenizer(p.question)["input_ids"] for p in problems}
    for update in itertools.count():
        mixed = update >= options.careful_until * options.updates
        rows = []
        chosen = rng.choices(problems, k=options.batch)
        weights = [options.careful, options.guess, 1 - options.careful - options.guess] if mixed else [1, 0, 0]
        styles = rng.choices(["careful", "guess", "careless"], weights, k=options.batch)
        texts = [response(p, style, rng) for p, style in zip(chosen, styles, strict=True)]
        for p, ids in zip(chosen, tokenizer(texts)["input_ids"], strict=True):
            ids = ids[: options.length]
            rows.append(questions[p.id] + ids + [eos] * (options.length - len(ids)))
        yield torch.tensor(rows)


def pretrain(options: Pretraining, tokenizer: PreTrainedTokenizerFast, report=print) -> LlamaForCausalLM:
    """Masked-diffusion pretraining (Eq. 2 on the response, flat cross-entropy on the masked tokens)."""
    model = new_tiny(tokenizer, options.seed, options.width, options.layers).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    generator = torch.Generator().manual_seed(options.seed)
    started = time.perf_counter()
    running = 0.0
    for update, ids_BS in enumerate(itertools.islice(batches(options, tokenizer), options.updates)):
        progress = update / options.updates
        warm = min(1.0, (update + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = options.lr * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        response_BL = ids_BS[:, -options.length :]
        times_B1 = (torch.rand(1, generator=generator) + torch.arange(options.batch) / options.batch).remainder(1)[:, None]
        masked_BL = torch.rand(response_BL.shape, generator=generator) < times_B1.clamp(min=0.02)
        noisy_BS = ids_BS.clone()
        noisy_BS[:, -options.length :] = response_BL.masked_fill(masked_BL, tokenizer.mask_token_id)
        hidden_BLD = model.model(input_ids=noisy_BS).last_hidden_state[:, -options.length :]
        logits_MV = model.lm_head(hidden_BLD[masked_BL])
        loss = torch.nn.functional.cross_entropy(logits_MV, response_BL[masked_BL])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        running = 0.98 * running + 0.02 * loss.item() if update else loss.item()
        if (update + 1) % 100 == 0:
            report(f"update {update + 1}/{options.updates}  loss {running:.4f}  {time.perf_counter() - started:.0f} s")
    return model.eval()


def base_accuracy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, length: int) -> dict[str, Any]:
    """What the base does on 512 validation problems: greedy, sampled, pass@8 and groups of 8 that RL can learn from."""
    from stp.evaluation import accuracy, evaluate, pass_at
    from stp.models.codec import Codec
    from stp.models.policy import Policy
    from stp.samplers import Standard
    from stp.statistics import Totals

    policy = Policy(model, tokenizer.mask_token_id, tokenizer.eos_token_id)
    codec, task = Codec(tokenizer, "", 200), Countdown()
    held_out, one = task.problems("validation"), Totals(lambda value: [value], 1)

    def measure(temperature: float, problems: list[Problem], samples: int) -> list[dict[str, Any]]:
        sampler = Standard(length, 40, 24, temperature)
        return evaluate(policy, task, codec, problems, sampler, 0, 512, one, 0, samples)

    sampled = measure(1.0, held_out[:128], 8)
    groups = [sampled[i : i + 8] for i in range(0, len(sampled), 8)]
    unequal = sum(len({r["reward"] for r in group}) > 1 for group in groups)
    return {
        "greedy": accuracy(measure(0.0, held_out, 1)),
        "sampled": accuracy(measure(1.0, held_out, 1)),
        "pass@8 (128 problems)": pass_at(sampled, 8)["pass@8"],
        "groups of 8 with unequal rewards": unequal / len(groups),
    }


def main(options: Pretraining) -> None:
    """Pretrain, measure, and write weights, tokenizer and pretraining.json (options, seconds, machine, accuracy)."""
    folder = BASE if options.to is None else Path(options.to)
    tokenizer = tiny_tokenizer()
    started = time.perf_counter()
    model = pretrain(options, tokenizer)
    seconds = time.perf_counter() - started
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    result = base_accuracy(model, tokenizer, options.length)
    record = {
        "command": " ".join(["python -m stp.pretrain", *(a for a in sys.argv[1:] if not a.startswith("to="))]),
        "options": {k: v for k, v in asdict(options).items() if k != "to"},
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(seconds),
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, torch {torch.__version__}",
        "validation": result,
    }
    (folder / "pretraining.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    print(f"{folder}: {record['parameters']:,} parameters, {seconds:.0f} s")


if __name__ == "__main__":
    run(main, "pretrain")
