"""When STP helps: its accuracy beside the standard sampler's, by the base's strength, by gamma and by the source of anchors."""

from collections import defaultdict
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any

from stp.report.intervals import Interval
from stp.report.markdown import interval, spread, table
from stp.report.rollouts import Variant
from stp.report.runs import key, percent

VARIED = ("model.base", "sampler.gamma", "sampler.anchors")
LEGEND = """\
# When STP helps

- Base: its accuracy before training, in %; the weakest stands first.
- Acc.: after the last update, mean ± standard deviation over seeds.
- Points: mean difference to the standard sampler from the same base, over seeds, with a 95 % interval (Student's t).

"""


@dataclass(frozen=True)
class Point:
    """STP from a base, beside the standard sampler. start: the base's accuracy in %. standard, ours: of each seed, in %."""

    base: str
    start: float
    gamma: float
    anchors: str
    standard: list[float]
    ours: list[float]
    points: Interval


def points(found: list[Variant]) -> list[Point]:
    """Returns STP's points, by base (the weakest first), anchors and gamma, or none if all runs start from one base.

    found: `rollouts.variants`. Runs differ in VARIED alone: of all other settings those count that most points have.
    """
    alike: dict[str, dict[tuple[Any, ...], Variant]] = defaultdict(dict)
    for variant in found:
        settings = variant.runs[0]["settings"]
        if settings["sampler"] == "stp":
            rest = {name: value for name, value in settings.items() if name not in VARIED and name != "sampler.static"}
            alike[key(rest)][tuple(settings.get(name) for name in VARIED)] = variant
    chosen = max(alike.values(), key=len, default={})
    if len({base for base, _, _ in chosen}) < 2:
        return []
    made = [
        Point(
            base,
            mean(percent(run["base"]) for run in variant.runs),
            gamma,
            anchors,
            [percent(run["final"]) for run in variant.standard],
            [percent(run["final"]) for run in variant.runs],
            variant.points,
        )
        for (base, gamma, anchors), variant in chosen.items()
        if variant.points is not None  # they have a common seed
    ]
    return sorted(made, key=lambda p: (p.start, p.anchors, p.gamma))


def markdown(found: list[Point]) -> str:
    """Returns strength.md."""
    heads = ["base", "anchors", "gamma", "seeds", "standard Acc. (%)", "STP Acc. (%)", "points [95 %]"]
    lines = [
        [
            *(f"{p.base} ({p.start:.1f})", p.anchors, f"{p.gamma:.2f}", str(len(p.ours))),
            *(spread(p.standard, ".1f"), spread(p.ours, ".1f"), interval(p.points, "+.1f")),
        ]
        for p in found
    ]
    return f"{LEGEND}{table(heads, lines)}\n\n![Points over gamma](strength.png)\n"


def rows(found: list[Point]) -> list[dict[str, Any]]:
    """Returns the points as rows of strength.csv."""
    return [
        {
            **{name: value for name, value in asdict(p).items() if name not in ("standard", "ours", "points")},
            **{"seeds": len(p.ours), "standard": mean(p.standard), "stp": mean(p.ours)},
            **dict(zip(("points", "low", "high"), p.points, strict=True)),
        }
        for p in found
    ]
