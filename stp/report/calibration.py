"""Whether confident completions are right: reliability curves of the beginning and the end of runs, from calibration.jsonl."""

from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any

from stp.report.markdown import table
from stp.report.runs import SUMS, Run

PARTS = 8  # points of a curve, each of about equally many completions
QUARTERS = {"first quarter": (0, 1), "last quarter": (3, 4)}  # of a run's updates
DRIFT = {  # metrics of an update that show a drift, by column
    "mean confidence of tokens": "confidence/mean",
    "tokens per forward": "nfe/tokens_per_forward",
    "tokens below tau": "confidence/below_tau",
}
LEGEND = """\
# Confidence and its calibration

- A token's confidence is the probability that it had when a rollout committed it. A completion's confidence is the mean over
  the tokens that the policy chose. `gap`: mean confidence minus solve rate, of completions.
- `ECE`: expected calibration error, the mean distance between confidence and solve rate over {parts} parts of about equally
  many completions. A mean over tokens is no probability of being right: compare the error between methods and over time.
- `tokens below tau` were committed by the floor or by the last fill (`reveal=threshold` only).
- The runs of a method are taken together.

"""


@dataclass(frozen=True)
class Part:
    """A point of a reliability curve: completions of about the same confidence. confidence, solved, reward: their means."""

    completions: int
    confidence: float
    solved: float
    reward: float


def reliability(records: list[dict[str, Any]], parts: int = PARTS) -> list[Part]:
    """Returns the reliability curve of calibration.jsonl's records, from the least to the most confident completions.

    Neighbouring bins are joined until a part holds its share of the completions. So a part may hold more, but never half a bin.
    """
    bins: dict[int, list[float]] = {}
    for record in records:
        for i, place in enumerate(record["bin"]):
            sums = bins.setdefault(place, [0.0] * len(SUMS))
            for j, name in enumerate(SUMS):
                sums[j] += record[name][i]
    total, seen = sum(sums[0] for sums in bins.values()), 0.0
    joined: list[list[float]] = []
    for _, sums in sorted(bins.items()):
        if joined and int(parts * seen / total) < len(joined):  # the part is not full yet
            joined[-1] = [a + b for a, b in zip(joined[-1], sums, strict=True)]
        else:
            joined.append(sums)
        seen += sums[0]
    return [Part(int(count), *(value / count for value in values)) for count, *values in joined]


def calibration_error(curve: list[Part]) -> float:
    """Returns the expected calibration error: the mean of |confidence - solve rate|, weighted by completions."""
    return sum(part.completions * abs(part.confidence - part.solved) for part in curve) / sum(p.completions for p in curve)


def quarter(records: list[dict[str, Any]], updates: int, name: str) -> list[dict[str, Any]]:
    """Returns the records of one of QUARTERS of a run. A run of fewer than four updates has the same update in both."""
    begin, end = (updates * edge // 4 for edge in QUARTERS[name])
    end, begin = max(end, 1), min(begin, updates - 1)
    return [record for record in records if begin < record["update"] <= end]


def curves(runs: list[Run]) -> dict[str, dict[str, list[Part]]]:
    """Returns each method's reliability curve in each of QUARTERS, over its runs."""
    found: dict[str, dict[str, list[Part]]] = {}
    for name in QUARTERS:
        records: dict[str, list[dict[str, Any]]] = {}
        for run in runs:
            records.setdefault(run["method"], []).extend(quarter(run["calibration"], run["updates"], name))
        for method, those in records.items():
            if those:
                found.setdefault(method, {})[name] = reliability(those)
    return found


def markdown(runs: list[Run], found: dict[str, dict[str, list[Part]]]) -> str:
    """Returns calibration.md: a line for each method and quarter, with what drifts beside the calibration."""
    heads = ["method", "seeds", "updates", "completions", "confidence", "solved", "gap", "ECE", *DRIFT]
    lines = []
    for method, by_quarter in found.items():
        own = [run for run in runs if run["method"] == method]
        for name, curve in by_quarter.items():
            count = sum(part.completions for part in curve)
            sure, solved = (sum(p.completions * getattr(p, of) for p in curve) / count for of in ("confidence", "solved"))
            texts = [method, str(len(own)), name, str(count), f"{sure:.3f}", f"{solved:.3f}", f"{sure - solved:+.3f}"]
            texts.append(f"{calibration_error(curve):.3f}")
            for metric in DRIFT.values():
                lines_of = [line for run in own for line in quarter(run["metrics"], run["updates"], name)]
                values = [line[metric] for line in lines_of if isinstance(line.get(metric), float)]
                texts.append(f"{mean(values):.3f}" if values else "-")
            lines.append(texts)
    return f"{LEGEND.format(parts=PARTS)}{table(heads, lines)}\n\n![Reliability](reliability.png)\n"


def rows(found: dict[str, dict[str, list[Part]]]) -> list[dict[str, Any]]:
    """Returns the points of all curves, for calibration.csv."""
    return [
        {"method": method, "updates": name, **asdict(part)}
        for method, by_quarter in found.items()
        for name, curve in by_quarter.items()
        for part in curve
    ]
