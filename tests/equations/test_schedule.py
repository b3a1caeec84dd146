"""Theorem 4.1 as an identity of counts, and how the forwards are shared out."""

import math
from fractions import Fraction
from itertools import pairwise

import pytest
import torch

from stp.samplers import Stp
from stp.samplers.schedule import apportion, count_forwards, plan_windows, quotas, round_half_up
from stp.types import Draws
from tests.toys import PROMPT, Recording, anchors, context_free, prompts


def half_up(x: Fraction) -> int:
    return math.floor(x + Fraction(1, 2))


def theorem_4_1(steps: int, gamma: float, t_cutoff: float) -> int:
    """Forwards of a rollout, from the decimals as written: one more fills the rest, never more than N, never none."""
    left = 1 - Fraction(str(gamma)) - Fraction(str(t_cutoff))
    return min(half_up(left * steps) + 1, steps) if t_cutoff else max(half_up(left * steps), 1)


def test_rounding_is_half_up_on_exact_decimals():
    assert round_half_up(0.15, 10) == 2  # binary floats would give 1.5 - tiny, or banker's rounding
    assert round_half_up(0.05, 10) == 1 and round_half_up(0.05, 30) == 2 and round_half_up(0.05, 50) == 3
    assert round_half_up(0.35, 10) == 4 and round_half_up(0.145, 100) == 15 and round_half_up(0.049, 10) == 0
    for numerator in range(1, 100):
        for n in (7, 10, 40, 50, 128, 256):
            assert round_half_up(numerator / 100, n) == half_up(Fraction(numerator, 100) * n)


def test_forty_steps_give_38_39_and_37_forwards():
    counts = [count_forwards(40, *pruning) for pruning in ((0.0, 0.0), (0.05, 0.0), (0.0, 0.05), (0.05, 0.05))]
    assert [forwards + fill for forwards, fill in counts] == [40, 38, 39, 37]


def test_count_forwards_over_a_fine_grid():
    for steps in (1, 2, 3, 7, 10, 40, 128):
        for g in range(0, 100, 3):
            for t in range(0, 100 - g, 7):
                forwards, fill = count_forwards(steps, g / 100, t / 100)
                assert forwards + fill == theorem_4_1(steps, g / 100, t / 100)
                assert fill == (t > 0)


GRID = [(40, 40, 8), (40, 40, 40), (40, 80, 8), (20, 40, 4), (10, 40, 4), (16, 16, 4), (10, 10, 5), (8, 8, 4), (7, 20, 10)]


