"""Settings that were tried on validation problems: right answers of each value, seed by seed, and the value of the most."""

from collections import defaultdict
from dataclasses import dataclass
from statistics import mean
from typing import Any

from stp.report.leaderboard import method_of
from stp.report.markdown import table
from stp.report.runs import Run, key

WATCHING = (
    "trainer.eval_every",
    "trainer.probe_every",
    "trainer.eval_first",
    "trainer.checkpoint_every",
)  # they change no count
LEGEND = """\
# Settings that were tried

- A line is a setting of a method. The runs of its values agree in everything else; `held` says in what they differ from the
  method's other lines.
- Values: right answers of {total} after the last update, a number per seed ({seeds}), in the seeds' order.
- Bold: the highest mean. Where a value has two seeds, only such values count.

"""


@dataclass(frozen=True)
class Trial:
    """The values of one setting. held: other settings of the method's runs that vary elsewhere. right: by value, then seed."""

    task: str
    method: str
    setting: str
    held: dict[str, Any]
    right: dict[Any, dict[int, int]]

    @property
    def best(self) -> Any:
        """The value of the highest mean, of those with two seeds or more if there are any."""
        most = {value: by_seed for value, by_seed in self.right.items() if len(by_seed) > 1} or self.right
        return max(most, key=lambda value: mean(most[value].values()))


def trials(runs: list[Run]) -> list[Trial]:
    """Returns every setting that runs of one method have several values of, all else being equal."""
    by_method: dict[tuple[str, str], list[tuple[Run, dict[str, Any]]]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run["finished"]):
        if run["experiment"]:
            decisive = {name: value for name, value in run["settings"].items() if name not in WATCHING}
            by_method[run["task"], method_of(run["experiment"])].append((run, decisive))
    found = []
    for (task, method), members in sorted(by_method.items()):
        names = sorted({name for _, settings in members for name in settings})
        varied = [n for n in names if any(settings.get(n) != members[0][1].get(n) for _, settings in members)]
        told = [name for name in varied if not _implied(name, [settings for _, settings in members])]
        for setting in varied:
            alike: dict[str, dict[Any, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
            held: dict[str, dict[str, Any]] = {}
            for run, settings in members:
                rest = {name: value for name, value in settings.items() if name != setting}
                group = key(rest)
                held[group] = {name: rest[name] for name in told if name in rest}
                alike[group][_plain(settings.get(setting))][run["seed"]] = run["final"]["correct"]
            found += [
                Trial(
                    task,
                    method,
                    setting,
                    held[group],
                    dict(sorted(values.items(), key=lambda item: (str(type(item[0])), item))),
                )
                for group, values in alike.items()
                if len(values) > 1
            ]
    return found


def _implied(name: str, every: list[dict[str, Any]]) -> bool:
    """Says whether the choice of a setting's group gives its value: `sampler=adaptive` that of `sampler.reveal`, say."""
    group = name.split(".")[0]
    values: dict[Any, set[str]] = defaultdict(set)
    for settings in every:
        values[settings.get(group)].add(str(settings.get(name)))
    return group != name and len(values) > 1 and all(len(found) == 1 for found in values.values())


def _plain(value: Any) -> Any:
    """Returns a value that can be sorted and counted: a list as text."""
    return value if isinstance(value, (int, float, str)) else str(value)


def markdown(found: list[Trial], total: int) -> str:
    """Returns search.md: a table for each task. total: the number of problems."""
    seeds = sorted({seed for trial in found for by_seed in trial.right.values() for seed in by_seed})
    parts = [LEGEND.format(total=total, seeds=", ".join(map(str, seeds)))]
    for task in dict.fromkeys(trial.task for trial in found):
        lines = []
        for trial in (t for t in found if t.task == task):
            held = ", ".join(f"{name}={_text(value)}" for name, value in trial.held.items())
            lines.append([trial.method, trial.setting, held, "; ".join(_cell(trial, value) for value in trial.right)])
        parts.append(f"## {task}\n\n{table(['method', 'setting', 'held', 'values'], lines)}\n")
    return "\n".join(parts)


def _cell(trial: Trial, value: Any) -> str:
    by_seed = trial.right[value]
    text = f"{_text(value)}: {', '.join(str(by_seed[seed]) for seed in sorted(by_seed))}"
    return f"**{text}**" if value == trial.best else text


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
            "best": value == trial.best,
        }
        for trial in found
        for value, by_seed in trial.right.items()
    ]
