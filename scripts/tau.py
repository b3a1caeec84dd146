"""Draws accuracy and reward against forwards: threshold decoding for several tau, beside the schedule with fewer forwards.

    python scripts/tau.py --to outputs/tau

Measures the shipped bases on validation problems, writes tau.csv row by row and then tau.png. Time is this process's
processor time. Every setting draws with the same seed.
"""

import argparse
import csv
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import torch

from stp.config import SCHEMAS
from stp.models.codec import Codec
from stp.models.options import Model
from stp.models.policy import load_policy
from stp.report.figures import COLOURS
from stp.samplers import Standard
from stp.samplers.generate import generate
from stp.types import Batch, Draws

matplotlib.use("Agg")
from matplotlib import pyplot as plt

TAUS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
STEPS = (40, 24, 16, 12, 8)
LENGTHS = {"length": 48, "block_length": 24}  # conf/sampling/tiny.yaml, with N = 40
Row = dict[str, Any]


def settings(temperature: float) -> Iterator[tuple[str, Standard]]:
    """Yields the schedule with ever fewer forwards, and thresholds with a floor of 2 tokens a forward (N = 40), and of 1."""
    for steps in STEPS:
        yield f"schedule, N = {steps}", Standard(steps=steps, temperature=temperature, **LENGTHS)
    for steps, taus in ((40, TAUS), (48, TAUS[::2])):
        for tau in taus:
            sampler = Standard(steps=steps, temperature=temperature, reveal="threshold", tau=tau, **LENGTHS)
            yield f"threshold, floor {sampler.floor}", sampler


def measure(name: str, problems: int, seed: int) -> Iterator[Row]:
    """Yields a row for each setting, on the first validation problems of a task."""
    task: Any = SCHEMAS["task"][name]()
    asked = task.problems("validation", problems)
    policy, tokenizer = load_policy(Model(base=name), trainable=False)
    codec = Codec(tokenizer, "", 200)
    batch = Batch(codec.prompts(asked), Draws(f"{seed}/tau", len(asked)))
    for temperature in (0.0, 1.0):
        for rule, sampler in settings(temperature):
            began = time.process_time()
            done = generate(policy, sampler, batch, len(asked))
            seconds = time.process_time() - began
            texts = codec.completions(done)
            right = [task.solves(problem, text) for problem, text in zip(asked, texts, strict=True)]
            rewards = [sum(task.reward_parts(problem, text).values()) for problem, text in zip(asked, texts, strict=True)]
            quartiles = statistics.quantiles(done.nfe_B.tolist(), n=4, method="inclusive")
            yield {
                "task": name,
                "temperature": temperature,
                "rule": rule.split(", N")[0],
                "steps": sampler.steps,
                "tau": sampler.tau,
                "problems": len(asked),
                "accuracy": round(statistics.mean(right), 4),
                "reward": round(statistics.mean(rewards), 4),
                "forwards": round(float(done.nfe_B.float().mean()), 2),
                **dict(zip(("q25", "median", "q75"), quartiles, strict=True)),
                "max": int(done.nfe_B.max()),
                "cpu_s": round(seconds, 2),
            }


def draw(rows: list[Row], to: Path) -> None:
    """Draws a column of panels for each task and temperature: accuracy above, reward below."""
    panels = list(dict.fromkeys((row["task"], row["temperature"]) for row in rows))
    figure, grid = plt.subplots(2, len(panels), figsize=(2.9 * len(panels), 5.4), layout="constrained", squeeze=False)
    for i, (task, temperature) in enumerate(panels):
        curves = defaultdict(list)
        for row in rows:
            if (row["task"], row["temperature"]) == (task, temperature):
                curves[row["rule"]].append(row)
        for axes, value in zip(grid[:, i], ("accuracy", "reward"), strict=True):
            for colour, (rule, points) in zip(COLOURS, curves.items(), strict=False):
                points = sorted(points, key=lambda row: row["forwards"])
                marker = "s" if rule == "schedule" else "o"
                x, y = [p["forwards"] for p in points], [p[value] for p in points]
                axes.plot(x, y, color=colour, marker=marker, markersize=4, label=rule)
            axes.set(xlabel="mean forwards of a row", ylabel=value)
            axes.grid(alpha=0.3)
        grid[0, i].set_title(f"{task}, T = {temperature:g}")
    grid[0, 0].legend(frameon=False, fontsize="small")
    figure.savefig(to / "tau.png", dpi=110)
    plt.close(figure)


def main() -> None:
    """Measures, tells each row as it comes, and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=["countdown", "gsm8k", "math"])
    parser.add_argument("--problems", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, default=Path("outputs/tau"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.to.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    with (options.to / "tau.csv").open("w", newline="", encoding="utf-8") as file:
        for name in options.tasks:
            for row in measure(name, options.problems, options.seed):
                rows.append(row)
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                if len(rows) == 1:
                    writer.writeheader()
                writer.writerow(row)
                file.flush()
                print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    draw(rows, options.to)


if __name__ == "__main__":
    main()
