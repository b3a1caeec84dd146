"""The leaderboard by estimate: what methods that score completions alike have in common."""

from collections import defaultdict
from dataclasses import dataclass
from statistics import mean

from stp.report.intervals import Interval, paired_interval, seed_means
from stp.report.leaderboard import Place
from stp.report.markdown import interval, table

BASELINE = "elbo"
LEGEND = """\
# By estimate

Methods without a rescue, by the estimate of the likelihood that they train with. Their accuracies (%) are averaged in each seed
that all of them have. Points are mean differences to the methods of `elbo` with the same rollouts, over the seeds of both, with
a 95 % interval (Student's t). Methods whose accuracies are all equal (`=`) count once, and those of one seed not at all where
others have more.

"""


@dataclass(frozen=True)
class Family:
    """The methods of one estimate on a board. points: over those of BASELINE, which has none itself.

    methods: names, or several joined by `=` where all accuracies are equal. seeds: those that all methods have.
    """

    board: str
    estimator: str
    sampler: str
    methods: list[str]
    seeds: int
    accuracy: float
    points: Interval | None


def families(boards: dict[str, list[Place]]) -> list[Family]:
    """Returns the estimates of each board and sampler that has several, the most accurate first."""
    found = []
    for board, places in boards.items():
        groups: dict[str, dict[str, list[Place]]] = defaultdict(lambda: defaultdict(list))
        for place in places:
            if place.rescue in (None, "none"):
                groups[place.sampler][place.estimator].append(place)
        for sampler, by_estimator in sorted(groups.items()):
            distinct = {estimator: _distinct(members) for estimator, members in by_estimator.items()}
            averaged = {estimator: seed_means(members.values()) for estimator, members in distinct.items()}
            own = [
                Family(
                    board=board,
                    estimator=estimator,
                    sampler=sampler,
                    methods=list(distinct[estimator]),
                    seeds=len(by_seed),
                    accuracy=mean(by_seed.values()),
                    points=None if estimator == BASELINE else paired_interval(by_seed, averaged.get(BASELINE, {})),
                )
                for estimator, by_seed in averaged.items()
                if by_seed
            ]
            found += sorted(own, key=lambda family: -family.accuracy) if len(own) > 1 else []
    return found


def _distinct(places: list[Place]) -> dict[str, dict[int, float]]:
    """Returns the accuracies by seed of each method that counts, by its name; equal ones have one name."""
    several = [place for place in places if len(place.by_seed) > 1] or places
    names: dict[tuple[tuple[int, float], ...], list[str]] = defaultdict(list)
    for place in sorted(several, key=lambda place: place.method):
        names[tuple(sorted(place.by_seed.items()))].append(place.method)
    return {" = ".join(equal): dict(by_seed) for by_seed, equal in names.items()}


def markdown(found: list[Family]) -> str:
    """Returns what leaderboard.md says by estimate: a table for each board."""
    heads = ["estimate", "rollouts", "methods", "seeds", "Acc. (%)", "points [95 %]"]
    parts = [LEGEND]
    for board in dict.fromkeys(family.board for family in found):
        lines = []
        for family in (f for f in found if f.board == board):
            points = "" if family.points is None else interval(family.points, "+.1f")
            methods = ", ".join(family.methods)
            lines.append([family.estimator, family.sampler, methods, str(family.seeds), f"{family.accuracy:.1f}", points])
        parts.append(f"## {board}, by estimate\n\n{table(heads, lines)}\n")
    return "\n".join(parts)
