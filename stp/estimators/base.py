"""What every estimator shares: its draws, and log-probabilities at the masked positions of several draws."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from stp.diffusion import Denoiser, forward_process, top_per_row
from stp.errors import require
from stp.types import Draws, LogProbs, Noise, Prompts, Trajectory


@dataclass
class Estimator(ABC):
    """Draws the noise once and evaluates any number of policies on it. A new estimator says which positions are masked."""

    samples: int = field(default=3, metadata={"help": "K, Monte Carlo draws per completion"})
    p_mask: float = field(default=0.0, metadata={"help": "probability that a prompt token is masked (d1 and SPG: 0.15)"})

    def __post_init__(self) -> None:
        require(self.samples >= 1, "estimator.samples", self.samples, "at least 1 Monte Carlo draw is needed")
        require(0 <= self.p_mask < 1, "estimator.p_mask", self.p_mask, "a probability below 1; the paper uses 0")

    @property
    def independent(self) -> bool:
        """Whether the K draws are independent of each other. Only then does their spread estimate a variance."""
        return True

    @property
    def varies(self) -> bool:
        """Whether a second set of draws can differ from the first. If not, there is no point in drawing fresh masks."""
        return True

    def copies(self, length: int, forwards: int) -> int:
        """Returns the most masked copies that a set of draws makes of a completion: `length` tokens, revealed in `forwards`."""
        return self.samples

    def positions(self, length: int) -> int:
        """Returns the most positions that a set of draws scores in a completion of `length` tokens."""
        return self.samples * length

    def positions_at_once(self, length: int, draws: int) -> int:
        """Returns the most positions that `draws` of a set's draws score; 0: all of them."""
        return min(self.positions(length), (draws or self.positions(length)) * self.copies_per_draw * length)

    @property
    def separable(self) -> bool:
        """Whether `token_BL` is a mean over draws, each of which can be evaluated alone."""
        return True

    @property
    def copies_per_draw(self) -> int:
        """How many masked copies make one draw; they are evaluated together."""
        return 1

    @abstractmethod
    def noise(self, trajectory: Trajectory, draws: Draws, step: int) -> Noise:
        """Returns which trainable positions each of the K draws masks, and the draws' weights."""

    def refine(self, noise: Noise, trajectory: Trajectory, denoise: Denoiser | None) -> Noise:
        """Returns the draws after the policy has had its say. Most estimators do not ask it."""
        return noise

    def draw(self, trajectory: Trajectory, draws: Draws, step: int = 0, denoise: Denoiser | None = None) -> Noise:
        """Makes the K Monte Carlo draws for these rows, on the CPU: response masks, weights and prompt masks.

        denoise: the policy, for estimators whose draws depend on it.
        """
        trajectory = trajectory.to("cpu")
        noise = self.refine(self.noise(trajectory, draws, step), trajectory, denoise)
        if self.p_mask == 0:
            return noise
        width, L = trajectory.prompts.ids_BP.shape[1], trajectory.response_BL.shape[1]
        # drawn for the most copies that there can be, because a row's draws may not depend on how many the other rows need
        uniform_BKP = draws.uniform("prompt masks", step, self.copies(L, L), width)[:, : noise.weight_BK.shape[1]]
        return replace(noise, prompt_BKP=uniform_BKP < self.p_mask)

    def __call__(self, denoise: Denoiser, trajectory: Trajectory, noise: Noise) -> LogProbs:
        """Eq. 4's token-wise estimate on stored noise: the mean over draws of w * log p at the masked positions.

        Gradients flow through `denoise`.
        """
        return weighted(masked_log_probs(denoise, trajectory, noise), noise)


def count_masked(time_BK: Tensor, n_B1: Tensor, low_B1: Tensor | int = 1) -> Tensor:
    """Returns m_BK, uniform on {low..n}, from times that are uniform on [0, 1). m is 0 where n is 0."""
    return torch.minimum(low_B1 + (time_BK * (n_B1 - low_B1 + 1)).long(), n_B1)


def mask_exactly(allowed_BKL: Tensor, m_BK: Tensor, key_BKL: Tensor) -> Tensor:
    """Returns masked_BKL: in each draw, the m allowed positions with the highest keys. allowed_BKL may be [B, 1, L]."""
    allowed_BKL = allowed_BKL.expand_as(key_BKL)
    return top_per_row(key_BKL.flatten(0, 1), allowed_BKL.flatten(0, 1), m_BK.flatten()).view_as(key_BKL)


def weighted(logp_BKL: Tensor, noise: Noise) -> LogProbs:
    """Multiplies each draw's log-probabilities by its weight. Returns their mean for each token and their sum for each draw."""
    weighted_BKL = noise.weight_BK.to(logp_BKL.device)[..., None] * logp_BKL
    return LogProbs(token_BL=weighted_BKL.mean(dim=1), draw_BK=weighted_BKL.sum(dim=2))


def evenly(count_B1: Tensor, K: int, uniform_B1: Tensor) -> tuple[Tensor, Tensor]:
    """Draws K of each row's `count` things without replacement, each equally likely, at even distances from a random start.

    Returns their places_BK, -1 where a row has fewer, and the weight_B1 with which the mean over K estimates the sum of all.
    """
    k_B1 = count_B1.clamp(max=K)
    place_BK = ((torch.arange(K) + uniform_B1.double()) * count_B1 / k_B1.clamp(min=1)).long()
    return place_BK.masked_fill(torch.arange(K) >= k_B1, -1), K * count_B1 / k_B1.clamp(min=1)


