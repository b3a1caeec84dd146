"""Runs whose prunings follow the instance: what they record, and that a run goes on as if nothing had stopped it."""

import json

import pytest
import torch

from stp import loop
from stp.run import faults
from stp.run.files import read_jsonl
from stp.tasks import Countdown
from tests.integration.runs import metrics, run, weights

# four problems in updates of two: the third update visits problems again
ADAPTIVE = ["sampler=adaptive", "sampler.gamma_max=0.5", "sampler.pregenerations=2", "task.data.train_size=4"]
ADAPTIVE += ["trainer.updates=3", "trainer.eval_size=0", "trainer.probe_every=0"]


@pytest.fixture(autouse=True)
def solved(monkeypatch):
    """The base solves nothing in so few tokens: here a completion of an even number of characters is right."""
    monkeypatch.setattr(Countdown, "solves", lambda self, problem, text: len(text) % 2 == 0)


def visits(folder):
    """What the newest checkpoint says of each problem's completions."""
    newest = sorted((folder / "checkpoints").glob("update-*"))[-1]
    return json.loads((newest / "state.json").read_text())["visits"]


def test_a_run_that_is_stopped_within_an_update_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    """Its third rollout has been counted when it is stopped; after the second update it must be counted once, not twice."""
    run(tmp_path / "whole", *ADAPTIVE, "trainer.checkpoint_every=3")
    update, calls = loop.update, iter(range(9))

    def stopped(*arguments):
        if next(calls) == 2:
            raise faults.Interrupted(15)
        return update(*arguments)

    with monkeypatch.context() as patch, pytest.raises(faults.Interrupted):
        patch.setattr(loop, "update", stopped)
        run(tmp_path / "cut", *ADAPTIVE)
    assert sum(tries for _, tries in visits(tmp_path / "cut").values()) == 24
    run(tmp_path / "unused", *ADAPTIVE, f"trainer.resume={tmp_path / 'cut'}", "trainer.checkpoint_every=3")
    whole = metrics(tmp_path / "whole")
    assert metrics(tmp_path / "cut") == whole
    assert visits(tmp_path / "cut") == visits(tmp_path / "whole")
    found, wanted = weights(tmp_path / "cut"), weights(tmp_path / "whole")
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert read_jsonl(tmp_path / "cut" / "calibration.jsonl") == read_jsonl(tmp_path / "whole" / "calibration.jsonl")
    for line in whole:
        assert 0 < line["pruning/solve_rate"] < 1 and 0 <= line["confidence/below_tau"] <= 1
        assert line["pruning/gamma"] == pytest.approx(0.5 * (1 - line["pruning/solve_rate"]))
    counted = visits(tmp_path / "whole").values()
    assert sum(tries for _, tries in counted) == 36 and max(tries for _, tries in counted) == 12
    assert sum(right for right, _ in counted) == pytest.approx(sum(line["reward/correct"] for line in whole) * 12)
