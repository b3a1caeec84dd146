"""Reads finished runs for the report: how two runs differ, and which fill the cell of a preset (`experiment=<preset>`)."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from stp.config import leaves, preset_config, seedless, seedless_hash
from stp.report.tables import TASKS
from stp.run.files import read_yaml
from stp.run.ledger import DELTA_METRIC, Ledger, Line, curve_of
from stp.run.summary import NUMBER, Summary, expect
from stp.text import visible

Run = dict[str, Any]

GROUPS = ("task", "model", "sampler", "estimator", "objective")
CHOSEN = (*GROUPS, "rescue")
METHOD = ("sampler", "estimator", "objective", "rescue")  # settings in which rows of a table may differ (except SHARED)
SHARED = ("sampler.length", "sampler.steps", "sampler.block_length", "sampler.temperature")
PLACE = ("sampler.gamma", "sampler.t_cutoff")  # a run's place on the heat map
# settings in which compared runs must agree
COUNTED = ("task", "trainer.updates", "trainer.eval_split", "problems", "problems.hash")
DEFINING = (
    "sampler",
    "estimator",
    "objective",
    "rescue",
    *(f"sampler.{name}" for name in ("gamma", "t_cutoff", "select", "anchors")),
)

ANSWER = {"update": int, "temperature": NUMBER, "problem": str, "correct": bool}
PROBE = {"update": int, **dict.fromkeys(("variance", "variance_per_token"), (*NUMBER, type(None)))}  # None: overflow

SUMS = ("count", "confidence", "correct", "reward")  # what calibration.jsonl adds up for the completions of each bin
CALIBRATION = {"update": int, **dict.fromkeys(("bin", *SUMS), list)}

CLOCKS = {
    "wall": ("train_s", "wall clock"),
    "cpu": ("cpu_s", "of the processors, which other work on a machine does not stretch"),
}


def load_runs(places: list[Path], clock: str = "wall") -> tuple[list[Run], list[str]]:
    """Returns the finished and evaluated runs of folders and ledgers (.csv), and a line for each damaged folder.

    Folders that are no run of stp.train, or not finished, give neither. If a sweep's folder only refers to an earlier run with
    the same settings (`same_as`), that run is returned under the folder's own preset; so is a ledger's run that several
    presets share.

    Raises:
        UserError: a file is no ledger.
    """
    runs: list[Run] = []
    damaged: list[str] = []
    for folder in places:
        if folder.suffix == ".csv":
            runs += _of_ledger(folder, clock)
            continue
        try:
            run = _load_run(folder, clock)
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError, OSError, yaml.YAMLError) as error:
            reason = visible(" ".join(str(error).split())) or type(error).__name__
            damaged.append(f"{folder}: damaged, its files are not those that stp.train wrote ({reason:.200})")
            continue
        runs += [run] if run is not None else []
    return runs, damaged


def _load_run(folder: Path, clock: str) -> Run | None:
    """Reads a run and checks the type of every value that the report uses. Returns None for what is no finished run."""
    summary = Summary.read(folder)
    if summary is None or not summary.scores:
        return None  # it was not trained here, or not evaluated
    data = (folder / summary.same_as).resolve() if summary.same_as else folder
    config = read_yaml(data / "config.yaml")
    expect("config.yaml", config, {"trainer": dict})
    found = settings(config, summary)
    expect("config.yaml", found, {name: NUMBER for name in PLACE if name in found})
    return {
        **summary.record(),
        "scores": summary.scores,
        "folder": data,
        "metrics": _metrics(data / "metrics.jsonl"),
        "curve": curve_of(_records(data / "eval.jsonl", ANSWER), summary.final["temperature"]),
        "probes": _records(data / "variance.jsonl", PROBE) if (data / "variance.jsonl").exists() else [],
        "calibration": _calibration(data / "calibration.jsonl"),
        "settings": found,
        "seedless_hash": seedless_hash(config),
        "split": str(config["trainer"].get("eval_split", "test")),
        "seconds": summary.time.get(CLOCKS[clock][0]),
    }


def _records(path: Path, kinds: dict[str, Any]) -> list[dict[str, Any]]:
    """Reads the lines of a JSONL file, at least one, each with values of these types."""
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            records.append(json.loads(line))
        except ValueError:
            raise ValueError(f"{path.name}: line {number} is cut short") from None
        expect(f"{path.name}, line {number}", records[-1], kinds)
    if not records:
        raise ValueError(f"{path.name} is empty")
    return records


def _metrics(path: Path) -> list[dict[str, Any]]:
    """Reads a metrics.jsonl. Only some updates of some methods have the variance of the ELBO's difference."""
    records = _records(path, {"reward/mean": NUMBER})
    for record in records:
        expect(path.name, record, {name: (*NUMBER, type(None)) for name in (DELTA_METRIC,) if name in record})
    return records


