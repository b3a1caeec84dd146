"""GRPO (Eq. 1) on estimated likelihoods (Eq. 4)."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stp.errors import require
from stp.objectives.base import Loss, Objective
from stp.types import LogProbs


@dataclass
class Grpo(Objective):
    """Eq. 1: the clipped surrogate with a k3 KL penalty to the reference policy."""

    clip: float = field(default=0.2, metadata={"help": "epsilon of the ratio's clip"})
    beta: float = field(default=0.04, metadata={"help": "weight of the KL penalty; 0 needs no reference policy"})
    log_ratio_max: float = field(default=2.0, metadata={"help": "log-ratios are clamped to this before the exponential"})
    skip_equal: bool = field(
        default=False,
        metadata={"help": "leave groups of equal rewards out, and their KL penalty with them; at beta=0 they always are"},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.clip < 1, "objective.clip", self.clip, "the clip range must lie in (0, 1); the paper uses 0.2")
        require(
            0 <= self.beta < math.inf, "objective.beta", self.beta, "the KL weight cannot be negative; 0 turns the penalty off"
        )
        require(
            0 < self.log_ratio_max <= 80,
            "objective.log_ratio_max",
            self.log_ratio_max,
            "the clamp must be positive, and at most 80 so that its exponential is finite",
        )

    @property
    def needs_old(self) -> bool:
        return True

    @property
    def needs_reference(self) -> bool:
        return self.beta > 0

    @property
    def trains_equal(self) -> bool:
        return self.beta > 0 and not self.skip_equal

    def __call__(
        self,
        new: LogProbs,
        old: LogProbs | None,
        reference: LogProbs | None,
        advantage_B: Tensor,
        weight_BL: Tensor,
    ) -> Loss:
        """Eq. 1, to be minimised: -sum of weight * (min(ratio A, clip(ratio) A) - beta k3)."""
        assert old is not None
        advantage_B1 = advantage_B[:, None]
        live_BL = weight_BL > 0
        raw_BL = new.token_BL - old.token_BL
        log_ratio_BL = raw_BL.clamp(-self.log_ratio_max, self.log_ratio_max)
        ratio_BL = log_ratio_BL.exp()
        clipped_BL = ratio_BL.clamp(1 - self.clip, 1 + self.clip)
        gain_BL = torch.minimum(ratio_BL * advantage_B1, clipped_BL * advantage_B1)
        clamped_BL = log_ratio_BL != raw_BL
        kl_BL = torch.zeros_like(gain_BL)
        if reference is not None and self.beta > 0:
            away_BL = reference.token_BL - new.token_BL
            bounded_BL = away_BL.clamp(-self.log_ratio_max, self.log_ratio_max)
            kl_BL = bounded_BL.exp() - bounded_BL - 1
            clamped_BL = clamped_BL | (bounded_BL != away_BL)
        loss = -(weight_BL * (gain_BL - self.beta * kl_BL)).sum()
        with torch.no_grad():
            stats = {
                "loss": loss,
                "tokens": live_BL.sum(),
                "ratio/mean": (ratio_BL * live_BL).sum(),
                "ratio/clipped": (live_BL & (clipped_BL * advantage_B1 < ratio_BL * advantage_B1)).sum(),
                "ratio/clamped": (live_BL & clamped_BL).sum(),
                "kl": (kl_BL * live_BL).sum(),
            }
        return Loss(loss, {name: value.detach().float() for name, value in stats.items()})
