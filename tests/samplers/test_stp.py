"""Spatio-temporal pruning: what is fixed, what stays as it was, and what equals the standard sampler."""

from collections import Counter
from itertools import pairwise

import pytest
import torch

from stp.errors import UserError
from stp.samplers import Standard, Stp
from stp.types import Anchors, Draws
from tests.toys import EOS, MASK, PROMPT, Recording, anchors, in_context, prompts

P = len(PROMPT)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(("steps", "block"), [(12, 4), (8, 4), (5, 12), (3, 4)])
def test_without_pruning_it_is_the_standard_sampler_bit_for_bit(temperature, steps, block):
    for seed in range(4):
        denoise = in_context(12, seed=seed, eos=seed - 2.0)
        draws = Draws(seed=seed, batch=5, update=seed)
        standard, stp = Recording(denoise), Recording(denoise)
        expected = Standard(12, steps, block, temperature)(standard, prompts(5), draws)
        earlier = anchors(5, 12, [list(range(12))] * 5)
        found = Stp(12, steps, block, temperature, gamma=0.0, t_cutoff=0.0)(stp, prompts(5), draws, earlier)
        assert torch.equal(found.response_BL, expected.response_BL)
        assert torch.equal(found.until_eos_BL, expected.until_eos_BL)
        assert not found.fixed_BL.any() and (found.nfe, found.nfe_run) == (expected.nfe, expected.nfe_run)
        for a, b in zip(standard.calls, stp.calls, strict=True):
            assert torch.equal(a.ids_BS, b.ids_BS) and torch.equal(a.index_M, b.index_M)


