"""Figure 3: the variance of the ELBO estimate, and of its difference to theta_old, with STP and without."""

import math
from collections import defaultdict
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from stp.report.intervals import Interval, mean_interval, paired_interval, transformed
from stp.report.markdown import interval, table
from stp.report.runs import Run
from stp.report.tables import FIGURE_3
from stp.run.ledger import DELTA_METRIC

MISSING = "missing"
DELTA = "delta_variance"
MEASURES = {"variance": "of the sequence", "variance_per_token": "per scored token", DELTA: "of the difference"}


@dataclass(frozen=True)
class Pairs:
    """Figure 3's medians, paired by seed and update. usable: (seed, update, median of GRPO w/ ELBO, median of STP).

    without_ratio: how many pairs have a median of 0. not_finite: how many trajectories are in no median because their variance
    overflowed.
    """

    usable: list[tuple[int, int, float, float]]
    without_ratio: int
    not_finite: int


def variance_pairs(by_preset: dict[str, list[Run]], key: str) -> Pairs:
    """Pairs the medians of FIGURE_3's two presets in one of MEASURES: the probes' (V[B]), or those of all updates (V[ΔB])."""
    medians: list[dict[tuple[int, int], float]] = []
    not_finite = 0
    for preset in FIGURE_3.values():
        values: dict[tuple[int, int], list[float]] = defaultdict(list)
        for run in by_preset.get(preset, []):
            for update, value in _measured(run, key):
                if value is None:
                    not_finite += 1
                else:
                    values[run["seed"], update].append(value)
        medians.append({place: median(found) for place, found in values.items()})
    standard, stp = medians
    pairs = [(*place, standard[place], stp[place]) for place in sorted(standard.keys() & stp.keys())]
    usable = [pair for pair in pairs if min(pair[2:]) > 0]
    return Pairs(usable, len(pairs) - len(usable), not_finite)


def _measured(run: Run, key: str) -> list[tuple[int, float | None]]:
    """Returns (update, value) of each probed trajectory, or of each update. None stands for a value that is not finite."""
    if key != DELTA:
        return [(record["update"], record.get(key)) for record in run["probes"]]
    return [(update, line[DELTA_METRIC]) for update, line in enumerate(run["metrics"], 1) if DELTA_METRIC in line]


def log_means(pairs: Pairs) -> tuple[dict[int, float], dict[int, float]]:
    """Returns for GRPO w/ ELBO and for STP the mean logarithm over the pairs of each seed.

    Updates of one run depend on each other, so only seeds count as independent.
    """
    sides: list[dict[int, list[float]]] = [defaultdict(list), defaultdict(list)]
    for seed, _, *values in pairs.usable:
        for side, value in zip(sides, values, strict=True):
            side[seed].append(math.log(value))
    standard, stp = ({seed: mean(found) for seed, found in side.items()} for side in sides)
    return standard, stp


def ratio_interval(pairs: Pairs) -> Interval:
    """Returns the geometric mean of STP's variance over the other's, with a 95 % interval (Student's t over seeds' means)."""
    standard, stp = log_means(pairs)
    return transformed(paired_interval(stp, standard) or mean_interval([math.nan]), math.exp)


def variance_markdown(every: dict[str, Pairs]) -> str:
    """Compares STP's median variance with that of the standard sampler, paired by update, with an interval."""
    heads = ["ELBO variance", "pairs", "GRPO w/ ELBO, median", "STP, median", "STP / GRPO w/ ELBO [95 %]", "STP lower in"]
    lines, left_out = [], []
    for key, name in MEASURES.items():
        pairs = every[key].usable
        if every[key].without_ratio or every[key].not_finite:
            left_out.append(
                f"- {name}: {every[key].without_ratio} pair(s) with a variance of 0, which have no ratio, and "
                f"{every[key].not_finite} trajectories whose variance is not finite are left out."
            )
        if len(pairs) < 2:
            lines.append([name, *[MISSING] * 5])
            continue
        digits = ".1f" if key == "variance" else ".4f"
        first, second = (median([pair[i] for pair in pairs]) for i in (2, 3))
        ratio = interval(ratio_interval(every[key]), ".3f")
        lower = f"{sum(b < a for _, _, a, b in pairs)} of {len(pairs)}"
        lines.append([name, str(len(pairs)), f"{first:{digits}}", f"{second:{digits}}", ratio, lower])
    return "\n".join([table(heads, lines), *([""] if left_out else []), *left_out]) + "\n"


def variance_rows(every: dict[str, Pairs]) -> list[dict[str, Any]]:
    """Returns the pairs as rows of figure3.csv."""
    return [
        {"measure": key, "seed": seed, "update": update, "grpo_elbo": a, "stp": b}
        for key in MEASURES
        for seed, update, a, b in every[key].usable
    ]
