"""What objectives share: advantages within a group, and the weight of a token."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from torch import Tensor

from stp.errors import require_choice
from stp.types import LogProbs


@dataclass(frozen=True)
class Loss:
    """value: this micro-batch's share of the loss. stats: sums over its trainable tokens, by metric name."""

    value: Tensor
    stats: dict[str, Tensor]


@dataclass
class Objective(ABC):
    """Turns rewards into advantages, and log-likelihoods into a loss. A new objective says what the loss is."""

    scale: str = field(default="std", metadata={"help": "advantages over the group's std (Eq. 1) | none (d1's and SPG's)"})
    normalize: str = field(
        default="sequence", metadata={"help": "mean over each completion's tokens first | token: over all tokens"}
    )

    def __post_init__(self) -> None:
        require_choice("objective.scale", self.scale, ("std", "none"))
        require_choice("objective.normalize", self.normalize, ("sequence", "token"))

    @property
    def needs_old(self) -> bool:
        """Whether the loss compares with theta_old's log-likelihoods."""
        return False

    @property
    def needs_reference(self) -> bool:
        """Whether the loss reads the reference policy."""
        return False

    @property
    def trains_equal(self) -> bool:
        """Whether groups of equal rewards are trained although their advantages are 0, because a penalty gives a gradient."""
        return False

    def advantages(self, reward_B: Tensor, group_size: int) -> Tensor:
        """Returns r - mean within each group of `group_size` consecutive rows; exactly 0 if a group's rewards are equal.

        scale=std divides by (std + 1e-4), where std is the sample standard deviation.
        """
        reward_NG = reward_B.view(-1, group_size)
        equal_N1 = reward_NG.max(dim=1, keepdim=True).values == reward_NG.min(dim=1, keepdim=True).values
        centred_NG = (reward_NG - reward_NG.mean(dim=1, keepdim=True)).masked_fill(equal_N1, 0.0)  # 0 without rounding errors
        if self.scale == "std":
            centred_NG = centred_NG / (reward_NG.std(dim=1, keepdim=True) + 1e-4)
        return centred_NG.flatten()

    def token_weights(self, trainable_BL: Tensor, rows: int, tokens: int) -> Tensor:
        """Returns each token's weight in a global batch of `rows` rows and `tokens` tokens, so that micro-batches add up."""
        if self.normalize == "token":
            return trainable_BL / max(tokens, 1)
        return trainable_BL / (trainable_BL.sum(dim=1, keepdim=True).clamp(min=1) * rows)

    @abstractmethod
    def __call__(
        self, new: LogProbs, old: LogProbs | None, reference: LogProbs | None, advantage_B: Tensor, weight_BL: Tensor
    ) -> Loss:
        """Returns the loss of a micro-batch, to be minimised."""
