"""Accuracy: the standard sampler on held-out problems, greedy or sampled, with counts."""

import math
from collections.abc import Callable
from typing import Any

import torch

from stp.diffusion import Denoiser
from stp.loop import generate, rank_share
from stp.samplers import Standard
from stp.statistics import Totals
from stp.tasks.base import Problem
from stp.types import Draws


def standard_sampler(sampler: Standard, temperature: float) -> Standard:
    """The unpruned sampler with another's lengths: what evaluation uses, whatever trains."""
    return Standard(sampler.length, sampler.steps, sampler.block_length, temperature)


def evaluate(
    denoise: Denoiser,
    task: Any,
    codec: Any,
    problems: list[Problem],
    sampler: Standard,
    seed: int,
    rows: int,
    totals: Totals,
    rank: int,
    samples: int = 1,
    device: torch.device | str = "cpu",
    advance: Callable[[int], None] = lambda n: None,
) -> list[dict[str, Any]]:
    """One record per completion, in problem order, on every rank: problem, completion, reward, correct.

    Problems are shared out by rank; with `samples` > 1 each is asked that many times.
    """
    repeated = [problem for problem in problems for _ in range(samples)]
    share = rank_share(len(repeated), rank, totals.ranks)
    records: list[dict[str, Any]] = []
    if repeated[share]:
        draws = Draws(f"{seed}/evaluate/{sampler.temperature}", len(repeated))
        trajectory = generate(
            denoise, sampler, codec.prompts(repeated), draws, rows, local=share, advance=advance, device=device
        )
        for problem, text in zip(repeated[share], codec.completions(trajectory), strict=True):
            reward = sum(task.reward_parts(problem, text).values())
            records.append(
                {"problem": problem.id, "completion": text, "reward": reward, "correct": task.correct(problem, text)}
            )
    return totals.lists({"records": records})["records"]


def accuracy(records: list[dict[str, Any]]) -> dict[str, Any]:
    """{"correct", "total", "accuracy"}: counts over completions."""
    correct = sum(r["correct"] for r in records)
    return {"correct": correct, "total": len(records), "accuracy": correct / len(records) if records else 0.0}


def counts(score: dict[str, Any]) -> str:
    """`37.5% (192/512)`."""
    return f"{100 * score['accuracy']:.1f}% ({score['correct']}/{score['total']})"


def pass_at(records: list[dict[str, Any]], samples: int) -> dict[str, float]:
    """pass@k for k = 1, 2, 4, … up to `samples`: the unbiased estimator of Chen et al. (2021), averaged over problems."""
    groups = [records[i : i + samples] for i in range(0, len(records), samples)]
    result = {}
    for k in sorted({2**i for i in range(samples.bit_length()) if 2**i <= samples} | {samples}):
        misses = [math.comb(samples - sum(r["correct"] for r in g), k) / math.comb(samples, k) for g in groups]
        result[f"pass@{k}"] = 1 - sum(misses) / len(misses)
    return result
