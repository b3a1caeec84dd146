"""When STP helps: its accuracy beside the standard sampler's, by the base's strength, by gamma and by the source of anchors."""

from collections import defaultdict
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any

from stp.report.intervals import Interval, mean_interval
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
AVERAGES = """\
## Averages

The points of each base, source of anchors and gamma, averaged over the other two. Only pairs of anchors and gamma that every
base has count, and seeds that all of a base's pairs have. A seed of a base gives one value, the mean over its pairs; the
interval is over these values.

"""


@dataclass(frozen=True)
class Point:
    """STP from a base, beside the standard sampler. start: the base's accuracy in %. standard, ours: in %, by seed."""

    base: str
    start: float
    gamma: float
    anchors: str
    standard: dict[int, float]
    ours: dict[int, float]
    points: Interval


@dataclass(frozen=True)
class Average:
    """STP's points at one level of a factor, over the pairs of the others. values: how many seeds of bases it averages."""

    factor: str
    level: str
    values: int
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
            {run["seed"]: percent(run["final"]) for run in variant.standard},
            {run["seed"]: percent(run["final"]) for run in variant.runs},
            variant.points,
        )
        for (base, gamma, anchors), variant in chosen.items()
        if variant.points is not None  # they have a common seed
    ]
    return sorted(made, key=lambda p: (p.start, p.anchors, p.gamma))


def averages(found: list[Point]) -> list[Average]:
    """Returns the averages of the bases, anchors and gammas of `points`; nothing where the bases share no pair or no seed."""
    bases = list(dict.fromkeys(p.base for p in found))
    pairs = set.intersection(*({(p.anchors, p.gamma) for p in found if p.base == base} for base in bases))
    cells = [p for p in found if (p.anchors, p.gamma) in pairs]
    if not cells:
        return []
    seeds = {base: set.intersection(*(p.ours.keys() & p.standard.keys() for p in cells if p.base == base)) for base in bases}
    made = []
    for factor, levels in (
        ("base", bases),
        ("anchors", sorted({p.anchors for p in cells})),
        ("gamma", sorted({p.gamma for p in cells})),
    ):
        for level in levels:
            at = [p for p in cells if getattr(p, factor) == level]
            values = [
                mean(p.ours[seed] - p.standard[seed] for p in at if p.base == base)
                for base in dict.fromkeys(p.base for p in at)
                for seed in sorted(seeds[base])
            ]
            if values:
                made.append(Average(factor, str(level), len(values), mean_interval(values)))
    return made


def markdown(found: list[Point]) -> str:
    """Returns strength.md."""
    heads = ["base", "anchors", "gamma", "seeds", "standard Acc. (%)", "STP Acc. (%)", "points [95 %]"]
    lines = [
        [
            *(f"{p.base} ({p.start:.1f})", p.anchors, f"{p.gamma:.2f}", str(len(p.ours))),
            *(spread(p.standard.values(), ".1f"), spread(p.ours.values(), ".1f"), interval(p.points, "+.1f")),
        ]
        for p in found
    ]
    text = f"{LEGEND}{table(heads, lines)}\n\n![Points over gamma](strength.png)\n"
    if averaged := averages(found):
        own = [[a.factor, a.level, str(a.values), interval(a.points, "+.1f")] for a in averaged]
        text += f"\n{AVERAGES}{table(['factor', 'level', 'values', 'points [95 %]'], own)}\n"
    return text


def rows(found: list[Point]) -> list[dict[str, Any]]:
    """Returns the points as rows of strength.csv."""
    return [
        {
            **{name: value for name, value in asdict(p).items() if name not in ("standard", "ours", "points")},
            **{"seeds": len(p.ours), "standard": mean(p.standard.values()), "stp": mean(p.ours.values())},
            **dict(zip(("points", "low", "high"), p.points, strict=True)),
        }
        for p in found
    ]
