"""`python -m stp.report [run folders]`: a table of runs (Markdown, CSV) and their learning curves (PNG)."""

import argparse
import csv
import json
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from omegaconf import OmegaConf

from stp.evaluation import counts
from stp.tracking import read_jsonl

COMPARED = ("model", "task", "sampler", "estimator", "objective", "optimizer")  # settings that make a method of their own
RUN_COLUMNS = ["method", "task", "model", "sampler", "estimator", "seed", "updates"]
COLUMNS = [*RUN_COLUMNS, "temperature", "base", "final", "gain", "forwards", "variance", "train_s", "total_s"]


def load_runs(folders: list[Path]) -> list[dict[str, Any]]:
    """Summaries of finished and evaluated runs with their metrics, by method and seed; others are left out.

    A method is a sampler and an estimator, with the settings in which the given runs of these differ.
    """
    runs: list[dict[str, Any]] = []
    for folder in folders:
        if (folder / "summary.json").exists() and (folder / "metrics.jsonl").exists():
            summary = json.loads((folder / "summary.json").read_text())
            if "accuracy" not in summary["base"]:
                continue
            runs.append({**summary, "folder": folder, "metrics": read_jsonl(folder / "metrics.jsonl")})
            settings = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
            runs[-1]["settings"] = dict(_leaves({k: v for k, v in settings.items() if k in COMPARED}))  # type: ignore[union-attr]
    for run in runs:
        alike = [r for r in runs if (r["sampler"], r["estimator"]) == (run["sampler"], run["estimator"])]
        varied = sorted(k for k, v in run["settings"].items() if any(r["settings"].get(k) != v for r in alike))
        run["method"] = " ".join([f"{run['sampler']} + {run['estimator']}", *(f"{k}={run['settings'][k]}" for k in varied)])
    return sorted(runs, key=lambda r: (r["task"], r["method"], r["seed"]))


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def rows_of(run: dict[str, Any]) -> list[dict[str, Any]]:
    """One table row per evaluation temperature."""
    temperatures = {f"T={run['base']['temperature']:g}": (run["base"], run["final"])}
    temperatures |= {name: (score, run["final"][name]) for name, score in run["base"].items() if isinstance(score, dict)}
    return [
        {
            **{name: run[name] for name in RUN_COLUMNS},
            "temperature": name,
            "base": base,
            "final": final,
            "gain": 100 * (final["accuracy"] - base["accuracy"]),
            "forwards": run["forwards_per_rollout"],
            "variance": (run["elbo_variance"] or {}).get("median"),
            "train_s": run["time"]["train_s"],
            "total_s": sum(seconds for phase, seconds in run["time"].items() if phase != "train_s"),
        }
        for name, (base, final) in temperatures.items()
    ]


def markdown(rows: list[dict[str, Any]]) -> str:
    """A table line per run and temperature, then the mean gain of each method over its seeds."""
    names = ["method", "seed", "T", "base", "final", "gain", "forwards", "ELBO variance, median", "training s", "all s"]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    gains: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        gains[row["method"], row["temperature"]].append(row["gain"])
        lines.append(
            f"| {row['method']} | {row['seed']} | {row['temperature'].removeprefix('T=')} | {counts(row['base'])} | "
            f"{counts(row['final'])} | {row['gain']:+.1f} | {row['forwards']:.0f} | "
            f"{'missing' if row['variance'] is None else format(row['variance'], '.1f')} | "
            f"{row['train_s']:.0f} | {row['total_s']:.0f} |"
        )
    lines.append("")
    for (method, temperature), values in gains.items():
        spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
        lines.append(f"- {method}, {temperature}: {mean(values):+.1f}{spread} points over {len(values)} seed(s)")
    return "\n".join(lines) + "\n"


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """Mean reward over updates (a thin line per seed, a bold mean per method), and accuracy before and after."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), width_ratios=[3, 2], layout="constrained")
    methods: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
        methods[run["method"]].append(run)
    for i, (method, members) in enumerate(methods.items()):
        colour = f"C{i}"
        curves = [[m["reward/mean"] for m in run["metrics"]] for run in members]
        for curve in curves:
            left.plot(range(1, len(curve) + 1), curve, color=colour, alpha=0.25, linewidth=1)
        shortest = min(map(len, curves))
        average = [mean(curve[j] for curve in curves) for j in range(shortest)]
        left.plot(range(1, shortest + 1), average, color=colour, linewidth=2, label=f"{method} ({len(curves)} seeds)")
        for j, when in enumerate(("base", "final")):
            scores = [run[when] for run in members]
            p, n = mean(s["accuracy"] for s in scores), scores[0]["total"]  # the seeds share their test problems
            error = 100 * math.sqrt(p * (1 - p) / max(n, 1))
            right.bar(j + (i - (len(methods) - 1) / 2) * 0.35, 100 * p, 0.33, color=colour, yerr=error, capsize=3)
    left.set(xlabel="update", ylabel="mean reward", title="training reward")
    right.set(xticks=[0, 1], xticklabels=["before", "after"], ylabel="%", title="held-out accuracy")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", frameon=False, fontsize="small")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Read the runs, write runs.md, runs.csv and learning_curves.png."""
    parser = argparse.ArgumentParser(prog="python -m stp.report", description=__doc__)
    parser.add_argument("runs", nargs="*", type=Path, help="run folders; all finished runs under outputs/ by default")
    parser.add_argument("--to", type=Path, default=Path("outputs/report"), help="folder to write (default: %(default)s)")
    options = parser.parse_args()
    folders = options.runs or sorted(p.parent for p in Path("outputs").glob("**/summary.json"))
    runs = load_runs(folders)
    if not runs:
        parser.error("no finished run found; give run folders, or train one with python -m stp.train")
    options.to.mkdir(parents=True, exist_ok=True)
    rows = [row for run in runs for row in rows_of(run)]
    table = markdown(rows)
    (options.to / "runs.md").write_text(table)
    with (options.to / "runs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({**row, "base": row["base"]["accuracy"], "final": row["final"]["accuracy"]} for row in rows)
    draw(runs, options.to / "learning_curves.png")
    print(table)
    print(f"written to {options.to}")


if __name__ == "__main__":
    main()
