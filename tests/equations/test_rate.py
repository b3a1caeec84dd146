"""The learning rate: a linear warm-up, then constant, or falling linearly to zero."""

import pytest

from stp.run.engine import Optimizer


def test_a_constant_rate_after_the_warm_up():
    optimizer = Optimizer(lr=0.6, warmup=2)
    assert [optimizer.rate(done) for done in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.6, 0.6])


def test_a_rate_that_falls_to_zero():
    optimizer = Optimizer(lr=0.6, warmup=2, decay=6)
    rates = [optimizer.rate(done) for done in range(8)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.45, 0.3, 0.15, 0.0, 0.0])  # the sixth update is the last one
    assert max(rates) == optimizer.lr


def test_the_last_update_of_a_run_still_learns():
    assert Optimizer(lr=0.5, decay=10).rate(9) == pytest.approx(0.05)
