"""StableDRL (Zhong et al., 2026, arXiv 2603.06743): clipped and self-normalised importance weights."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stp.errors import require, require_choice
from stp.objectives.policy_gradient import PolicyGradient
from stp.ranks import Ranks


@dataclass
class Stable(PolicyGradient):
    """-sum_i w_i A_i L_i, with w = softmax(min(E_new - E_old, log c)) over the group or the whole batch, without a gradient.

    L is the estimator's log-likelihood per token (SPG's bounds, as published, or another one), and E its lower bound. The clip
    holds for either sign of A. The weights add up to 1, so no estimated ratio makes the update larger than its largest part.
    """

    normalize: str = field(
        default="sequence", metadata={"help": "mean over each completion's tokens (as published) | token: over all | sum"}
    )
    ratio_max: float = field(default=5.0, metadata={"help": "c: ratios are clipped to this before they are normalised"})
    over: str = field(default="group", metadata={"help": "weights add up over each group | batch: over all completions"})

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            1 <= self.ratio_max < math.inf,
            "objective.ratio_max",
            self.ratio_max,
            "at theta_old every ratio is 1, so the clip must lie at 1 or above; published is 5",
        )
        require_choice("objective.over", self.over, ("group", "batch"))

    @property
    def needs_old(self) -> bool:
        return True

    @property
    def weighs_rows(self) -> bool:
        return True

    def row_weights(self, log_ratio_B: Tensor, group_size: int, ranks: Ranks) -> Tensor:
        """Returns the weights times their number, so that at theta_old each is 1. over=batch gathers from all ranks."""
        clipped_B = log_ratio_B.clamp(max=math.log(self.ratio_max))
        if self.over == "group":
            return group_size * clipped_B.view(-1, group_size).softmax(dim=1).flatten()
        every = torch.tensor([value for values in ranks.gather(clipped_B.tolist()) for value in values])
        return len(every) * (clipped_B - every.logsumexp(dim=0)).exp()
