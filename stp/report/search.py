"""Settings that were tried on validation problems: the right answers of each value, seed by seed, and the best values."""

from collections import defaultdict
from dataclasses import dataclass
from statistics import mean
from typing import Any

from stp.report.leaderboard import method_of
from stp.report.markdown import table
from stp.report.runs import Run, key, varied

LEGEND = """\
# Settings that were tried

- A line has the values of one setting. Their runs agree in everything else; `held` has what other runs of the method vary.
- Values: right answers of {total} after the last update, of seeds {seeds} in this order; `-` where a seed did not run.
- Bold: the highest mean over the seeds that the compared values share. Values of one seed are not compared with those of
  several, and values without a common seed not at all.

"""


@dataclass(frozen=True)
class Trial:
    """The values of one setting. held: what other runs of the method vary. right: right answers by value, then by seed."""

    task: str
    method: str
    setting: str
    held: dict[str, Any]
    right: dict[Any, dict[int, int]]

    @property
    def best(self) -> list[Any]:
        """The values of the highest mean over their common seeds; only those of two seeds or more count, if there are any."""
        compared = {value: by_seed for value, by_seed in self.right.items() if len(by_seed) > 1} or self.right
        seeds = set.intersection(*map(set, compared.values()))
        sums = {value: sum(by_seed[seed] for seed in seeds) for value, by_seed in compared.items()}
        return [value for value, total in sums.items() if seeds and total == max(sums.values())]


def trials(runs: list[Run]) -> list[Trial]:
    """Returns every setting that runs of one method have several values of, all else being equal."""
    by_method: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run["finished"]):
        if run["experiment"]:
            by_method[run["task"], method_of(run["experiment"])].append(run)
    found = []
    for (task, method), members in sorted(by_method.items()):
        every = [run["settings"] for run in members]
        differing = varied(every)
        told = [name for name in differing if not _implied(name, every)]
        for setting in differing:
            alike: dict[str, dict[Any, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
            held: dict[str, dict[str, Any]] = {}
            for run in members:
                rest = {name: value for name, value in run["settings"].items() if name != setting}
                group = key(rest)
                held[group] = {name: rest[name] for name in told if name in rest}
                alike[group][_plain(run["settings"].get(setting))][run["seed"]] = run["final"]["correct"]
            for group, right in alike.items():
                if len(right) > 1:
                    found.append(Trial(task, method, setting, held[group], dict(sorted(right.items(), key=_place))))
    return found


def _implied(name: str, every: list[dict[str, Any]]) -> bool:
    """Says whether the choice of a setting's group gives its value: `sampler=adaptive` that of `sampler.reveal`, say."""
    group = name.split(".")[0]
    values: dict[Any, set[str]] = defaultdict(set)
    for settings in every:
        values[settings.get(group)].add(str(settings.get(name)))
    return group != name and len(values) > 1 and all(len(found) == 1 for found in values.values())


def _plain(value: Any) -> Any:
    """Returns a value that can be counted: what is neither a number nor a text, as text."""
    return value if isinstance(value, (int, float, str)) else str(value)


def _place(item: tuple[Any, Any]) -> tuple[bool, float, str]:
    """Returns where a value stands in its line: numbers in their order, then texts in theirs."""
    value = item[0]
    return (True, 0.0, value) if isinstance(value, str) else (False, float(value), "")


def markdown(found: list[Trial], total: int) -> str:
    """Returns search.md: a table for each task. total: the number of problems."""
    seeds = sorted({seed for trial in found for by_seed in trial.right.values() for seed in by_seed})
    parts = [LEGEND.format(total=total, seeds=", ".join(map(str, seeds)))]
    for task in dict.fromkeys(trial.task for trial in found):
        lines = []
        for trial in (t for t in found if t.task == task):
            held = ", ".join(f"{name}={_text(value)}" for name, value in trial.held.items())
            values = "; ".join(_cell(trial, value, seeds) for value in trial.right)
            lines.append([trial.method, trial.setting, held, values])
        parts.append(f"## {task}\n\n{table(['method', 'setting', 'held', 'values'], lines)}\n")
    return "\n".join(parts)


def _cell(trial: Trial, value: Any, seeds: list[int]) -> str:
    text = f"{_text(value)}: {', '.join(str(trial.right[value].get(seed, '-')) for seed in seeds)}"
    return f"**{text}**" if value in trial.best else text


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def rows(found: list[Trial]) -> list[dict[str, Any]]:
    """Returns the values as rows of search.csv."""
    return [
        {
            "task": trial.task,
            "method": trial.method,
            "setting": trial.setting,
            "held": key(trial.held),
            "value": value,
            "seeds": " ".join(map(str, sorted(by_seed))),
            "correct": " ".join(str(by_seed[seed]) for seed in sorted(by_seed)),
            "mean": mean(by_seed.values()),
            "best": value in trial.best,
        }
        for trial in found
        for value, by_seed in trial.right.items()
    ]
