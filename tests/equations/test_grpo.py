"""GRPO (Eq. 1) against numbers worked out by hand."""

import math

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from stp.objectives import Grpo
from stp.types import LogProbs

LOG = math.log


def logps(token_BL, grad: bool = False) -> LogProbs:
    token_BL = torch.as_tensor(token_BL, dtype=torch.float32).requires_grad_(grad)
    return LogProbs(token_BL, token_BL.detach().sum(dim=1, keepdim=True))


def zeros(*shape) -> LogProbs:
    return logps(torch.zeros(*shape))


def test_advantages_divide_by_the_sample_std_plus_1e_4():
    reward_B = tensor([1.0, 0.0, 3.0, 1.0, 2.0, 2.0])
    # pairs: sample std of (1, 0) is 1/sqrt 2, of (3, 1) sqrt 2; the pair (2, 2) is equal
    a, b = 0.5 / (math.sqrt(0.5) + 1e-4), 1 / (math.sqrt(2) + 1e-4)
    assert_close(Grpo().advantages(reward_B, 2), tensor([a, -a, b, -b, 0.0, 0.0]))
    # one group of four, (1, 0, 0, 1): sample std sqrt(1/3)
    c = 0.5 / (math.sqrt(1 / 3) + 1e-4)
    assert_close(Grpo().advantages(tensor([1.0, 0.0, 0.0, 1.0]), 4), tensor([c, -c, -c, c]))


def test_a_small_spread_is_damped_by_the_1e_4():
    # 0.5 / (0.70711 + 1)
    assert_close(Grpo().advantages(tensor([1e-4, 0.0]), 2), tensor([0.29289, -0.29289]), atol=1e-4, rtol=0)


def test_advantages_without_scale_are_centred_only():
    assert_close(Grpo(scale="none").advantages(tensor([1.0, 0.0, 3.0, 1.0]), 2), tensor([0.5, -0.5, 1.0, -1.0]))
    assert_close(Grpo(scale="none").advantages(tensor([1.0, 0.0, 3.0, 1.0]), 4), tensor([-0.25, -1.25, 1.75, -0.25]))


@pytest.mark.parametrize("scale", ["std", "none"])
@pytest.mark.parametrize("size", [2, 3, 5, 6, 7, 9, 11])
def test_equal_groups_have_advantage_exactly_0(scale, size):
    """Also where the mean of equal rewards is not the reward, to rounding."""
    for reward in (0.1, 0.7, 1.1, -0.3):
        assert not Grpo(scale=scale).advantages(torch.full((2 * size,), reward), size).any()


#   ratio, advantage, what enters the loss, and its derivative by new (ratio * advantage, zero where clipped)
CLIP_CASES = [
    (1.5, 1.0, 1.2, 0.0),  # clipped from above
    (0.5, 1.0, 0.5, 0.5),
    (1.1, 1.0, 1.1, 1.1),
    (1.5, -1.0, -1.5, -1.5),  # the negative side leaves a large ratio unbounded
    (0.5, -1.0, -0.8, 0.0),  # clipped from below
    (0.9, -1.0, -0.9, -0.9),
    (1.5, 2.0, 2.4, 0.0),
    (1.5, -2.0, -3.0, -3.0),
    (1.0, 0.0, 0.0, 0.0),
]


@pytest.mark.parametrize(("ratio", "advantage", "gain", "slope"), CLIP_CASES)
def test_clipped_surrogate_and_its_gradient(ratio, advantage, gain, slope):
    new = logps([[LOG(ratio) - 2]], grad=True)
    loss = Grpo(clip=0.2, beta=0.0)(new, logps([[-2.0]]), None, tensor([advantage]), tensor([[1.0]]))
    loss.value.backward()
    assert_close(float(loss.value), -gain, rtol=1e-5, atol=1e-6)
    assert_close(float(new.token_BL.grad), -slope, rtol=1e-5, atol=1e-6)
    assert float(loss.stats["ratio/clipped"]) == (slope == 0 and advantage != 0)


def test_kl_is_k3_to_the_reference_with_weight_beta():
    """k3 = r - log r - 1 with r = p_ref / p; its derivative by log p is 1 - r."""
    for r in (2.0, 0.5, 1.0, 3.0):
        new = logps([[-1.0]], grad=True)
        loss = Grpo(beta=0.1)(new, logps([[-1.0]]), logps([[-1.0 + LOG(r)]]), tensor([0.0]), tensor([[1.0]]))
        loss.value.backward()
        assert_close(float(loss.value), 0.1 * (r - LOG(r) - 1), rtol=1e-5, atol=1e-7)
        assert_close(float(new.token_BL.grad), 0.1 * (1 - r), rtol=1e-5, atol=1e-7)
        assert_close(float(loss.stats["kl"]), r - LOG(r) - 1, rtol=1e-5, atol=1e-7)


