"""Objectives: from rewards to advantages, and from log-likelihoods to a loss."""

from stp.objectives.base import Loss, Objective
from stp.objectives.grpo import Grpo
from stp.objectives.policy_gradient import PolicyGradient

__all__ = ["Grpo", "Loss", "Objective", "PolicyGradient"]
