"""What every estimator shares: the protocol, and log-probabilities at the masked positions of several draws."""

from typing import Protocol

import torch
from torch import Tensor

from stp.diffusion import Denoiser, forward_process
from stp.types import Draws, LogProbs, Noise, Trajectory


class Estimator(Protocol):
    """Draw the noise once, then evaluate any number of policies on it."""

    samples: int

    @property
    def independent(self) -> bool:
        """Whether the K draws are independent of each other, so that their spread is a variance."""
        ...

    def draw(self, trainable_BL: Tensor, draws: Draws, step: int = 0) -> Noise:
        """The masks and weights of K Monte Carlo draws for these rows."""
        ...

    def __call__(self, denoise: Denoiser, trajectory: Trajectory, noise: Noise) -> LogProbs:
        """Estimate the token log-likelihoods B^k under `denoise`, with gradients if it has any."""
        ...


def masked_log_probs(denoise: Denoiser, trajectory: Trajectory, masked_BKL: Tensor) -> Tensor:
    """log p(x_k | x_t) at the masked positions of each draw, zero elsewhere: logp_BKL.

    One forward over all rows and draws; logits are computed at the masked positions only.
    """
    B, K, L = masked_BKL.shape
    trajectory = trajectory.to("cpu")  # indices are counted there, without waiting for the device
    every_B = torch.arange(B).repeat_interleave(K)
    repeated = trajectory.rows(every_B)
    masked_RL = masked_BKL.flatten(0, 1)
    ids_RS = forward_process(repeated, masked_RL, denoise.mask_id)
    P = ids_RS.shape[1] - L
    masked_M = masked_RL.flatten().nonzero().squeeze(1)
    index_M = masked_M // L * (P + L) + P + masked_M % L
    logp_M = denoise(ids_RS, repeated.prompts.attend(L), index_M, repeated.response_BL.flatten()[masked_M])
    logp_X = logp_M.new_zeros(B * K * L).index_put((masked_M.to(logp_M.device),), logp_M)
    return logp_X.view(B, K, L)


def score(denoise: Denoiser, estimator: Estimator, trajectory: Trajectory, noise: Noise, rows: int) -> LogProbs:
    """Log-likelihoods without gradients, `rows` completions at a time, on the CPU."""
    parts = []
    with torch.no_grad():
        for part in torch.arange(len(trajectory.response_BL)).split(rows):
            parts.append(estimator(denoise, trajectory.rows(part), noise.rows(part)))
    return LogProbs(torch.cat([p.token_BL for p in parts]).cpu(), torch.cat([p.draw_BK for p in parts]).cpu())
