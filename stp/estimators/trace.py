"""Likelihoods along the rollout's own trace: each token is scored in the state in which it was revealed."""

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from stp.diffusion import Denoiser
from stp.errors import require, require_choice
from stp.estimators.base import Estimator, evenly, masked_log_probs, question
from stp.types import Draws, Noise, Trajectory

AT_ONCE = 32  # masked copies of a forward in which the policy is asked without gradients


@dataclass
class Trace(Estimator):
    """log p of the trace: the sum over its steps of the log-probabilities of the tokens that a step reveals, in its state.

    In the state before step s, everything is masked that was revealed at s or later. A draw is such a state: it scores the
    tokens of s and hides those that came after. `groups` cuts each row's own steps, those that reveal a token to score, into
    this many groups of neighbours, whose sizes differ by one at most; a group is scored in its first state. So a row that
    ends early has smaller groups, not fewer (unless it has fewer steps than `groups`). With groups=0, on the policy that
    rolled out (without a cache), token_BL is the trajectory's logp_BL; this takes as many forwards as the rollout had steps.
    Temporal pruning's argmax fill is a step like the others, and so is trained. Fixed tokens are seen in every state, and a
    step without trainable tokens is left out.

    `pick` says which groups are scored: `all` (each token once), or `samples` of them without replacement. `uniform` takes
    them at even distances from a random start and weighs them by the inverse of their share: unbiased. `surprise` draws them
    with chances softmax(surprise), the mean of -log p of their tokens in the rollout. `entropy` takes those whose tokens have
    the largest mean entropy under the policy, which runs every group once for it without gradients. The last two do not weigh
    the groups by their chances: what they did not pick is 0.

    `score=confident` also scores, in the states that are picked, every token still masked whose probability under the policy is
    at least `threshold` (one more pass without gradients). A draw of m tokens then weighs n/m, a mean over its tokens.

    These are settings of it: TraceRL (2509.06949), groups = N/8 (there a group is 8 steps, and a row that ends early has
    fewer); d2-StepMerge (2509.21474), groups=8 (there of all N steps, so the late ones may be empty); CJ-GRPO (2509.23924),
    groups=0; AGRPO (2510.04019), groups=0 pick=uniform; RLDF (2605.25638), groups=0 pick=surprise score=confident; EGSPO's
    choice of steps (2603.12554), groups=0 pick=entropy.
    """

    samples: int = field(default=4, metadata={"help": "K, groups of steps that are scored; with pick=all every one is"})
    groups: int = field(default=8, metadata={"help": "neighbouring steps are merged into this many; 0: every step alone"})
    pick: str = field(default="all", metadata={"help": "groups that are scored: all | uniform | surprise | entropy"})
    score: str = field(default="step", metadata={"help": "tokens of a group | confident: and all masked ones above threshold"})
    threshold: float = field(default=0.6, metadata={"help": "least probability of the other tokens for score=confident"})

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.groups >= 0, "estimator.groups", self.groups, "a number of groups, or 0 for every step alone")
        require_choice("estimator.pick", self.pick, ("all", "uniform", "surprise", "entropy"))
        require_choice("estimator.score", self.score, ("step", "confident"))
        require(0 < self.threshold <= 1, "estimator.threshold", self.threshold, "a probability above 0; RLDF uses 0.6")

    @property
    def independent(self) -> bool:
        return False

    @property
    def varies(self) -> bool:
        return self.p_mask > 0 or self.pick in ("uniform", "surprise")

    def copies(self, length: int, forwards: int) -> int:
        every = min(self.groups or forwards, forwards)
        return every if self.pick == "all" else min(self.samples, every)

    def positions(self, length: int) -> int:
        return length if self.score == "step" else self.copies(length, length) * length

    def noise(self, trajectory: Trajectory, draws: Draws, step: int) -> Noise:
        """Returns the states of the groups that are picked, or of all of them for `refine` to pick from."""
        L = trajectory.response_BL.shape[1]
        group_BL, count_B1 = self.grouped(trajectory)
        K = self.copies(L, L)
        if self.pick == "uniform":
            pick_BK, weight_B1 = evenly(count_B1, K, draws.uniform("steps", step, 1))
        elif self.pick == "surprise":  # the largest keys with Gumbel noise are draws without replacement by softmax
            gumbel_BG = -(-draws.uniform("steps", step, L).clamp(min=1e-20).log()).log()
            pick_BK = largest(group_means(-trajectory.logp_BL, group_BL) + gumbel_BG, count_B1, K)
            weight_B1 = torch.full_like(count_B1, K)
        else:
            K = min(self.groups, L) or max(int(count_B1.max()), 1)  # ranks agree on it, unless every step is a group
            pick_BK = torch.arange(K).where(torch.arange(K) < count_B1, -1)
            weight_B1 = torch.full_like(count_B1, K)
        masked_BKL = (group_BL[:, None] == pick_BK[..., None]) & (group_BL >= 0)[:, None]
        step_B1L = trajectory.step_BL[:, None]
        start_BK1 = step_B1L.where(masked_BKL, L).amin(dim=2, keepdim=True)
        open_BKL = ((step_B1L >= start_BK1) | (step_B1L < 0)) & ~trajectory.fixed_BL[:, None]
        return Noise(masked_BKL, weight_B1.float().expand(pick_BK.shape), open_BKL & ~masked_BKL, states=True)

    def grouped(self, trajectory: Trajectory) -> tuple[Tensor, Tensor]:
        """Returns each scored token's group, -1 for the other tokens, and the number of groups of each row."""
        trainable_BL, step_BL = trajectory.trainable_BL, trajectory.step_BL
        scored_BL = trainable_BL & (step_BL >= 0)
        known = bool(scored_BL.any()) or not trainable_BL.any()
        require(known, "estimator", "trace", "a trace belongs to a rollout; responses from elsewhere have none")
        row_M, place_M = scored_BL.nonzero(as_tuple=True)
        taken_BS = torch.zeros(len(step_BL), int(step_BL.max()) + 2, dtype=torch.bool)  # the steps that reveal a scored token
        taken_BS[row_M, step_BL[row_M, place_M]] = True
        rank_BL = (taken_BS.cumsum(dim=1) - 1).gather(1, step_BL.clamp(min=0))
        steps_B1 = taken_BS.sum(dim=1, keepdim=True)
        count_B1 = steps_B1.clamp(max=self.groups or trainable_BL.shape[1])
        return (rank_BL * count_B1 // steps_B1.clamp(min=1)).where(scored_BL, -1), count_B1

    @torch.no_grad()
    def refine(self, noise: Noise, trajectory: Trajectory, denoise: Denoiser | None) -> Noise:
        """Picks the groups of largest entropy, and adds the tokens of which the policy is confident, if that is asked for."""
        if self.pick != "entropy" and self.score == "step":
            return noise
        assert denoise is not None, "the policy is asked for entropies and confident tokens"
        L = trajectory.response_BL.shape[1]
        K = self.copies(L, L)
        if self.pick == "entropy":
            noise = most_uncertain(noise, trajectory, denoise, K)
        if self.score == "step":
            return noise
        # as many rows at a time on every rank: at ZeRO-3 all run equally many forwards
        return confident(noise, trajectory, denoise, self.threshold, rows=max(1, AT_ONCE // K))


def group_means(value_BL: Tensor, group_BL: Tensor) -> Tensor:
    """Returns the mean over each group's tokens, [B, L]: there are at most L groups. 0 where there is no such group."""
    index_BL = group_BL.clamp(min=0)
    here_BL = (group_BL >= 0).float()
    total_BG = torch.zeros_like(value_BL).scatter_add(1, index_BL, value_BL * here_BL)
    return total_BG / torch.zeros_like(value_BL).scatter_add(1, index_BL, here_BL).clamp(min=1)


def largest(score_BG: Tensor, count_B1: Tensor, K: int) -> Tensor:
    """Returns the places of the K largest of each row's first `count` scores, -1 where it has fewer."""
    score_BG = score_BG.masked_fill(torch.arange(score_BG.shape[1]) >= count_B1, -torch.inf)
    pick_BK = score_BG.argsort(dim=1, descending=True, stable=True)[:, :K]
    return pick_BK.masked_fill(torch.arange(pick_BK.shape[1]) >= count_B1, -1)


def most_uncertain(noise: Noise, trajectory: Trajectory, denoise: Denoiser, K: int) -> Noise:
    """Keeps the K draws of each row at whose scored tokens the policy has the largest mean entropy."""
    B, N, L = noise.masked_BKL.shape
    entropy_X = torch.zeros(B * N * L)
    for b in range(B):  # one row at a time: all its states are one forward
        asked = question(trajectory.rows(slice(b, b + 1)), noise.rows(slice(b, b + 1)), denoise.mask_id)
        logp_MV = denoise(asked.ids_RS, asked.attend_RS, asked.index_M).float()
        logp_MV[:, denoise.mask_id] = -torch.inf  # never drawn
        logp_MV = logp_MV.log_softmax(dim=1)
        entropy_X[b * N * L + asked.place_M] = torch.special.entr(logp_MV.exp()).sum(dim=1).cpu()
    count_BN = noise.masked_BKL.sum(dim=2)
    mean_BN = entropy_X.view(B, N, L).sum(dim=2) / count_BN.clamp(min=1)
    pick_BK = largest(mean_BN, (count_BN > 0).sum(dim=1, keepdim=True), K)
    assert noise.hidden_BKL is not None
    index_BKL = pick_BK.clamp(min=0)[..., None].expand(-1, -1, L)
    masked_BKL = noise.masked_BKL.gather(1, index_BKL) & (pick_BK >= 0)[..., None]
    weight_BK = torch.full(pick_BK.shape, float(pick_BK.shape[1]))
    return replace(noise, masked_BKL=masked_BKL, weight_BK=weight_BK, hidden_BKL=noise.hidden_BKL.gather(1, index_BKL))


def confident(noise: Noise, trajectory: Trajectory, denoise: Denoiser, threshold: float, rows: int) -> Noise:
    """Scores the hidden trainable tokens as well whose probability is at least `threshold`; a draw of m tokens weighs n/m."""
    assert noise.hidden_BKL is not None
    B, K, _ = noise.masked_BKL.shape
    used_BK = noise.masked_BKL.any(dim=2)
    trainable_BL = trajectory.trainable_BL
    asked_BKL = noise.masked_BKL | (noise.hidden_BKL & trainable_BL[:, None] & used_BK[..., None])
    asked = replace(noise, masked_BKL=asked_BKL)
    parts = torch.arange(B).split(rows)
    logp_BKL = torch.cat([masked_log_probs(denoise, trajectory.rows(b), asked.rows(b)).cpu() for b in parts])
    masked_BKL = noise.masked_BKL | (asked_BKL & (logp_BKL >= math.log(threshold)))
    m_BK, n_B1 = masked_BKL.sum(dim=2), trainable_BL.sum(dim=1, keepdim=True)
    weight_BK = n_B1 / m_BK.clamp(min=1) * K / used_BK.sum(dim=1, keepdim=True).clamp(min=1)
    return replace(noise, masked_BKL=masked_BKL, weight_BK=weight_BK, hidden_BKL=noise.hidden_BKL & ~masked_BKL)
