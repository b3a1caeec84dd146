"""Toy denoisers whose probabilities are known exactly, and small records to run them on."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from stp.diffusion import FromLogits, until_eos
from stp.samplers.generate import concatenate
from stp.types import Anchors, Prompts, Trajectory

MASK, EOS, VOCAB = 0, 1, 7
PROMPT = [5, 6]  # two tokens, neither MASK nor EOS


def context_free(length: int, seed: int = 0, eos: float = 0.0) -> FromLogits:
    """Logits drawn once per position, whatever the other tokens are. eos: added to the EOS logit."""
    table_SV = _normal(seed, len(PROMPT) + length, VOCAB)
    table_SV[:, EOS] += eos
    return FromLogits(lambda ids_BS: table_SV.expand(len(ids_BS), -1, -1), MASK, EOS)


def in_context(length: int, seed: int = 0, eos: float = 0.0, scale: float = 0.5) -> FromLogits:
    """Logits that depend on every token of the sequence, masks included. In float64, so that batching cannot round."""
    size = len(PROMPT) + length
    mix = scale * _normal(seed, size * VOCAB, size * VOCAB)

    def logits(ids_BS: Tensor) -> Tensor:
        hot = torch.nn.functional.one_hot(ids_BS, VOCAB).double().flatten(1)
        logits_BSV = (hot @ mix).view(len(ids_BS), size, VOCAB)
        logits_BSV[..., EOS] += eos
        return logits_BSV

    return FromLogits(logits, MASK, EOS)


def never_masked(denoise: FromLogits) -> FromLogits:
    """The same denoiser, but the mask token has no probability, as in a trained model: samplers never draw it."""

    def logits(ids_BS: Tensor) -> Tensor:
        logits_BSV = denoise.logits(ids_BS)
        logits_BSV[..., MASK] = -1e9
        return logits_BSV

    return FromLogits(logits, MASK, EOS)


class Exact(FromLogits):
    """`in_context` whose log-probabilities stay in float64, and its weights to differentiate by."""

    def __init__(self, length: int, seed: int = 0, scale: float = 0.5) -> None:
        size = len(PROMPT) + length
        self.mix = (scale * _normal(seed, size * VOCAB, size * VOCAB)).requires_grad_()
        super().__init__(self._logits, MASK, EOS)

    def _logits(self, ids_BS: Tensor) -> Tensor:
        hot = torch.nn.functional.one_hot(ids_BS, VOCAB).double().flatten(1)
        return (hot @ self.mix).view(*ids_BS.shape, VOCAB)

    def __call__(self, ids_BS: Tensor, attend_BS: Tensor | None, index_M: Tensor, target_M: Tensor | None = None) -> Tensor:
        assert target_M is not None
        logp_MV = self.logits(ids_BS).flatten(0, 1)[index_M].log_softmax(dim=1)
        return logp_MV.gather(1, target_M[:, None])[:, 0]


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@dataclass(frozen=True)
class Call:
    """What a denoiser was given."""

    ids_BS: Tensor
    index_M: Tensor
    target_M: Tensor | None


class Recording:
    """A denoiser that keeps what it is given in every call."""

    def __init__(self, inner: Callable) -> None:
        self.inner, self.mask_id, self.eos_id = inner, inner.mask_id, inner.eos_id
        self.calls: list[Call] = []

    def __call__(self, ids_BS: Tensor, attend_BS: Tensor | None, index_M: Tensor, target_M: Tensor | None = None) -> Tensor:
        self.calls.append(Call(ids_BS.clone(), index_M.clone(), target_M))
        return self.inner(ids_BS, attend_BS, index_M, target_M)


def prompts(rows: int) -> Prompts:
    """The same short prompt in every row."""
    return Prompts(torch.tensor([PROMPT] * rows))


def trajectory(response: list[int], fixed: list[int] = [], rows: int = 1) -> Trajectory:  # noqa: B006
    """A finished response, with `fixed` positions, repeated."""
    response_BL = torch.tensor([response] * rows)
    fixed_BL = torch.zeros_like(response_BL, dtype=torch.bool)
    fixed_BL[:, fixed] = True
    return Trajectory.given(prompts(rows), response_BL, fixed_BL, until_eos(response_BL, EOS))


def joined(*rows: Trajectory) -> Trajectory:
    """One record of several with prompts of the same width."""
    return concatenate(list(rows))


def open_at(trainable_BL: Tensor) -> Trajectory:
    """A record without EOS whose trainable positions are these; the others are fixed."""
    response_BL = torch.full_like(trainable_BL, 2, dtype=torch.long)
    return Trajectory.given(prompts(len(response_BL)), response_BL, ~trainable_BL, torch.ones_like(trainable_BL))


def anchors(rows: int, length: int, eligible: list[list[int]], seed: int = 0) -> Anchors:
    """Random anchors whose row b may be fixed at the positions eligible[b]; no token is MASK or EOS."""
    generator = torch.Generator().manual_seed(seed)
    tokens_BL = torch.randint(2, VOCAB, (rows, length), generator=generator)
    eligible_BL = torch.zeros(rows, length, dtype=torch.bool)
    for b, positions in enumerate(eligible):
        eligible_BL[b, positions] = True
    return Anchors(tokens_BL, eligible_BL, -torch.rand(rows, length, generator=generator))


def log_probs(denoise: FromLogits, row: Trajectory, unseen: Iterable[int], prompt: Iterable[int] = ()) -> list[float]:
    """log p of each response token of a one-row record, in float64, where the model does not see the response's tokens
    `unseen` and the prompt's tokens `prompt`: no code of the estimators, nor of the forward process."""
    ids = row.prompts.ids_BP[0].tolist() + row.response_BL[0].tolist()
    for place in [*prompt, *(row.prompts.ids_BP.shape[1] + k for k in unseen)]:
        ids[place] = MASK
    logp_SV = denoise.logits(torch.tensor([ids]))[0].detach().double().log_softmax(dim=1)
    return [float(logp_SV[row.prompts.ids_BP.shape[1] + k, x]) for k, x in enumerate(row.response_BL[0].tolist())]


@dataclass(frozen=True)
class Subset:
    """One way to mask the trainable positions: which, and the log-probabilities of the tokens there (zero elsewhere)."""

    count: int
    masked_L: Tensor
    logp_L: Tensor


def every_mask(denoise: FromLogits, row: Trajectory) -> list[Subset]:
    """All non-empty masks of a one-row trajectory, scored without any code of the estimators."""
    trainable_L = row.trainable_BL[0]
    where = trainable_L.nonzero().flatten().tolist()
    after_eos_L = ~row.until_eos_BL[0] & ~row.fixed_BL[0]
    subsets = []
    for bits in product([False, True], repeat=len(where)):
        if not any(bits):
            continue
        masked_L = torch.zeros_like(trainable_L)
        masked_L[where] = torch.tensor(bits)
        response_L = row.response_BL[0].masked_fill(masked_L | after_eos_L, MASK)
        ids_S = torch.cat([row.prompts.ids_BP[0], response_L])
        logp_LV = denoise.logits(ids_S[None])[0, len(PROMPT) :].log_softmax(dim=1)
        logp_L = logp_LV.gather(1, row.response_BL[0][:, None])[:, 0] * masked_L
        subsets.append(Subset(sum(bits), masked_L, logp_L))
    return subsets


def exact_law(n: int, low: int = 1) -> Callable[[int], float]:
    """Probability of one given mask of m of n positions when m ~ U{low..n}."""
    return lambda m: (m >= low) / (n - low + 1) / math.comb(n, m)
