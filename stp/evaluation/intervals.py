"""Computes accuracy, mean@k and pass@k, with counts and 95 % intervals."""

import math
from collections.abc import Sequence
from typing import Any


def accuracy(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts over completions: {"correct", "total", "accuracy"}.

    Where records have `counts` (`Task.counts`), their first one is counted instead of completions and named as "unit". The
    others stand in the score under their names.
    """
    first, *others = counted(records)
    failed = sum(bool(record.get("failed")) for record in records)
    score = _share(records, first) | {name: _share(records, name) for name in others}
    return score | ({"failed": failed} if failed else {})  # completions whose reward could not be computed


def counted(records: list[dict[str, Any]]) -> list[str]:
    """Returns the names of what records count, or '' for completions that are right or wrong. The first one is the accuracy."""
    return list(records[0].get("counts") or [""]) if records else [""]


def _tally(record: dict[str, Any], name: str) -> tuple[int, int]:
    right, total = record["counts"][name] if name else (record["correct"], 1)
    return right, total


def _share(records: list[dict[str, Any]], name: str) -> dict[str, Any]:
    pairs = [_tally(record, name) for record in records]
    correct, total = sum(right for right, _ in pairs), sum(total for _, total in pairs)
    score = {"correct": correct, "total": total, "accuracy": correct / total if total else 0.0}
    return score | ({"unit": name} if name else {})


def counts(score: dict[str, Any]) -> str:
    """Formats counts as `37.5% (192/512)`. The unit is named if it is not the completion: `6.7% (137/2048 cells)`."""
    unit = f" {score['unit']}" if "unit" in score else ""
    return f"{100 * score['accuracy']:.1f}% ({score['correct']}/{score['total']}{unit})"


def beside(score: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns what a score counts beside its accuracy, by name."""
    return {name: part for name, part in score.items() if isinstance(part, dict) and part.get("unit") == name}


def scored(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns accuracy(records), with its 95 % interval under "interval". Problems may have been asked any number of times."""
    by_problem: dict[str, list[dict[str, Any]]] = {}
    for one in records:
        by_problem.setdefault(one["problem"], []).append(one)
    return _with_intervals(records, list(by_problem.values()))


def _with_intervals(records: list[dict[str, Any]], groups: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """Returns accuracy(records), each share with its interval over the groups, which hold the records of a problem."""
    score = accuracy(records)
    for name, part in zip(counted(records), (score, *beside(score).values()), strict=True):
        pairs = [[_tally(record, name) for record in group] for group in groups]
        right_N, total_N = ([sum(pair[i] for pair in group) for group in pairs] for i in (0, 1))
        part["interval"] = {"accuracy": interval(right_N, total_N)}
    return score


def measured(records: list[dict[str, Any]], samples: int) -> dict[str, Any]:
    """Returns accuracy, mean@k and pass@1, 2, 4, …, k of k `samples` per problem, with their 95 % intervals under "interval".

    mean@k is the accuracy over all completions. pass@j is the unbiased estimator of Chen et al. (2021), averaged over problems.
    """
    groups = [records[i : i + samples] for i in range(0, len(records), samples)]
    score = _with_intervals(records, groups)
    if samples == 1:
        return score
    score[f"mean@{samples}"] = score["accuracy"]
    score["interval"][f"mean@{samples}"] = score["interval"]["accuracy"]
    solved_N = [sum(record["correct"] for record in group) for group in groups]
    for j in sorted({2**i for i in range(samples.bit_length()) if 2**i <= samples} | {samples}):
        share_N = [1 - math.comb(samples - solved, j) / math.comb(samples, j) for solved in solved_N]
        score[f"pass@{j}"] = sum(share_N) / len(groups)
        score["interval"][f"pass@{j}"] = interval([samples * share for share in share_N], [samples] * len(groups))
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
    """Formats a score as `accuracy 37.5% (192/512) [33.4, 41.8]`, and what else was counted and each pass@j in the same way."""
    means = [name for name in score if name.startswith("mean@")]
    passes = [name for name in score if name.startswith("pass@") and name != "pass@1"]  # pass@1 is the mean
    parts = [(f"accuracy{f' ({means[0]})' if means else ''} {counts(score)}", score["interval"]["accuracy"])]
    parts += [(f"{name} {counts(part)}", part["interval"]["accuracy"]) for name, part in beside(score).items()]
    parts += [(f"{name} {100 * score[name]:.1f}%", score["interval"][name]) for name in passes]
    failed = f", {score['failed']} rewards failed and count as 0" if "failed" in score else ""
    return ", ".join(f"{part} [{100 * low:.1f}, {100 * high:.1f}]" for part, (low, high) in parts) + failed
