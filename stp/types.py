"""Shape legend and the frozen records that flow through a step.

Suffixes name dimensions: B completions (rows), P prompt length, L response length, S = P + L, K Monte Carlo draws,
M chosen positions, V vocabulary, G completions per prompt. `masked_BKL` is a [B, K, L] tensor.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Protocol, Self

import torch
from torch import Tensor


class Rows:
    """A mixin that slices every tensor of a record along its first dimension."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The fields that hold a tensor, by name."""
        return {f.name: t for f in fields(self) if isinstance(t := getattr(self, f.name), Tensor)}  # type: ignore[arg-type]

    def rows(self, index: Tensor | slice) -> Self:
        """Returns the same record for some of its rows (a slice, or an integer tensor)."""
        return replace(self, **{name: t[index] for name, t in self.tensors.items()})  # type: ignore[type-var]

    def patched(self, index: Tensor, rows: Self) -> Self:
        """Returns the same record with its rows at `index` (an integer tensor) replaced by `rows`."""
        others = rows.tensors
        return replace(self, **{name: t.index_copy(0, index, others[name]) for name, t in self.tensors.items()})  # type: ignore[type-var]

    def to(self, device: torch.device | str) -> Self:
        """Returns the same record with its tensors on another device."""
        waits = torch.device(device).type == "cpu"  # a copy to the host must be there before it is read
        moved = {name: t.to(device, non_blocking=not waits) for name, t in self.tensors.items()}
        return replace(self, **moved)  # type: ignore[type-var]


@dataclass(frozen=True)
class Prompts(Rows):
    """Left-padded prompts. real_BP is False on padding, or None when there is none (attention then needs no mask)."""

    ids_BP: Tensor
    real_BP: Tensor | None = None

    def __len__(self) -> int:
        return self.ids_BP.shape[0]

    def by_width(self) -> Tensor:
        """Returns row indices from the shortest prompt to the longest; prompts of equal length keep their order."""
        if self.real_BP is None:
            return torch.arange(len(self))
        return self.real_BP.sum(dim=1).argsort(stable=True).cpu()

    def trimmed(self) -> "Prompts":
        """Returns the prompts without the columns that are padding in every row."""
        if self.real_BP is None:
            return self
        padding = int((~self.real_BP.any(dim=0)).sum())
        real_BP = self.real_BP[:, padding:]
        return Prompts(self.ids_BP[:, padding:], None if bool(real_BP.all()) else real_BP)

    def attend(self, length: int) -> Tensor | None:
        """Returns attend_BS for a response of `length` tokens: False on padding. None if there is none."""
        if self.real_BP is None:
            return None
        return torch.cat([self.real_BP, self.real_BP.new_ones(len(self), length)], dim=1)


@dataclass(frozen=True)
class Anchors(Rows):
    """The anchors of a batch. An anchor is an earlier response to a row's prompt; spatial pruning fixes some of its tokens.

    eligible_BL: tokens that may be fixed (before EOS, outside every answer span); all False where a row has no anchor.
    confidence_BL: log-probability of each token under one forward with the whole response masked. known_B: whether the row has
    an anchor; None: every row has. solved_B, tries_B: how many of how many earlier completions of the row's prompt were right;
    None: nobody counted.
    """

    tokens_BL: Tensor
    eligible_BL: Tensor
    confidence_BL: Tensor
    known_B: Tensor | None = None
    solved_B: Tensor | None = None
    tries_B: Tensor | None = None

    @property
    def anchored_B(self) -> Tensor:
        """Whether each row has an anchor."""
        return torch.ones(len(self.tokens_BL), dtype=torch.bool) if self.known_B is None else self.known_B


