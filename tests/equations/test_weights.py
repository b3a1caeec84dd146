"""wd1, DMPO and StableDRL: the weights of whole completions, against numbers worked out by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from stp.estimators import Elbo, Spg, Trace
from stp.loop import reference_log_ratio, update
from stp.objectives import Dmpo, PolicyGradient, Stable, Wd1
from stp.ranks import Ranks
from stp.roles import Learner, Run
from stp.trainer import Trainer
from tests.equations.test_grpo import logps
from tests.equations.test_micro_batches import GROUP, REWARDS, ROWS, Engine, a_policy, a_rollout, part_of
from tests.integration.runs import on_two_ranks

TRAINABLE = tensor([[True, True, False], [True, True, True]])


def test_wd1_weighs_by_softmaxes_of_plus_and_minus_the_advantage():
    """Rewards 1 and 0: A = +-.5, w+ = e^.5 / (e^.5 + e^-.5) = .73106, w- the other way round."""
    good = 1 / (1 + math.exp(-1))
    found = Wd1().advantages(tensor([1.0, 0.0]), 2)
    assert_close(found, 2 * tensor([good - (1 - good), (1 - good) - good]))
    assert_close(Wd1(temperature=0.5).advantages(tensor([0.5, 0.0]), 2), found)
    # rewards 0, 1, 2: A = -1, 0, 1; both softmaxes have the middle one's weight
    a, b, c = (math.exp(x) / (math.exp(-1) + 1 + math.exp(1)) for x in (-1, 0, 1))
    assert_close(Wd1().advantages(tensor([0.0, 1.0, 2.0]), 3), 3 * tensor([a - c, b - b, c - a]))


def test_wd1s_loss_is_the_weighted_sum_of_whole_completions():
    """One group: (w- - w+) summed with log p, as in the authors' code. A mean over rows of G (w+ - w-) is that sum."""
    objective, new = Wd1(), logps([[-1.0, -2.0, 0.0], [-1.0, -1.0, -2.0]], grad=True)
    weight_BL = objective.token_weights(TRAINABLE, rows=2, tokens=5)
    loss = objective(new, None, None, objective.advantages(tensor([1.0, 0.0]), 2), weight_BL)
    w = 1 / (1 + math.exp(-1)) - 1 / (1 + math.exp(1))  # w+ - w- of the first, minus that of the second
    assert_close(float(loss.value), -w * -3 + w * -4, rtol=1e-5, atol=0)
    loss.value.backward()
    assert_close(new.token_BL.grad, tensor([[-w, -w, 0.0], [w, w, w]]))


def test_dmpo_adds_the_log_ratio_to_both_softmaxes():
    """alpha = .5, rewards 1 and 0, log p_ref - log p_old = .3 and -.2: exponents +-1 + .3 and -+1 - .2."""
    found = Dmpo(temperature=0.5).advantages(tensor([1.0, 0.0]), 2, tensor([0.3, -0.2]))
    target = math.exp(1.3) / (math.exp(1.3) + math.exp(-1.2))
    baseline = math.exp(-0.7) / (math.exp(-0.7) + math.exp(0.8))
    assert_close(found, 2 * tensor([target - baseline, baseline - target]))
    assert_close(
        Dmpo(temperature=0.5).advantages(tensor([1.0, 0.0]), 2), Wd1(temperature=0.5).advantages(tensor([1.0, 0.0]), 2)
    )


@pytest.mark.parametrize("objective", [Wd1(), Wd1(scale="std", baseline="leave_one_out"), Dmpo(), Dmpo(temperature=2.0)])
def test_softmax_weights_add_up_to_0_and_equal_groups_teach_nothing(objective):
    reward_B = tensor([1.0, 0.0, 0.3, 0.7, 0.7, 0.7])
    log_ratio_B = tensor([0.5, -1.0, 2.0, 0.1, 3.0, -4.0]) if objective.tilts_reference else None
    found_NG = objective.advantages(reward_B, 3, log_ratio_B).view(2, 3)
    assert_close(found_NG.sum(dim=1), torch.zeros(2), atol=1e-6, rtol=0)
    assert found_NG[0].abs().sum() > 0.1 and not found_NG[1].any()
    assert found_NG.abs().max() <= 3


