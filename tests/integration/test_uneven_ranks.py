"""Ranks with unequal work: no collective waits for a rank that has nothing to do."""

import json
import subprocess
from itertools import chain

import pytest

from stp.evaluation.evaluator import Evaluator
from stp.models.codec import Codec
from stp.models.options import Model
from stp.models.policy import load_policy
from stp.ranks import Ranks
from stp.samplers import Standard
from stp.tasks import Countdown
from tests.commands import ROOT, environment, interpreter
from tests.integration.runs import SMALL, metrics, on_two_ranks, run


@pytest.mark.parametrize("rows", range(0, 13))
@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_shares_cover_the_batch_without_overlap(rows, ranks):
    shares = [range(rows)[Ranks(rank, ranks).share(rows)] for rank in range(ranks)]
    assert [row for share in shares for row in share] == list(range(rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("problems", [1, 2, 3, 5])
def test_an_evaluation_of_any_size_is_the_same_on_two_ranks(problems):
    """One problem for two ranks, too."""
    policy, tokenizer = load_policy(Model(), trainable=False)
    task, sampler = Countdown(), Standard(24, 12, 8, 1.0)
    asked = task.problems("test")[:problems]
    evaluate = Evaluator(task, Codec(tokenizer, "", 200), asked, seed=3, rows=2)
    alone = list(chain.from_iterable(evaluate(policy, sampler, Ranks())))
    results = on_two_ranks(lambda ranks: list(chain.from_iterable(evaluate(policy, sampler, ranks))))
    assert results == [alone, alone] and len(alone) == problems


def test_zero_3_with_a_group_that_has_nothing_to_learn(tmp_path):
    """By the launch script: two ranks, a group each, equal rewards in one of them, three problems to evaluate."""
    overrides = ["seed=2", "trainer.updates=1", "trainer.eval_size=3", "trainer.probe_every=0"]
    run(tmp_path / "one", *overrides)
    (static,) = (tmp_path / "outputs" / "static").iterdir()
    overrides += [f"sampler.static={static}", "zero=stage3", f"hydra.run.dir={tmp_path / 'two'}"]
    command = [ROOT / "scripts" / "launch_torchrun.sh", *SMALL, *overrides]
    env = environment() | {"GPUS": "2", "PYTHON": interpreter(), "PYTHON_EXEC": interpreter()}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    (a,), (b,) = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert a["reward/equal_groups"] == b["reward/equal_groups"] == 0.5
    assert a["loss"] == pytest.approx(b["loss"], abs=1e-6) and a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("one", "two")]
    assert summaries[0]["final"] == summaries[1]["final"] and summaries[0]["final"]["total"] == 3
