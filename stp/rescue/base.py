"""What every rescue shares: how it sees an update's first rollout, and how it makes others."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor

from stp.diffusion import Denoiser
from stp.ranks import Ranks
from stp.types import Anchors, Draws, Rollout


class Retake(Protocol):
    """An update's prompts, which can be rolled out again.

    draws: those of the first rollout, for the whole global batch. mine: the rows of the global batch that belong to this rank.
    """

    @property
    def ranks(self) -> Ranks: ...

    @property
    def group_size(self) -> int: ...

    @property
    def draws(self) -> Draws: ...

    @property
    def mine(self) -> Tensor: ...

    def solutions(self) -> Anchors:
        """Returns the ground-truth anchors of the global batch; nothing is eligible in a row whose problem has none."""

    def generation(self) -> AbstractContextManager[Denoiser]:
        """Yields the policy. All ranks must enter together; inside, each may run as many forwards as it likes."""

    def roll(self, policy: Denoiser, rows_R: Tensor, draws: Draws, hinted_BL: Tensor | None = None) -> Rollout:
        """Makes and rewards other completions for some of this rank's rows, at least one. Their advantages are 0.

        draws: of the whole global batch. hinted_BL: for the whole global batch, the tokens of the solutions that rollouts keep.
        """


class Rescue(ABC):
    """Rolls out groups again from which nothing can be learned. A new rescue says which, how, and what it keeps."""

    @property
    def most(self) -> int:
        """How many times the whole batch may be rolled out again, at most."""
        return 1

    @property
    def needs_solutions(self) -> bool:
        """Whether the rescue reads worked solutions of the problems."""
        return False

    @abstractmethod
    def __call__(self, rollout: Rollout, retake: Retake) -> Rollout:
        """Returns this rank's rollout, with the completions replaced that the rescue replaces. All ranks call it together."""
