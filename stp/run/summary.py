"""What a finished run says of itself: summary.json, written and read through one class."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

NUMBER = (int, float)
SCORE = {"correct": int, "total": int, "accuracy": NUMBER, "temperature": NUMBER}
KINDS: dict[str, Any] = {
    **dict.fromkeys(("task", "model", "sampler", "estimator", "objective"), (str, type(None))),
    "finished": str,
    **dict.fromkeys(("seed", "updates"), int),
    **dict.fromkeys(("base", "final", "time"), dict),
    **dict.fromkeys(("experiment", "rescue", "code", "device", "same_as"), (str, type(None))),
    "forwards_per_rollout": (*NUMBER, type(None)),
    "forwards": (dict, type(None)),
    "elbo_variance": (dict, type(None)),
}


@dataclass(frozen=True)
class Summary:
    """A run's settings in short, its accuracy before and after, its time and its ELBO's variance.

    base and final hold counts and intervals at the first temperature, and those at others under their names. time: seconds by
    phase. forwards_per_rollout: the schedule's count, or, where each row has its own, the mean over rows and updates;
    `forwards` then has quartiles and the maximum. device: rank 0's. same_as: the folder of the run with the same
    settings that this one stands for. What may be None may be missing in a file.
    """

    task: str | None
    model: str | None
    sampler: str | None
    estimator: str | None
    objective: str | None
    seed: int
    updates: int
    base: dict[str, Any]
    final: dict[str, Any]
    time: dict[str, float]
    forwards_per_rollout: float | None
    finished: str
    experiment: str | None = None
    rescue: str | None = None
    ranks: int | None = None
    config_hash: str | None = None
    seedless_hash: str | None = None
    code: str | None = None
    device: str | None = None
    eval: dict[str, Any] | None = None
    problems: dict[str, dict[str, Any]] | None = None
    forwards: dict[str, float] | None = None
    elbo_variance: dict[str, Any] | None = None
    peak_memory_mb: float | None = None
    same_as: str | None = None

    @classmethod
    def of(cls, record: Any) -> "Summary":
        """Reads the record of a summary.json. Names that no field has are left out.

        Raises:
            ValueError: a value is missing or has another type than stp.train writes.
        """
        expect("summary.json", record, KINDS)
        scores = [record["base"], record["final"]]
        if "accuracy" in scores[0]:  # the run was evaluated
            for score in scores:
                expect("summary.json", score, SCORE)
                for name in _others(scores[0]):
                    expect("summary.json", score.get(name), {k: v for k, v in SCORE.items() if k != "temperature"})
        expect("summary.json", record["time"], dict.fromkeys(record["time"], NUMBER) | {"train_s": NUMBER})
        if record.get("elbo_variance") is not None:
            expect("summary.json", record["elbo_variance"], {"median": NUMBER, "draws": (int, type(None))})
        return cls(**{name: record.get(name) for name in cls.__dataclass_fields__})

    @classmethod
    def read(cls, folder: Path) -> "Summary | None":
        """Reads a folder's summary.json. Returns None if there is none, or one that is no training run's.

        Raises:
            ValueError: see `of`.
        """
        file = folder / "summary.json"
        if not file.exists():
            return None
        record = json.loads(file.read_text(encoding="utf-8"))
        ours = isinstance(record, dict) and {"base", "final", "time", "finished"} <= record.keys()
        return cls.of(record) if ours or (folder / "metrics.jsonl").exists() else None

    @property
    def scores(self) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
        """The scores before and after training by temperature (`T=0`); the first one counts. Empty if the base has none."""
        if "accuracy" not in self.base:
            return {}
        first = {f"T={self.base['temperature']:g}": (self.base, self.final)}
        return first | {name: (self.base[name], self.final[name]) for name in _others(self.base)}

    def record(self) -> dict[str, Any]:
        """Returns what summary.json holds."""
        return {name: value for name, value in asdict(self).items() if name != "same_as" or value is not None}


def _others(score: dict[str, Any]) -> list[str]:
    """Returns the names of the temperatures that stand within the score of the first one."""
    return [name for name in score if name.startswith("T=")]


def expect(where: str, record: Any, kinds: dict[str, Any]) -> None:
    """Raises ValueError unless `record` has values of these types. A name may be missing if its value may be None."""
    if not isinstance(record, dict):
        raise ValueError(f"{where}: {record!r:.40} in place of named values")
    for name, kind in kinds.items():
        value = record.get(name)
        whole = isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool)
        if not whole or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"{where}: {name} is {value!r:.40}" if name in record else f"{where}: no {name}")
