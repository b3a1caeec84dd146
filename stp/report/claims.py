"""The paper's claims, and what the runs say of each: supported, refuted, or undecided with the half-width."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stp.report.intervals import paired_interval, transformed
from stp.report.markdown import interval, table
from stp.report.runs import Run, comparable

ACCURACY, TIME, VARIANCE, CHANGE = "accuracy", "time", "V[B]", "V[ΔB]"
LEGEND = """\
- Found: the mean over seeds of the difference between the two runs of a seed, with its 95 % interval (Student's t). Accuracy is
  in points; time and variances are changes in %, from the mean of logarithms. Time: {clock}.
- Supported: the interval lies on the claim's side of zero. Refuted: it lies on the other side. Undecided: it holds zero, or
  there is one seed. Of twenty intervals one is expected to miss the truth.
"""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper: on `task` the runs of preset `ours` are better than those of `theirs` in `measure`."""

    text: str
    where: str
    ours: str
    theirs: str
    measure: str = ACCURACY
    task: str = "countdown"


def _of_table_2(task: str) -> tuple[Claim, ...]:
    stp, elbo, one_step = (f"table2_{task}_{name}" for name in ("stp", "grpo_elbo", "diffu_grpo"))
    return (
        Claim("STP is better than GRPO w/ ELBO", "Table 2", stp, elbo, task=task),
        Claim("STP is better than Diffu-GRPO", "Table 2", stp, one_step, task=task),
        Claim("GRPO w/ ELBO is better than Diffu-GRPO", "Table 2", elbo, one_step, task=task),
        Claim("STP is faster than GRPO w/ ELBO", "Table 2", stp, elbo, TIME, task),
        Claim("STP is faster than Diffu-GRPO", "Table 2", stp, one_step, TIME, task),
    )


CLAIMS = (
    *(claim for task in ("countdown", "gsm8k", "math") for claim in _of_table_2(task)),
    Claim("STP improves Diffu-GRPO", "Table 3", "table3_diffu_grpo_stp", "table3_diffu_grpo"),
    Claim("STP improves SPG", "Table 3", "table3_spg_stp", "table3_spg"),
    Claim("STP makes Diffu-GRPO faster", "Table 3", "table3_diffu_grpo_stp", "table3_diffu_grpo", TIME),
    Claim("STP makes SPG faster", "Table 3", "table3_spg_stp", "table3_spg", TIME),
    Claim("Ground-truth anchors are better than the model's own", "Table 4", "table4_ground_truth", "table4_model"),
    Claim("Spatial pruning alone is better than none", "Table 5", "table5_spatial_only", "table5_grpo_elbo"),
    Claim("Temporal pruning alone is better than none", "Table 5", "table5_temporal_only", "table5_grpo_elbo"),
    Claim("Both prunings are better than none", "Table 5", "table5_stp", "table5_grpo_elbo"),
    Claim("Gamma = .05 is better than .10", "Table 6", "table6_g005_t000", "table6_g010_t000"),
    Claim("Low-confidence tokens are better to keep than random ones", "Table 7", "table7_low_confidence", "table7_random"),
    Claim("STP lowers the ELBO's variance", "Figure 3", "figure3_stp", "figure3_grpo_elbo", VARIANCE),
    Claim("STP lowers the variance of the ELBO's difference", "Theorem 4.4", "figure3_stp", "figure3_grpo_elbo", CHANGE),
)


@dataclass(frozen=True)
class Verdict:
    """What the runs say of a claim. found, low, high: points, or a change in %. low, high: None for a single seed."""

    claim: Claim
    seeds: int
    found: float
    low: float | None
    high: float | None

    @property
    def word(self) -> str:
        """`supported`, `refuted` or `undecided`."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "undecided"
        return "supported" if (self.found > 0) == (self.claim.measure == ACCURACY) else "refuted"

    @property
    def half(self) -> float | None:
        """Half of the interval's width."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def judge(by_preset: dict[str, list[Run]], variances: dict[str, dict[str, dict[int, float]]]) -> list[Verdict]:
    """Returns the verdict of each claim that has runs of a common seed on both sides.

    variances: for VARIANCE and CHANGE, by preset, the mean logarithm of each seed over the updates that both presets have.
    """
    logarithms: dict[str, Callable[[str], dict[int, float]]] = {
        TIME: lambda preset: {run["seed"]: math.log(run["seconds"]) for run in by_preset[preset] if run["seconds"]},
        VARIANCE: lambda preset: variances.get(VARIANCE, {}).get(preset, {}),
        CHANGE: lambda preset: variances.get(CHANGE, {}).get(preset, {}),
    }
    verdicts = []
    for claim in CLAIMS:
        sides = [by_preset.get(preset, []) for preset in (claim.ours, claim.theirs)]
        if not all(sides) or not comparable(sides[0][0], sides[1][0]):
            continue
        if claim.measure == ACCURACY:
            ours, theirs = ({run["seed"]: 100 * run["final"]["accuracy"] for run in side} for side in sides)
        else:
            ours, theirs = (logarithms[claim.measure](preset) for preset in (claim.ours, claim.theirs))
        if interval := paired_interval(ours, theirs):
            if claim.measure != ACCURACY:
                interval = transformed(interval, lambda logarithm: 100 * math.expm1(logarithm))
            verdicts.append(Verdict(claim, len(ours.keys() & theirs.keys()), *interval))
    return verdicts


def markdown(verdicts: list[Verdict], clock: str) -> str:
    """Returns claims.md: a line for each claim."""
    heads = ["claim", "where", "task", "measure", "seeds", "found [95 %]", "half-width", "verdict"]
    lines = []
    for v in verdicts:
        found = interval((v.found, v.low, v.high), "+.1f", " points" if v.claim.measure == ACCURACY else " %")
        half = "-" if v.half is None else f"{v.half:.1f}"
        lines.append([v.claim.text, v.claim.where, v.claim.task, v.claim.measure, str(v.seeds), found, half, f"**{v.word}**"])
    return f"# The paper's claims\n\n{LEGEND.format(clock=clock)}\n{table(heads, lines)}\n"


def rows(verdicts: list[Verdict]) -> list[dict[str, Any]]:
    """Returns the verdicts as rows of claims.csv."""
    return [
        {**vars(v.claim), "seeds": v.seeds, "found": v.found, "low": v.low, "high": v.high, "verdict": v.word} for v in verdicts
    ]