@dataclass(frozen=True)
class Trajectory(Rows):
    """Finished rollouts.

    fixed_BL: tokens taken from the anchor, which are never masked and never scored. until_eos_BL: tokens up to and including
    the first EOS. step_BL: the number of the forward, counted from 0, that revealed a token; the final fill is one forward of
    its own. It is -1 at fixed tokens, and after the row's end where no forward revealed anything. logp_BL: the token's
    log-probability in that forward, at temperature 1; 0 where step_BL is -1. nfe (number of function evaluations): the
    schedule's forwards (Theorem 4.1). nfe_run: forwards that were run, which are fewer if every row ended early. scheduled:
    whether the schedule decided what was revealed. If not, Theorem 4.1 does not count the forwards: each row has its own,
    `nfe_B`.
    """

    prompts: Prompts
    response_BL: Tensor
    fixed_BL: Tensor
    until_eos_BL: Tensor
    step_BL: Tensor
    logp_BL: Tensor
    nfe: int
    nfe_run: int
    scheduled: bool = True

    @classmethod
    def given(cls, prompts: Prompts, response_BL: Tensor, fixed_BL: Tensor, until_eos_BL: Tensor) -> Self:
        """Returns the record of responses that no sampler drew: no forward revealed any of their tokens."""
        step_BL = torch.full_like(response_BL, -1, dtype=torch.long)
        logp_BL = torch.zeros_like(response_BL, dtype=torch.float32)
        return cls(prompts, response_BL, fixed_BL, until_eos_BL, step_BL, logp_BL, nfe=0, nfe_run=0)

    @property
    def trainable_BL(self) -> Tensor:
        """The index set of Eq. 7 and of every loss: the tokens that the policy chose."""
        return self.until_eos_BL & ~self.fixed_BL

    @property
    def nfe_B(self) -> Tensor:
        """The forwards that each row needed: up to the last one that revealed a token of it."""
        return self.step_BL.amax(dim=1) + 1

    def rows(self, index: Tensor | slice) -> Self:
        return replace(super().rows(index), prompts=self.prompts.rows(index))

    def to(self, device: torch.device | str) -> Self:
        return replace(super().to(device), prompts=self.prompts.to(device))


@dataclass(frozen=True)
class Noise(Rows):
    """One set of Monte Carlo draws, stored so that theta, theta_old and the reference share it.

    masked_BKL: positions that draw k masks and scores. weight_BK: the draw's weight w_k. hidden_BKL: positions that it masks
    but does not score. prompt_BKP: prompt tokens that it masks. The last two are None if there are none. states: whether draws
    are states of the rollout, in which tokens after the EOS may be seen; in other draws they are always masked.
    """

    masked_BKL: Tensor
    weight_BK: Tensor
    hidden_BKL: Tensor | None = None
    prompt_BKP: Tensor | None = None
    states: bool = False

    def split(self, size: int) -> list["Noise"]:
        """Returns the draws in parts of at most `size`, or in one part if it is 0."""
        count = self.weight_BK.shape[1]
        parts = [slice(k, k + size) for k in range(0, count, size)] if 0 < size < count else [slice(None)]
        tensors = self.tensors
        return [replace(self, **{name: t[:, part] for name, t in tensors.items()}) for part in parts]  # type: ignore[arg-type]

    def padded(self, count: int) -> "Noise":
        """Adds draws that mask nothing until there are `count` of them, and keeps the mean over all draws as it is."""
        more = count - self.weight_BK.shape[1]
        if not more:
            return self
        padded = {name: torch.cat([t, t.new_zeros(len(t), more, *t.shape[2:])], dim=1) for name, t in self.tensors.items()}
        padded["weight_BK"] *= count / (count - more)
        return replace(self, **padded)  # type: ignore[arg-type]


@dataclass(frozen=True)
class LogProbs(Rows):
    """Estimated log-likelihoods.

    token_BL: B^k of Eq. 4, zero where not trainable. draw_BK: the sequence's value in each single draw.
    upper_BL: the upper bound's counterpart of token_BL, if the estimator has one.
    """

    token_BL: Tensor
    draw_BK: Tensor
    upper_BL: Tensor | None = None

    def detach(self) -> "LogProbs":
        """Returns the same values without their gradients."""
        return LogProbs(*(None if t is None else t.detach() for t in (self.token_BL, self.draw_BK, self.upper_BL)))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Draws:
    """Keyed randomness: every draw is made for the whole global batch, then sliced.

    A draw depends on (seed, update, purpose, step) and on the row's place in the global batch, and on nothing else: not on
    micro-batches, not on the number of ranks, not on what ran before. batch: number of rows of the global batch. rows: the
    global indices of this slice, or None for all rows. names: a name for every row, if draws depend on it instead of the place.
    """

    seed: int | str
    batch: int
    update: int = 0
    rows: Tensor | None = None
    names: tuple[str, ...] | None = None

    def generator(self, purpose: str, step: int = 0) -> torch.Generator:
        """Returns a fresh CPU generator for this key."""
        key = f"{self.seed}/{self.update}/{purpose}/{step}".encode()
        seed = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1
        return torch.Generator().manual_seed(seed)

    def uniform(self, purpose: str, step: int, *shape: int) -> Tensor:
        """Returns float32 uniforms in [0, 1) of shape [rows, *shape], on the CPU."""
        if self.names is not None:
            rows = range(self.batch) if self.rows is None else self.rows.tolist()
            keys = [self.generator(f"{purpose}/{self.names[row]}", step) for row in rows]
            return torch.stack([torch.rand(shape, generator=key) for key in keys])
        full = torch.rand(self.batch, *shape, generator=self.generator(purpose, step))
        return full if self.rows is None else full[self.rows]

    def again(self, name: str) -> "Draws":
        """Returns other draws of the same rows: none of their keys is one of these."""
        return replace(self, seed=f"{self.seed}/{name}")

    def select(self, index: Tensor) -> "Draws":
        """Returns the draws of some of these rows (integer or boolean index)."""
        rows = torch.arange(self.batch) if self.rows is None else self.rows
        return replace(self, rows=rows[index.cpu()])


