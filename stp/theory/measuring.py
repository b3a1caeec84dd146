"""What two of the measurements share: one optimizer step, and intervals over sequences."""

import copy
from typing import Any

import torch
from torch import Tensor

from stp.estimators import Elbo
from stp.models.policy import Policy
from stp.objectives import Grpo
from stp.types import Draws, Trajectory

Rows = list[dict[str, Any]]
TINY: dict[str, Any] = {"length": 48, "steps": 40, "block_length": 24}  # conf/sampling/tiny.yaml


def one_step(policy: Policy, trajectory: Trajectory, advantage_B: Tensor, grpo: Grpo, draws: Draws) -> Policy:
    """Returns theta after the first optimizer step of a run with scale=tiny on these rollouts. `policy` stays theta_old."""
    later, estimator = copy.deepcopy(policy).requires_grad_(True), Elbo()
    noise, trainable_BL = estimator.draw(trajectory, draws), trajectory.trainable_BL
    weight_BL = grpo.token_weights(trainable_BL, len(advantage_B), int(trainable_BL.sum()))
    optimizer = torch.optim.AdamW(later.parameters(), lr=1e-4 / 5, betas=(0.9, 0.99), weight_decay=0.0)  # 1/5: warm-up
    for part in torch.arange(len(advantage_B)).split(32):
        new, old = (estimator(p, trajectory.rows(part), noise.rows(part)) for p in (later, policy))
        grpo(new, old, None, advantage_B[part], weight_BL[part]).value.backward()
    optimizer.step()
    return later.requires_grad_(False)


def interval(kind: str, pair_B2: Tensor, draws: Draws) -> list[float]:
    """Bootstraps the mean difference, ratio of means or median ratio of pairs over sequences: [value, 2.5 %, 97.5 %]."""
    pick_RB = (torch.rand(2000, len(pair_B2), generator=draws.generator("bootstrap")) * len(pair_B2)).long()
    pick_RB[0] = torch.arange(len(pair_B2))
    fixed_RB, nothing_RB = pair_B2[pick_RB].unbind(dim=2)
    if kind == "difference":
        value_R = (fixed_RB - nothing_RB).mean(dim=1)
    elif kind == "ratio":
        value_R = fixed_RB.mean(dim=1) / nothing_RB.mean(dim=1)
    else:
        value_R = (fixed_RB / nothing_RB).median(dim=1).values
    return [float(value_R[0]), *value_R.quantile(torch.tensor([0.025, 0.975]).double()).tolist()]