def _calibration(path: Path) -> list[dict[str, Any]]:
    """Reads a calibration.jsonl, if there is one, without the updates in which a reward was not finite."""
    records = _records(path, CALIBRATION) if path.exists() else []
    for record in records:
        bins, sums = record["bin"], [record[name] for name in SUMS]
        known = all(value is None or (type(value) in NUMBER and abs(value) < 1e9) for column in sums for value in column)
        counted = known and all(value is not None and value >= 1 for value in record["count"])
        if not (counted and all(type(place) is int for place in bins) and {len(column) for column in sums} == {len(bins)}):
            raise ValueError(f"{path.name}: the bins of update {record['update']} do not fit together")
    return [record for record in records if not any(None in record[name] for name in SUMS)]


def _of_ledger(file: Path, clock: str) -> list[Run]:
    """Returns the runs of a ledger, once for each of their presets. They have no calibration."""
    return [
        {**_of_line(line, known, clock), "experiment": preset, "folder": file / line.config_hash}
        for line, known in Ledger(file, "runs").runs()
        for preset in (line.presets or (None,))
    ]


def _of_line(line: Line, known: dict[str, Any], clock: str) -> Run:
    """Returns the run of a ledger's line, with the values that a run's folder would give."""
    at = f"T={line.temperature:g}"
    scores = {name: tuple(_score(right, line) for right in pair) for name, pair in line.scores.items()}
    seconds = {"train_s": line.train_s, "cpu_s": line.cpu_s, **{f"{name}_s": s for name, s in line.seconds.items()}}
    probed = [(int(update), *probe) for update, probes in line.probes.items() for probe in probes]
    return {
        **{name: getattr(line, name) for name in (*CHOSEN, "seed", "updates", "code", "device", "finished", "split")},
        **{"base": scores[at][0], "final": scores[at][1], "scores": scores, "time": seconds, "calibration": []},
        **{"forwards_per_rollout": line.forwards, "forwards": line.nfe, "elbo_variance": line.variance},
        "metrics": [_update(*of) for of in zip(line.rewards, line.deltas, strict=True)],
        "curve": line.curve,
        "probes": [{"update": u, "variance": v, "variance_per_token": v / max(n, 1) ** 2} for u, v, n in probed],
        "settings": _whole(known, {name: getattr(line, name) for name in CHOSEN}, line.updates, (line.total, line.problems)),
        "seedless_hash": line.settings_hash,
        "seconds": seconds[CLOCKS[clock][0]] or None,
    }


def _update(reward: float, delta: float | None) -> dict[str, float]:
    return {"reward/mean": reward} | ({} if delta is None else {DELTA_METRIC: delta})


def _score(correct: int, line: Line) -> dict[str, Any]:
    return {"correct": correct, "total": line.total, "accuracy": correct / line.total, "temperature": line.temperature}


def settings(config: dict[str, Any], summary: Summary) -> dict[str, Any]:
    """Returns everything that decides a run's results except its seed, by command-line names, and the held-out problems."""
    chosen = {group: getattr(summary, group) for group in CHOSEN} | {"rescue": summary.rescue or "none"}
    held_out = str((summary.problems or {}).get("eval", {}).get("hash", ""))
    return _whole(seedless(config), chosen, summary.updates, (summary.final["total"], held_out))


def _whole(seedless: dict[str, Any], chosen: dict[str, Any], updates: int, held_out: tuple[int, str]) -> dict[str, Any]:
    return {**chosen, **seedless, "trainer.updates": updates, "problems": held_out[0], "problems.hash": held_out[1]}


