"""Intervals over seeds, by Student's t."""

import math
from collections.abc import Callable, Collection
from statistics import mean, stdev

Interval = tuple[float, float | None, float | None]  # the middle, and the ends unless there is one value alone


def mean_interval(values: list[float]) -> Interval:
    """Returns (mean, low, high) of one value per seed, at 95 % by Student's t. A single seed has no interval."""
    if len(values) < 2:
        return values[0], None, None
    middle, half = mean(values), student_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return middle, middle - half, middle + half


def paired_interval(ours: dict[int, float], theirs: dict[int, float]) -> Interval | None:
    """Returns `mean_interval` of ours minus theirs over the seeds of both, or None if there are none. Both: a value by seed."""
    common = sorted(ours.keys() & theirs.keys())
    return mean_interval([ours[seed] - theirs[seed] for seed in common]) if common else None


def seed_means(methods: Collection[dict[int, float]]) -> dict[int, float]:
    """Returns the mean over methods, in each seed that all have. methods: a value by seed of each."""
    seeds = set.intersection(*map(set, methods))
    return {seed: mean(values[seed] for values in methods) for seed in sorted(seeds)}


def transformed(interval: Interval, change: Callable[[float], float]) -> Interval:
    """Returns an interval of logarithms, say, as one of ratios. change: a function that rises."""
    middle, low, high = interval
    return change(middle), None if low is None else change(low), None if high is None else change(high)


def student_quantile(degrees: int) -> float:
    """Returns the 97.5 % quantile of Student's t: from a table, then by Fisher's expansion about the normal quantile."""
    table = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447)
    if degrees <= len(table):
        return table[degrees - 1]
    z = 1.96
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
