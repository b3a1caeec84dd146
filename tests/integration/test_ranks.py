"""Two ranks give the update of one rank with twice the accumulation; every ZeRO stage gives the same."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from stp.run.files import read_jsonl
from tests.integration.runs import SMALL, environment, metrics, run, weights


def launch(folder: Path, ranks: int, *overrides: str) -> None:
    """`torchrun --nproc_per_node <ranks> -m stp.train …`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(ranks), "--master_port", "0"]
    command += ["--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0"]
    command += ["-m", "stp.train", *SMALL, f"hydra.run.dir={folder}", *overrides]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder.parent, env=environment(), timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("zero", ["off", "stage2", "stage3"])
def test_two_ranks_equal_one(tmp_path, zero):
    run(tmp_path / "one", "trainer.updates=1", "trainer.probe_rows=3")
    launch(tmp_path / "two", 2, "trainer.updates=1", "trainer.probe_rows=3", f"zero={zero}")
    (a,), (b,) = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    exact = [k for k in a if k.startswith(("reward/", "completion/", "pruning/", "nfe"))]
    assert {k: a[k] for k in exact} == {k: b[k] for k in exact}
    assert a["loss"] == pytest.approx(b["loss"], abs=1e-6)
    assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)
    one, two = weights(tmp_path / "one"), load_file(tmp_path / "two" / "weights" / "model.safetensors")
    # Adam divides by the root of its second moment: where a gradient is mere rounding its sign decides, so the rate bounds it
    assert max(float((one[k] - two[k]).abs().max()) for k in one) < 2e-5
    assert json.loads((tmp_path / "two" / "summary.json").read_text())["ranks"] == 2
    probes = [read_jsonl(tmp_path / name / "variance.jsonl") for name in ("one", "two")]
    assert len(probes[0]) == len(probes[1]) == 3  # two of one rank, one of the other
    for ours, theirs in zip(*probes, strict=True):  # the same trajectories, with the same draws
        assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.parametrize("task", ["gsm8k", "math"])
def test_the_other_tasks_train_on_two_ranks_as_on_one(tmp_path, task):
    """Prompts of different widths: what a rank pads does not change a row."""
    run(tmp_path / "one", f"task={task}")
    launch(tmp_path / "two", 2, f"task={task}", "zero=stage2")
    one, two = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert [line["update"] for line in two] == [1, 2] and two[0]["grad_norm"] > 0
    assert two[0]["reward/mean"] == one[0]["reward/mean"]
    for name in ("loss", "elbo/elbo"):
        assert two[0][name] == pytest.approx(one[0][name], abs=1e-4)


@pytest.mark.parametrize("zero", ["stage1", "stage2", "stage3"])
def test_zero_stages_equal_plain_training(tmp_path, zero):
    run(tmp_path / "off")
    run(tmp_path / "on", f"zero={zero}")
    for a, b in zip(metrics(tmp_path / "off"), metrics(tmp_path / "on"), strict=True):
        assert a["reward/mean"] == b["reward/mean"]
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-6)


def test_a_sweep_runs_its_jobs_one_after_the_other(tmp_path):
    command = [sys.executable, "-m", "stp.train", "--multirun", *SMALL, "sampler.gamma=0,0.1", "trainer.updates=1"]
    command += [f"hydra.sweep.dir={tmp_path}/sweep"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment())
    assert done.returncode == 0, done.stderr[-3000:]
    summaries = [json.loads(p.read_text()) for p in sorted((tmp_path / "sweep").glob("*/summary.json"))]
    assert [s["forwards_per_rollout"] for s in summaries] == [12, 11]
    run(tmp_path / "alone", "sampler.gamma=0.1", "trainer.updates=1")
    assert metrics(tmp_path / "sweep" / "1") == metrics(tmp_path / "alone")
