"""A run that has not finished is evaluated, shown and exported by its newest whole checkpoint."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from stp import export, trained
from stp.config import recorded
from stp.errors import UserError
from stp.evaluate import evaluate
from stp.trace import trace
from tests.config import composed
from tests.integration.runs import run

OPTIONS = ["sampler=standard", "trainer.checkpoint_every=1", "trainer.probe_every=0", "trainer.eval_size=0"]
OPTIONS += ["optimizer.lr=1e-2", "optimizer.warmup=0"]
KINDS = {
    "full": ["zero=off"],
    "lora": ["zero=stage2", "model.dtype=bfloat16", "model.lora.rank=4"],
    "full-3": ["zero=stage3", "model.dtype=bfloat16"],
    "lora-3": ["zero=stage3", "model.dtype=bfloat16", "model.lora.rank=4"],
}


@pytest.fixture(scope="module", params=KINDS)
def finished(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "run"
    run(folder, *OPTIONS, *KINDS[request.param])
    return folder


@pytest.fixture
def unfinished(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    for name in ("weights", "adapter"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "summary.json").unlink()
    return folder


def policy_of(checkpoint):
    folder, model, _ = trained.locate(str(checkpoint), composed("export", f"checkpoint={checkpoint}").model)
    return folder, trained.load(folder, model)[0]


def test_a_checkpoint_holds_the_weights_that_the_run_exports(finished, unfinished, capsys):
    (_, exported), (folder, found) = policy_of(finished), policy_of(unfinished)
    assert "not finished" in (said := capsys.readouterr().out) and "update-000002" in said
    assert folder == unfinished / "checkpoints" / "update-000002"
    own, theirs = dict(found.named_parameters()), dict(exported.named_parameters())
    assert own.keys() == theirs.keys() and all(torch.equal(own[name], theirs[name]) for name in own)
    assert not any(parameter.requires_grad for parameter in own.values())
    _, earlier = policy_of(unfinished / "checkpoints" / "update-000001")
    assert earlier.fingerprint(adapter=True) != found.fingerprint(adapter=True)


def test_a_broken_checkpoint_is_left_out_and_refused_by_name(unfinished, capsys):
    newest = unfinished / "checkpoints" / "update-000002"
    state = newest / "state.json"
    state.write_text(state.read_text() + " ")
    folder, _ = policy_of(unfinished)
    assert folder.name == "update-000001" and f"{newest}: skipped, state.json has changed" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"^checkpoint=.*update-000002: this checkpoint is not whole"):
        policy_of(newest)
    shutil.rmtree(unfinished / "checkpoints")
    with pytest.raises(UserError, match=r"has not finished and has no whole checkpoint; continue it with trainer.resume="):
        policy_of(unfinished)


def test_a_run_that_went_on_is_taken_from_where_it_is(finished, tmp_path):
    """Its weights are those of the last time that it finished."""
    folder = shutil.copytree(finished, tmp_path / "run")
    assert policy_of(folder)[0].parent == folder
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"updates": 1}))
    assert policy_of(folder)[0] == folder / "checkpoints" / "update-000002"


@pytest.fixture(scope="module")
def lora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora") / "run"
    run(folder, *OPTIONS, *KINDS["lora"], "task=gsm8k")
    (folder / "summary.json").unlink()
    (folder / "adapter").rename(folder / "aside")
    return folder


def test_it_is_evaluated_and_says_what_it_measures(lora, tmp_path, capsys):
    evaluate.main(composed("evaluate", f"checkpoint={lora}", "size=2", f"to={tmp_path / 'to'}"))
    said, summary = capsys.readouterr().out, json.loads((tmp_path / "to" / "summary.json").read_text())
    assert "gsm8k: 2 test problems, generated; corrected grading" in said and "WARNING" not in said
    assert summary["measured"] == {
        "task": "gsm8k", "source": "generated", "split": "test", "problems": 2, "grading": "corrected"
    }  # fmt: skip
    assert summary["weights"] == str(lora / "checkpoints" / "update-000002")


def test_it_is_shown(lora, tmp_path, capsys):
    page = tmp_path / "page.html"
    trace.main(composed("trace", f"checkpoint={lora / 'checkpoints' / 'update-000001'}", "problems=1", f"to={page}"))
    assert "gsm8k: 1 test problems, generated" in capsys.readouterr().out and page.exists()


def test_it_is_exported(lora):
    for place, name in ((lora, "export-adapter"), (lora / "checkpoints" / "update-000002", "export-adapter-update-000002")):
        export.main(composed("export", f"checkpoint={place}", "to=adapter"))
        own, theirs = (load_file(folder / "adapter_model.safetensors") for folder in (lora / name, lora / "aside"))
        assert own.keys() == theirs.keys()
        assert all(torch.equal(own[key], theirs[key]) and own[key].dtype == theirs[key].dtype for key in own)
    assert recorded(lora)[0].lora.rank == 4
