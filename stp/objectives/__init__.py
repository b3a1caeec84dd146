"""Objectives: from rewards to advantages, and from log-likelihoods to a loss."""

from stp.objectives.base import Loss, Objective
from stp.objectives.dmpo import Dmpo
from stp.objectives.grpo import Grpo
from stp.objectives.policy_gradient import PolicyGradient
from stp.objectives.sequence import Sequence
from stp.objectives.stable import Stable
from stp.objectives.wd1 import Wd1

__all__ = ["Dmpo", "Grpo", "Loss", "Objective", "PolicyGradient", "Sequence", "Stable", "Wd1"]
