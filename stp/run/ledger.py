"""A ledger: the raw results of a campaign in one CSV file, a line per run, with all that tables and figures need of it."""

import csv
import dataclasses
import fcntl
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stp.errors import fail, require
from stp.run.files import read_jsonl, read_yaml, write_atomically
from stp.run.summary import Summary

Settings = dict[str, Any]
ELSEWHERE = ("logging.", "hydra.", "hydra/", "trainer.resume=")  # options that say where a run writes and begins
LATER = {"device": ""}  # columns that a file written before they were there may lack
DELTA_METRIC = "elbo/delta_variance_median"  # in metrics.jsonl


@dataclass(frozen=True)
class Line:
    """A finished run. Counts and times are those of its summary.json; base and correct are at the first temperature.

    presets: every preset of these settings. device: see `ranks.device_name`; empty if it was not recorded. problems: the hash
    of the held-out ones. overrides: of the command line, without where it wrote. scores: right answers before and after by
    temperature. seconds: by phase. nfe: quartiles and maximum of the rows' forwards. variance: the probes' median. rewards:
    the mean of each update. deltas: of each update, the median variance of the ELBO's difference to theta_old, if it was
    measured. curve: right answers by update. probes: by update, the variance of each probed completion and its number of
    trainable tokens. settings_hash: without the seed.
    """

    task: str
    presets: list[str]
    seed: int
    updates: int
    split: str
    total: int
    base: int
    correct: int
    forwards: float | None
    train_s: float
    cpu_s: float
    model: str
    sampler: str
    estimator: str
    objective: str
    rescue: str
    code: str
    device: str
    finished: str
    config_hash: str
    settings_hash: str
    problems: str
    temperature: float
    overrides: list[str]
    scores: dict[str, list[int]]
    seconds: dict[str, float]
    nfe: dict[str, float] | None
    variance: dict[str, Any] | None
    rewards: list[float]
    deltas: list[float | None]
    curve: dict[str, int]
    probes: dict[str, list[list[float]]]

    @property
    def key(self) -> tuple[str, int, str]:
        """What makes a run: its settings with the seed, its updates, and the problems that it is evaluated on."""
        return self.config_hash, self.updates, self.problems

    @property
    def order(self) -> tuple[str, list[str], int, str]:
        """Where the line stands in the file."""
        return self.task, self.presets, self.seed, self.finished

    def cells(self) -> dict[str, str]:
        """Returns the line as CSV cells: texts as they are, everything else as JSON."""
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in vars(self).items()}

    @classmethod
    def of_cells(cls, cells: dict[str, str]) -> "Line":
        """Reads a line. Raises ValueError, KeyError or TypeError for cells that `cells` did not write."""
        cells = LATER | cells
        values: dict[str, Any] = {
            field.name: cells[field.name] if field.type is str else json.loads(cells[field.name])
            for field in dataclasses.fields(cls)
        }
        line = cls(**values)
        lists, counts = ("presets", "rewards", "deltas"), ("seed", "updates", "total", "correct")
        for name, kind in (dict.fromkeys(lists, list) | dict.fromkeys(counts, int)).items():
            if not isinstance(getattr(line, name), kind):
                raise ValueError(f"{name} is {getattr(line, name)!r:.40}")
        return line


COLUMNS = [field.name for field in dataclasses.fields(Line)]


def line_of(folder: Path, settings_hash: str) -> Line | None:
    """Returns the line of a run's folder, or None if no finished and evaluated run is there.

    Raises:
        ValueError: its files are damaged.
    """
    summary = Summary.read(folder)
    if summary is None or not summary.scores:
        return None
    first, evaluated = summary.final["temperature"], (summary.problems or {}).get("eval", {})
    probes: dict[str, list[list[float]]] = {}
    for record in read_jsonl(folder / "variance.jsonl"):
        if record["variance"] is not None:
            found = [_short(record["variance"]), record["trainable"]]
            probes.setdefault(str(record["update"]), []).append(found)
    asked = folder / ".hydra" / "overrides.yaml"
    given = read_yaml(asked) if asked.exists() else []
    metrics = read_jsonl(folder / "metrics.jsonl")
    return Line(
        task=summary.task or "",
        presets=[summary.experiment] if summary.experiment else [],
        seed=summary.seed,
        updates=summary.updates,
        split=str((summary.eval or {}).get("split", "test")),
        total=summary.final["total"],
        base=summary.base["correct"],
        correct=summary.final["correct"],
        forwards=summary.forwards_per_rollout,
        train_s=round(summary.time["train_s"], 2),
        cpu_s=round(summary.time.get("cpu_s", 0.0), 2),
        model=summary.model or "",
        sampler=summary.sampler or "",
        estimator=summary.estimator or "",
        objective=summary.objective or "",
        rescue=summary.rescue or "none",
        code=summary.code or "",
        device=summary.device or "",
        finished=summary.finished,
        config_hash=summary.config_hash or "",
        settings_hash=settings_hash,
        problems=str(evaluated.get("hash", "")),
        temperature=first,
        overrides=[text for text in given if not text.lstrip("+~").startswith(ELSEWHERE)],
        scores={name: [before["correct"], after["correct"]] for name, (before, after) in summary.scores.items()},
        seconds={name.removesuffix("_s"): round(s, 2) for name, s in summary.time.items() if name not in ("train_s", "cpu_s")},
        nfe=summary.forwards and {name: round(value, 2) for name, value in summary.forwards.items()},
        variance=summary.elbo_variance and {name: summary.elbo_variance[name] for name in ("median", "draws")},
        rewards=[round(line["reward/mean"], 4) for line in metrics],
        deltas=[_short(line.get(DELTA_METRIC)) for line in metrics],
        curve=curve_of(read_jsonl(folder / "eval.jsonl"), first),
        probes=probes,
    )


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def curve_of(records: list[dict[str, Any]], temperature: float) -> dict[str, int]:
    """Returns the right answers of each evaluation in eval.jsonl's records at a temperature, by update ("0": the base)."""
    curve: dict[str, int] = {}
    for record in records:
        if record["temperature"] == temperature:
            right, _ = next(iter(record["counts"].values())) if record.get("counts") else (record["correct"], 1)
            curve[str(record["update"])] = curve.get(str(record["update"]), 0) + int(right)
    return curve


