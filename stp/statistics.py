"""What an update tells about itself: ELBO variance (Theorem 4.3, Fig. 3), rewards, lengths, forwards; sums over ranks."""

import contextlib
import dataclasses
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stp.diffusion import Denoiser
from stp.estimators.base import Estimator, score
from stp.types import Draws, LogProbs, Trajectory

PROCESS = Path("/proc/self")


class Totals:
    """Sums, maxima and lists over ranks. On one rank they are what they were given."""

    def __init__(self, gather: Callable[[Any], list[Any]], ranks: int) -> None:
        self.gather, self.ranks = gather, ranks

    def __call__(self, values: dict[str, float]) -> dict[str, float]:
        every = self.gather(values)
        return {name: sum(v[name] for v in every) for name in values}

    def largest(self, value: float) -> float:
        """The maximum over ranks."""
        return max(self.gather(value))

    def lists(self, values: dict[str, list]) -> dict[str, list]:
        """Concatenation over ranks, in rank order."""
        every = self.gather(values)
        names = dict.fromkeys(name for v in every for name in v)
        return {name: [x for v in every for x in v.get(name, [])] for name in names}


def spent(clock: Any, totals: Totals) -> dict[str, float]:
    """Seconds of each phase on this rank, and `cpu`, the processor seconds of all ranks."""
    seconds = clock.totals()
    return seconds | totals({"cpu": seconds["cpu"]})


def elbo_stats(
    estimator: Estimator,
    old: LogProbs | None,
    trainable_BL: Tensor,
    draw_parts: list[tuple[Tensor, Tensor]],
    totals: Totals,
) -> dict[str, float]:
    """Theorem 4.3's variance over the draws at hand, and Theorem 4.4's V and maximum of the difference theta - theta_old.

    draw_parts: (rows, draw_BK) of theta at the last inner update. old: theta_old's, or None where the objective reads none;
    the variance is then theta's.
    """
    n_B = trainable_BL.sum(dim=1).clamp(min=1)
    parts = [(torch.arange(len(n_B)), old.draw_BK)] if old is not None else draw_parts
    rows_B = torch.cat([part for part, _ in parts]) if parts else torch.arange(0)
    draw_BK = torch.cat([draws for _, draws in parts]) if parts else torch.zeros(0, 1)
    record: dict[str, Any] = {"elbo": (draw_BK.mean(dim=1) / n_B[rows_B]).tolist()}
    if estimator.independent and draw_BK.shape[1] > 1:
        variance_B = draw_BK.var(dim=1)
        record |= {"variance": variance_B.tolist(), "variance_per_token": (variance_B / n_B[rows_B] ** 2).tolist()}
    if old is not None and draw_parts:
        delta_BK = torch.cat([new - old.draw_BK[part] for part, new in draw_parts])
        record["delta_max"] = delta_BK.mean(dim=1).abs().tolist()
        if estimator.independent and delta_BK.shape[1] > 1:
            record["delta_variance"] = delta_BK.var(dim=1).tolist()
    together = totals.lists(record)
    out = {f"elbo/{k}": float(torch.tensor(v).mean()) for k, v in together.items() if v and k != "delta_max"}
    if together.get("variance"):
        out["elbo/variance_median"] = float(torch.tensor(together["variance"]).median())
    if together.get("delta_max"):
        out["elbo/delta_max"] = max(together["delta_max"])
    return out


def probe_variance(
    denoise: Denoiser, estimator: Estimator, trajectory: Trajectory, draws: Draws, repeats: int, rows: int
) -> tuple[Tensor, Tensor]:
    """Variance of the sequence ELBO per trajectory over `repeats` estimates: (variance_B, estimates_BR).

    Independent draws are taken one by one; where draws depend on each other the whole K-draw estimate is repeated.
    """
    single = dataclasses.replace(estimator, samples=1) if estimator.independent else estimator
    estimates = []
    for repeat in range(repeats):
        noise = single.draw(trajectory, draws, step=1_000_000 + repeat)
        estimates.append(score(denoise, single, trajectory, noise, rows).draw_BK.mean(dim=1))
    estimates_BR = torch.stack(estimates, dim=1)
    return estimates_BR.var(dim=1), estimates_BR


def probed_rows(draws: Draws, count: int) -> Tensor:
    """Which of these rows are probed: `count` of the global batch, evenly spaced, so that every prompt has its share."""
    count = min(count, draws.batch)
    chosen = torch.arange(count) * draws.batch // count
    rows = torch.arange(draws.batch) if draws.rows is None else draws.rows
    return torch.isin(rows, chosen).nonzero().squeeze(1)


