"""What objectives share: the protocol, advantages within a group, and what a token counts for."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from stp.types import LogProbs


@dataclass(frozen=True)
class Loss:
    """value: this micro-batch's share of the loss. stats: sums over its trainable tokens, by metric name."""

    value: Tensor
    stats: dict[str, Tensor]


class Objective(Protocol):
    """From rewards to advantages, and from log-likelihoods to a loss."""

    needs_old: bool  # whether the loss compares with theta_old's log-likelihoods

    @property
    def needs_reference(self) -> bool:
        """Whether the loss reads the reference policy."""
        ...

    def advantages(self, reward_B: Tensor, group_size: int) -> Tensor:
        """advantage_B: rewards compared within each group of `group_size` consecutive rows; 0 where they are equal."""
        ...

    def token_weights(self, trainable_BL: Tensor, rows: int, tokens: int) -> Tensor:
        """What each token counts for, so that micro-batches add up to the global batch of `rows` rows and `tokens` tokens."""
        ...

    def __call__(
        self, new: LogProbs, old: LogProbs | None, reference: LogProbs | None, advantage_B: Tensor, weight_BL: Tensor
    ) -> Loss:
        """The loss of a micro-batch, to be minimised."""
        ...


def group_advantages(reward_B: Tensor, group_size: int, over_std: bool) -> Tensor:
    """r - mean within each group, optionally over (std + 1e-4) with the sample standard deviation."""
    reward_NG = reward_B.view(-1, group_size)
    equal_N1 = reward_NG.max(dim=1, keepdim=True).values == reward_NG.min(dim=1, keepdim=True).values
    centred_NG = (reward_NG - reward_NG.mean(dim=1, keepdim=True)).masked_fill(equal_N1, 0.0)  # exactly, not to rounding
    if over_std:
        centred_NG = centred_NG / (reward_NG.std(dim=1, keepdim=True) + 1e-4)
    return centred_NG.flatten()


def token_weights(trainable_BL: Tensor, rows: int, tokens: int, by_token: bool) -> Tensor:
    """1 / tokens for each trainable token, or 1 / (rows * the row's trainable tokens)."""
    if by_token:
        return trainable_BL / max(tokens, 1)
    return trainable_BL / (trainable_BL.sum(dim=1, keepdim=True).clamp(min=1) * rows)
