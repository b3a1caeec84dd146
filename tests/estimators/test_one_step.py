"""Diffu-GRPO's one-step estimate: each token from the prompt alone, all the others masked at once."""

import pytest
import torch
from torch.testing import assert_close

from stp.estimators import OneStep
from stp.probe import probe_variance
from stp.types import Draws
from tests.estimators import probed
from tests.toys import EOS, MASK, PROMPT, Recording, in_context, joined, log_probs, trajectory

# response of 8: five trainable positions (the EOS is one), two fixed (one after the EOS), one open after the EOS
FIXED, TRAINABLE, UNSEEN = [2, 7], [0, 1, 3, 4, 5], [0, 1, 3, 4, 5, 6]
ROW = trajectory([2, 3, 4, 5, 6, EOS, 3, 4], fixed=FIXED)
L, P = 8, len(PROMPT)


def expected(denoise, prompt=()) -> list[float]:
    """log p(x_k | prompt, every trainable position masked), 0 elsewhere."""
    logp = log_probs(denoise, ROW, UNSEEN, prompt)
    return [logp[k] if k in TRAINABLE else 0.0 for k in range(L)]


def test_every_token_is_predicted_from_the_prompt_and_the_fixed_tokens_in_one_forward():
    denoise = Recording(in_context(L))
    other = trajectory([6, 5, 4, 3, 2, 2, 3, 5], fixed=[0])
    rows = joined(ROW, other)
    estimate = OneStep()(denoise, rows, OneStep().draw(rows, Draws(0, 2)))
    (call,) = denoise.calls
    shown = [MASK, MASK, 4, MASK, MASK, MASK, MASK, 4]  # after the EOS: masked if open, seen if fixed
    assert call.ids_BS.tolist() == [PROMPT + shown, [*PROMPT, 6, *[MASK] * 7]]
    assert_close(estimate.token_BL[0], torch.tensor(expected(denoise.inner)))
    logp = log_probs(denoise.inner, other, range(1, L))
    assert_close(estimate.token_BL[1], torch.tensor([0.0, *logp[1:]]))
    assert_close(estimate.draw_BK, estimate.token_BL.sum(dim=1, keepdim=True))
    assert estimate.upper_BL is None


@pytest.mark.parametrize("asked", [1, 3, 64])
def test_without_prompt_masks_one_draw_is_taken_whatever_is_asked(asked):
    estimator = OneStep(samples=asked)
    noise = estimator.draw(ROW, Draws(0, 1))
    assert estimator.samples == 1 and noise.masked_BKL.shape == (1, 1, L)
    assert noise.masked_BKL[0, 0].nonzero().flatten().tolist() == TRAINABLE
    assert noise.weight_BK.tolist() == [[1.0]] and noise.prompt_BKP is None
    again = OneStep(samples=asked).draw(ROW, Draws(1, 1, update=5), step=3)  # nothing is left to chance
    assert torch.equal(again.masked_BKL, noise.masked_BKL)


def test_with_prompt_masks_the_estimate_is_the_mean_over_them():
    denoise, estimator = Recording(in_context(L)), OneStep(samples=40, p_mask=0.4)
    noise = estimator.draw(ROW, Draws(0, 1))
    estimate = estimator(denoise, ROW, noise)
    (call,) = denoise.calls
    masks = [(ids == MASK).nonzero().flatten().tolist() for ids in call.ids_BS[:, :P]]
    assert {tuple(mask) for mask in masks} == {(), (0,), (1,), (0, 1)}
    assert len({tuple(ids[P:].tolist()) for ids in call.ids_BS}) == 1  # the response is masked alike in every draw
    values = [expected(denoise.inner, mask) for mask in masks]
    assert_close(estimate.draw_BK[0], torch.tensor([sum(v) for v in values]))
    assert_close(estimate.token_BL[0], torch.tensor([sum(column) / 40 for column in zip(*values, strict=True)]))


def test_the_variance_is_that_of_the_prompt_masks():
    """Enumerated: the four masks of two prompt tokens. Without them there is none."""
    denoise, p, repeats = in_context(L), 0.3, 2_500
    law = [((1 - p) ** 2, ()), (p * (1 - p), (0,)), (p * (1 - p), (1,)), (p**2, (0, 1))]
    value = [sum(expected(denoise, mask)) for _, mask in law]
    mean = sum(chance * v for (chance, _), v in zip(law, value, strict=True))
    variance = sum(chance * (v - mean) ** 2 for (chance, _), v in zip(law, value, strict=True))
    for samples in (1, 3):  # of one draw, whatever K
        estimator = OneStep(samples=samples, p_mask=p)
        found, estimates = probed(denoise, estimator, ROW, repeats)
        assert abs(float(estimates.mean()) - mean) < 4 * (variance / repeats) ** 0.5
        assert_close(found, variance, rtol=0.15, atol=0)
    assert probe_variance(denoise, OneStep(), ROW, Draws(0, 1), 3, rows=1)[0].item() == 0


def test_nothing_trainable_is_worth_exactly_0():
    row = trajectory([2, 3, EOS, 4], fixed=[0, 1, 2])
    estimate = OneStep()(in_context(4), row, OneStep().draw(row, Draws(0, 1)))
    assert not estimate.token_BL.any() and not estimate.draw_BK.any()
