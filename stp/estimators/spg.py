"""SPG's sandwiched bounds (Wang et al., 2025): a lower bound for good completions, an upper bound for the others."""

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from stp.diffusion import Denoiser
from stp.errors import require
from stp.estimators.base import Estimator, mask_exactly, masked_log_probs, weighted
from stp.types import Draws, LogProbs, Noise, Trajectory


@dataclass
class Spg(Estimator):
    """Bounds of the log-likelihood over block-wise masks, for objective=policy_gradient.

    A draw takes one block of the response: what follows it is masked and not scored, m ~ U{1..n_b} of its n_b trainable
    positions are masked, and what precedes it is seen (but masked, and then scored, with probability p_mask). Blocks are
    drawn in proportion to n_b, which is SPG's uniform choice where they are equally long, and its extension to uneven ones.
    With t_j = m_j / n, the masked part of the n trainable tokens:

    - lower: mean_j 1/m_j sum log p, the block-wise ELBO per token (n times it is token_BL's sum);
    - upper: mean over positions masked in any draw of 1/beta log mean_j 1[masked in j] p_j^beta / t_j, in log space;
    - upper_BL: mixture * upper + (1 - mixture) * lower.

    `upper` is a bound in expectation over draws only. With few draws it is too small, being the log of a mean: docs/theory.md.
    """

    eubo_beta: float = field(default=1.5, metadata={"help": "beta >= 1 of the upper bound (2.0 published with mixture=1)"})
    mixture: float = field(default=0.5, metadata={"help": "weight of the upper bound where the advantage is negative"})
    block_length: int = field(default=32, metadata={"help": "tokens of a block, the sampler's"})

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            1 <= self.eubo_beta < math.inf, "estimator.eubo_beta", self.eubo_beta, "an upper bound needs beta of at least 1"
        )
        require(0 <= self.mixture <= 1, "estimator.mixture", self.mixture, "the weight of the upper bound lies in [0, 1]")
        require(self.block_length >= 1, "estimator.block_length", self.block_length, "a block has at least 1 token")

    @property
    def separable(self) -> bool:
        return False  # the upper bound is the log of a mean over draws

    def noise(self, trajectory: Trajectory, draws: Draws, step: int) -> Noise:
        """Returns K block-wise masks with weights n/m, and the tail that each of them hides."""
        K, (B, L) = self.samples, trajectory.response_BL.shape
        trainable_BL = trajectory.trainable_BL
        block_L = torch.arange(L) // self.block_length
        size_BN = trainable_BL.new_zeros(B, int(block_L[-1]) + 1, dtype=torch.long)
        size_BN.index_add_(1, block_L, trainable_BL.long())
        n_B1 = trainable_BL.sum(dim=1, keepdim=True)
        place_BK = draws.uniform("blocks", step, K) * n_B1  # a uniform trainable token: its block is the chosen one
        chosen_BK = (place_BK[..., None] >= size_BN.cumsum(dim=1)[:, None, :]).sum(dim=2).clamp(max=size_BN.shape[1] - 1)
        block_BK1 = chosen_BK[..., None]
        inside_BKL = trainable_BL[:, None, :] & (block_L == block_BK1)
        size_BK = size_BN.gather(1, chosen_BK)
        m_BK = torch.minimum(1 + (draws.uniform("times", step, K) * size_BK).long(), size_BK)
        masked_BKL = mask_exactly(inside_BKL, m_BK, draws.uniform("masks", step, K, L))
        if self.p_mask > 0:
            earlier_BKL = trainable_BL[:, None, :] & (block_L < block_BK1)
            masked_BKL |= earlier_BKL & (draws.uniform("earlier blocks", step, K, L) < self.p_mask)
        weight_BK = n_B1 / masked_BKL.sum(dim=2).clamp(min=1)
        return Noise(masked_BKL, weight_BK, hidden_BKL=(block_L > block_BK1).expand(B, K, L))

    def __call__(self, denoise: Denoiser, trajectory: Trajectory, noise: Noise) -> LogProbs:
        """Returns the lower bound by token as token_BL, and as upper_BL the mixture that replaces it at negative advantages."""
        logp_BKL = masked_log_probs(denoise, trajectory, noise)
        lower, device = weighted(logp_BKL, noise), logp_BKL.device
        weight_BK1, masked_BKL = noise.weight_BK.to(device)[..., None], noise.masked_BKL.to(device)
        n_B1 = trajectory.trainable_BL.sum(dim=1, keepdim=True).to(device)
        upper_BL = evidence_upper_bound(logp_BKL, masked_BKL, weight_BK1, self.eubo_beta)
        upper_BL = upper_BL * n_B1 / masked_BKL.any(dim=1).sum(dim=1, keepdim=True).clamp(min=1)
        return replace(lower, upper_BL=self.mixture * upper_BL + (1 - self.mixture) * lower.token_BL)


def evidence_upper_bound(logp_BKL: Tensor, masked_BKL: Tensor, weight_BK1: Tensor, beta: float) -> Tensor:
    """Returns 1/beta * log mean_j 1[masked in j] w_j p_j^beta by position, or 0 where no draw masks it.

    It uses logsumexp, because p^beta itself underflows and its gradient becomes infinite.
    """
    seen_BL = masked_BKL.any(dim=1)
    scaled_BKL = (beta * logp_BKL + weight_BK1.log()).masked_fill(~masked_BKL, -torch.inf)
    # where no draw masks a position, logsumexp would be log 0 and its gradient NaN
    scaled_BKL = scaled_BKL.masked_fill(~seen_BL[:, None, :], 0.0)
    bound_BL = (scaled_BKL.logsumexp(dim=1) - math.log(logp_BKL.shape[1])) / beta
    return bound_BL.masked_fill(~seen_BL, 0.0)
