"""Objectives: from rewards to advantages, and from log-likelihoods to a loss."""

from stp.objectives.grpo import Grpo, Loss

__all__ = ["Grpo", "Loss"]
