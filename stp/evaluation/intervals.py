"""Computes accuracy, mean@k and pass@k, with counts and 95 % intervals."""

import math
from collections.abc import Sequence
from typing import Any


def accuracy(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts over completions: {"correct", "total", "accuracy"}."""
    correct = sum(r["correct"] for r in records)
    return {"correct": correct, "total": len(records), "accuracy": correct / len(records) if records else 0.0}


def counts(score: dict[str, Any]) -> str:
    """Formats counts as `37.5% (192/512)`."""
    return f"{100 * score['accuracy']:.1f}% ({score['correct']}/{score['total']})"


def scored(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns accuracy(records), with its 95 % interval under "interval". Problems may have been asked any number of times."""
    by_problem: dict[str, list[bool]] = {}
    for one in records:
        by_problem.setdefault(one["problem"], []).append(one["correct"])
    groups = by_problem.values()
    return accuracy(records) | {"interval": {"accuracy": interval([sum(g) for g in groups], [len(g) for g in groups])}}


def measured(records: list[dict[str, Any]], samples: int) -> dict[str, Any]:
    """Returns accuracy, mean@k and pass@1, 2, 4, …, k of k `samples` per problem, with their 95 % intervals under "interval".

    mean@k is the accuracy over all completions. pass@j is the unbiased estimator of Chen et al. (2021), averaged over problems.
    """
    groups = [[r["correct"] for r in records[i : i + samples]] for i in range(0, len(records), samples)]
    solved_N = [sum(group) for group in groups]
    score = accuracy(records) | {"interval": {"accuracy": interval(solved_N, [samples] * len(groups))}}
    if samples == 1:
        return score
    shares = {f"mean@{samples}": [solved / samples for solved in solved_N]}
    for j in sorted({2**i for i in range(samples.bit_length()) if 2**i <= samples} | {samples}):
        shares[f"pass@{j}"] = [1 - math.comb(samples - solved, j) / math.comb(samples, j) for solved in solved_N]
    for name, share_N in shares.items():
        score[name] = sum(share_N) / len(groups)
        score["interval"][name] = interval([samples * share for share in share_N], [samples] * len(groups))
    return score


def interval(solved_N: Sequence[float], asked_N: Sequence[int]) -> list[float]:
    """Returns the 95 % interval of sum(solved) / sum(asked) over problems: Wilson's (1927), with the effective sample size.

    Completions of one problem depend on each other. The spread of the problems about the ratio p gives its variance v
    (linearised), and p(1 - p)/v is the number of independent answers with that variance (Kish's effective size). With one
    completion per problem, or p of 0 or 1, this is the number of problems, and the interval is Wilson's own.
    """
    problems, asked = len(asked_N), sum(asked_N)
    p = sum(solved_N) / asked
    v = sum((solved - p * n) ** 2 for solved, n in zip(solved_N, asked_N, strict=True)) / asked**2
    size = problems if not 0 < p < 1 else asked if v == 0 else min(p * (1 - p) / v, asked)
    z = 1.959964
    middle, half = p + z**2 / (2 * size), z * math.sqrt(p * (1 - p) / size + z**2 / (4 * size**2))
    return [max((middle - half) / (1 + z**2 / size), 0.0), min((middle + half) / (1 + z**2 / size), 1.0)]


def shown(score: dict[str, Any]) -> str:
    """Formats a score as `accuracy 37.5% (192/512) [33.4, 41.8]`, and pass@j in the same way if there are several samples."""
    means = [name for name in score if name.startswith("mean@")]
    passes = [name for name in score if name.startswith("pass@") and name != "pass@1"]  # pass@1 is the mean
    parts = [
        f"accuracy{f' ({means[0]})' if means else ''} {counts(score)}",
        *(f"{name} {100 * score[name]:.1f}%" for name in passes),
    ]
    ends = [score["interval"][name] for name in ["accuracy", *passes]]
    return ", ".join(f"{part} [{100 * low:.1f}, {100 * high:.1f}]" for part, (low, high) in zip(parts, ends, strict=True))
