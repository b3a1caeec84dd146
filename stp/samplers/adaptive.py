"""The adaptive sampler: STP whose prunings follow the instance, which the paper leaves to future work."""

from dataclasses import dataclass, field
from fractions import Fraction

import torch
from torch import Tensor

from stp.errors import require
from stp.samplers.reveal import Start
from stp.samplers.stp import Pruned, check_prunings
from stp.types import Anchors


@dataclass
class Adaptive(Pruned):
    """Spatio-temporal pruning by the instance: a sure row reveals more tokens in a forward, a hard prompt gets more help.

    gamma_B = gamma_max * (1 - p), where p is the rate at which the row's prompt has been solved so far. So a prompt that is
    never solved starts from gamma_max of an earlier response, and one that always is starts fully masked.
    """

    gamma_max: float = field(
        default=0.05, metadata={"help": "spatial pruning: fraction of tokens fixed for a prompt that is never solved; 0: none"}
    )
    t_cutoff: float = field(default=0.05, metadata={"help": "temporal pruning: masked fraction that one last forward fills"})
    reveal: str = field(
        default="threshold",
        kw_only=True,
        metadata={"help": "a forward reveals: threshold (all whose confidence is tau)"},
    )

    def __post_init__(self) -> None:
        rule = "a schedule has one gamma for the whole batch; choose threshold, or sampler=stp"
        require(self.reveal == "threshold", "sampler.reveal", self.reveal, rule)
        super().__post_init__()
        check_prunings("gamma_max", self.gamma_max, self.t_cutoff)

    @property
    def needs_anchors(self) -> bool:
        return self.gamma_max > 0

    def gammas(self, anchors: Anchors) -> list[Fraction]:
        """Returns gamma_B, exactly. A prompt that was never tried counts as unsolved."""
        most = Fraction(str(self.gamma_max))
        return [most * (1 - rate) for rate in solve_rates(anchors)]

    def wanted(self, anchors: Anchors) -> Tensor:
        """Returns round(gamma_B * L), half up. With gamma_of=anchor, L is the number of the row's eligible tokens."""
        eligible = anchors.eligible_BL.sum(dim=1).tolist()
        of = eligible if self.gamma_of == "anchor" else [self.length] * len(eligible)
        return torch.tensor([int(gamma * n + Fraction(1, 2)) for gamma, n in zip(self.gammas(anchors), of, strict=True)])

    def pruning(self, anchors: Anchors | None) -> dict[str, float]:
        """Returns the means of gamma_B and of the solve rates from which it follows."""
        if anchors is None:
            return {}
        rates, gammas = solve_rates(anchors), self.gammas(anchors)
        return {
            "pruning/solve_rate": float(sum(rates) / len(rates)),
            "pruning/gamma": float(sum(gammas) / len(gammas)),
        }

    def starting(self, tokens_BL: Tensor, fixed_BL: Tensor) -> Start:
        return self.planned(tokens_BL, fixed_BL, 0.0, self.t_cutoff)  # no row follows the schedule, which prunes nothing here


def solve_rates(anchors: Anchors) -> list[Fraction]:
    """Returns the share of the earlier completions of each row's prompt that were right; 0 if there are none."""
    if anchors.solved_B is None or anchors.tries_B is None:
        return [Fraction(0)] * len(anchors.tokens_BL)
    return [
        Fraction(solved, max(tries, 1))
        for solved, tries in zip(anchors.solved_B.tolist(), anchors.tries_B.tolist(), strict=True)
    ]
