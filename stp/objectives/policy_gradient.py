"""SPG's objective (Wang et al., 2025): the policy gradient of estimated log-likelihoods, without a ratio."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from stp.errors import require
from stp.objectives.base import Loss, Objective, by_token
from stp.types import LogProbs


@dataclass
class PolicyGradient(Objective):
    """-sum A * log-likelihood over all tokens. It takes the lower bound where A > 0, elsewhere the upper one, if there is one.

    There is no ratio to clip and no penalty, so the loss reads neither theta_old nor a reference.
    """

    scale: str = field(default="none", metadata={"help": "advantages as r - mean (none, as published) | over the group's std"})
    normalize: str = field(
        default="token", metadata={"help": "mean over all tokens (as published) | sequence: over each completion's first | sum"}
    )
    beta: float = field(default=0.0, metadata={"help": "KL weight; 0, as this objective has no penalty"})

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.beta == 0,
            "objective.beta",
            self.beta,
            "an objective without a ratio has no KL penalty; leave it at 0, or use objective=grpo with another estimator",
        )

    @property
    def linear(self) -> bool:
        return True

    def __call__(
        self, new: LogProbs, old: LogProbs | None, reference: LogProbs | None, advantage: Tensor, weight_BL: Tensor
    ) -> Loss:
        """-sum of weight * A * the bound that fits A's sign."""
        advantage = by_token(advantage)
        upper_BL = new.token_BL if new.upper_BL is None else new.upper_BL
        bound_BL = torch.where(advantage > 0, new.token_BL, upper_BL)
        loss = -(weight_BL * advantage * bound_BL).sum()
        live_BL = weight_BL > 0
        stats = {
            "count": live_BL.sum(),
            "bound/lower": (new.token_BL * live_BL).sum(),
            "bound/upper": (upper_BL * live_BL).sum(),
        }
        return Loss.of(loss, stats)
