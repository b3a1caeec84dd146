"""The leaderboard: methods by task, with accuracy, time, forwards, updates to a goal, and how many runs fall back."""

import json
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from statistics import mean, median, stdev

from stp.report.intervals import Interval, mean_interval, paired_interval
from stp.report.markdown import interval, table
from stp.report.runs import COUNTED, Run, fullest, percent

ABLATIONS = ("table4", "table5", "table6", "table7", "heatmap", "figure")  # presets of STP's parts, which have their own tables
_TABLE = re.compile(r"\A(?:method|table\d+)_(?:(?:countdown|gsm8k|math)_)?")  # what stands before a method in a preset's name
BASELINE, STANDARD = "grpo_elbo", "standard"
RISE, LOST = 5.0, 0.5  # points that a run must have gained, and the share of them that it then loses, to have fallen back
LEGEND = """\
# Leaderboard

- Method, rollouts: a preset's name, without the table that it stands in, and the sampler that it trains with.
- Acc.: mean ± standard deviation over seeds, in %, after the last update.
- Points: mean difference over seeds to grpo_elbo with the same rollouts (else with standard ones), with a 95 % interval
  (Student's t). Of twenty intervals one is expected to miss the truth.
- Time: processor seconds of training, without evaluation and probes. Forwards: of a rollout, the mean over its rows.
- Goal: updates until half of the way is done from the base to the best method of the task, the median over seeds; `-` if most
  seeds never get there, or if runs were not evaluated on the way (`trainer.eval_every`).
- Fell back: seeds that lost more than half of what they had gained, of those that had gained 5 points.
- Lost: points from a run's best evaluation to its last, the mean over seeds.
- Bold: no other method of the task is both faster and better.

"""


@dataclass(frozen=True)
class Place:
    """A method's place on a board. half: of its mean's interval. points: over BASELINE, which has none itself.

    by_seed: accuracies. points, goal, fell, lost: None where nothing can be said.
    """

    board: str
    method: str
    sampler: str
    seeds: int
    accuracy: float
    std: float | None
    half: float | None
    points: Interval | None
    seconds: float
    forwards: float | None
    goal: float | None
    fell: tuple[int, int] | None
    lost: float | None
    frontier: bool
    estimator: str
    rescue: str | None
    by_seed: dict[int, float]
    seedless_hash: str


def places(runs: list[Run]) -> dict[str, list[Place]]:
    """Returns the boards of two methods or more, each with the most accurate method first.

    A preset is a method, whichever table it stands in, unless it is one of ABLATIONS. Of a method's settings with one sampler
    those with the most seeds count. Only runs that can be compared stand on one board. A task's board has the number of updates
    that most of its runs have; those of other numbers say so in their name. Of runs on different problems the larger group
    counts.
    """
    boards: dict[str, list[Place]] = {}
    by_task: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run["experiment"] and not run["experiment"].startswith(ABLATIONS) and "accuracy" in run["base"]:
            by_task[run["task"]].append(run)
    for task, members in sorted(by_task.items()):
        for i, alike in enumerate(_alike(members)):
            name = task if i == 0 else f"{task}, {alike[0]['settings']['trainer.updates']} updates"
            if found := _board(name, _methods(alike)):
                boards.setdefault(name, found)
    return boards


def method_of(preset: str) -> str:
    """Returns a preset's name without the table that it stands in."""
    return _TABLE.sub("", preset)


def _board(name: str, methods: dict[tuple[str, str], list[Run]]) -> list[Place]:
    """Returns the places of methods whose runs all have a time, or none if there are less than two."""
    timed = {names: group for names, group in methods.items() if all(run["time"].get("cpu_s") for run in group)}
    if len(timed) < 2:
        return []
    bases = mean(percent(run["base"]) for group in timed.values() for run in group)
    goal = (bases + max(mean(percent(run["final"]) for run in group) for group in timed.values())) / 2
    found = []
    for names, group in timed.items():
        base = timed.get((BASELINE, names[1]), timed.get((BASELINE, STANDARD), []))
        found.append(_place(name, names, group, base if base is not group else [], goal))
    best = [p for p in found if not any(o.accuracy > p.accuracy and o.seconds < p.seconds for o in found)]
    return sorted((replace(p, frontier=p in best) for p in found), key=lambda place: -place.accuracy)


