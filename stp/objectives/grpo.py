"""GRPO (Eq. 1) on estimated likelihoods (Eq. 4)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stp.objectives.base import Loss, by_token
from stp.objectives.ratio import ClippedRatio
from stp.types import LogProbs


@dataclass
class Grpo(ClippedRatio):
    """Eq. 1: the clipped surrogate with a k3 KL penalty to the reference policy."""

    def __call__(
        self,
        new: LogProbs,
        old: LogProbs | None,
        reference: LogProbs | None,
        advantage: Tensor,
        weight_BL: Tensor,
    ) -> Loss:
        """Eq. 1, to be minimised: -sum of weight * (min(ratio A, clip(ratio) A) - beta k3)."""
        assert old is not None
        live_BL = weight_BL > 0
        raw_BL = new.token_BL - old.token_BL
        surrogate = self.surrogate(raw_BL, by_token(advantage))
        kl_BL, clamped_BL = torch.zeros_like(surrogate.gain), surrogate.clamped
        if reference is not None and self.beta > 0:
            away_BL = reference.token_BL - new.token_BL
            bounded_BL = self.bounded(away_BL)
            kl_BL = bounded_BL.exp() - bounded_BL - 1
            clamped_BL = clamped_BL | (bounded_BL != away_BL)
        loss = -(weight_BL * (surrogate.gain - self.beta * kl_BL)).sum()
        with torch.no_grad():
            stats = {
                "count": live_BL.sum(),
                "ratio/mean": (surrogate.ratio * live_BL).sum(),
                "ratio/clipped": (live_BL & surrogate.clipped).sum(),
                "ratio/clamped": (live_BL & clamped_BL).sum(),
                "kl": (kl_BL * live_BL).sum(),
            }
        return Loss.of(loss, stats)
