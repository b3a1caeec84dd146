"""Coupled masks (DiffuCoder, Gong et al., 2025): each draw is paired with its complement, so that every token is scored."""

from dataclasses import dataclass, field, replace

import torch

from stp.diffusion import Denoiser
from stp.errors import require
from stp.estimators.base import Estimator, count_masked, mask_exactly
from stp.types import Draws, LogProbs, Noise, Trajectory


@dataclass
class Coupled(Estimator):
    """The ELBO's token-wise estimate from K pairs of complementary masks (2K masked copies; a pair counts as one draw).

    The first mask of a pair hides m ~ U{1..n} of the n trainable positions and has weight n/m. The second hides the other
    n - m and has weight n/(n - m). If m = n, the second is empty and the first counts twice, to keep the estimate unbiased.

    DiffuCoder's released code has another estimate, `full=true t_range=[0.2,0.8]`. With t_range a pair's time t ~ U(t_range) is
    shared by all completions, and the masks are Bernoulli(t) and its complement, with weights 1/t and 1/(1 - t). With `full` a
    third copy of weight 1, in which everything is masked, is added to the pair's two, and the sum is halved: a token's
    estimate is half of its log p in the full copy and half of its weighted one in the pair. Its weights add up to 3/2 on
    average, so it is no likelihood: where context does not matter it is 3/2 of the log-likelihood.
    """

    samples: int = field(default=2, metadata={"help": "K, pairs of complementary masks per completion"})
    full: bool = field(default=False, metadata={"help": "add a copy with everything masked to each pair (as released)"})
    t_range: list[float] | None = field(
        default=None, metadata={"help": "range of a time that all completions share (released: [0.2,0.8]); null: m ~ U{1..n}"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.t_range is None or (len(self.t_range) == 2 and 0 < self.t_range[0] <= self.t_range[1] < 1),
            "estimator.t_range",
            self.t_range,
            "two masked fractions, the smaller first, between 0 and 1 (exclusive); the released code has [0.2,0.8]",
        )

    def copies(self, length: int, forwards: int) -> int:
        return self.copies_per_draw * self.samples

    def positions(self, length: int) -> int:
        return (1 + self.full) * self.samples * length

    @property
    def copies_per_draw(self) -> int:
        return 2 + self.full

    def noise(self, trajectory: Trajectory, draws: Draws, step: int) -> Noise:
        """Returns K masks, each followed by its complement, and with `full` by a mask of everything."""
        K, (B, L) = self.samples, trajectory.response_BL.shape
        trainable_B1L, key_BKL = trajectory.trainable_BL[:, None], draws.uniform("masks", step, K, L)
        if self.t_range is None:
            n_B1 = trajectory.trainable_BL.sum(dim=1, keepdim=True)
            m_BK = count_masked(draws.uniform("times", step, K), n_B1)
            first_BKL = mask_exactly(trainable_B1L, m_BK, key_BKL)
            first_BK = n_B1 / m_BK.clamp(min=1) * torch.where(m_BK == n_B1, 2.0, 1.0)
            second_BK = n_B1 / (n_B1 - m_BK).clamp(min=1)
        else:
            low, high = self.t_range
            time_BK = (low + (high - low) * torch.rand(K, generator=draws.generator("times", step))).expand(B, K)
            first_BKL = trainable_B1L & (key_BKL < time_BK[..., None])
            first_BK, second_BK = 1 / time_BK, 1 / (1 - time_BK)
        masks, weights = [first_BKL, trainable_B1L & ~first_BKL], [first_BK, second_BK]
        if self.full:  # 3/2: a draw is the mean of its copies, and here half of their sum
            masks.append(trainable_B1L.expand_as(first_BKL))
            weights = [1.5 * weight_BK for weight_BK in (first_BK, second_BK, torch.ones(B, K))]
        return Noise(torch.stack(masks, dim=2).flatten(1, 2), torch.stack(weights, dim=2).flatten(1, 2))

    def __call__(self, denoise: Denoiser, trajectory: Trajectory, noise: Noise) -> LogProbs:
        """Eq. 4's token-wise estimate. draw_BK holds the mean over the copies of each draw."""
        single = super().__call__(denoise, trajectory, noise)
        return replace(single, draw_BK=single.draw_BK.unflatten(1, (-1, self.copies_per_draw)).mean(dim=2))
