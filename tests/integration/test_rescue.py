"""A rescue in real runs: killed and resumed the bits are the same, its cost is recorded, and nonsense is refused at once."""

import shutil

import pytest
import torch

from stp.errors import UserError
from stp.run.files import read_jsonl
from stp.tasks import Countdown
from tests.integration.runs import metrics, run, weights

IGPO = ["sampler=standard", "rescue=igpo", "rescue.chunk=[2,4]", "task=gsm8k", "trainer.eval_size=0", "trainer.probe_every=0"]
KEEP = ["trainer.updates=3", "trainer.checkpoint_every=1", "trainer.keep_checkpoints=9", "optimizer.lr=1e-3"]


def test_a_run_with_hints_resumes_to_the_bit(tmp_path):
    """sampler=standard has no static dataset of its own; the solutions come from the one that igpo makes."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    summary = run(whole, *IGPO, *KEEP)
    shutil.copytree(whole, cut, ignore=shutil.ignore_patterns("weights", "summary.json", "update-000002", "update-000003"))
    (cut / "checkpoints" / "latest").write_text("update-000001")
    run(tmp_path / "unused", *IGPO, *KEEP, f"trainer.resume={cut}")
    lines = metrics(whole)
    assert metrics(cut) == lines and read_jsonl(cut / "samples.jsonl") == read_jsonl(whole / "samples.jsonl")
    assert all(torch.equal(a, b) for a, b in zip(weights(cut).values(), weights(whole).values(), strict=True))
    assert sum(line["rescue/rows_replaced"] for line in lines) > 0 and sum(line["rescue/groups"] for line in lines) > 0
    assert all(line["rescue/forwards"] > 0 for line in lines if line["rescue/groups"]) and summary["time"]["rescue_s"] > 0
    assert (tmp_path / "outputs" / "static").exists()
    assert any(record["replaced"] and record["hinted"] for record in read_jsonl(whole / "samples.jsonl"))


def test_hints_need_solutions(tmp_path, monkeypatch):
    monkeypatch.setattr(Countdown, "solution", lambda self, problem: None)
    rule = "rescue=igpo: it reads worked solutions, and no training problem of task=countdown has one; choose another rescue"
    with pytest.raises(UserError, match=rule):
        run(tmp_path / "run", "rescue=igpo")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_solutions_must_fit(tmp_path):
    with pytest.raises(UserError, match=r"rescue=igpo: no solution .* within sampler\.length=8; raise it"):
        run(tmp_path / "run", "rescue=igpo", "sampler=standard", "sampler.length=8", "sampler.steps=8", "trainer.eval_size=0")
