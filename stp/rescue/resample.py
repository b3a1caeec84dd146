"""Dynamic sampling (DAPO, Yu et al., arXiv 2503.14476), with a bound."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from stp.errors import require
from stp.rescue.base import Rescue, Retake
from stp.types import Rescued, Rollout


@dataclass
class Resample(Rescue):
    """Rolls out groups of equal rewards again, with new draws, until their rewards differ or the tries are used up.

    DAPO draws other prompts in the place of such groups, until the batch is full. Here a group keeps its prompt: which prompts
    an update has depends on seed and update alone, and the work has a bound. The law within a group is the same in both: the
    policy's completions, given that their rewards are not all equal.
    """

    tries: int = field(default=3, metadata={"help": "how many times a group of equal rewards is rolled out again, at most"})

    def __post_init__(self) -> None:
        require(self.tries >= 1, "rescue.tries", self.tries, "choose at least 1, or rescue=none")

    @property
    def most(self) -> int:
        return self.tries

    def __call__(self, rollout: Rollout, retake: Retake) -> Rollout:
        first, forwards, open_B = rollout, 0, equal(rollout.reward_B, retake.group_size)
        replaced_B = torch.zeros_like(open_B)
        for number in range(1, self.tries + 1):
            rows_R = open_B.nonzero().squeeze(1)
            if not retake.ranks.largest(len(rows_R)):
                break
            with retake.generation() as policy:
                if not len(rows_R):  # other ranks still have groups to roll out
                    continue
                again = retake.roll(policy, rows_R, retake.draws.again(f"resample/{number}"))
            differs_R = ~equal(again.reward_B, retake.group_size)
            rollout = rollout.patched(rows_R[differs_R], again, differs_R.nonzero().squeeze(1))
            replaced_B[rows_R[differs_R]], open_B[rows_R[differs_R]] = True, False
            forwards += int(again.trajectory.nfe_B.sum())
        groups = int((open_B | replaced_B).sum()) // retake.group_size
        return replace(rollout, rescued=Rescued(first, groups, forwards, replaced_B))


def equal(reward_B: Tensor, group_size: int) -> Tensor:
    """Returns equal_B: whether all completions of the row's group have the same reward, so that none has an advantage."""
    reward_NG = reward_B.view(-1, group_size)
    return (reward_NG.max(dim=1).values == reward_NG.min(dim=1).values).repeat_interleave(group_size)