def _alike(runs: list[Run]) -> list[list[Run]]:
    """Returns the groups of runs that agree in what must be equal to compare them, the largest first."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[json.dumps([run["settings"].get(name) for name in COUNTED])].append(run)
    return sorted(groups.values(), key=len, reverse=True)


def _methods(runs: list[Run]) -> dict[tuple[str, str], list[Run]]:
    """Returns the runs of each (method, sampler). If several have equal settings, the first by name has them."""
    by_name: dict[tuple[str, str], dict[str, dict[int, Run]]] = defaultdict(lambda: defaultdict(dict))
    for run in sorted(runs, key=lambda run: run["finished"]):
        names = (method_of(run["experiment"]), run["sampler"])
        by_name[names][run["seedless_hash"]][run["seed"]] = run
    chosen = {names: list(fullest(groups.values()).values()) for names, groups in by_name.items()}
    one_of = {group[0]["seedless_hash"]: names for names, group in sorted(chosen.items(), reverse=True)}
    return {names: group for names, group in chosen.items() if one_of[group[0]["seedless_hash"]] == names}


def _place(board: str, names: tuple[str, str], runs: list[Run], baseline: list[Run], goal: float) -> Place:
    ours, theirs = ({run["seed"]: percent(run["final"]) for run in side} for side in (runs, baseline))
    percents = list(ours.values())
    middle, low, _ = mean_interval(percents)
    curves = [_curve(run) for run in runs]
    followed = all(len(curve) > 2 for curve in curves)
    reached = sorted(next((update for update, percent in curve if percent >= goal), float("inf")) for curve in curves)
    risen = [curve for curve in curves if max(percent for _, percent in curve) - curve[0][1] >= RISE] if followed else []
    fallen = [c for c in risen if c[-1][1] - c[0][1] < LOST * (max(percent for _, percent in c) - c[0][1])]
    forwards = [run["forwards_per_rollout"] for run in runs if run["forwards_per_rollout"] is not None]
    half_way = median(reached) if followed else float("inf")
    return Place(
        board=board,
        method=names[0],
        sampler=names[1],
        seeds=len(runs),
        accuracy=middle,
        std=stdev(percents) if len(percents) > 1 else None,
        half=None if low is None else middle - low,
        points=paired_interval(ours, theirs),
        seconds=mean(run["time"]["cpu_s"] for run in runs),
        forwards=mean(forwards) if forwards else None,
        goal=None if half_way == float("inf") else half_way,
        fell=(len(fallen), len(risen)) if followed else None,
        lost=mean(max(percent for _, percent in curve) - curve[-1][1] for curve in curves) if followed else None,
        frontier=False,
        estimator=runs[0]["estimator"],
        rescue=runs[0]["rescue"],
        by_seed=ours,
        seedless_hash=runs[0]["seedless_hash"],
    )


def _curve(run: Run) -> list[tuple[int, float]]:
    """Returns (update, accuracy in %) of each evaluation, in order."""
    return sorted((int(update), 100 * right / run["final"]["total"]) for update, right in run["curve"].items())


def markdown(boards: dict[str, list[Place]]) -> str:
    """Returns leaderboard.md: a table for each board."""
    parts = [LEGEND]
    for name, board in boards.items():
        heads = [
            "method",
            "rollouts",
            "seeds",
            "Acc. (%)",
            "points [95 %]",
            "time (s)",
            "forwards",
            "goal (updates)",
            "fell back",
            "lost",
        ]
        lines = []
        for p in board:
            texts = [f"**{p.method}**" if p.frontier else p.method, p.sampler, str(p.seeds)]
            texts.append(f"{p.accuracy:.1f}" + ("" if p.std is None else f" ± {p.std:.1f}"))
            texts.append("" if p.points is None else interval(p.points, "+.1f"))
            texts += [f"{p.seconds:.0f}", _text(p.forwards, ".1f"), _text(p.goal, ".0f")]
            texts += ["-" if p.fell is None else f"{p.fell[0]} of {p.fell[1]}", _text(p.lost, ".1f")]
            lines.append(texts)
        parts.append(f"## {name}\n\n{table(heads, lines)}\n")
    return "\n".join(parts) + "\n![Accuracy against time](leaderboard.png)\n"


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
