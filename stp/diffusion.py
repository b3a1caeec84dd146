"""Masked diffusion: the denoiser protocol, the forward process (Eqs. 2 and 7) and the draw of one reverse step."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stp.errors import fail
from stp.types import Trajectory

# how many logits `draw_tokens` works on at once: on a CPU as many as a core's cache holds, on a GPU enough for long kernels
CACHED, QUEUED = 2**19, 2**26


class Denoiser(Protocol):
    """A mask predictor. Samplers and estimators need nothing else from a model: any object with these three members will do.

    Three more members are optional. `draw` replaces the function `draw` below, for instance to work chunk by chunk. `within`
    replaces the function `within`, to keep keys and values while a block is denoised. `device` says where batches must lie.
    """

    mask_id: int
    eos_id: int

    def __call__(self, ids_BS: Tensor, attend_BS: Tensor | None, index_M: Tensor, target_M: Tensor | None = None) -> Tensor:
        """Predicts the tokens at flat positions `index_M` of the [B, S] grid.

        attend_BS is False on padding (None: no padding). Returns logits_MV, or with `target_M` the log-probabilities of
        those tokens, logp_M (float32).
        """
        ...


def draw(
    denoise: Denoiser,
    ids_BS: Tensor,
    attend_BS: Tensor | None,
    index_M: Tensor,
    temperature: float = 0.0,
    uniform_M: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Draws one token at each of these positions. Returns the tokens and their confidence: see `draw_tokens`."""
    own = getattr(denoise, "draw", None)
    if own is not None:
        return own(ids_BS, attend_BS, index_M, temperature, uniform_M)
    return draw_tokens(denoise(ids_BS, attend_BS, index_M), temperature, uniform_M, denoise.mask_id)


def within(denoise: Denoiser, begin: int, end: int) -> Any:
    """Returns an approximate, faster denoiser for the draws of one block, at positions `begin` to `end`.

    Its first forward is a full one of `denoise`. Later forwards compute only these positions. For all other positions they
    reuse the keys and values of the first forward, although tokens have been revealed since.
    """
    own = getattr(denoise, "within", None)
    if own is None:
        fail("sampler.cache", type(denoise).__name__, "this denoiser keeps no keys and values; choose sampler.cache=none")
    return own(begin, end)


