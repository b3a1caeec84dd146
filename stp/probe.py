"""The variance probe behind Fig. 3: many Monte Carlo draws on a few trajectories of an update."""

import dataclasses

import torch
from torch import Tensor

from stp.diffusion import Denoiser
from stp.estimators.base import Estimator, score
from stp.roles import Learner, Run
from stp.types import Draws, Rollout, Trajectory


def probe_variance(
    denoise: Denoiser, estimator: Estimator, trajectory: Trajectory, draws: Draws, repeats: int, rows: int
) -> tuple[Tensor, Tensor]:
    """Estimates each trajectory's ELBO `repeats` times. Returns (variance_B, estimates_BR).

    If draws are independent, one draw makes an estimate. If they depend on each other, all K draws together make one.
    """
    single = dataclasses.replace(estimator, samples=1) if estimator.independent else estimator
    estimates = []
    for repeat in range(repeats):
        noise = single.draw(trajectory, draws, 1_000_000 + repeat, denoise)
        estimates.append(score(denoise, single, trajectory, noise, rows).draw_BK.mean(dim=1))
    estimates_BR = torch.stack(estimates, dim=1)
    return estimates_BR.var(dim=1), estimates_BR


def probed_rows(draws: Draws, count: int) -> Tensor:
    """Returns which of these rows are probed: `count` rows of the global batch, spread evenly over the prompts."""
    count = min(count, draws.batch)
    chosen = torch.arange(count) * draws.batch // count
    rows = torch.arange(draws.batch) if draws.rows is None else draws.rows
    return torch.isin(rows, chosen).nonzero().squeeze(1)


def probe(learner: Learner, rollout: Rollout, run: Run) -> dict[str, float]:
    """Fig. 3: measures the ELBO's variance from many draws on some trajectories, and adds a line for each to variance.jsonl."""
    trainer, ranks = learner.trainer, run.ranks
    some = probed_rows(rollout.draws, trainer.probe_rows)
    # at ZeRO-3 a forward gathers weights from all ranks, so all must run equally many: a rank with fewer rows repeats its first
    padded = torch.cat([some, some.new_zeros(int(ranks.largest(len(some))) - len(some))])
    variance_B, estimates_BR = probe_variance(
        learner.engine.policy,
        learner.estimator,
        rollout.trajectory.rows(padded),
        rollout.draws.select(padded),
        trainer.probe_draws,
        trainer.micro_batch,
    )
    variance_B, estimates_BR, trajectory = variance_B[: len(some)], estimates_BR[: len(some)], rollout.trajectory.rows(some)
    n_B = trajectory.trainable_BL.sum(dim=1)
    rows = ranks.lists(
        {
            "variance": variance_B.tolist(),
            "variance_per_token": (variance_B / n_B.clamp(min=1) ** 2).tolist(),
            "elbo": estimates_BR.mean(dim=1).tolist(),
            "trainable": n_B.tolist(),
            "fixed": trajectory.fixed_BL.sum(dim=1).tolist(),
            "reward": rollout.reward_B[some].tolist(),
        }
    )
    records = [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
    update = rollout.draws.update + 1
    run.tracker.append("variance", [{"update": update, "draws": trainer.probe_draws, **record} for record in records])
    variance = torch.tensor(rows["variance"])
    return {"probe/variance": float(variance.mean()), "probe/variance_median": float(variance.median())}
