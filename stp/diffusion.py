"""Masked diffusion: the denoiser protocol, the forward process (Eqs. 2 and 7) and the draw of one reverse step."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from stp.types import Trajectory


class Denoiser(Protocol):
    """A mask predictor. Samplers and estimators need nothing else of a model."""

    mask_id: int
    eos_id: int

    def __call__(self, ids_BS: Tensor, attend_BS: Tensor | None, index_M: Tensor, target_M: Tensor | None = None) -> Tensor:
        """Predict the tokens at flat positions `index_M` of the [B, S] grid.

        attend_BS is False on padding (None: no padding). Returns logits_MV, or with `target_M` the log-probabilities of
        those tokens, logp_M (float32).
        """
        ...


class FromLogits:
    """A denoiser from any function ids_BS -> logits_BSV (toy models, enumeration, tests)."""

    def __init__(self, logits: Callable[[Tensor], Tensor], mask_id: int, eos_id: int) -> None:
        self.logits, self.mask_id, self.eos_id = logits, mask_id, eos_id

    def __call__(self, ids_BS: Tensor, attend_BS: Tensor | None, index_M: Tensor, target_M: Tensor | None = None) -> Tensor:
        logits_MV = self.logits(ids_BS).flatten(0, 1)[index_M]
        return logits_MV if target_M is None else token_log_probs(logits_MV, target_M)


def token_log_probs(logits_MV: Tensor, target_M: Tensor) -> Tensor:
    """log softmax(logits)[target], in float32."""
    logits_MV = logits_MV.float()
    return logits_MV.gather(1, target_M[:, None]).squeeze(1) - logits_MV.logsumexp(dim=1)


def forward_process(trajectory: Trajectory, masked_BL: Tensor, mask_id: int) -> Tensor:
    """Eqs. 2 and 7: ids_BS with the response masked where drawn.

    Everything after EOS is always masked; a fixed token never is.
    """
    masked_BL = (masked_BL | ~trajectory.until_eos_BL) & ~trajectory.fixed_BL
    response_BL = trajectory.response_BL.masked_fill(masked_BL, mask_id)
    return torch.cat([trajectory.prompts.ids_BP, response_BL], dim=1)


def until_eos(response_BL: Tensor, eos_id: int) -> Tensor:
    """True up to and including the first EOS of each row."""
    eos_BL = (response_BL == eos_id).int()
    return eos_BL.cumsum(dim=1) - eos_BL == 0


def draw_tokens(logits_MV: Tensor, temperature: float, uniform_M: Tensor | None, mask_id: int) -> tuple[Tensor, Tensor]:
    """One token per position and its confidence, the untempered probability of that token.

    temperature 0 takes the argmax. Above 0 it is an exact draw from softmax(logits / temperature): one uniform per position
    inverted through the cumulative distribution, in float32. The mask itself is never drawn.
    float32 logits are overwritten.
    """
    logits_MV = logits_MV.float()
    logits_MV[:, mask_id] = -torch.inf
    if temperature == 0:
        best_M, token_M = logits_MV.max(dim=1)
        return token_M, (best_M - logits_MV.logsumexp(dim=1)).exp()
    assert uniform_M is not None
    p_MV = logits_MV.softmax(dim=1)
    tempered_MV = p_MV if temperature == 1 else (logits_MV / temperature).softmax(dim=1)
    cumulative_MV = tempered_MV.cumsum(dim=1)
    total_M1 = cumulative_MV[:, -1:]
    # below the total, so that rounding can never point past the last possible token
    point_M1 = torch.minimum(uniform_M[:, None] * total_M1, torch.nextafter(total_M1, torch.zeros_like(total_M1)))
    token_M1 = torch.searchsorted(cumulative_MV, point_M1, right=True)
    return token_M1.squeeze(1), p_MV.gather(1, token_M1).squeeze(1)


def top_per_row(score_BL: Tensor, allowed_BL: Tensor, count_B: Tensor) -> Tensor:
    """True at the `count` highest-scoring allowed positions of each row (ties: the leftmost). count must fit."""
    order_BL = score_BL.masked_fill(~allowed_BL, -torch.inf).argsort(dim=1, descending=True, stable=True)
    rank = torch.arange(score_BL.shape[1], device=score_BL.device)
    chosen_BL = torch.zeros_like(allowed_BL).scatter_(1, order_BL, rank < count_B[:, None])
    return chosen_BL & allowed_BL
