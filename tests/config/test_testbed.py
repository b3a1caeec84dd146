"""`scale=testbed`: the settings of docs/results.md's campaigns."""

import pytest

from stp.config import build
from tests.config import raw


@pytest.mark.parametrize(("estimator", "lr"), [("elbo", 2e-4), ("one_step", 4e-4), ("spg", 2e-4), ("coupled", 2e-4)])
def test_a_rate_is_the_best_of_its_estimator(estimator, lr):
    assert raw("train", "scale=testbed", f"estimator={estimator}").optimizer.lr == lr
    assert raw("train", "scale=testbed", f"estimator={estimator}", "optimizer.lr=1").optimizer.lr == 1


@pytest.mark.parametrize(
    ("task", "base"),
    [("countdown", "testbed"), ("gsm8k", "testbed_gsm8k"), ("math", "testbed_math"), ("sudoku", "testbed_sudoku")],
)
def test_each_task_has_a_base_of_its_own(task, base):
    built = build(raw("train", "scale=testbed", f"task={task}"))
    assert (built.model.name, built.model.base) == ("testbed", base)  # a name of its own: reports do not mix it with model=tiny
    assert (built.sampler.length, built.sampler.steps) == (48, 24)
    assert (built.trainer.updates, built.trainer.eval_every, built.objective.beta) == (40, 20, 0)