class Question(Protocol):
    """What the loop needs to know of a task's problem."""

    @property
    def id(self) -> str:
        """A stable name, the same in every run."""

    @property
    def key(self) -> str:
        """The name of its anchors."""

    @property
    def question(self) -> str:
        """The text that is asked."""


class AnchorSource(Protocol):
    """Where earlier responses are stored: the static dataset, in a training run."""

    def anchors(self, problem_keys: list[str], choose: str, draws: Draws, right: bool = False) -> Anchors:
        """Returns one anchor for each row of the global batch; nothing is eligible in a row whose problem has none.

        right: only earlier responses that were right count as anchors.
        """


@dataclass(frozen=True)
class Batch:
    """A global batch to roll out: one row for each completion, over all ranks.

    hinted_BL: the anchors' tokens that rollouts keep. None leaves their choice to the sampler (Eq. 5).
    """

    prompts: Prompts
    draws: Draws
    anchors: Anchors | None = None
    hinted_BL: Tensor | None = None


@dataclass(frozen=True)
class Rescued:
    """What a rescue did with this rank's groups.

    first: their first rollout. groups: how many of them were rolled out again. forwards: how many forwards that took, each
    row's counted by itself. replaced_B: the completions that others have replaced. hinted_BL: the tokens of these others that
    a ground-truth solution gave; None if it gave none.
    """

    first: "Rollout"
    groups: int
    forwards: int
    replaced_B: Tensor
    hinted_BL: Tensor | None = None


@dataclass(frozen=True)
class Rollout:
    """This rank's share of a global batch after its rollout, on the CPU.

    advantage_B: 0 for all of a group whose rewards are equal; [B, L] if tokens have advantages of their own.
    anchored_B: whether the row's problem has an anchor. correct_B: whether the completion is right, as accuracy counts it.
    reward_parts: the named parts that add up to reward_B. rescued: what a rescue did, if there is one.
    pruning: what the sampler tells of its prunings of the global batch, as metrics.
    """

    problems: Sequence[Question]
    trajectory: Trajectory
    completions: list[str]
    reward_parts: list[dict[str, float]]
    reward_B: Tensor
    advantage_B: Tensor
    anchored_B: Tensor
    correct_B: Tensor
    draws: Draws
    rescued: Rescued | None = None
    pruning: dict[str, float] = field(default_factory=dict)

    @property
    def first(self) -> "Rollout":
        """The rollout before any rescue, whose completions are all the policy's own."""
        return self if self.rescued is None else self.rescued.first

    def patched(self, rows_R: Tensor, other: "Rollout", from_R: Tensor) -> "Rollout":
        """Returns this rollout with the completions `rows_R` replaced by the completions `from_R` of another one.

        The other one's rows must answer the same problems. Advantages stay as they were.
        """
        completions, parts = list(self.completions), list(self.reward_parts)
        for row, source in zip(rows_R.tolist(), from_R.tolist(), strict=True):
            completions[row], parts[row] = other.completions[source], other.reward_parts[source]
        return replace(
            self,
            trajectory=self.trajectory.patched(rows_R, other.trajectory.rows(from_R)),
            completions=completions,
            reward_parts=parts,
            reward_B=self.reward_B.index_copy(0, rows_R, other.reward_B[from_R]),
            correct_B=self.correct_B.index_copy(0, rows_R, other.correct_B[from_R]),
        )
