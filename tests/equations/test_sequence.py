"""Sequence-level ratios, and what GRPO shares with them, against numbers worked out by hand."""

import math

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from stp.objectives import Grpo, PolicyGradient, Sequence
from tests.equations.test_grpo import logps, zeros

LOG = math.log
TRAINABLE = tensor([[True, True, False], [True, True, True]])


def one_row(advantage, d, reference=None, tokens=2, **options):
    """Loss and gradient of a completion of three positions, `tokens` of them trainable, whose B_new - B_old is d."""
    new = logps([[d, 0.0, 0.0]], grad=True)
    base = None if reference is None else logps([[reference, 0.0, 0.0]])
    weight_BL = (torch.arange(3) < tokens)[None] / tokens
    loss = Sequence(**options)(new, zeros(1, 3), base, tensor([advantage]), weight_BL)
    loss.value.backward()
    return loss, float(new.token_BL.grad[0, 0])


def test_the_ratio_is_one_per_completion():
    """rho = exp((B_new - B_old) / n): exp((.2 + .4) / 2) and exp((-.3 + 0 + .6) / 3)."""
    new = logps([[0.2, 0.4, 0.0], [-0.3, 0.0, 0.6]], grad=True)
    objective = Sequence(clip=0.5, beta=0.0)
    weight_BL = objective.token_weights(TRAINABLE, rows=2, tokens=5)
    loss = objective(new, zeros(2, 3), None, tensor([1.0, -2.0]), weight_BL)
    loss.value.backward()
    rho = math.exp(0.3), math.exp(0.1)
    assert_close(float(loss.value), -(rho[0] * 1.0 + rho[1] * -2.0) / 2, rtol=1e-5, atol=0)
    a, b = -rho[0] / 2 / 2, 2 * rho[1] / 2 / 3  # -(1/B) A rho / n, alike for all tokens of a completion
    assert_close(new.token_BL.grad, tensor([[a, a, a], [b, b, b]]), rtol=1e-5, atol=0)
    assert float(loss.stats["count"]) == 2
    assert_close(float(loss.stats["ratio/mean"]), rho[0] + rho[1], rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("rho", "advantage", "gain", "slope"),  # the slope by B_new is rho A / n, 0 where clipped
    [(1.5, 1.0, 1.2, 0.0), (1.1, 1.0, 1.1, 0.55), (0.5, -1.0, -0.8, 0.0), (1.5, -1.0, -1.5, -0.75), (0.5, 1.0, 0.5, 0.25)],
)
def test_the_clip_holds_for_whole_completions_and_its_share_is_logged(rho, advantage, gain, slope):
    loss, gradient = one_row(advantage, 2 * LOG(rho), beta=0.0)
    assert_close((float(loss.value), gradient), (-gain, -slope), rtol=1e-5, atol=1e-6)
    assert (float(loss.stats["ratio/clipped"]), float(loss.stats["count"])) == (slope == 0, 1)


def test_the_length_is_that_of_the_trainable_tokens_or_of_the_response():
    for length, n in (("trainable", 2), ("response", 3)):
        loss, _ = one_row(1.0, 0.3, beta=0.0, length=length)
        assert_close(float(loss.value), -math.exp(0.3 / n), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("kl", "value", "slope"),  # of d = B_new - B_ref = .5, and by B_new
    [("k1", 0.5, 1.5), ("k2", 0.125, 0.5), ("k3", math.exp(-0.5) + 0.5 - 1, 1 - math.exp(-0.5))],
)
def test_the_penalty_is_of_raw_sequences_over_the_length(kl, value, slope):
    loss, gradient = one_row(0.0, 0.75, reference=0.25, beta=0.2, kl=kl)
    assert_close(float(loss.value), 0.2 * value / 2, rtol=1e-5, atol=0)
    assert_close(gradient, 0.2 * slope / 2, rtol=1e-5, atol=0)
    assert_close(float(loss.stats["kl"]), value / 2, rtol=1e-5, atol=0)


def test_k1s_gradient_is_the_kls():
    """Over all outcomes of a softmax, the mean of (1 + d) grad log p is the gradient of KL(p || p_ref)."""
    logits, reference = tensor([0.3, -1.0, 0.5], requires_grad=True), tensor([0.1, 0.2, -0.4]).log_softmax(dim=0)
    logp = logits.log_softmax(dim=0)
    (expected,) = torch.autograd.grad((logp.exp() * (logp - reference)).sum(), logits)
    logp = logits.log_softmax(dim=0)
    (found,) = torch.autograd.grad((logp.exp().detach() * Sequence(kl="k1").divergence(logp - reference)).sum(), logits)
    assert_close(found, expected)


def test_only_k3_is_clamped():
    for kl, clamped in (("k1", 0), ("k2", 0), ("k3", 1)):
        loss, _ = one_row(1.0, 0.0, reference=5.0, beta=0.1, kl=kl)
        assert float(loss.stats["ratio/clamped"]) == clamped


def test_a_leave_one_out_baseline_is_the_mean_of_the_others():
    reward_B = tensor([1.0, 0.0, 0.5, 2.0, 2.0, 2.0])
    expected = tensor([1 - 0.25, 0 - 0.75, 0.5 - 0.5, 0.0, 0.0, 0.0])
    assert_close(Sequence().advantages(reward_B, 3), expected)
    assert_close(Grpo(scale="none", baseline="leave_one_out").advantages(reward_B, 3), expected)
    scaled = Grpo(baseline="leave_one_out").advantages(reward_B, 3)
    assert_close(scaled[:3], expected[:3] / (0.5 + 1e-4))  # the sample standard deviation of (1, 0, .5) is .5


@pytest.mark.parametrize("kind", [Grpo, Sequence])
def test_the_clip_above_1_may_be_another_one(kind):
    for ratio, advantage, gain in ((1.5, 1.0, 1.28), (1.25, 1.0, 1.25), (0.7, -1.0, -0.8), (1.5, -1.0, -1.5)):
        new = logps([[LOG(ratio)]])
        loss = kind(clip=0.2, clip_high=0.28, beta=0.0)(new, zeros(1, 1), None, tensor([advantage]), tensor([[1.0]]))
        assert_close(float(loss.value), -gain, rtol=1e-5, atol=0)


def test_a_sum_over_tokens_is_a_mean_over_completions():
    assert_close(Grpo(normalize="sum").token_weights(TRAINABLE, rows=2, tokens=5), TRAINABLE / 2)


@pytest.mark.parametrize("kind", [Grpo, Sequence, PolicyGradient])
def test_advantages_may_be_tokens_own(kind):
    new, objective = logps([[0.1, -0.2, 0.0], [0.3, 0.0, 0.1]], grad=True), kind(beta=0.0, normalize="sequence")
    weight_BL = objective.token_weights(TRAINABLE, rows=2, tokens=5)
    advantage_B = tensor([0.7, -1.3])
    by_row = objective(new, zeros(2, 3), None, advantage_B, weight_BL)
    by_token = objective(new, zeros(2, 3), None, advantage_B[:, None].expand(2, 3), weight_BL)
    assert by_row.value == by_token.value and by_row.stats == by_token.stats
    # with an advantage at one token alone, the loss is that token's share
    one = objective(new, zeros(2, 3), None, tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), weight_BL)
    ratio = {Grpo: math.exp(-0.2), Sequence: math.exp(-0.1 / 2), PolicyGradient: -0.2}[kind]
    assert_close(float(one.value), -ratio / 4, rtol=1e-5, atol=0)
