"""The same training with other rollouts: accuracy, forwards and time beside those of the standard sampler, seed by seed."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from stp.report.intervals import Interval, paired_interval, seed_means, transformed
from stp.report.leaderboard import ABLATIONS, method_of
from stp.report.markdown import interval, spread, table
from stp.report.runs import COUNTED, Run, fullest, key, percent, varied

LEGEND = """\
# Rollouts

Each row is trained as the first row of its method, except for the sampler. Methods of one name differ in what stands after it.

- Acc.: mean ± standard deviation over seeds, in %, after the last update, by the evaluation's own sampler (standard, greedy).
- Points: mean difference to the standard sampler over seeds, with a 95 % interval (Student's t).
- Time: processor seconds of training, without evaluation and probes. Its ratio to the standard sampler's is the geometric mean
  over seeds, with a 95 % interval. Forwards: of a rollout, the mean over its rows.

"""


@dataclass(frozen=True)
class Variant:
    """A sampler's place beside the standard one. points, ratio: None for the standard one, or without a common seed.

    standard: the runs that it is compared with.
    """

    task: str
    method: str
    sampler: str
    runs: list[Run]
    standard: list[Run]
    points: Interval | None
    ratio: Interval | None


def variants(runs: list[Run]) -> list[Variant]:
    """Returns the samplers of each way of training that the standard sampler and another one have run with.

    Of several settings of the standard sampler, those with the most seeds are compared with. A run of several presets goes by
    that which stands on the leaderboard.
    """
    ways: dict[str, dict[str, dict[int, Run]]] = defaultdict(lambda: defaultdict(dict))
    for run in sorted(runs, key=lambda run: (run["finished"], not (run["experiment"] or "").startswith(ABLATIONS))):
        ways[key(_settings(run, of_sampler=False))][key(_settings(run, of_sampler=True))][run["seed"]] = run
    compared = []
    for samplers in ways.values():
        plain = [by_seed for by_seed in samplers.values() if _one(by_seed)["sampler"] == "standard"]
        if plain and len(samplers) > 1:
            compared.append((fullest(plain), samplers))
    names = _named([_one(standard) for standard, _ in compared])
    found = []
    for (standard, samplers), name in zip(compared, names, strict=True):
        others = [by_seed for by_seed in samplers.values() if by_seed is not standard]
        found += [_variant(name, by_seed, standard, samplers.values()) for by_seed in (standard, *others)]
    return sorted(found, key=lambda v: (v.task, v.method, v.points is not None, v.sampler))


def _named(runs: list[Run]) -> list[str]:
    """Names each run's way of training, with the settings in which ways of the same estimator and objective differ."""
    plain = []
    for run in runs:
        rescue = "" if run["rescue"] in (None, "none") else f", {run['rescue']}"
        plain.append(f"{run['estimator']}, {run['objective']}{rescue}")
    alike: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for run, name in zip(runs, plain, strict=True):
        alike[run["task"], name].append(_settings(run, of_sampler=False))
    names = []
    for run, name in zip(runs, plain, strict=True):
        own = _settings(run, of_sampler=False)
        told = [f"{n.split('.')[-1]}={own[n]}" for n in varied(alike[run["task"], name]) if n in own]
        names.append(", ".join([name, *told]))
    return names


def _settings(run: Run, of_sampler: bool) -> dict[str, Any]:
    return {name: value for name, value in run["settings"].items() if (name.split(".")[0] == "sampler") == of_sampler}


def _one(by_seed: dict[int, Run]) -> Run:
    return next(iter(by_seed.values()))


def _variant(name: str, by_seed: dict[int, Run], standard: dict[int, Run], every: Iterable[dict[int, Run]]) -> Variant:
    run = _one(by_seed)
    alike = [_settings(_one(other), of_sampler=True) for other in every if _one(other)["sampler"] == run["sampler"]]
    told = [f"{n.split('.')[1]}={run['settings'][n]}" for n in varied(alike) if n in run["settings"]]
    others = list(standard.values()) if by_seed is not standard else []
    return Variant(
        task=run["task"],
        method=name,
        sampler=", ".join([run["sampler"], *told]),
        runs=list(by_seed.values()),
        standard=list(standard.values()),
        points=paired_interval(_accuracies(by_seed.values()), _accuracies(others)),
        ratio=_exponential(paired_interval(_log_seconds(by_seed.values()), _log_seconds(others))),
    )


def _accuracies(runs: Iterable[Run]) -> dict[int, float]:
    return {run["seed"]: percent(run["final"]) for run in runs}


def _log_seconds(runs: Iterable[Run]) -> dict[int, float]:
    return {run["seed"]: math.log(seconds) for run in runs if (seconds := run["time"].get("cpu_s"))}


def _exponential(logs: Interval | None) -> Interval | None:
    return logs and transformed(logs, math.exp)


@dataclass(frozen=True)
class Overall:
    """What a sampler changes against the standard one, as a mean over several methods in each seed that all have.

    methods: the presets. points, ratio: the mean over these seeds, with its interval. A seed is one value, as its methods have
    the same problems.
    """

    sampler: str
    methods: list[str]
    seeds: int
    points: Interval
    ratio: Interval | None


def overall(found: list[Variant], task: str) -> list[Overall]:
    """Returns what each sampler that ran with several methods of a task changes, at equal models and numbers of updates.

    Of a method's settings those with the most seeds count. Methods of one seed do not count where others have more.
    """
    alike: dict[str, dict[str, list[Variant]]] = defaultdict(lambda: defaultdict(list))
    for variant in found:
        run = variant.runs[0]
        if variant.task == task and variant.points is not None and run["experiment"]:
            model = {name: value for name, value in run["settings"].items() if name in COUNTED or name.startswith("model")}
            alike[key(_settings(run, of_sampler=True) | model)][method_of(run["experiment"])].append(variant)
    totals = []
    for by_method in alike.values():
        chosen = {method: max(own, key=_common_seeds) for method, own in sorted(by_method.items())}
        most = max(map(_common_seeds, chosen.values()))
        chosen = {method: variant for method, variant in chosen.items() if _common_seeds(variant) > 1 or most == 1}
        members = list(chosen.values())
        sides = [variant.runs for variant in members], [variant.standard for variant in members]
        ours, theirs = (seed_means([_accuracies(runs) for runs in side]) for side in sides)
        logs = paired_interval(*(seed_means([_log_seconds(runs) for runs in side]) for side in sides))
        points = paired_interval(ours, theirs)
        if len(members) > 1 and points:
            seeds = len(ours.keys() & theirs.keys())
            totals.append(Overall(members[0].sampler, list(chosen), seeds, points, _exponential(logs)))
    return totals


def _common_seeds(variant: Variant) -> int:
    return len(_accuracies(variant.runs).keys() & _accuracies(variant.standard).keys())


def markdown(found: list[Variant]) -> str:
    """Returns rollouts.md: a table for each task, and what the methods have in common."""
    heads = ["method", "sampler", "seeds", "Acc. (%)", "points [95 %]", "forwards", "time (s)", "time ratio [95 %]"]
    parts = [LEGEND]
    for task in dict.fromkeys(variant.task for variant in found):
        own = [list(row.values()) for row in rows(found) if row.pop("task") == task]
        parts.append(f"## {task}\n\n{table(heads, own)}\n")
        for total in overall(found, task):
            over = f"over {len(total.methods)} methods in each of {total.seeds} seed{'s' * (total.seeds > 1)}"
            changes = f"{interval(total.points, '+.1f', ' points')}, time ratio {_interval(total.ratio, '.2f')}"
            parts.append(f"- {total.sampler} against standard: {changes}, means {over} ({', '.join(total.methods)}).")
        parts.append("")
    return "\n".join(parts)


def rows(found: list[Variant]) -> list[dict[str, str]]:
    """Returns the variants as rows of rollouts.csv."""
    return [
        {
            "task": v.task,
            "method": v.method,
            "sampler": v.sampler,
            "seeds": str(len(v.runs)),
            "accuracy": _spread([percent(run["final"]) for run in v.runs], ".1f"),
            "points": _interval(v.points, "+.1f"),
            "forwards": _spread(
                [run["forwards_per_rollout"] for run in v.runs if run["forwards_per_rollout"] is not None], ".1f"
            ),
            "seconds": _spread([run["time"]["cpu_s"] for run in v.runs if run["time"].get("cpu_s")], ".0f"),
            "ratio": _interval(v.ratio, ".2f"),
        }
        for v in found
    ]


def _spread(values: list[float], form: str) -> str:
    return spread(values, form) if values else "-"


def _interval(found: Interval | None, form: str) -> str:
    return "-" if found is None else interval(found, form)
