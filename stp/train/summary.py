"""Writes summary.json and the closing lines of a run."""

import time
from statistics import mean
from typing import Any

import torch

from stp.config import Config, config_hash, plain, seedless_hash
from stp.evaluation.evaluator import source_of
from stp.evaluation.intervals import counts
from stp.run import ranks
from stp.run.checkpoints import State
from stp.run.files import read_jsonl
from stp.run.memory import peak_memory_mb
from stp.run.summary import Summary
from stp.run.tracking import TRAINING, Tracker
from stp.train.evaluations import Evaluations


def summarise(
    config: Config, choices: dict[str, Any], state: State, evaluations: Evaluations, seconds: dict[str, float]
) -> Summary:
    """Returns what summary.json holds. choices: the option taken in each group. state: it has problems and code versions."""
    folder, about, final = evaluations.tracker.folder, state.problems, evaluations.final or {}
    evaluated = about["eval"]["problems"] if "eval" in about else 0  # may be fewer than trainer.eval_size
    probed = [r["variance"] for r in read_jsonl(folder / "variance.jsonl")]
    variance = torch.tensor([v for v in probed if v is not None], dtype=torch.float64)  # null: the variance overflowed
    metrics = read_jsonl(folder / "metrics.jsonl")
    quartiles = variance.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)) if len(variance) else None
    phases = ("sample", "score", "reward", "rescue", "update", "eval", "probe", "pregenerate", "checkpoint", "other")
    variances = None
    if quartiles is not None:
        variances = {
            "median": float(quartiles[1]),
            "mean": float(variance.mean()),
            "iqr": float(quartiles[2] - quartiles[0]),
            "trajectories": len(variance),
            "not_finite": len(probed) - len(variance),
            "draws": 1
            if config.estimator.independent
            else config.estimator.copies(config.sampler.length, config.sampler.steps),
        }
    return Summary(
        **{name: choices.get(name) for name in ("task", "model", "sampler", "estimator", "objective", "rescue", "experiment")},
        seed=config.seed,
        updates=config.trainer.updates,
        base=scores(evaluations.base, config.trainer.eval_temperatures),
        final=scores(final, config.trainer.eval_temperatures),
        time={
            "train_s": sum(seconds.get(name, 0.0) for name in (*TRAINING, "other")),
            "cpu_s": seconds.get("cpu", 0.0),
            **{f"{name}_s": seconds.get(name, 0.0) for name in phases},
        },
        forwards_per_rollout=mean(line["nfe"] for line in metrics) if metrics else None,
        forwards=spread_of_forwards(metrics),
        finished=time.strftime("%Y-%m-%dT%H:%M:%S"),
        ranks=ranks.world_size(),
        config_hash=config_hash(config),
        seedless_hash=seedless_hash(plain(config)),
        code=", then ".join(state.code),
        device=", then ".join(state.devices),
        eval={
            **{"split": config.trainer.eval_split, "size": config.trainer.eval_size, "problems": evaluated},
            **{"source": source_of(config.task, config.trainer.eval_split), "grading": config.task.grading},
        },
        problems=about,
        elbo_variance=variances,
        peak_memory_mb=peak_memory_mb(),
    )


def spread_of_forwards(metrics: list[dict[str, Any]]) -> dict[str, float] | None:
    """Returns quartiles (means over the updates) and the maximum of the rows' forwards; None if a schedule counts them."""
    if not metrics or "nfe/max" not in metrics[-1]:
        return None
    quartiles = {name: mean(line[f"nfe/{name}"] for line in metrics) for name in ("q25", "median", "q75")}
    return quartiles | {"max": max(line["nfe/max"] for line in metrics)}


def scores(measured: dict[str, Any], temperatures: list[float]) -> dict[str, Any]:
    """Returns the first temperature's counts at the top, and those of other temperatures under their names."""
    first, *others = (f"T={t:g}" for t in temperatures)
    return {"temperature": temperatures[0], **measured.get(first, {}), **{name: measured[name] for name in others if measured}}


def report(tracker: Tracker, summary: Summary, evaluations: Evaluations) -> None:
    """Prints the closing lines of a run."""
    base = evaluations.base
    for name, score in (evaluations.final or {}).items():
        before = f"{counts(base[name])} before, " if name in base else ""
        tracker.say(f"accuracy at {name}: {before}{counts(score)} after")
    spent = summary.time
    parts = ", ".join(f"{name} {spent[f'{name}_s']:.0f}" for name in ("sample", "score", "update"))
    tracker.say(f"training {spent['train_s']:.0f} s ({parts}), evaluation {spent['eval_s']:.0f} s, in {tracker.folder}")
