"""wd1 (Tang et al., 2025, arXiv 2507.08838): log-likelihoods weighted within the group, without a ratio."""

import math
from dataclasses import dataclass, field

from torch import Tensor

from stp.errors import require
from stp.objectives.policy_gradient import PolicyGradient


@dataclass
class Wd1(PolicyGradient):
    """sum_i (w-_i - w+_i) log p_i in each group, where w+ = softmax(A / temperature) and w- = softmax(-A / temperature).

    Good completions become likelier, bad ones less likely. A = r - mean. As in the authors' code the weights come from the
    rewards alone; in the theory they also have the old and the reference policy. The loss is the mean over groups, and sums
    over a completion's tokens.
    """

    normalize: str = field(
        default="sum", metadata={"help": "sum over a completion's tokens (as published) | sequence: their mean | token: of all"}
    )
    temperature: float = field(default=1.0, metadata={"help": "advantages are divided by this before the softmax"})

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            0 < self.temperature < math.inf,
            "objective.temperature",
            self.temperature,
            "rewards are divided by the temperature before the softmax; choose more than 0",
        )

    def advantages(self, reward_B: Tensor, group_size: int, log_ratio_B: Tensor | None = None) -> Tensor:
        """Returns G (w+ - w-): 0 on average over a group, and exactly 0 where its rewards are equal.

        The mean over rows of G times a weight is the mean over groups of their sums. log_ratio_B: added to both exponents.
        """
        tilt_B = super().advantages(reward_B, group_size) / self.temperature
        shift_B = 0.0 if log_ratio_B is None else log_ratio_B
        good_NG, bad_NG = ((shift_B + sign * tilt_B).view(-1, group_size).softmax(dim=1) for sign in (1, -1))
        return (group_size * (good_NG - bad_NG)).flatten()
