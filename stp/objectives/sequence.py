"""Sequence-level ratios on estimated likelihoods: ESPO (arXiv 2512.03759) and GDPO (arXiv 2510.08554)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from stp.errors import require_choice
from stp.objectives.base import Loss, by_token
from stp.objectives.ratio import ClippedRatio
from stp.types import LogProbs


@dataclass
class Sequence(ClippedRatio):
    """One ratio per completion: rho = exp((B_new - B_old) / n), with B the sequence's estimated log-likelihood.

    The loss is -mean_B (min(rho A, clip(rho) A) - beta KL / n). The KL is estimated from d = B_new - B_ref, of the whole
    sequence: k1 = d, with the gradient (1 + d) grad B that its expectation has; k2 = d^2 / 2 (ESPO's choice); or
    k3 = exp(-d) + d - 1, where d is clamped. n is the number of trainable tokens, or the response's length L (ESPO).
    """

    scale: str = field(
        default="none", metadata={"help": "advantages as r - baseline (none, as published) | over the group's std"}
    )
    baseline: str = field(
        default="leave_one_out", metadata={"help": "mean of the others' rewards (ESPO) | mean of the group's rewards"}
    )
    kl: str = field(default="k2", metadata={"help": "estimator of the KL penalty: k1 | k2 (ESPO) | k3"})
    length: str = field(default="trainable", metadata={"help": "n: tokens that learn | response: all of L (ESPO's code)"})

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("objective.kl", self.kl, ("k1", "k2", "k3"))
        require_choice("objective.length", self.length, ("trainable", "response"))

    def __call__(
        self,
        new: LogProbs,
        old: LogProbs | None,
        reference: LogProbs | None,
        advantage: Tensor,
        weight_BL: Tensor,
    ) -> Loss:
        """-sum of weight * (min(rho A, clip(rho) A) - beta KL / n). Statistics are means over completions."""
        assert old is not None
        live_BL = weight_BL > 0
        live_B = live_BL.any(dim=1)
        n_B1 = live_BL.sum(dim=1, keepdim=True).clamp(min=1) if self.length == "trainable" else live_BL.shape[1]
        raw_B1 = (new.token_BL - old.token_BL).sum(dim=1, keepdim=True) / n_B1
        surrogate = self.surrogate(raw_B1, by_token(advantage))
        kl_B1, clamped_B1 = torch.zeros_like(raw_B1), surrogate.clamped
        if reference is not None and self.beta > 0:
            away_B1 = (new.token_BL - reference.token_BL).sum(dim=1, keepdim=True)
            kl_B1 = self.divergence(away_B1) / n_B1
            clamped_B1 = clamped_B1 | ((self.kl == "k3") & (self.bounded(away_B1) != away_B1))
        loss = -(weight_BL * (surrogate.gain - self.beta * kl_B1)).sum()
        with torch.no_grad():
            stats = {
                "count": live_B.sum(),
                "ratio/mean": (surrogate.ratio[:, 0] * live_B).sum(),
                "ratio/clipped": (surrogate.clipped.expand_as(live_BL) & live_BL).any(dim=1).sum(),
                "ratio/clamped": (live_B & clamped_B1[:, 0]).sum(),
                "kl": (kl_B1[:, 0] * live_B).sum(),
            }
        return Loss.of(loss, stats)

    def divergence(self, away: Tensor) -> Tensor:
        """Estimates the KL to the reference from the log-ratio theta / reference of whole sequences."""
        if self.kl == "k1":
            return away + (away - away.detach()) * away.detach()  # the second term is 0: it adds d grad B to the gradient
        if self.kl == "k2":
            return away**2 / 2
        bounded = self.bounded(away)
        return (-bounded).exp() + bounded - 1
