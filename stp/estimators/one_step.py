"""Diffu-GRPO's one-step estimate (Zhao et al., 2025): every token is predicted from the prompt alone."""

from dataclasses import dataclass, field

import torch

from stp.diffusion import Denoiser
from stp.estimators.base import Estimator, masked_log_probs, weighted
from stp.types import Draws, LogProbs, Noise, Trajectory


@dataclass
class OneStep(Estimator):
    """B^k = log p(x_k | prompt, all trainable positions masked): one forward, a mean-field stand-in for the likelihood.

    Draws differ in the prompt tokens that are masked with probability p_mask (d1 uses 0.15, drawn again for each inner update).
    If p_mask is 0, all draws are the same, so only one is made, whatever `samples` says.
    """

    samples: int = field(default=1, metadata={"help": "K, draws of the prompt mask; 1 is taken where p_mask is 0"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.samples = self.samples if self.p_mask > 0 else 1

    @property
    def varies(self) -> bool:
        return self.p_mask > 0

    def noise(self, trajectory: Trajectory, draws: Draws, step: int) -> Noise:
        """Masks everything trainable in every draw, with weight 1."""
        B, L = trajectory.response_BL.shape
        return Noise(trajectory.trainable_BL[:, None, :].expand(B, self.samples, L), torch.ones(B, self.samples))

    def __call__(self, denoise: Denoiser, trajectory: Trajectory, noise: Noise) -> LogProbs:
        """Runs one forward for all completions of a prompt whose inputs are equal once their tokens are masked."""
        return weighted(masked_log_probs(denoise, trajectory, noise, share=self.p_mask == 0), noise)