def test_log_ratios_are_clamped_before_the_exponential_in_ratio_and_kl():
    new = logps([[0.0, -5.0, 0.0]], grad=True)
    old = logps([[-5.0, 0.0, 0.0]])  # ratios e^5 and e^-5, then 1
    reference = logps([[0.0, -5.0, 7.0]])  # k3 of e^7 at the last token
    loss = Grpo(beta=0.1, log_ratio_max=2.0)(new, old, reference, tensor([-1.0]), tensor([[1.0, 1.0, 1.0]]))
    loss.value.backward()
    # A = -1: min(-e^2, -1.2), min(-e^-2, -0.8), -1
    gain = -math.exp(2) - 0.8 - 1
    assert_close(float(loss.value), -(gain - 0.1 * (math.exp(2) - 2 - 1)), rtol=1e-5, atol=0)
    assert float(loss.stats["ratio/clamped"]) == 3
    assert_close(new.token_BL.grad, tensor([[0.0, 0.0, 1.0]]))  # beyond the clamp nothing pulls; the last is -ratio A


def test_sequence_weights_average_each_completion_first():
    trainable_BL = tensor([[True, True, False, False], [True, True, True, True], [False] * 4])
    weight_BL = Grpo(normalize="sequence").token_weights(trainable_BL, rows=3, tokens=6)
    assert_close(weight_BL, tensor([[1 / 6, 1 / 6, 0, 0], [1 / 12] * 4, [0.0] * 4]))


def test_token_weights_count_every_token_alike():
    trainable_BL = tensor([[True, True, False, False], [True, True, True, True]])
    weight_BL = Grpo(normalize="token").token_weights(trainable_BL, rows=2, tokens=6)
    assert_close(weight_BL, tensor([[1 / 6, 1 / 6, 0, 0], [1 / 6] * 4]))


def test_loss_of_two_completions_by_hand():
    """Row 0: A = 1, ratios 1.1 and 2 (clipped to 1.2). Row 1: A = -1, ratio 0.5 (clipped to 0.8), p_ref = 2 p."""
    new = logps([[LOG(1.1), LOG(2.0)], [LOG(0.5), 9.0]])
    reference = logps([[LOG(1.1), LOG(2.0)], [LOG(1.0), -9.0]])
    trainable_BL = tensor([[True, True], [True, False]])
    k3 = 2 - LOG(2) - 1
    for normalize, weights in (("sequence", (0.25, 0.25, 0.5)), ("token", (1 / 3, 1 / 3, 1 / 3))):
        grpo = Grpo(clip=0.2, beta=0.04, normalize=normalize)
        weight_BL = grpo.token_weights(trainable_BL, rows=2, tokens=3)
        loss = grpo(new, zeros(2, 2), reference, tensor([1.0, -1.0]), weight_BL)
        expected = -(weights[0] * 1.1 + weights[1] * 1.2 + weights[2] * (-0.8 - 0.04 * k3))
        assert_close(float(loss.value), expected, rtol=1e-5, atol=0)
        assert float(loss.stats["count"]) == 3
        assert_close(float(loss.stats["ratio/mean"]), 1.1 + 2.0 + 0.5, rtol=1e-5, atol=0)
        assert float(loss.stats["ratio/clipped"]) == 2


def test_untrainable_tokens_get_no_gradient():
    new = logps([[0.0, 0.3]], grad=True)
    loss = Grpo(beta=0.04)(new, zeros(1, 2), logps([[1.0, 1.0]]), tensor([1.0]), tensor([[1.0, 0.0]]))
    loss.value.backward()
    assert new.token_BL.grad[0, 0] != 0 and new.token_BL.grad[0, 1] == 0


def test_at_theta_old_the_gradient_is_the_policy_gradient():
    """Ratio 1: d loss = -sum of weight * A * d log p."""
    new = logps([[-1.0, -2.0], [-3.0, -4.0]], grad=True)
    old = LogProbs(new.token_BL.detach(), new.draw_BK)
    weight_BL = tensor([[0.25, 0.25], [0.5, 0.0]])
    Grpo(beta=0.0)(new, old, None, tensor([0.7, -1.3]), weight_BL).value.backward()
    assert_close(new.token_BL.grad, -weight_BL * tensor([[0.7], [-1.3]]))
