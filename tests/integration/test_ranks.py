"""Two ranks give the update of one rank with twice the accumulation; every ZeRO stage gives the same."""

import json
from functools import cache
from pathlib import Path

import pytest
from safetensors.torch import load_file

from stp.run.files import read_jsonl
from tests.commands import on_ranks
from tests.integration.runs import SMALL, metrics, run, weights


def launch(folder: Path, ranks: int, *overrides: str) -> None:
    """`python -m stp.train …` on so many ranks."""
    for done in on_ranks("-m", "stp.train", *SMALL, f"hydra.run.dir={folder}", *overrides, cwd=folder.parent, count=ranks):
        assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """One rank without ZeRO: the runs that the others must equal, each made once."""
    folder = tmp_path_factory.mktemp("plain")

    @cache
    def made(*overrides):
        place = folder / "-".join(("run", *overrides))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            run(place, *overrides)
        return place

    return made


@pytest.mark.parametrize("zero", ["off", "stage2", "stage3"])
def test_two_ranks_equal_one(tmp_path, plain, zero):
    alone = plain("trainer.updates=1", "trainer.probe_rows=3")
    launch(tmp_path / "two", 2, "trainer.updates=1", "trainer.probe_rows=3", f"zero={zero}")
    (a,), (b,) = metrics(alone), metrics(tmp_path / "two")
    exact = [k for k in a if k.startswith(("reward/", "completion/", "pruning/", "nfe"))]
    assert {k: a[k] for k in exact} == {k: b[k] for k in exact}
    assert a["loss"] == pytest.approx(b["loss"], abs=1e-6)
    assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)
    one, two = weights(alone), load_file(tmp_path / "two" / "weights" / "model.safetensors")
    # Adam divides by the root of its second moment: where a gradient is mere rounding its sign decides, so the rate bounds it
    assert max(float((one[k] - two[k]).abs().max()) for k in one) < 2e-5
    assert json.loads((tmp_path / "two" / "summary.json").read_text())["ranks"] == 2
    probes = [read_jsonl(folder / "variance.jsonl") for folder in (alone, tmp_path / "two")]
    assert len(probes[0]) == len(probes[1]) == 3  # two of one rank, one of the other
    for ours, theirs in zip(*probes, strict=True):  # the same trajectories, with the same draws
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_another_task_trains_on_two_ranks_as_on_one(tmp_path):
    """Prompts of different widths: what a rank pads does not change a row."""
    run(tmp_path / "one", "task=math")
    launch(tmp_path / "two", 2, "task=math", "zero=stage2")
    one, two = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert [line["update"] for line in two] == [1, 2] and two[0]["grad_norm"] > 0
    assert two[0]["reward/mean"] == one[0]["reward/mean"]
    for name in ("loss", "elbo/elbo"):
        assert two[0][name] == pytest.approx(one[0][name], abs=1e-4)


@pytest.mark.parametrize("zero", ["stage1", "stage2", "stage3"])
def test_zero_stages_equal_plain_training(tmp_path, plain, zero):
    run(tmp_path / "on", f"zero={zero}")
    for a, b in zip(metrics(plain()), metrics(tmp_path / "on"), strict=True):
        assert a["reward/mean"] == b["reward/mean"]
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-6)