def test_stable_clips_ratios_and_normalises_them():
    """Ratios 10 (clipped to 5), 1 and 2 in one group, 4, 1 and 1 in the other: weights 5/8, 1/8, 2/8 and 4/6, 1/6, 1/6."""
    log_ratio_B = tensor([10.0, 1.0, 2.0, 4.0, 1.0, 1.0]).log()
    expected = tensor([5 / 8, 1 / 8, 2 / 8, 4 / 6, 1 / 6, 1 / 6]) * 3
    assert_close(Stable().row_weights(log_ratio_B, 3, Ranks()), expected)
    over_all = tensor([5.0, 1.0, 2.0, 4.0, 1.0, 1.0]) / 14 * 6
    assert_close(Stable(over="batch").row_weights(log_ratio_B, 3, Ranks()), over_all)
    for share, ranks in zip(over_all.split(3), (0, 1), strict=True):
        found = on_two_ranks(lambda r: Stable(over="batch").row_weights(log_ratio_B.view(2, 3)[r.number], 3, r))
        assert_close(found[ranks], share)
    for over in ("group", "batch"):
        assert_close(Stable(over=over).row_weights(torch.zeros(6), 3, Ranks()), torch.ones(6))


class Moving(Engine):
    """Moves theta the same way in every step, whatever the gradients, which stay to be compared."""

    @torch.no_grad()
    def step(self):
        for number, parameter in enumerate(self.policy.parameters()):
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
        return 0.0, 0.0


def two_inner_updates(rollout, objective, ranks, policy, **options):
    """Metrics and gradients of two inner updates together."""
    estimator = options.pop("estimator", Elbo(samples=2))
    trainer = Trainer(updates=1, inner_updates=2, group_size=GROUP, micro_batch=2, **options)
    stats = update(Learner(Moving(policy), estimator, objective, trainer), rollout, Run(ranks))
    return stats, torch.cat([p.grad.flatten() for p in policy.parameters()])