@pytest.mark.parametrize(("steps", "length", "block"), GRID)
def test_forwards_really_run_equal_the_formula_and_keep_block_order(steps, length, block):
    """Rows with an anchor, with half of one and with none share the count. Nothing ends early: EOS is never drawn."""
    earlier = anchors(3, length, [list(range(length)), list(range(length // 2, length)), []])
    for gamma in (0.0, 0.05, 0.1, 0.15, 0.4):
        for t_cutoff in (0.0, 0.05, 0.1, 0.25):
            denoise = Recording(context_free(length, eos=-torch.inf))
            sampler = Stp(length, steps, block, 1.0, gamma=gamma, t_cutoff=t_cutoff)
            start = sampler.start(earlier, Draws(0, 3))
            result = sampler(denoise, prompts(3), Draws(0, 3), earlier)
            expected = theorem_4_1(steps, gamma, t_cutoff)
            assert len(denoise.calls) == result.nfe == result.nfe_run == expected, (gamma, t_cutoff)
            fixed = min(half_up(Fraction(str(gamma)) * length), length)
            assert result.fixed_BL.sum(dim=1).tolist() == [fixed, min(fixed, length // 2), 0]
            assert_in_block_order(denoise, [(w.begin, w.end) for w in start.windows])
            if t_cutoff:
                left = max(half_up(Fraction(str(t_cutoff)) * length), 1)
                last = denoise.calls[-1]
                assert (last.ids_BS == denoise.mask_id).sum(dim=1).tolist() == [left] * 3
                assert len(last.index_M) == 3 * left
            if expected > length // block:  # else neighbouring blocks are decoded together
                assert all(w.end - w.begin == block for w in start.windows)


def assert_in_block_order(denoise: Recording, windows: list[tuple[int, int]]) -> None:
    """Whatever is revealed before the fill, no earlier window of that row has an open position."""
    states = [c.ids_BS == denoise.mask_id for c in denoise.calls]  # what the fill reveals is in none of them
    for before, after in pairwise(states):
        for row, position in (before & ~after).nonzero().tolist():
            begin = max(a for a, _ in windows if a <= position - len(PROMPT))
            assert not before[row, : len(PROMPT) + begin].any()


def test_pruning_that_leaves_nothing_but_the_fill_still_runs_the_counted_forwards():
    """Both counts round up: 5 of 10 fixed, 5 kept for the fill, and one forward of the schedule with nothing to reveal."""
    sampler = Stp(10, 10, 5, 0.0, gamma=0.5, t_cutoff=0.45)
    denoise = Recording(context_free(10, eos=-torch.inf))
    result = sampler(denoise, prompts(1), Draws(0, 1), anchors(1, 10, [list(range(10))]))
    assert theorem_4_1(10, 0.5, 0.45) == 2
    assert len(denoise.calls) == result.nfe == 2


def test_more_forwards_than_tokens_reveal_everything():
    """10 positions, 1 fixed (0.5 rounds up) and 10 forwards (9.5 rounds up): one forward has nothing to reveal."""
    for temperature in (0.0, 1.0):
        denoise = Recording(context_free(10, eos=-torch.inf))
        sampler = Stp(10, 10, 10, temperature, gamma=0.05, t_cutoff=0.0)
        result = sampler(denoise, prompts(1), Draws(0, 1), anchors(1, 10, [list(range(10))]))
        assert len(denoise.calls) == result.nfe == 10
        assert not (result.response_BL == denoise.mask_id).any()


def test_apportion_by_largest_remainder():
    assert apportion(10, [1, 1, 1]) == [4, 3, 3]  # ties to the left
    assert apportion(7, [5, 3, 2]) == [4, 2, 1]  # 3.5, 2.1, 1.4
    assert apportion(38, [48, 52]) == [18, 20]  # 18.24, 19.76
    assert apportion(5, [100, 1, 1]) == [3, 1, 1]  # at least one each, taken from the largest
    assert apportion(3, [9, 9, 1]) == [1, 1, 1]
    assert apportion(4, [4, 4, 4, 4]) == [1, 1, 1, 1]


def test_apportion_agrees_with_exact_fractions():
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        weights = torch.randint(10, 40, (4,), generator=generator).tolist()
        total = int(torch.randint(20, 60, (1,), generator=generator))
        due = [Fraction(total * w, sum(weights)) for w in weights]
        shares = [math.floor(x) for x in due]
        for i in sorted(range(4), key=lambda i: (shares[i] - due[i], i))[: total - sum(shares)]:
            shares[i] += 1
        assert apportion(total, weights) == shares


def test_quotas_leave_the_last_masks_of_each_row():
    masked_BL = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 0, 0, 1, 1, 0], [1, 1, 0, 0, 0, 0]]).bool()
    spans = [(0, 2), (2, 4), (4, 6)]
    assert quotas(masked_BL, spans, keep=0).tolist() == [[2, 2, 2], [1, 1, 1], [2, 0, 0]]
    assert quotas(masked_BL, spans, keep=2).tolist() == [[2, 2, 0], [1, 0, 0], [0, 0, 0]]
    assert quotas(masked_BL, spans, keep=3).tolist() == [[2, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_windows_follow_the_work_of_the_whole_batch():
    masked_BL = torch.ones(2, 12, dtype=torch.bool)
    masked_BL[0, :4] = masked_BL[1, :2] = False  # 2, 8 and 8 positions to reveal
    windows = [(w.begin, w.end, w.forwards) for w in plan_windows(masked_BL, 4, 9)]
    assert windows == [(0, 4, 1), (4, 8, 4), (8, 12, 4)]
    masked_BL[:, :4] = False  # a block with nothing to reveal gets no forward
    assert [(w.begin, w.end, w.forwards) for w in plan_windows(masked_BL, 4, 8)] == [(4, 8, 4), (8, 12, 4)]


def test_fewer_forwards_than_blocks_join_neighbours():
    masked_BL = torch.ones(1, 12, dtype=torch.bool)
    windows = [(w.begin, w.end, w.forwards) for w in plan_windows(masked_BL, 2, 4)]
    assert windows == [(0, 2, 1), (2, 6, 1), (6, 8, 1), (8, 12, 1)]
