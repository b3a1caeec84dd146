"""What objectives with a clipped ratio and a KL penalty share, whether the ratio is a token's or a completion's."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stp.errors import require
from stp.objectives.base import Objective


@dataclass(frozen=True)
class Surrogate:
    """PPO's clipped gain and its ratio. clipped: where the clip decides the gain. clamped: where the log-ratio was clamped."""

    gain: Tensor
    ratio: Tensor
    clipped: Tensor
    clamped: Tensor


@dataclass
class ClippedRatio(Objective):
    """Options of the clip and of the KL penalty, and the surrogate min(ratio A, clip(ratio) A)."""

    clip: float = field(default=0.2, metadata={"help": "epsilon of the ratio's clip"})
    clip_high: float | None = field(
        default=None, metadata={"help": "epsilon above 1, if another one than below (DAPO: 0.28); null: clip for both"}
    )
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
            self.clip_high is None or 0 < self.clip_high < math.inf,
            "objective.clip_high",
            self.clip_high,
            "the ratio is clipped at 1 + clip_high, which must lie above 1; null takes objective.clip",
        )
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

    def bounded(self, log_ratio: Tensor) -> Tensor:
        """Clamps log-ratios before their exponential."""
        return log_ratio.clamp(-self.log_ratio_max, self.log_ratio_max)

    def surrogate(self, raw: Tensor, advantage: Tensor) -> Surrogate:
        """Returns min(ratio A, clip(ratio) A) of these log-ratios, before any clamp, and these advantages."""
        log_ratio = self.bounded(raw)
        ratio = log_ratio.exp()
        high = self.clip if self.clip_high is None else self.clip_high
        free, held = ratio * advantage, ratio.clamp(1 - self.clip, 1 + high) * advantage
        return Surrogate(torch.minimum(free, held), ratio, held < free, log_ratio != raw)