def probe(
    engine: Any, estimator: Estimator, done: Any, trainer: Any, number: int, tracker: Any, totals: Totals
) -> dict[str, float]:
    """Fig. 3: the ELBO's variance from many draws, on some of this update's trajectories, one line each in variance.jsonl."""
    some = probed_rows(done.draws, trainer.probe_rows)
    # at ZeRO-3 a forward gathers weights from all ranks, so each runs as many: a rank with fewer rows repeats its first
    padded = torch.cat([some, some.new_zeros(int(totals.largest(len(some))) - len(some))])
    variance_B, estimates_BR = probe_variance(
        engine.policy,
        estimator,
        done.trajectory.rows(padded),
        done.draws.select(padded),
        trainer.probe_draws,
        trainer.micro_batch,
    )
    variance_B, estimates_BR, trajectory = variance_B[: len(some)], estimates_BR[: len(some)], done.trajectory.rows(some)
    n_B = trajectory.trainable_BL.sum(dim=1)
    rows = totals.lists(
        {
            "variance": variance_B.tolist(),
            "variance_per_token": (variance_B / n_B.clamp(min=1) ** 2).tolist(),
            "elbo": estimates_BR.mean(dim=1).tolist(),
            "trainable": n_B.tolist(),
            "fixed": trajectory.fixed_BL.sum(dim=1).tolist(),
            "reward": done.reward_B[some].tolist(),
        }
    )
    records = [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
    tracker.append("variance", [{"update": number + 1, "draws": trainer.probe_draws, **record} for record in records])
    variance = torch.tensor(rows["variance"])
    return {"probe/variance": float(variance.mean()), "probe/variance_median": float(variance.median())}


def rollout_stats(done: Any, group_size: int, totals: Totals) -> dict[str, float]:
    """Rewards, lengths, forwards and pruning of a rollout, over all ranks."""
    trajectory = done.trajectory
    rows = totals.lists(
        {
            "reward": done.reward_B.tolist(),
            "length": trajectory.until_eos_BL.sum(dim=1).tolist(),
            "ended": (~trajectory.until_eos_BL[:, -1]).tolist(),
            "fixed": trajectory.fixed_BL.sum(dim=1).tolist(),
            "trainable": trajectory.trainable_BL.sum(dim=1).tolist(),
            "without_anchor": (~done.anchored_B).tolist(),
            "nfe_run": [trajectory.nfe_run],
        }
    )
    tensors = {name: torch.tensor(values, dtype=torch.float32) for name, values in rows.items()}
    spread = tensors["reward"].view(-1, group_size)
    return {
        "reward/mean": float(tensors["reward"].mean()),
        "reward/std": float(tensors["reward"].std()),
        "reward/equal_groups": float((spread.max(dim=1).values == spread.min(dim=1).values).float().mean()),
        "reward/best_of_group": float(spread.max(dim=1).values.mean()),
        "completion/length": float(tensors["length"].mean()),
        "completion/ended": float(tensors["ended"].mean()),
        "pruning/fixed": float(tensors["fixed"].mean()),
        "pruning/rows_with_nothing_fixed": float((tensors["fixed"] == 0).float().mean()),
        "pruning/rows_without_anchor": float(tensors["without_anchor"].mean()),
        "pruning/trainable": float(tensors["trainable"].mean()),
        "nfe": float(trajectory.nfe),
        "nfe/run": float(tensors["nfe_run"].max()),
    }


def sample_records(done: Any, number: int, count: int) -> list[dict[str, Any]]:
    """The first completions of this rank as records for samples.jsonl."""
    return [
        {
            "update": number,
            "row": i,
            "problem": done.problems[i].id,
            "prompt": done.problems[i].question,
            "completion": done.completions[i],
            "fixed": done.trajectory.fixed_BL[i].nonzero().squeeze(1).tolist(),
            "rewards": done.reward_parts[i],
            "advantage": float(done.advantage_B[i]),
        }
        for i in range(min(count, len(done.completions)))
    ]


def peak_memory_mb() -> float:
    """Peak memory since the last reset: on the GPU if there is one, else this process's resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    if PROCESS.exists():
        peak = next(
            (line for line in (PROCESS / "status").read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM")), None
        )
        if peak is not None:
            return int(peak.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def reset_peak_memory() -> None:
    """Start counting again, as a job of a sweep does (where the system can)."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        (PROCESS / "clear_refs").write_text("5", encoding="utf-8")
