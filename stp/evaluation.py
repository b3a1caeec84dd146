"""Accuracy: the standard sampler on held-out problems, greedy or sampled, with counts."""

import math
from collections.abc import Callable
from typing import Any

import torch

from stp.diffusion import Denoiser
from stp.errors import require
from stp.loop import generate, rank_share
from stp.samplers import Standard
from stp.statistics import Totals
from stp.tasks.base import REWARDS, Problem
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
            asked = {"problem": problem.id, "question": problem.question, "ground_truth": problem.gold}
            records.append(asked | {"completion": text, "reward": reward, "correct": task.correct(problem, text)})
    return totals.lists({"records": records})["records"]


def regrade(task: Any, rows: list[tuple[str, dict[str, Any]]], known: dict[str, Problem]) -> list[dict[str, Any]]:
    """One record per stored completion, (where, row) with question, completion and ground_truth: graded by both sets of rules.

    `correct` is by the task's own. A row whose ground_truth is null takes that of the known problem (by id) with its question;
    where there is none it counts as wrong, and says so in `graded`.
    """
    records = []
    for where, row in rows:
        whole = "ground_truth" in row and all(isinstance(row.get(column), str) for column in ("question", "completion"))
        require(whole, where, f"{row!r:.200}", "expected columns question and completion (text) and ground_truth")
        problem = task.graded_row(row, where)
        if problem.gold is None:
            problem = known.get(problem.id, problem)
        text, graded = row["completion"], problem.gold is not None
        grades = {grading: graded and task.grade(problem, text, grading) for grading in REWARDS}
        reward = sum(task.reward_parts(problem, text).values()) if graded else 0.0
        kept = {name: row[name] for name in ("update", "temperature") if isinstance(row.get(name), int | float)}
        asked = {"problem": problem.id, "question": row["question"], "ground_truth": problem.gold}
        result = {"completion": text, "reward": reward, "correct": grades[task.grading], "grades": grades, "graded": graded}
        records.append(kept | asked | result)
    return records


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