class Observed(Denoiser, ABC):
    """A denoiser that passes everything on to another one, and sees each of its draws, also those of a block (`within`)."""

    def __init__(self, inner: Denoiser) -> None:
        self.inner, self.mask_id, self.eos_id = inner, inner.mask_id, inner.eos_id

    def __call__(self, *args: Tensor | None) -> Tensor:
        return self.inner(*args)  # type: ignore[arg-type]

    def draw(self, *args: Any) -> tuple[Tensor, Tensor]:
        """Draws as the inner denoiser does."""
        return self.seen(self.inner, *args)

    def within(self, begin: int, end: int) -> Any:
        """Returns the inner denoiser's `within` for one block, whose draws are seen too."""
        block = within(self.inner, begin, end)
        return SimpleNamespace(mask_id=self.mask_id, eos_id=self.eos_id, draw=partial(self.seen, block))

    @abstractmethod
    def seen(self, inner: Denoiser, ids_BS: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
        """Returns what `stp.diffusion.draw` gives for these arguments, and does with the draw what the observer is for."""


class FromLogits:
    """A denoiser from any function ids_BS -> logits_BSV (toy models, enumeration, tests)."""

    def __init__(self, logits: Callable[[Tensor], Tensor], mask_id: int, eos_id: int) -> None:
        self.logits, self.mask_id, self.eos_id = logits, mask_id, eos_id

    def __call__(self, ids_BS: Tensor, attend_BS: Tensor | None, index_M: Tensor, target_M: Tensor | None = None) -> Tensor:
        logits_MV = self.logits(ids_BS).flatten(0, 1)[index_M]
        return logits_MV if target_M is None else token_log_probs(logits_MV, target_M)


def token_log_probs(logits_MV: Tensor, target_M: Tensor, overwrite: bool = False) -> Tensor:
    """Returns log softmax(logits)[target] in float32. overwrite: float32 logits may be overwritten, to save a copy."""
    return _TokenLogProbs.apply(_buffer(logits_MV, overwrite), target_M)


class _TokenLogProbs(torch.autograd.Function):
    """Works in one buffer: forward turns the logits into exp(logits - largest), and backward turns these into the gradient."""

    @staticmethod
    def forward(ctx: Any, logits_MV: Tensor, target_M: Tensor) -> Tensor:
        logits_MV.sub_(logits_MV.amax(dim=1, keepdim=True))
        chosen_M = logits_MV.gather(1, target_M[:, None]).squeeze(1)
        total_M = logits_MV.exp_().sum(dim=1)
        ctx.save_for_backward(logits_MV, total_M, target_M)
        return chosen_M - total_M.log()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        weight_MV, total_M, target_M = ctx.saved_tensors
        (grad_M,) = gradients
        grad_MV = weight_MV.mul_((-grad_M / total_M)[:, None])
        return grad_MV.scatter_add_(1, target_M[:, None], grad_M[:, None]), None


def forward_process(trajectory: Trajectory, masked_BL: Tensor, mask_id: int, after_eos: bool = True) -> Tensor:
    """Eqs. 2 and 7: returns ids_BS with the response masked where masked_BL is True.

    A fixed token never is. after_eos: mask everything after EOS, too.
    """
    if after_eos:
        masked_BL = masked_BL | ~trajectory.until_eos_BL
    masked_BL = masked_BL & ~trajectory.fixed_BL
    response_BL = trajectory.response_BL.masked_fill(masked_BL, mask_id)
    return torch.cat([trajectory.prompts.ids_BP, response_BL], dim=1)


def until_eos(response_BL: Tensor, eos_id: int) -> Tensor:
    """Returns True up to and including the first EOS of each row."""
    eos_BL = (response_BL == eos_id).int()
    return eos_BL.cumsum(dim=1) - eos_BL == 0


def draw_tokens(
    logits_MV: Tensor, temperature: float, uniform_M: Tensor | None, mask_id: int, overwrite: bool = False
) -> tuple[Tensor, Tensor]:
    """Draws one token per position. Returns the tokens and their confidence, which is their probability at temperature 1.

    Temperature 0 takes the argmax. Above 0 each token is an exact draw from softmax(logits / temperature): one uniform per
    position is inverted through the cumulative distribution, in float32. The mask token itself is never drawn.
    overwrite: float32 logits may be overwritten, to save a copy.
    """
    rows = max(1, (CACHED if logits_MV.is_cpu else QUEUED) // logits_MV.shape[1])
    parts = logits_MV.split(rows)
    uniforms = [None] * len(parts) if uniform_M is None else uniform_M.split(rows)
    drawn = [_draw_tokens(_buffer(p, overwrite), temperature, u, mask_id) for p, u in zip(parts, uniforms, strict=True)]
    return torch.cat([token_M for token_M, _ in drawn]), torch.cat([confidence_M for _, confidence_M in drawn])


def _buffer(logits_MV: Tensor, overwrite: bool) -> Tensor:
    """Returns the logits in float32, in a buffer that may be written to."""
    return logits_MV.float() if overwrite or logits_MV.dtype != torch.float32 else logits_MV.clone()


def _draw_tokens(logits_MV: Tensor, temperature: float, uniform_M: Tensor | None, mask_id: int) -> tuple[Tensor, Tensor]:
    logits_MV[:, mask_id] = -torch.inf
    if temperature == 0:
        best_M, token_M = logits_MV.max(dim=1)
        return token_M, 1 / logits_MV.sub_(best_M[:, None]).exp_().sum(dim=1)
    assert uniform_M is not None
    logits_MV.sub_(logits_MV.amax(dim=1, keepdim=True))
    weight_MV = logits_MV.exp()  # the probabilities at temperature 1, not normalised
    tempered_MV = weight_MV if temperature == 1 else logits_MV.div_(temperature).exp_()
    cumulative_MV = tempered_MV.cumsum(dim=1)
    total_M1 = cumulative_MV[:, -1:]
    # stay below the total: rounding could otherwise point past the last possible token
    point_M1 = torch.minimum(uniform_M[:, None] * total_M1, torch.nextafter(total_M1, torch.zeros_like(total_M1)))
    token_M1 = torch.searchsorted(cumulative_MV, point_M1, right=True)
    return token_M1.squeeze(1), weight_MV.gather(1, token_M1).squeeze(1) / weight_MV.sum(dim=1)


def log_confidence(confidence: Tensor) -> Tensor:
    """Returns the log-probabilities of drawn tokens. A probability that float32 rounds to 0 counts as the smallest above it."""
    return confidence.clamp(min=torch.finfo(torch.float32).tiny).log()


def top_per_row(score_BL: Tensor, allowed_BL: Tensor, count_B: Tensor) -> Tensor:
    """Returns True at the `count` allowed positions of each row that score highest; among ties, the leftmost.

    A row must have at least `count` allowed positions.
    """
    order_BL = score_BL.masked_fill(~allowed_BL, -torch.inf).argsort(dim=1, descending=True, stable=True)
    rank = torch.arange(score_BL.shape[1], device=score_BL.device)
    chosen_BL = torch.zeros_like(allowed_BL).scatter_(1, order_BL, rank < count_B[:, None])
    return chosen_BL & allowed_BL
