"""The schedule of forwards: how many there are (Theorem 4.1) and which block each of them works on."""

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """`forwards` consecutive forwards that reveal tokens of positions [begin, end)."""

    begin: int
    end: int
    forwards: int


def round_half_up(*factors: float | Decimal) -> int:
    """Multiplies the factors as decimals and rounds half up: 0.15 * 10 is exactly 1.5 and gives 2."""
    product = Decimal(1)
    for factor in factors:
        product *= factor if isinstance(factor, Decimal) else Decimal(str(factor))
    return int(product.to_integral_value(ROUND_HALF_UP))


def count_forwards(steps: int, gamma: float = 0.0, t_cutoff: float = 0.0) -> tuple[int, bool]:
    """Theorem 4.1: returns (number of denoising forwards, whether one more forward fills the rest).

    The total is round((1 - gamma - t_cutoff) * N) + 1 with a cutoff and round((1 - gamma) * N) without, never more
    than N and never 0.
    """
    left = Decimal(1) - Decimal(str(gamma)) - Decimal(str(t_cutoff))
    forwards = round_half_up(left, steps)
    if t_cutoff > 0:
        return min(forwards, steps - 1), True
    return max(forwards, 1), False


def quotas(masked_BL: Tensor, spans: list[tuple[int, int]], keep: int) -> Tensor:
    """Returns [B, spans]: how many positions each row reveals in each span before the cutoff.

    The cutoff leaves the last `keep` masks of a row to the final fill.
    """
    upto_BL = torch.nn.functional.pad(masked_BL.cumsum(dim=1), (1, 0))
    masks = torch.stack([upto_BL[:, b] - upto_BL[:, a] for a, b in spans], dim=1) if spans else upto_BL[:, :0]
    before = torch.stack([upto_BL[:, a] for a, _ in spans], dim=1) if spans else upto_BL[:, :0]
    return torch.minimum((upto_BL[:, -1:] - keep - before).clamp(min=0), masks)


def plan_windows(masked_BL: Tensor, block_length: int, forwards: int, keep: int = 0) -> list[Window]:
    """Divides `forwards` among the blocks, once for the whole batch.

    Shares are proportional to the positions that each block has to reveal before the cutoff (largest remainder), and each such
    block gets at least one. If there are fewer forwards than such blocks, neighbouring blocks are decoded together.
    """
    length = masked_BL.shape[1]
    spans = [(a, a + block_length) for a in range(0, length, block_length)]
    work = quotas(masked_BL, spans, keep).sum(dim=0).tolist()
    busy = [(span, w) for span, w in zip(spans, work, strict=True) if w > 0]
    if forwards == 0:
        return []
    if not busy:  # rounding leaves everything to the fill, but the count of forwards stays
        return [Window(0, length, forwards)]
    if forwards < len(busy):
        groups = [busy[i * len(busy) // forwards : (i + 1) * len(busy) // forwards] for i in range(forwards)]
        return [Window(group[0][0][0], group[-1][0][1], 1) for group in groups]
    shares = apportion(forwards, [w for _, w in busy])
    return [Window(a, b, n) for ((a, b), _), n in zip(busy, shares, strict=True)]


def apportion(total: int, weights: list[int]) -> list[int]:
    """Returns integers that add up to `total`, proportional to `weights` by largest remainder, each at least 1.

    Among equal remainders, the leftmost gets more.
    """
    whole = sum(weights)
    shares = [max(total * w // whole, 1) for w in weights]

    def excess(i: int) -> int:
        return shares[i] * whole - total * weights[i]  # computed in integers, to keep ties exact

    by_remainder = sorted(range(len(weights)), key=excess)
    for step in range(total - sum(shares)):
        shares[by_remainder[step % len(shares)]] += 1
    while sum(shares) > total:  # the minimum of 1 gave out too many: take one from the share that is furthest above its due
        shares[max((i for i in range(len(shares)) if shares[i] > 1), key=excess)] -= 1
    return shares
