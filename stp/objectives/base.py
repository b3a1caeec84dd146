"""What objectives share: advantages within a group, and the weight of a token."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stp.errors import require_choice
from stp.ranks import Ranks
from stp.types import LogProbs


@dataclass(frozen=True)
class Loss:
    """value: this micro-batch's share of the loss. stats: sums by metric name over the tokens (or the completions) that learn.

    `count`, one of the stats, says how many these are. The metrics of an update are the other sums, divided by it.
    """

    value: Tensor
    stats: dict[str, Tensor]

    @classmethod
    def of(cls, value: Tensor, stats: dict[str, Tensor]) -> "Loss":
        """Returns the record of a loss, whose sums are numbers alone: no gradient flows through them."""
        return cls(value, {name: sums.detach().float() for name, sums in {"loss": value, **stats}.items()})


@dataclass
class Objective(ABC):
    """Turns rewards into advantages, and log-likelihoods into a loss. A new objective says what the loss is.

    An advantage belongs to a completion, [B], or to each of its tokens, [B, L]. Every objective takes either.
    """

    scale: str = field(default="std", metadata={"help": "advantages over the group's std (Eq. 1) | none (d1's and SPG's)"})
    baseline: str = field(
        default="mean", metadata={"help": "what a reward is compared with: the group's mean | leave_one_out: of the others"}
    )
    normalize: str = field(
        default="sequence",
        metadata={"help": "mean over each completion's tokens first | token: over all tokens | sum of tokens"},
    )

    def __post_init__(self) -> None:
        require_choice("objective.scale", self.scale, ("std", "none"))
        require_choice("objective.baseline", self.baseline, ("mean", "leave_one_out"))
        require_choice("objective.normalize", self.normalize, ("sequence", "token", "sum"))

    @property
    def needs_old(self) -> bool:
        """Whether the loss, or the weight of a row, compares with theta_old's log-likelihoods."""
        return False

    @property
    def needs_reference(self) -> bool:
        """Whether the loss reads the reference policy."""
        return False

    @property
    def tilts_reference(self) -> bool:
        """Whether the advantages depend on the reference policy, by the third argument of `advantages`."""
        return False

    @property
    def reads_reference(self) -> bool:
        """Whether anything reads the reference policy."""
        return self.needs_reference or self.tilts_reference

    @property
    def weighs_rows(self) -> bool:
        """Whether `row_weights` depends on how far theta has moved, which takes a forward more before each inner update."""
        return False

    @property
    def trains_equal(self) -> bool:
        """Whether groups of equal rewards are trained although their advantages are 0, because a penalty gives a gradient."""
        return False

    @property
    def linear(self) -> bool:
        """Whether the loss is linear in `token_BL`. Then draws may be backpropagated apart, since `token_BL` is their mean."""
        return False

    def advantages(self, reward_B: Tensor, group_size: int, log_ratio_B: Tensor | None = None) -> Tensor:
        """Returns r - mean within each group of `group_size` consecutive rows; exactly 0 if a group's rewards are equal.

        baseline=leave_one_out compares with the mean of the group's other rewards, which is G/(G-1) times r - mean.
        scale=std divides by (std + 1e-4), where std is the sample standard deviation.
        log_ratio_B: log p_reference - log p_old of each whole completion, if the objective `tilts_reference`.
        """
        reward_NG = reward_B.view(-1, group_size)
        equal_N1 = reward_NG.max(dim=1, keepdim=True).values == reward_NG.min(dim=1, keepdim=True).values
        centred_NG = (reward_NG - reward_NG.mean(dim=1, keepdim=True)).masked_fill(equal_N1, 0.0)  # 0 without rounding errors
        if self.baseline == "leave_one_out":
            centred_NG = centred_NG * (group_size / (group_size - 1))
        if self.scale == "std":
            centred_NG = centred_NG / (reward_NG.std(dim=1, keepdim=True) + 1e-4)
        return centred_NG.flatten()

    def row_weights(self, log_ratio_B: Tensor, group_size: int, ranks: Ranks) -> Tensor:
        """Returns the weights, 1 on average, by which an inner update multiplies the advantages of this rank's completions.

        log_ratio_B: log p_theta - log p_old per trainable token. It is asked for only if the objective `weighs_rows`.
        """
        return torch.ones_like(log_ratio_B)

    def token_weights(self, trainable_BL: Tensor, rows: int, tokens: int) -> Tensor:
        """Returns each token's weight in a global batch of `rows` rows and `tokens` tokens, so that micro-batches add up."""
        if self.normalize == "token":
            return trainable_BL / max(tokens, 1)
        if self.normalize == "sum":
            return trainable_BL / rows
        return trainable_BL / (trainable_BL.sum(dim=1, keepdim=True).clamp(min=1) * rows)

    @abstractmethod
    def __call__(
        self, new: LogProbs, old: LogProbs | None, reference: LogProbs | None, advantage: Tensor, weight_BL: Tensor
    ) -> Loss:
        """Returns the loss of a micro-batch, to be minimised. advantage: [B] or [B, L]."""


def by_token(advantage: Tensor) -> Tensor:
    """Returns advantages of completions as [B, 1]; those of tokens, [B, L], stay as they are."""
    return advantage[:, None] if advantage.dim() == 1 else advantage