@pytest.mark.parametrize("select", ["low_confidence", "random"])
@pytest.mark.parametrize("eos", [-torch.inf, 1.5])
def test_fixed_tokens_are_in_every_call_as_they_were_and_are_never_predicted(select, eos):
    """Also those that end up after the EOS. Rows that have ended are gone from the later calls."""
    eligible = [list(range(12)), [0, 3, 4, 5, 10], [], [11], list(range(6))]
    earlier = anchors(5, 12, eligible)
    draws = Draws(0, 5)
    sampler = Stp(12, 12, 4, 1.0, gamma=0.25, t_cutoff=0.2, select=select)
    fixed_BL = sampler.start(earlier, draws).fixed_BL
    assert fixed_BL.sum(dim=1).tolist() == [3, 3, 0, 1, 3]
    for row in range(5):  # one row at a time, so that each call is that row's
        denoise = Recording(in_context(12, seed=row, eos=eos))
        i = torch.tensor([row])
        result = sampler.run(denoise, prompts(1), sampler.start(earlier, draws).rows(i), draws.select(i))
        kept = fixed_BL[row].nonzero().flatten()
        assert torch.equal(result.fixed_BL[0], fixed_BL[row])
        assert torch.equal(result.response_BL[0, kept], earlier.tokens_BL[row, kept])
        for call in denoise.calls:
            assert call.ids_BS[0, :P].tolist() == PROMPT
            assert torch.equal(call.ids_BS[0, P + kept], earlier.tokens_BL[row, kept])
            assert (call.ids_BS.flatten()[call.index_M] == MASK).all()
        first = denoise.calls[0].ids_BS[0, P:]
        assert ((first == MASK) == ~fixed_BL[row]).all()  # Stage 2 begins with everything else masked
        assert not (result.response_BL == MASK).any()
        if result.nfe_run < result.nfe:
            # over early: what is open after the EOS is EOS
            after_L = ~result.until_eos_BL[0] & ~fixed_BL[row]
            end = 4 * -(-int(result.until_eos_BL.sum()) // 4)
            assert (result.response_BL[0, end:][after_L[end:]] == EOS).all()


def test_revealed_tokens_never_change():
    denoise = Recording(in_context(12, seed=1, eos=-torch.inf))
    earlier = anchors(3, 12, [list(range(12))] * 3)
    result = Stp(12, 12, 4, 1.0, gamma=0.25, t_cutoff=0.2)(denoise, prompts(3), Draws(0, 3), earlier)
    states = [c.ids_BS for c in denoise.calls] + [torch.cat([torch.tensor([PROMPT] * 3), result.response_BL], dim=1)]
    for before, after in pairwise(states):
        shown = before != MASK
        assert torch.equal(after[shown], before[shown])


def test_the_last_forward_fills_every_remaining_mask_by_argmax():
    """Eq. 9, whatever the temperature."""
    denoise = Recording(in_context(20, seed=1, eos=-torch.inf))
    result = Stp(20, 20, 5, 5.0, gamma=0.0, t_cutoff=0.3)(denoise, prompts(3), Draws(0, 3))
    last = denoise.calls[-1]
    open_BL = last.ids_BS[:, P:] == MASK
    assert open_BL.sum(dim=1).tolist() == [6, 6, 6]
    logits_BLV = denoise.inner.logits(last.ids_BS)[:, P:].clone()
    logits_BLV[..., MASK] = -torch.inf
    assert torch.equal(result.response_BL[open_BL], logits_BLV.argmax(dim=2)[open_BL])


def confidence_anchors(confidence: list[list[float]], eligible: list[list[int]]) -> Anchors:
    base = anchors(len(confidence), len(confidence[0]), eligible)
    return Anchors(base.tokens_BL, base.eligible_BL, torch.tensor(confidence))


def test_low_confidence_keeps_the_uncertain_open_and_fixes_the_most_confident_eligible_tokens():
    confidence = [[-1.0, -0.1, -3.0, -0.2, -0.5, -0.3, -2.0, -0.05, -4.0, -0.4]] * 2
    earlier = confidence_anchors(confidence, [list(range(10)), [0, 2, 4, 6, 8]])
    fixed_BL = Stp(10, 10, 5, gamma=0.3, t_cutoff=0.0).start(earlier, Draws(0, 2)).fixed_BL
    assert fixed_BL[0].nonzero().flatten().tolist() == [1, 3, 7]
    assert fixed_BL[1].nonzero().flatten().tolist() == [0, 4, 6]


def fixed_counts(length: int, eligible: list[int], **options) -> list[int]:
    earlier = anchors(len(eligible), length, [list(range(n)) for n in eligible])
    sampler = Stp(length, length, length, t_cutoff=0.0, **options)
    return sampler.start(earlier, Draws(0, len(eligible))).fixed_BL.sum(dim=1).tolist()


@pytest.mark.parametrize("select", ["low_confidence", "random"])
def test_the_count_fixed_is_gamma_of_the_length_half_up_and_never_more_than_eligible(select):
    assert fixed_counts(10, [10, 2, 1, 0], gamma=0.15, select=select) == [2, 2, 1, 0]  # 1.5 rounds up
    assert fixed_counts(10, [10], gamma=0.25, select=select) == [3]
    assert fixed_counts(10, [10], gamma=0.04, select=select) == [0]
    assert fixed_counts(40, [40, 40], gamma=0.05, select=select) == [2, 2]


@pytest.mark.parametrize("select", ["low_confidence", "random"])
def test_gamma_of_anchor_is_a_fraction_of_its_eligible_tokens(select):
    assert fixed_counts(12, [10, 5, 1, 0], gamma=0.3, gamma_of="anchor", select=select) == [3, 2, 0, 0]
    assert fixed_counts(12, [10, 12], gamma=0.05, gamma_of="anchor", select=select) == [1, 1]  # 0.5 rounds up, on decimals


def test_random_selection_is_uniform_over_the_eligible_and_anew_for_each_completion():
    B, eligible = 4_000, [1, 2, 5, 7, 8, 11]
    earlier = anchors(1, 12, [eligible]).rows(torch.zeros(B, dtype=torch.long))
    sampler = Stp(12, 12, 12, gamma=0.25, t_cutoff=0.0, select="random")
    fixed_BL = sampler.start(earlier, Draws(0, B)).fixed_BL
    assert (fixed_BL.sum(dim=1) == 3).all()
    share_L = fixed_BL.double().mean(dim=0)
    error = (0.5 * 0.5 / B) ** 0.5
    for k in range(12):
        assert abs(float(share_L[k]) - 0.5) < 4 * error if k in eligible else share_L[k] == 0
    sets = Counter(tuple(row) for row in fixed_BL.nonzero()[:, 1].view(B, 3).tolist())
    assert len(sets) == 20  # all 3-subsets of six
    expected = B / 20
    assert sum((n - expected) ** 2 / expected for n in sets.values()) < 19 + 5 * 38**0.5
    again = sampler.start(earlier, Draws(0, B, update=1)).fixed_BL
    assert not torch.equal(again, fixed_BL)


def test_low_confidence_selection_is_the_same_for_every_completion_of_a_prompt():
    earlier = anchors(1, 12, [list(range(12))]).rows(torch.zeros(4, dtype=torch.long))
    fixed_BL = Stp(12, 12, 12, gamma=0.25).start(earlier, Draws(0, 4)).fixed_BL
    assert len(fixed_BL.unique(dim=0)) == 1


def test_forwards_go_where_tokens_are_left_to_reveal():
    """Four tokens of the first block are fixed: 2, 6 and 4 (two are left to the fill) share the six forwards as 1, 3 and 2."""
    earlier = anchors(1, 18, [[0, 1, 2, 3]])
    sampler = Stp(18, 9, 6, gamma=0.2, t_cutoff=0.1)
    start = sampler.start(earlier, Draws(0, 1))
    assert [(w.begin, w.end, w.forwards) for w in start.windows] == [(0, 6, 1), (6, 12, 3), (12, 18, 2)]
    assert (start.fill, start.keep, start.nfe) == (True, 2, 7)


def test_a_prompt_without_an_anchor_is_decoded_with_nothing_fixed():
    result = Stp(12, 12, 4, 1.0, gamma=0.25, t_cutoff=0.0)(in_context(12), prompts(2), Draws(0, 2))
    assert not result.fixed_BL.any() and not (result.response_BL == MASK).any()
    assert result.nfe == 9  # Theorem 4.1 counts gamma, whether or not an anchor was there


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"gamma": 1.0}, r"sampler.gamma=1.0"),
        ({"gamma": -0.1}, r"sampler.gamma=-0.1"),
        ({"t_cutoff": 1.0}, r"sampler.t_cutoff=1.0"),
        ({"gamma": 0.7, "t_cutoff": 0.3}, r"sampler.gamma \+ sampler.t_cutoff"),
        ({"select": "best"}, r"sampler.select=best"),
        ({"steps": 2, "block_length": 32}, r"sampler.steps=2"),
        ({"block_length": 33}, r"sampler.block_length=33"),
    ],
)
def test_impossible_options_are_refused_by_name(options, named):
    with pytest.raises(UserError, match=named):
        Stp(**options)
