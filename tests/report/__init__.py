"""Runs with known numbers: the folder of a small real run, copied, and its files given other contents."""

import json
import re
import shutil
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from stp.config import plain
from stp.run.files import read_jsonl
from tests.config import composed


@cache
def preset_config(preset: str | None, *overrides: str) -> dict[str, Any]:
    """What a run of a preset has in its config.yaml."""
    return plain(composed("train", *([f"experiment={preset}"] if preset else []), *overrides))


class Runs:
    """Writes runs under `root` as real ones would be, from one that is (`template`)."""

    def __init__(self, root: Path, template: Path) -> None:
        self.root, self.template = root, template

    def add(
        self,
        preset: str | None,
        seed: int = 0,
        solved: str = "1010",
        seconds: float = 100.0,
        name: str | None = None,
        overrides: tuple[str, ...] = (),
        probes: dict[int, list[float]] | None = None,
        rewards: tuple[float, ...] = (0.1, 0.2),
        deltas: tuple[float, ...] = (),
        **changes: Any,
    ) -> Path:
        """A run. solved: a 1 for each problem solved. probes: variances by update. deltas: V[ΔB]. changes: to summary.json."""
        folder = self.root / (name or f"{preset}/seed{seed}")
        shutil.copytree(self.template, folder)
        config = preset_config(preset, *overrides) | {"seed": seed}
        config["trainer"] = config["trainer"] | {"eval_temperatures": [0.0]}
        names = {group: re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() for group, name in config["classes"].items()}
        (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)))
        summary = json.loads((folder / "summary.json").read_text())
        score = {"temperature": 0.0, "correct": solved.count("1"), "total": len(solved)}
        score["accuracy"] = score["correct"] / len(solved)
        half = {"temperature": 0.0, "correct": 1, "total": len(solved), "accuracy": 1 / len(solved)}
        phases = dict.fromkeys(summary["time"], 0.0) | {"sample_s": seconds - 10, "update_s": 10.0, "eval_s": 5.0}
        summary |= {
            "experiment": preset,
            "seed": seed,
            **{group: names[group] for group in ("task", "sampler", "estimator", "objective")},
            "base": half,
            "final": score,
            "time": phases | {"train_s": seconds, "cpu_s": seconds / 2},
            "forwards_per_rollout": 37.0,
            "finished": "2026-01-01T00:00:00",
        }
        time = summary["time"] | changes.pop("time", {})
        (folder / "summary.json").write_text(json.dumps(summary | {"time": time} | changes))
        ids = [f"countdown/test/{i}" for i in range(len(solved))]
        records = [
            {"update": update, "temperature": 0.0, "problem": problem, "correct": mark == "1"}
            for update, marks in ((0, "1" + "0" * (len(solved) - 1)), (summary["updates"], solved))
            for problem, mark in zip(ids, marks, strict=True)
        ]
        write(folder / "eval.jsonl", records)
        line = read_jsonl(folder / "metrics.jsonl")[0]
        curves = zip_longest(rewards, deltas, fillvalue=3.0)
        updates = [{"update": i, "reward/mean": r, "elbo/delta_variance_median": d} for i, (r, d) in enumerate(curves, 1)]
        write(folder / "metrics.jsonl", [line | update for update in updates])
        probes = {1: [4.0, 5.0, 6.0], 2: [2.0, 3.0, 4.0]} if probes is None else probes
        variances = [(update, v) for update, values in probes.items() for v in values]
        write(
            folder / "variance.jsonl",
            [{"update": u, "variance": v, "variance_per_token": v / 100, "trainable": 10} for u, v in variances],
        )
        return folder

    def twin(self, preset: str, of: Path, seed: int = 0) -> Path:
        """The folder of a preset whose settings had run already, as a sweep leaves it."""
        folder = self.root / preset / f"seed{seed}"
        folder.mkdir(parents=True)
        up = Path("../..") / of.relative_to(self.root)
        summary = json.loads((of / "summary.json").read_text()) | {"experiment": preset, "same_as": str(up)}
        (folder / "summary.json").write_text(json.dumps(summary))
        return folder

    @property
    def folders(self) -> list[Path]:
        return sorted(path.parent for path in self.root.glob("**/summary.json"))


def write(path: Path, records: list[dict[str, Any]]) -> None:
    """Records as a JSONL file."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
