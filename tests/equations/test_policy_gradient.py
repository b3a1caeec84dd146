"""SPG's objective against numbers worked out by hand."""

import pytest
from torch import tensor
from torch.testing import assert_close

from stp.errors import UserError
from stp.estimators import Spg
from stp.metrics import elbo_stats
from stp.objectives import PolicyGradient
from stp.ranks import Ranks
from stp.types import LogProbs

LOWER = [[-1.0, -2.0], [-3.0, 9.0], [-4.0, -5.0]]
UPPER = [[-0.5, -1.0], [-2.0, 9.0], [-3.0, -3.5]]
TRAINABLE = tensor([[True, True], [True, False], [True, True]])
ADVANTAGE = tensor([0.5, -2.0, 0.0])


def bounds(upper=UPPER) -> LogProbs:
    lower_BL = tensor(LOWER, requires_grad=True)
    upper_BL = None if upper is None else tensor(upper, requires_grad=True)
    return LogProbs(lower_BL, lower_BL.detach(), upper_BL)


def test_the_loss_by_hand():
    """Row 0 (A = 0.5) counts its lower bound, row 1 (A = -2) its upper one, row 2 (A = 0) nothing."""
    objective, new = PolicyGradient(), bounds()
    loss = objective(new, None, None, ADVANTAGE, objective.token_weights(TRAINABLE, rows=3, tokens=5))
    assert_close(loss.value, tensor(-(0.5 * (-1 - 2) + -2 * -2) / 5))
    loss.value.backward()
    assert_close(new.token_BL.grad, tensor([[-0.1, -0.1], [0.0, 0.0], [0.0, 0.0]]))
    assert_close(new.upper_BL.grad, tensor([[0.0, 0.0], [0.4, 0.0], [0.0, 0.0]]))
    stats = {name: float(value) for name, value in loss.stats.items()}
    assert stats == pytest.approx({"loss": -0.5, "count": 5, "bound/lower": -15.0, "bound/upper": -10.0})
    assert not any(value.requires_grad for value in loss.stats.values())


def test_by_sequence_each_completion_is_averaged_first():
    objective = PolicyGradient(normalize="sequence")
    loss = objective(bounds(), None, None, ADVANTAGE, objective.token_weights(TRAINABLE, rows=3, tokens=5))
    assert_close(loss.value, tensor(-(0.5 * (-1 - 2) / 2 + -2 * -2) / 3))


def test_without_an_upper_bound_the_estimate_serves_both_signs():
    objective, new = PolicyGradient(), bounds(upper=None)
    loss = objective(new, None, None, ADVANTAGE, objective.token_weights(TRAINABLE, rows=3, tokens=5))
    assert_close(loss.value, tensor(-(0.5 * (-1 - 2) + -2 * -3) / 5))
    loss.value.backward()
    assert_close(new.token_BL.grad, tensor([[-0.1, -0.1], [0.4, 0.0], [0.0, 0.0]]))


def test_micro_batches_add_up():
    objective = PolicyGradient()
    weight_BL = objective.token_weights(TRAINABLE, rows=3, tokens=5)
    whole = objective(bounds(), None, None, ADVANTAGE, weight_BL)
    rows = [slice(b, b + 1) for b in range(3)]
    parts = [objective(bounds().rows(row), None, None, ADVANTAGE[row], weight_BL[row]) for row in rows]
    assert_close(sum(part.value for part in parts), whole.value)
    for name, value in whole.stats.items():
        assert_close(sum(part.stats[name] for part in parts), value)


def test_it_asks_for_no_other_policy():
    assert not PolicyGradient().needs_old and not PolicyGradient().needs_reference
    assert (PolicyGradient().scale, PolicyGradient().normalize) == ("none", "token")  # as published


def test_advantages_are_centred_within_their_group():
    reward_B = tensor([1.0, 0.0, 0.2, 3.0, 3.0, 3.0])
    assert_close(PolicyGradient().advantages(reward_B, 3), tensor([0.6, -0.4, -0.2, 0.0, 0.0, 0.0]))
    assert not PolicyGradient().advantages(tensor([0.1] * 6), 6).any()
    std = (0.6**2 + 0.4**2 + 0.2**2) ** 0.5 / 2**0.5 + 1e-4
    scaled_B = PolicyGradient(scale="std").advantages(reward_B, 3)
    assert_close(scaled_B, tensor([0.6 / std, -0.4 / std, -0.2 / std, 0.0, 0.0, 0.0]))


@pytest.mark.parametrize("beta", [0.04, -1.0, float("nan")])
def test_a_kl_weight_is_refused(beta):
    with pytest.raises(UserError, match=r"^objective\.beta=.*no KL penalty; leave it at 0, or use objective=grpo"):
        PolicyGradient(beta=beta)


# trainable tokens of three rows, and theta's draws on the two rows that learned, in the order of their micro-batches
COUNTS = tensor([[True, True, False, False], [True, False, False, False], [True, True, True, True]])
PARTS = [(tensor([2]), tensor([[-4.0, -8.0]])), (tensor([1]), tensor([[-1.0, -3.0]]))]
ALONE = Ranks()


def test_the_variance_is_thetas_own_over_the_rows_that_learned():
    """Without theta_old there is no difference to report; rows that were skipped are left out."""
    assert elbo_stats(Spg(samples=2), None, COUNTS, PARTS, ALONE) == pytest.approx(
        {
            "elbo/elbo": (-6 / 4 - 2 / 1) / 2,
            "elbo/variance": (8 + 2) / 2,
            "elbo/variance_per_token": (8 / 16 + 2 / 1) / 2,
            "elbo/variance_median": 2.0,
        }
    )
    assert elbo_stats(Spg(samples=2), None, COUNTS, [], ALONE) == {}


def test_with_theta_old_it_is_theta_olds_over_all_rows():
    draw_BK = tensor([[-6.0, -2.0], [-1.0, -2.0], [-5.0, -11.0]])
    old = LogProbs(draw_BK, draw_BK)
    assert elbo_stats(Spg(samples=2), old, COUNTS, PARTS, ALONE) == pytest.approx(
        {
            "elbo/elbo": (-4 / 2 - 1.5 / 1 - 8 / 4) / 3,
            "elbo/variance": (8 + 0.5 + 18) / 3,
            "elbo/variance_per_token": (8 / 4 + 0.5 / 1 + 18 / 16) / 3,
            "elbo/variance_median": 8.0,
            "elbo/delta_variance": (2 + 0.5) / 2,  # of (1, 3) and (0, -1)
            "elbo/delta_variance_median": 0.5,  # torch's median is the lower of two
            "elbo/delta_max": 2.0,  # means 2 and -0.5
        }
    )