@pytest.mark.parametrize("estimator", [Elbo(samples=2), Spg(samples=2, block_length=3)], ids=["elbo", "spg"])
@pytest.mark.parametrize("fresh_masks", [False, True])
def test_stable_weighs_by_the_policy_of_each_inner_update(fresh_masks, estimator):
    """The second inner update's gradient is that of -sum_i w_i A_i L_i in each group, written out."""
    objective = Stable(ratio_max=1.1)
    rollout = a_rollout(REWARDS, objective)
    options = {"estimator": estimator, "fresh_masks": fresh_masks}
    _, both = two_inner_updates(rollout, objective, Ranks(), a_policy(0), **options)
    policy, moved = a_policy(0), a_policy(0)
    Moving(moved).step()
    trajectory, n_B = rollout.trajectory, rollout.trajectory.trainable_BL.sum(dim=1)
    total, weights = 0.0, torch.ones(ROWS) / GROUP
    for inner, model in enumerate((policy, moved)):
        noise = estimator.draw(trajectory, rollout.draws, step=inner * fresh_masks)
        found = estimator(model, trajectory, noise)
        if inner:
            old = estimator(policy, trajectory, noise)
            ratio_B = ((found.token_BL - old.token_BL).sum(dim=1) / n_B).detach().exp().clamp(max=1.1)
            weights = (ratio_B.view(-1, GROUP) / ratio_B.view(-1, GROUP).sum(dim=1, keepdim=True)).flatten()
            assert (weights.max() - weights.min()) > 0.01
        upper_BL = found.token_BL if found.upper_BL is None else found.upper_BL
        bound_BL = torch.where(rollout.advantage_B[:, None] > 0, found.token_BL, upper_BL)
        total = total - (weights * rollout.advantage_B * bound_BL.sum(dim=1) / n_B).sum() / (ROWS / GROUP)
    total.backward()
    expected = sum(torch.cat([p.grad.flatten() for p in model.parameters()]) for model in (policy, moved))
    assert_close(both, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("over", ["group", "batch"])
def test_stables_weights_are_the_same_on_two_ranks(over):
    objective = Stable(over=over)
    rollout = a_rollout(REWARDS, objective)
    alone, expected = two_inner_updates(rollout, objective, Ranks(), a_policy(0))
    policies = [a_policy(0), a_policy(0)]  # made one after the other: their weights are drawn from the global generator

    def share(ranks):
        mine = part_of(rollout, torch.arange(ROWS)[ranks.share(ROWS)])
        return two_inner_updates(mine, objective, ranks, policies[ranks.number])

    shares = on_two_ranks(share)
    assert_close((shares[0][1] + shares[1][1]) / 2, expected, rtol=1e-4, atol=1e-6)
    assert shares[0][0]["loss"] == pytest.approx(alone["loss"], abs=1e-6)


def test_at_theta_old_stable_is_the_policy_gradient_per_completion():
    rollout = a_rollout(REWARDS, Stable())
    gradients = []
    for objective in (Stable(), PolicyGradient(normalize="sequence")):
        policy = a_policy(0)
        trainer = Trainer(updates=1, inner_updates=1, group_size=GROUP, micro_batch=4)
        update(Learner(Engine(policy), Elbo(samples=2), objective, trainer), rollout, Run())
        gradients.append(torch.cat([p.grad.flatten() for p in policy.parameters()]))
    assert_close(*gradients, rtol=1e-5, atol=1e-7)


def test_dmpo_compares_the_reference_with_the_rollouts_policy_on_masks_of_their_own():
    objective, policy, reference, estimator = Dmpo(), a_policy(0), a_policy(1), Elbo(samples=3)
    trainer = Trainer(updates=1, inner_updates=2, group_size=GROUP, micro_batch=4, fresh_masks=True)
    rollout = a_rollout(REWARDS, objective)
    learner = Learner(Engine(policy), estimator, objective, trainer, reference)
    found = reference_log_ratio(learner, rollout, Ranks())
    noise = estimator.draw(rollout.trajectory, rollout.draws, step=2)
    both = [estimator(model, rollout.trajectory, noise).token_BL.sum(dim=1).detach() for model in (reference, policy)]
    assert_close(found, both[0] - both[1], rtol=1e-4, atol=1e-5)
    assert objective.reads_reference and not objective.needs_reference  # no mask set is scored by the reference


class Larger(Ranks):
    """A rank beside another one whose values are at least 8."""

    def largest(self, value):
        return max(value, 8)


class Counted:
    """Another policy, and how often it was asked."""

    def __init__(self, policy) -> None:
        self.policy, self.mask_id, self.forwards = policy, policy.mask_id, 0

    def __call__(self, *args):
        self.forwards += 1
        return self.policy(*args)


def test_ranks_whose_rows_have_different_steps_ask_equally_often_for_dmpos_weights():
    """Rows of 2 steps and of 8: with trace groups=0 and the draws apart, a rank alone would ask 2 times, the other 8."""
    rollout, policy = a_rollout(REWARDS, Dmpo()), a_policy(0)
    steps_BL = torch.arange(8).expand(ROWS, -1).clone()
    steps_BL[:GROUP] %= 2
    rollout = replace(rollout, trajectory=replace(rollout.trajectory, step_BL=steps_BL))
    trainer = Trainer(updates=1, inner_updates=1, group_size=GROUP, micro_batch=GROUP, micro_draws=1)
    forwards = []
    for ranks in (Ranks(), Larger()):
        for rows in torch.arange(ROWS).split(GROUP):
            reference = Counted(a_policy(1))
            learner = Learner(Engine(policy), Trace(groups=0), Dmpo(), trainer, reference)
            found = reference_log_ratio(learner, part_of(rollout, rows), ranks)
            forwards.append((reference.forwards, found))
    (few, alone), (more, _), (padded, same), (whole, _) = forwards
    assert few == 2 < more and padded == whole == 8
    assert_close(same, alone, rtol=1e-4, atol=1e-5)