@dataclass(frozen=True)
class Question:
    """What a denoiser is asked: sequences, and the flat indices of the positions whose tokens it predicts.

    place_M: where these positions lie in the draws' [B, K, L] grid, flattened.
    """

    ids_RS: Tensor
    attend_RS: Tensor | None
    index_M: Tensor
    target_M: Tensor
    place_M: Tensor


def question(trajectory: Trajectory, noise: Noise, mask_id: int, share: bool = False) -> Question:
    """Masks the response in each draw, and asks for its tokens at the masked positions.

    Draws that mask nothing are left out, except one where all are empty: at ZeRO-3 all ranks run equally many forwards.
    share: ask equal sequences only once.
    """
    _, K, L = noise.masked_BKL.shape
    trajectory = trajectory.to("cpu")  # counting indices on the CPU never waits for the device
    run_R = noise.masked_BKL.flatten(0, 1).any(dim=1).nonzero().squeeze(1)
    run_R = run_R if len(run_R) else torch.zeros(1, dtype=torch.long)
    repeated = trajectory.rows(run_R // K)
    masked_RL = noise.masked_BKL.flatten(0, 1)[run_R]
    unseen_RL = masked_RL if noise.hidden_BKL is None else masked_RL | noise.hidden_BKL.flatten(0, 1)[run_R]
    ids_RS = forward_process(repeated, unseen_RL, mask_id, after_eos=not noise.states)
    P = ids_RS.shape[1] - L
    if noise.prompt_BKP is not None:
        ids_RS[:, :P] = ids_RS[:, :P].masked_fill(noise.prompt_BKP.flatten(0, 1)[run_R], mask_id)
    seen = Prompts(ids_RS[:, :P], repeated.prompts.real_BP).trimmed()
    ids_RS, P = torch.cat([seen.ids_BP, ids_RS[:, P:]], dim=1), seen.ids_BP.shape[1]
    masked_M = masked_RL.flatten().nonzero().squeeze(1)
    row_M, target_M = masked_M // L, repeated.response_BL.flatten()[masked_M]
    place_M = run_R[row_M] * L + masked_M % L
    if share:
        first_U, same_R = distinct(ids_RS if seen.real_BP is None else torch.cat([ids_RS, seen.real_BP], dim=1))
        ids_RS, seen, row_M = ids_RS[first_U], seen.rows(first_U), same_R[row_M]
    index_M = row_M * (P + L) + P + masked_M % L
    return Question(ids_RS, seen.attend(L), index_M, target_M, place_M)


def masked_log_probs(denoise: Denoiser, trajectory: Trajectory, noise: Noise, share: bool = False) -> Tensor:
    """Returns logp_BKL: log p(x_k | x_t) at the masked positions of each draw, zero elsewhere.

    It takes one forward over all rows and draws, and computes logits at the scored positions only. share: run equal sequences
    only once.
    """
    asked = question(trajectory, noise, denoise.mask_id, share)
    logp_M = denoise(asked.ids_RS, asked.attend_RS, asked.index_M, asked.target_M)
    logp_X = logp_M.new_zeros(noise.masked_BKL.numel()).index_put((asked.place_M.to(logp_M.device),), logp_M)
    return logp_X.view(noise.masked_BKL.shape)


def distinct(row_RX: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the index of the first of each group of equal rows, in row order, and for each row the number of its group."""
    _, kind_R = row_RX.unique(dim=0, return_inverse=True)
    first_K = torch.full((int(kind_R.max()) + 1,), len(row_RX)).scatter_reduce(0, kind_R, torch.arange(len(row_RX)), "amin")
    first_U, order_K = first_K.sort()
    return first_U, order_K.argsort()[kind_R]


def score(denoise: Denoiser, estimator: Estimator, trajectory: Trajectory, noise: Noise, rows: int, draws: int = 0) -> LogProbs:
    """Returns log-likelihoods on the CPU, without gradients. Each forward takes `rows` completions of similar prompt width.

    draws: how many draws of a completion share a forward; 0: all of them.
    """
    order, parts = trajectory.prompts.by_width(), []
    with torch.no_grad():
        for part in order.split(rows):
            some = noise.rows(part).split(draws * estimator.copies_per_draw)
            parts.append(together([estimator(denoise, trajectory.rows(part), noise) for noise in some], some))
    return concatenate([part.to("cpu") for part in parts]).rows(order.argsort())


def together(parts: list[LogProbs], noises: list[Noise]) -> LogProbs:
    """Joins what parts of a set of draws give: `token_BL` is the mean over all draws."""
    if len(parts) == 1:
        return parts[0]
    token_BL = torch.stack([share(part, noise, noises).token_BL for part, noise in zip(parts, noises, strict=True)]).sum(dim=0)
    return LogProbs(token_BL, torch.cat([part.draw_BK for part in parts], dim=1))


def share(found: LogProbs, noise: Noise, noises: list[Noise]) -> LogProbs:
    """Returns what the draws `noise` add to the mean over all draws."""
    fraction = noise.weight_BK.shape[1] / sum(part.weight_BK.shape[1] for part in noises)
    return found if fraction == 1 else replace(found, token_BL=found.token_BL * fraction)


def concatenate(parts: list[LogProbs]) -> LogProbs:
    """Joins records into one."""
    upper = [p.upper_BL for p in parts if p.upper_BL is not None]
    return LogProbs(
        torch.cat([p.token_BL for p in parts]), torch.cat([p.draw_BK for p in parts]), torch.cat(upper) if upper else None
    )
