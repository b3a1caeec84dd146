"""Draws backpropagated apart give the loss and the gradient of all draws together."""

import pytest
import torch
from torch.testing import assert_close

from stp.estimators import Coupled, Elbo
from stp.loop import update
from stp.objectives import Dmpo, PolicyGradient, Stable, Wd1
from stp.roles import Learner, Run
from stp.trainer import Trainer
from tests.equations.test_micro_batches import GROUP, REWARDS, a_policy, a_rollout
from tests.equations.test_savings import Engine as Descent

PAIRS = [
    (Elbo(samples=5), PolicyGradient()),
    (Elbo(samples=4, p_mask=0.15), Wd1()),
    (Coupled(samples=3), Dmpo()),
    (Elbo(samples=3), Stable(over="batch")),
]


def trained(estimator, objective, micro_draws):
    """Metrics and weights after an update of two inner ones, and the largest number of sequences in a forward."""
    policy = a_policy(0)
    engine = Descent(policy)
    options = {"inner_updates": 2, "group_size": GROUP, "micro_batch": 2, "micro_draws": micro_draws, "fresh_masks": True}
    stats = update(Learner(engine, estimator, objective, Trainer(**options)), a_rollout(REWARDS, objective), Run())
    largest = max(rows for forwards in engine.forwards.values() for rows in forwards)
    return stats, torch.cat([p.detach().flatten() for p in policy.parameters()]), largest


@pytest.mark.parametrize(("estimator", "objective"), PAIRS, ids=lambda value: type(value).__name__)
def test_parts_of_the_draws_add_up(estimator, objective):
    whole, expected, rows = trained(estimator, objective, micro_draws=0)
    before = torch.cat([p.flatten() for p in a_policy(0).parameters()])
    assert (expected - before).abs().max() > 1e-3 and rows == 2 * estimator.samples * estimator.copies_per_draw
    for micro_draws in (1, 2):
        stats, found, rows = trained(estimator, objective, micro_draws)
        assert_close(found, expected, rtol=1e-4, atol=1e-6)
        assert stats == pytest.approx(whole, rel=1e-4, abs=1e-5)
        assert rows == 2 * micro_draws * estimator.copies_per_draw
    assert trained(estimator, objective, micro_draws=99)[0] == whole