def name_methods(runs: list[Run]) -> list[Run]:
    """Names each run's `method` and sorts the runs by method, seed and time of finishing.

    A method is a sampler and an estimator, with every setting in which their runs differ. If there are several tasks, the name
    begins with the task.
    """
    several = len({run["task"] for run in runs}) > 1
    alike: dict[tuple[str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        alike[run["task"], run["sampler"], run["estimator"]].append(run)
    for (task, sampler, estimator), members in alike.items():
        differing = varied([run["settings"] for run in members])
        for run in members:
            own = [f"{name}={run['settings'][name]}" for name in differing if name in run["settings"]]
            run["method"] = " ".join([f"{task}: " * several + f"{sampler} + {estimator}", *own])
    return sorted(runs, key=lambda r: (r["method"], r["seed"], r["finished"]))


def varied(every: list[dict[str, Any]]) -> list[str]:
    """Returns the names of settings that are not the same in all of these, in alphabetical order."""
    names = sorted({name for settings in every for name in settings})
    return [name for name in names if any(settings.get(name) != every[0].get(name) for settings in every)]


def newest(runs: list[Run]) -> list[Run]:
    """Returns the newest run of each method and seed, from runs sorted by `name_methods`. A seed that ran twice counts once."""
    return list({(run["method"], run["seed"]): run for run in runs}.values())


def contrast(ours: dict[str, Any], theirs: dict[str, Any], names: Iterable[str] | None = None) -> str:
    """Lists `name=ours (theirs)` for every setting (or every one of `names`) in which two runs differ."""
    listed = sorted(ours.keys() | theirs.keys()) if names is None else names
    return ", ".join(f"{n}={ours.get(n)} ({theirs.get(n)})" for n in listed if ours.get(n) != theirs.get(n))


def key(settings: dict[str, Any]) -> str:
    """Returns settings as one text, which is equal for equal settings."""
    return json.dumps(settings, sort_keys=True, default=str)


def percent(score: dict[str, Any]) -> float:
    """Returns the accuracy of a score, in %."""
    return 100 * score["accuracy"]


def conditions(run: Run) -> dict[str, Any]:
    """Returns the settings that rows of a table should share: all except the method's own."""
    return {k: v for k, v in run["settings"].items() if k in SHARED or k.split(".")[0] not in METHOD}


def comparable(ours: Run, theirs: Run) -> bool:
    """Says whether two runs have equal task, split, number of updates and test problems."""
    return all(ours["settings"].get(n) == theirs["settings"].get(n) for n in COUNTED)


@cache
def _defined(preset: str) -> dict[str, Any]:
    """Returns the settings that a preset's name promises, or nothing if conf has no such preset."""
    found = preset_config(preset) if re.fullmatch(r"[\w-]+", preset) else None
    if found is None:
        return {}
    config, chosen = found
    return {k: v for k, v in {**chosen, **leaves(config)}.items() if k in DEFINING}


def departure(run: Run) -> str:
    """Says how a run differs from what its preset's name promises; empty if it does not."""
    wanted = _defined(run["experiment"])
    if run["experiment"] in TASKS:
        wanted = wanted | {"task": TASKS[run["experiment"]]}
    return contrast(run["settings"], wanted, (name for name in wanted if run["settings"].get(name) is not None))


def fullest(groups: Iterable[dict[int, Run]]) -> dict[int, Run]:
    """Returns the group of runs with the most seeds, or among equals the newest. Each group holds a run by seed."""
    return max(groups, key=lambda group: (len(group), max(run["finished"] for run in group.values())))


def presets(runs: list[Run]) -> tuple[dict[str, list[Run]], list[str]]:
    """Returns the runs that fill each preset's cell, by seed, and a line for the others of each preset and reason.

    A cell shows runs of a single setting: the one with the most seeds, or among equals the newest. Of a seed the newest run
    counts.
    """
    left_out: dict[tuple[str, str], list[Run]] = defaultdict(list)
    by_preset: dict[str, dict[str, dict[int, Run]]] = defaultdict(lambda: defaultdict(dict))

    def leave_out(run: Run, why: str) -> None:
        left_out[run["experiment"], why].append(run)

    for run in sorted((r for r in runs if r.get("experiment")), key=lambda r: r["finished"]):
        if trouble := departure(run):
            leave_out(run, f"not what its preset says: {trouble}")
            continue
        alike = by_preset[run["experiment"]][key(run["settings"])]
        if run["seed"] in alike:
            leave_out(alike[run["seed"]], "a newer run of the same seed counts")
        alike[run["seed"]] = run
    chosen = {}
    for preset, groups in sorted(by_preset.items()):
        best = fullest(groups.values())
        chosen[preset] = [best[seed] for seed in sorted(best)]
        for group in groups.values():
            for run in group.values() if group is not best else ():
                leave_out(run, f"other settings than the cell's: {contrast(run['settings'], chosen[preset][0]['settings'])}")
    return chosen, [f"{in_words(members)}: {why}" for (_, why), members in left_out.items()]


def in_words(runs: list[Run]) -> str:
    """Names runs of one preset by it, by their seeds and by the first one's folder."""
    first, more, seeds = runs[0], len(runs) - 1, sorted({run["seed"] for run in runs})
    preset = f"{first['experiment']}, " if first["experiment"] else ""
    others = f" and {more} other{'s' * (more > 1)}" if more else ""
    return f"{preset}seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))} ({first['folder']}{others})"
