"""UniGRPO's estimate (MMaDA, Yang et al., 2025): unweighted log-probabilities at structured masked fractions."""

from dataclasses import dataclass

import torch

from stp.estimators.base import Estimator, count_masked, mask_exactly
from stp.types import Draws, Noise, Trajectory


@dataclass
class Unigrpo(Estimator):
    """B^k = (1/K) sum_j 1[k masked in draw j] log p(x_k | x_tj), without the ELBO's 1/t.

    One random ratio u is drawn per mask set and shared by all completions. Draw j masks the fraction (j + u) / K of each, so
    the K draws cover noisy and nearly clean states alike, and all completions of a group are compared at the same noise.
    Here the objective averages over all trainable tokens; UniGRPO averages over the masked ones, on average half of them.
    """

    @property
    def independent(self) -> bool:
        return False

    def noise(self, trajectory: Trajectory, draws: Draws, step: int) -> Noise:
        """Masks exact counts of positions at the shared times, with weight 1."""
        K, (B, L) = self.samples, trajectory.response_BL.shape
        shared = torch.rand(1, generator=draws.generator("times", step))
        time_BK = ((torch.arange(K) + shared) / K).expand(B, K)
        m_BK = count_masked(time_BK, trajectory.trainable_BL.sum(dim=1, keepdim=True))
        masked_BKL = mask_exactly(trajectory.trainable_BL[:, None], m_BK, draws.uniform("masks", step, K, L))
        return Noise(masked_BKL, torch.ones(B, K))
