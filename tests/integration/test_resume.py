"""A resumed run continues as the uninterrupted one, bit for bit."""

import hashlib
import json
import shutil

import pytest
import torch

from stp.errors import RunError, UserError
from stp.run import ranks
from stp.run.engine import Engine
from stp.run.files import read_jsonl
from tests.integration.runs import metrics, run, weights

KEEP = ["trainer.updates=4", "trainer.checkpoint_every=2", "trainer.keep_checkpoints=9"]


@pytest.mark.parametrize("zero", ["off", "stage2"])
@pytest.mark.parametrize("policy", [[], ["model.lora.rank=4", "model.lora.dropout=0.1", "objective.beta=0.04"]])
def test_resume_is_exact(tmp_path, zero, policy):
    whole, cut = tmp_path / "whole", tmp_path / "cut [1]*?"  # which DeepSpeed would take for a pattern
    run(whole, *KEEP, f"zero={zero}", *policy)
    shutil.copytree(whole, cut, ignore=shutil.ignore_patterns("weights", "adapter", "summary.json", "update-000004"))
    (cut / "checkpoints" / "latest").write_text("update-000002")
    with (cut / "metrics.jsonl").open("a") as file:
        file.write('{"update": 5, "rew')  # cut short by a crash
    run(tmp_path / "unused", *KEEP, f"zero={zero}", *policy, f"trainer.resume='{cut}'")
    assert metrics(cut) == metrics(whole)
    assert read_jsonl(cut / "variance.jsonl") == read_jsonl(whole / "variance.jsonl")
    if not policy:
        assert all(torch.equal(a, b) for a, b in zip(weights(cut).values(), weights(whole).values(), strict=True))


def test_auto_takes_the_newest_run_of_the_same_name(tmp_path):
    run(tmp_path / "name" / "1", "trainer.checkpoint_every=1")
    run(tmp_path / "name" / "2", "trainer.checkpoint_every=1", "trainer.updates=3", "trainer.resume=auto")
    assert [line["update"] for line in metrics(tmp_path / "name" / "1")] == [1, 2, 3]
    assert not (tmp_path / "name" / "2" / "metrics.jsonl").exists()
    run(tmp_path / "name" / "3", "trainer.checkpoint_every=1", "trainer.updates=3", "trainer.resume=auto")
    assert [line["update"] for line in metrics(tmp_path / "name" / "3")] == [1, 2, 3]  # that one was finished: a new run


def test_a_run_that_stopped_after_its_last_update_is_still_evaluated(tmp_path):
    whole = run(tmp_path / "run", "trainer.checkpoint_every=2")
    (tmp_path / "run" / "summary.json").unlink()
    again = run(tmp_path / "unused", "trainer.checkpoint_every=2", f"trainer.resume={tmp_path / 'run'}")
    assert again["final"] == whole["final"] and again["base"] == whole["base"]


def test_a_crash_while_writing_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    """The files of a checkpoint are written aside: a crash among them harms nothing that `latest` names."""
    whole = tmp_path / "whole"
    run(whole, *KEEP, "trainer.checkpoint_every=1")
    save = Engine.save

    def crash(self, folder, tag):
        save(self, folder, tag)
        if self.updates_done > 4:  # two inner updates each: the third checkpoint
            next((folder / tag).rglob("*.safetensors")).write_bytes(b"half")
            raise OSError("No space left on device")

    cut = tmp_path / "cut"
    with monkeypatch.context() as patched, pytest.raises(RunError, match="no space"):
        patched.setattr(Engine, "save", crash)
        run(cut, *KEEP, "trainer.checkpoint_every=1")
    assert (cut / "checkpoints" / "latest").read_text() == "update-000002"
    run(tmp_path / "unused", *KEEP, "trainer.checkpoint_every=1", f"trainer.resume={cut}")
    assert metrics(cut) == metrics(whole)


def rewrite(file, state):
    """state.json and the hash that its manifest holds."""
    file.write_text(json.dumps(state))
    manifest = file.with_name("manifest.json")
    hashes = json.loads(manifest.read_text()) | {file.name: hashlib.sha256(file.read_bytes()).hexdigest()}
    manifest.write_text(json.dumps(hashes))


def test_a_run_of_another_version_is_refused_in_one_line(tmp_path):
    """It recorded no classes, or has a setting that is no more: what, why, and what to do."""
    run(tmp_path / "run", "trainer.checkpoint_every=2")
    file = tmp_path / "run" / "checkpoints" / "update-000002" / "state.json"
    state = json.loads(file.read_text())
    assert state["code"] == json.loads((tmp_path / "run" / "summary.json").read_text())["code"].split(", then ")
    classes = state["config"].pop("classes")
    rewrite(file, state)
    again = (tmp_path / "new", f"trainer.resume={tmp_path / 'run'}", "trainer.updates=3")
    with pytest.raises(UserError) as refused:
        run(*again)
    assert str(refused.value) == (
        f"trainer.resume={tmp_path / 'run'}: another version of the code wrote it, whose settings are not "
        "this one's (classes); continue it with that version, or start a new run in another folder"
    )
    state["config"] |= {"classes": classes, "trainer": state["config"]["trainer"] | {"gone": 1}}
    rewrite(file, state)
    with pytest.raises(UserError, match=r"settings are not this one's \(trainer.gone\)"):
        run(*again)
    with pytest.raises(UserError, match=r"sampler\.gamma: 0\.05 -> None"):  # another class, of the same version
        state["config"]["trainer"].pop("gone")
        rewrite(file, state)
        run(*again, "sampler=standard")


def test_a_run_names_all_its_devices(tmp_path):
    """Also one whose checkpoint is from before they were recorded."""
    run(tmp_path / "run", "trainer.checkpoint_every=2")
    file = tmp_path / "run" / "checkpoints" / "update-000002" / "state.json"
    state = json.loads(file.read_text())
    here = ranks.device_name()
    for before, after in ((["a card"], f"a card, then {here}"), ([here], here), (None, here)):
        shutil.copytree(tmp_path / "run", tmp_path / "again")
        recorded = {name: value for name, value in state.items() if name != "devices"}
        recorded |= {"devices": before} if before else {}
        rewrite(tmp_path / "again" / file.relative_to(tmp_path / "run"), recorded)
        run(tmp_path / "new", f"trainer.resume={tmp_path / 'again'}", "trainer.updates=3")
        assert json.loads((tmp_path / "again" / "summary.json").read_text())["device"] == after
        shutil.rmtree(tmp_path / "again")


def test_other_settings_or_no_checkpoint_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"trainer\.resume=.*no complete checkpoint"):
        run(tmp_path / "run", f"trainer.resume={tmp_path}")
    run(tmp_path / "run", "trainer.checkpoint_every=1")
    with pytest.raises(UserError, match=r"sampler\.gamma: 0\.05 -> 0\.1"):
        run(tmp_path / "new", f"trainer.resume={tmp_path / 'run'}", "sampler.gamma=0.1", "trainer.updates=3")
    with pytest.raises(UserError, match=r"hydra\.run\.dir=.*trainer\.resume="):
        run(tmp_path / "run")  # would mix two runs' checkpoints
    with pytest.raises(UserError, match="already has 2 updates; raise"):
        run(tmp_path / "new", f"trainer.resume={tmp_path / 'run'}")
