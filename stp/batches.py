"""Micro-batches of an update: which rows learn, a few at a time, in equal number on every rank."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stp.diffusion import Denoiser
from stp.estimators.base import Estimator, score
from stp.objectives import Objective
from stp.ranks import Ranks
from stp.types import LogProbs, Noise, Rollout, Trajectory


@dataclass(frozen=True)
class MicroBatch:
    """Rows of a rollout that share a pass. live: False where the pass counts nothing and only keeps step with other ranks."""

    rows: Tensor
    live: bool = True


IDLE = MicroBatch(torch.zeros(1, dtype=torch.long), live=False)


def micro_batches(rows: Tensor, size: int, ranks: Ranks) -> list[MicroBatch]:
    """These rows in parts: as many parts as on the rank that has the most, because ZeRO-3 needs equal numbers of forwards."""
    parts = [MicroBatch(part) for part in rows.split(size) if len(part)]
    return parts + [IDLE] * int(ranks.largest(len(parts)) - len(parts))


@dataclass(frozen=True)
class Batches:
    """A rollout as an update passes over it.

    learning_R: the rows with something to learn, from the shortest prompt to the longest. idle_R: the others. parts: the
    learning rows in micro-batches. weight_BL: what each token counts for in the loss of the global batch.
    """

    learning_R: Tensor
    idle_R: Tensor
    parts: list[MicroBatch]
    weight_BL: Tensor
    ranks: Ranks

    @classmethod
    def of(cls, rollout: Rollout, objective: Objective, size: int, ranks: Ranks) -> "Batches":
        """The micro-batches of `size` rows. Rows whose advantage is 0 learn only where the objective has a penalty for them."""
        trajectory = rollout.trajectory
        trainable_BL = trajectory.trainable_BL
        tokens = int(ranks.sum({"tokens": int(trainable_BL.sum())})["tokens"])
        learns_B = torch.ones_like(rollout.advantage_B, dtype=torch.bool)
        if not objective.trains_equal:
            learns_B = rollout.advantage_B != 0
        by_width = trajectory.prompts.by_width()
        learning_R, idle_R = by_width[learns_B[by_width]], by_width[~learns_B[by_width]]
        parts = micro_batches(learning_R, size, ranks) or [IDLE]
        return cls(learning_R, idle_R, parts, objective.token_weights(trainable_BL, rollout.draws.batch, tokens), ranks)


Scored = list[tuple[Tensor, LogProbs]]  # some rows, and their log-likelihoods


def score_rows(
    denoise: Denoiser, estimator: Estimator, trajectory: Trajectory, noise: Noise, parts: list[MicroBatch]
) -> Scored:
    """Log-likelihoods of some rows without gradients, in as many forwards on every rank."""
    found = [score(denoise, estimator, trajectory.rows(p.rows), noise.rows(p.rows), len(p.rows)) for p in parts]
    return [(part.rows, values) for part, values in zip(parts, found, strict=True) if part.live]


def assemble(scored: Scored, noise: Noise) -> LogProbs:
    """One record (on the CPU) of the rows that were scored, with 0 in the others."""
    B, K, L = noise.masked_BKL.shape
    like = scored[0][1] if scored else LogProbs(torch.zeros(B, L), torch.zeros(B, K))
    kinds = (like.token_BL, like.draw_BK, like.upper_BL)
    record = LogProbs(*(None if t is None else torch.zeros(B, t.shape[1]) for t in kinds))  # type: ignore[arg-type]
    for rows, values in scored:
        for name, into in vars(record).items():
            if into is not None:
                into[rows] = getattr(values, name).to("cpu")
    return record
