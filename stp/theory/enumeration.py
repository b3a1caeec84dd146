"""Models that are small enough to enumerate every order, mask and draw. They give the exact figures of docs/theory.md."""

import math
from collections.abc import Iterator
from itertools import permutations, product

import torch
from rich.progress import track
from torch import Tensor

from stp.diffusion import Denoiser, FromLogits
from stp.estimators.base import masked_log_probs
from stp.types import Draws, Noise, Prompts, Trajectory

L, V = 4, 3  # the number of positions and of tokens of the toy models; token V is the mask


def toy(generator: torch.Generator, disagreement: float, sharpness: float = 2.0) -> FromLogits:
    """Returns the conditionals of one random joint distribution, with normal noise of size `disagreement` on each logit.

    At 0 the conditionals agree: every order of generation gives a sequence the same probability. A network's need not agree.
    """
    sequence_XL, state_YL = (torch.cartesian_prod(*[torch.arange(n)] * L) for n in (V, V + 1))
    joint_X = (sharpness * torch.randn(V**L, generator=generator, dtype=torch.float64)).softmax(dim=0)
    fits_YX = ((state_YL[:, None] == sequence_XL) | (state_YL[:, None] == V)).all(dim=2).double()
    hot_XLV = torch.nn.functional.one_hot(sequence_XL, V + 1).double()
    table_YLV = torch.einsum("yx,x,xlv->ylv", fits_YX, joint_X, hot_XLV).log()
    table_YLV += disagreement * torch.randn(table_YLV.shape, generator=generator, dtype=torch.float64)
    return FromLogits(lambda ids_BS: table_YLV[(ids_BS * (V + 1) ** torch.arange(L - 1, -1, -1)).sum(dim=1)], V, -1)


def finished(response_BL: Tensor) -> Trajectory:
    """Returns responses as a trajectory without prompt, EOS or fixed tokens."""
    everything_BL = torch.ones_like(response_BL, dtype=torch.bool)
    return Trajectory.given(Prompts(response_BL[:, :0]), response_BL, ~everything_BL, everything_BL)


def every_context(denoise: Denoiser, response_BL: Tensor) -> Tensor:
    """Returns logp_BCL: log p(x_i | what mask c leaves visible) for all 2^L masks c, read as bits; 0 if c does not mask i."""
    masked_CL = torch.arange(2**L)[:, None] >> torch.arange(L) & 1 == 1
    noise = Noise(masked_CL.expand(len(response_BL), -1, -1), torch.ones(len(response_BL), 2**L))
    return masked_log_probs(denoise, finished(response_BL), noise).double()


def along_orders(logp_BCL: Tensor, block_length: int) -> Tensor:
    """Returns logp_BOL: log p of each token when the blocks come from left to right, for every order within the blocks."""
    parts = []
    for order in product(*(permutations(range(a, a + block_length)) for a in range(0, L, block_length))):
        masked, logp_iB = 2**L - 1, {}
        for i in (i for block in order for i in block):
            logp_iB[i] = logp_BCL[:, masked, i]
            masked -= 2**i
        parts.append(torch.stack([logp_iB[i] for i in range(L)], dim=1))
    return torch.stack(parts, dim=1)


def sandwich(logp_BOL: Tensor, beta: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Enumerates the orders and returns (lower, exact, upper), each [B].

    exact: log mean_o prod_i p_io, the any-order likelihood. lower: the ELBO, mean_o sum_i log p_io (Eq. 3 draws contexts as a
    uniform order does). upper: SPG's value for infinitely many draws, sum_i 1/beta log mean_o p_io^beta.
    """
    orders = math.log(logp_BOL.shape[1])
    sum_BO = logp_BOL.sum(dim=2)
    return sum_BO.mean(dim=1), sum_BO.logsumexp(dim=1) - orders, ((beta * logp_BOL).logsumexp(dim=1) - orders).sum(dim=1) / beta


def exact_draws(logp_CL: Tensor, free: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Returns (value, chance) of each single draw n/m sum log p, m ~ U{1..n}. `free` positions are trainable, others fixed."""
    masks = [[i for i, bit in zip(free, bits, strict=True) if bit] for bits in product((0, 1), repeat=len(free)) if any(bits)]
    n = len(free)
    values = [n / len(mask) * float(logp_CL[sum(2**i for i in mask)].sum()) for mask in masks]
    return torch.tensor(values).double(), torch.tensor([1 / n / math.comb(n, len(mask)) for mask in masks]).double()


def variance_of(draws: tuple[Tensor, Tensor]) -> float:
    """Returns the variance of a discrete distribution (value, chance)."""
    value, chance = draws
    return float(chance @ value**2 - (chance @ value) ** 2)


def toys(models: int, draws: Draws) -> Iterator[tuple[float, FromLogits, Tensor, Tensor]]:
    """Yields (disagreement, model, a sequence drawn from its any-order law, logp_CL of that sequence)."""
    sequence_XL = torch.cartesian_prod(*[torch.arange(V)] * L)
    for disagreement in (0.0, 0.5, 2.0):
        generator = draws.generator("toy models", int(10 * disagreement))
        for _ in track(range(models), f"toy models, disagreement {disagreement:g}"):
            denoise = toy(generator, disagreement)
            logp_XCL = every_context(denoise, sequence_XL)
            _, exact_X, _ = sandwich(along_orders(logp_XCL, L))
            x = int(torch.multinomial(exact_X.exp(), 1, generator=generator))
            yield disagreement, denoise, sequence_XL[x], logp_XCL[x]


def second_moment(logp_CL: Tensor, t_min: float) -> float:
    """Eq. 3 as printed, exactly: E[(sum log p / t)^2] for t ~ U(t_min, 1), each position masked with probability t.

    This is a sum over masks of (sum log p)^2 times the integral of t^(m-2) (1-t)^(L-m). For m = 1 the integrand is 1/t near 0,
    so the moment grows without bound, like sum_i log p_i^2 * log(1/t_min).
    """
    total = 0.0
    for code, j in product(range(1, 2**L), range(L)):  # j: the power of t in (1 - t)^(L - m)
        power = code.bit_count() - 1 + j
        integral = (1 - t_min**power) / power if power else math.log(1 / t_min)
        total += math.comb(L - code.bit_count(), j) * (-1) ** j * integral * float(logp_CL[code].sum()) ** 2
    return total / (1 - t_min)
