"""The left-to-right likelihood (JustGRPO, arXiv 2601.15165), exact where rollouts reveal one token at a time in that order."""

from dataclasses import dataclass, field

import torch

from stp.estimators.base import Estimator, evenly
from stp.types import Draws, Noise, Trajectory


@dataclass
class Causal(Estimator):
    """log p = sum_k log p(x_k | the tokens before k, and what is fixed), from K of its n terms.

    This is the likelihood of a sampler with `block_length=1 steps=L` (at temperature 1), whose forward k sees everything from k
    on masked except fixed tokens. The K positions are drawn without replacement and weigh n/K times: unbiased. With
    `samples` of at least n it is exact, at n forwards.
    """

    samples: int = field(default=3, metadata={"help": "K, positions that are scored per completion; L or more: all, exactly"})

    @property
    def independent(self) -> bool:
        return False

    def copies(self, length: int, forwards: int) -> int:
        return min(self.samples, length)

    def positions(self, length: int) -> int:
        return min(self.samples, length)

    def noise(self, trajectory: Trajectory, draws: Draws, step: int) -> Noise:
        """Masks one position in each draw, and hides all that follow it."""
        trainable_BL = trajectory.trainable_BL
        L = trainable_BL.shape[1]
        n_B1 = trainable_BL.sum(dim=1, keepdim=True)
        place_BK, weight_B1 = evenly(n_B1, self.copies(L, L), draws.uniform("positions", step, 1))
        masked_BKL = trainable_BL[:, None] & (trainable_BL.cumsum(dim=1)[:, None] - 1 == place_BK[..., None])
        first_BK1 = masked_BKL.int().argmax(dim=2, keepdim=True)
        return Noise(masked_BKL, weight_B1.expand(place_BK.shape), hidden_BKL=torch.arange(L) > first_BK1)
