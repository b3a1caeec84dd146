"""Micro-batches of an update: which rows learn, a few at a time, in equal number on every rank."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stp.diffusion import Denoiser
from stp.estimators.base import Estimator, score
from stp.objectives.base import Objective, by_token
from stp.ranks import Ranks
from stp.types import LogProbs, Noise, Rollout, Trajectory


@dataclass(frozen=True)
class MicroBatch:
    """Rows of a rollout that share a forward and a backward pass.

    live: False if the pass adds nothing and runs only because the other ranks run one.
    """

    rows: Tensor
    live: bool = True


IDLE = MicroBatch(torch.zeros(1, dtype=torch.long), live=False)


def micro_batches(rows: Tensor, size: int, ranks: Ranks) -> list[MicroBatch]:
    """Splits these rows into parts of `size`. Idle parts follow until every rank has as many: ZeRO-3 needs equal forwards."""
    parts = [MicroBatch(part) for part in rows.split(size) if len(part)]
    return parts + [IDLE] * int(ranks.largest(len(parts)) - len(parts))


@dataclass(frozen=True)
class Batches:
    """A rollout, divided for an update.

    learning_R: the rows from which the policy learns, from the shortest prompt to the longest. idle_R: the others. parts: the
    learning rows in micro-batches. weight_BL: the weight of each token in the loss of the global batch.
    """

    learning_R: Tensor
    idle_R: Tensor
    parts: list[MicroBatch]
    weight_BL: Tensor
    ranks: Ranks

    @classmethod
    def of(cls, rollout: Rollout, objective: Objective, size: int, ranks: Ranks) -> "Batches":
        """Divides a rollout into micro-batches of `size` rows. Rows with advantage 0 are idle unless a penalty trains them."""
        trajectory = rollout.trajectory
        trainable_BL = trajectory.trainable_BL
        tokens = int(ranks.sum({"tokens": int(trainable_BL.sum())})["tokens"])
        learns_B = torch.ones_like(rollout.reward_B, dtype=torch.bool)
        if not objective.trains_equal:
            learns_B = by_token(rollout.advantage_B != 0).any(dim=1)
        by_width = trajectory.prompts.by_width()
        learning_R, idle_R = by_width[learns_B[by_width]], by_width[~learns_B[by_width]]
        parts = micro_batches(learning_R, size, ranks) or [IDLE]
        return cls(learning_R, idle_R, parts, objective.token_weights(trainable_BL, rollout.draws.batch, tokens), ranks)


Scored = list[tuple[Tensor, LogProbs]]  # indices of some rows, and the log-likelihoods of these rows


def score_rows(
    denoise: Denoiser, estimator: Estimator, trajectory: Trajectory, noise: Noise, parts: list[MicroBatch], draws: int = 0
) -> Scored:
    """Returns the log-likelihoods of the live parts, without gradients. Every part is run: all ranks need equal forwards.

    draws: how many draws of a completion share a forward; 0: all of them.
    """
    found = [score(denoise, estimator, trajectory.rows(p.rows), noise.rows(p.rows), len(p.rows), draws) for p in parts]
    return [(part.rows, values) for part, values in zip(parts, found, strict=True) if part.live]


def assemble(scored: Scored, noise: Noise) -> LogProbs:
    """Returns one record for all rows, on the CPU, with 0 in the rows that were not scored."""
    B, K, L = noise.masked_BKL.shape
    like = scored[0][1] if scored else LogProbs(torch.zeros(B, L), torch.zeros(B, K))
    kinds = (like.token_BL, like.draw_BK, like.upper_BL)
    record = LogProbs(*(None if t is None else torch.zeros(B, t.shape[1]) for t in kinds))  # type: ignore[arg-type]
    for rows, values in scored:
        for name, into in vars(record).items():
            if into is not None:
                into[rows] = getattr(values, name).to("cpu")
    return record