class Ledger:
    """A file of lines, and beside it `<name>.settings.json` with the settings of each `settings_hash`.

    Processes may add lines at the same time. `where` is the option that named the file.
    """

    def __init__(self, file: Path, where: str = "logging.ledger") -> None:
        self.file, self.where = file, where
        self.beside = file.with_suffix(".settings.json")

    def lines(self) -> list[Line]:
        """Returns all lines, or none if there is no file. Raises UserError for a file that is no ledger."""
        if not self.file.exists():
            return []
        lines: list[Line] = []
        try:
            reader = csv.DictReader(self.file.read_text(encoding="utf-8").splitlines())
            named = reader.fieldnames
            known = named is None or named == [name for name in COLUMNS if name in named or name not in LATER]  # None: empty
            require(known, self.where, self.file, "line 1 does not name the columns that stp.train writes; give another file")
            for cells in reader:
                lines.append(Line.of_cells(cells))
            return lines
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            fail(
                self.where,
                self.file,
                f"line {len(lines) + 2} is not one that stp.train wrote ({reason:.100}); give another file",
            )

    def settings(self) -> dict[str, Settings]:
        """Returns the settings of each `settings_hash`, by their names on the command line."""
        try:
            kept = json.loads(self.beside.read_text(encoding="utf-8"))
            return {name: kept["common"] | own for name, own in kept["own"].items()}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError):
            fail(self.where, self.beside, "it does not hold the settings that stp.train wrote; give another ledger")

    def runs(self) -> list[tuple[Line, Settings]]:
        """Returns every line with its settings. Raises UserError if there is no ledger in the file, or settings are missing."""
        lines, known = self.lines(), self.settings()
        lost = [line.settings_hash for line in lines if line.settings_hash not in known]
        rule = f"it lacks the settings {lost[:1]} of a line of {self.file.name}; keep the two files together"
        require(not lost, self.where, self.beside, rule)
        return [(line, known[line.settings_hash]) for line in lines]

    def find(self, key: tuple[str, int, str]) -> Line | None:
        """Returns the line of a run (`Line.key`), if there is one."""
        return next((line for line in self.lines() if line.key == key), None)

    def add(self, new: Line, settings: Settings) -> None:
        """Adds a run's line. A run that is there only gets the presets that it does not have yet."""
        with self._locked():
            lines = {line.key: line for line in self.lines()}
            old = lines.get(new.key)
            presets = sorted({*(old.presets if old else ()), *new.presets})
            if old is not None and old.presets == presets:
                return
            lines[new.key] = replace(old or new, presets=presets)
            known = self.settings()
            if new.settings_hash not in known:
                self._keep(known | {new.settings_hash: json.loads(json.dumps(settings, default=str))})
            table = io.StringIO()
            writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(line.cells() for line in sorted(lines.values(), key=lambda line: line.order))
            write_atomically(self.file, table.getvalue())

    def _keep(self, every: dict[str, Settings]) -> None:
        """Writes the settings: once what all have in common, then what is each one's own, a line each."""
        one = next(iter(every.values()))
        common = {k: v for k, v in one.items() if all(k in other and other[k] == v for other in every.values())}
        own = {name: {k: v for k, v in one.items() if k not in common} for name, one in sorted(every.items())}
        rows = [f"  {json.dumps(name)}: {json.dumps(one, sort_keys=True)}" for name, one in own.items()]
        text = f'{{"common": {json.dumps(common, sort_keys=True)},\n "own": {{\n' + ",\n".join(rows) + "\n}}\n"
        write_atomically(self.beside, text)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.with_name(f".{self.file.name}.lock").open("a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
