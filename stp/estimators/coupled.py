"""Coupled masks (DiffuCoder, Gong et al., 2025): each draw is paired with its complement, so that every token is scored."""

from dataclasses import dataclass, field, replace

import torch

from stp.diffusion import Denoiser
from stp.estimators.base import Estimator, count_masked, mask_exactly
from stp.types import Draws, LogProbs, Noise, Trajectory


@dataclass
class Coupled(Estimator):
    """The ELBO's token-wise estimate from K pairs of complementary masks (2K masked copies; a pair counts as one draw).

    The first mask of a pair hides m ~ U{1..n} of the n trainable positions and has weight n/m. The second hides the other
    n - m and has weight n/(n - m). If m = n, the second is empty and the first counts twice, to keep the estimate unbiased.
    """

    samples: int = field(default=2, metadata={"help": "K, pairs of complementary masks per completion"})

    def noise(self, trajectory: Trajectory, draws: Draws, step: int) -> Noise:
        """Returns K masks of an exact count of positions, each followed by its complement."""
        K, L = self.samples, trajectory.response_BL.shape[1]
        n_B1 = trajectory.trainable_BL.sum(dim=1, keepdim=True)
        m_BK = count_masked(draws.uniform("times", step, K), n_B1)
        trainable_B1L = trajectory.trainable_BL[:, None]
        first_BKL = mask_exactly(trainable_B1L, m_BK, draws.uniform("masks", step, K, L))
        first_BK = n_B1 / m_BK.clamp(min=1) * torch.where(m_BK == n_B1, 2.0, 1.0)
        second_BK = n_B1 / (n_B1 - m_BK).clamp(min=1)
        masks = torch.stack([first_BKL, trainable_B1L & ~first_BKL], dim=2)
        return Noise(masks.flatten(1, 2), torch.stack([first_BK, second_BK], dim=2).flatten(1, 2))

    def __call__(self, denoise: Denoiser, trajectory: Trajectory, noise: Noise) -> LogProbs:
        """Eq. 4's token-wise estimate. draw_BK holds the mean of each pair."""
        single = super().__call__(denoise, trajectory, noise)
        return replace(single, draw_BK=single.draw_BK.unflatten(1, (-1, 2)).mean(dim=2))
