"""What a run that goes on, or is taken for finished, must have in common with the one before: its problems and its draws."""

import json

import pytest

from stp.errors import UserError
from stp.evaluation.evaluator import Evaluator
from stp.run.files import read_jsonl
from stp.train import resume
from tests.integration.runs import composed, metrics, run

EVERY = ["trainer.checkpoint_every=1", "trainer.probe_every=0"]


def rows(folder, first):
    """A folder of GSM8K's rows: 12 to train on and 4 held out, numbered from `first`."""
    folder.mkdir()
    for split, count in (("train", 12), ("test", 4)):
        lines = [{"question": f"{split}: {first + i} + 1?", "answer": f"one more\n#### {first + i + 1}"} for i in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"task.data.path={folder}"


def test_other_rows_under_the_same_path_are_refused_and_the_same_rows_elsewhere_taken(tmp_path):
    data, same = rows(tmp_path / "data", 3), rows(tmp_path / "same", 3)
    summary = run(tmp_path / "run", "task=gsm8k", "sampler=standard", data, *EVERY)
    assert summary["problems"]["train"]["problems"] == 12
    assert summary["problems"]["train"]["subject"] == f"gsm8k: 12 train problems, from {tmp_path / 'data'}; corrected grading"
    more = ["task=gsm8k", "sampler=standard", "trainer.updates=3", f"trainer.resume={tmp_path / 'run'}", *EVERY]
    held = (tmp_path / "data" / "test.jsonl").read_text()
    (tmp_path / "data" / "test.jsonl").write_text(held.replace("#### 4", "#### 5"))
    with pytest.raises(
        UserError, match=r"its eval problems are others: gsm8k: 4 test problems, from .*data; .*, whose contents have changed;"
    ):
        run(tmp_path / "new", data, *more)
    (tmp_path / "data" / "train.jsonl").write_text((tmp_path / "data" / "train.jsonl").read_text().replace("3 + 1", "4 - 1"))
    with pytest.raises(UserError, match=r"its train problems are others: .* give the same ones, or start a new run"):
        run(tmp_path / "new", data, *more)
    again = run(tmp_path / "new", same, *more)
    assert again["updates"] == 3 and str(tmp_path / "same") in again["problems"]["train"]["subject"]


def test_a_sweep_does_not_take_a_run_on_other_rows_for_finished(tmp_path):
    data, same = rows(tmp_path / "data", 3), rows(tmp_path / "same", 3)
    small = ["task=gsm8k", "sampler=standard", "trainer.updates=1", "trainer.eval_first=false", *EVERY]
    run(tmp_path / "sweep" / "0", data, *small)
    assert resume.finished(composed(data, *small), tmp_path / "sweep" / "0", {}, tmp_path / "sweep")
    assert resume.finished(composed(same, *small), tmp_path / "sweep" / "0", {}, tmp_path / "sweep")
    (tmp_path / "data" / "test.jsonl").write_text((tmp_path / "data" / "test.jsonl").read_text().replace("#### 4", "#### 5"))
    assert resume.finished(composed(data, *small), tmp_path / "sweep" / "0", {}, tmp_path / "sweep") is None


def test_what_decides_no_draw_may_change_when_a_run_goes_on(tmp_path, capsys):
    """`auto` continues with other micro-batches, rows and evaluations; the base is measured again for the new ones."""
    run(tmp_path / "whole" / "run", "trainer.updates=3", *EVERY)
    run(tmp_path / "name" / "1", *EVERY)
    free = ["trainer.micro_batch=3", "trainer.rollout_rows=5", "trainer.eval_size=2", "model.logit_chunk=64"]
    summary = run(tmp_path / "name" / "2", "trainer.updates=3", "trainer.resume=auto", *free, *EVERY)
    assert not (tmp_path / "name" / "2").exists() and summary["updates"] == 3
    assert (summary["base"]["total"], summary["final"]["total"]) == (2, 2)
    lines = read_jsonl(tmp_path / "name" / "1" / "eval.jsonl")
    assert [line["update"] for line in lines].count(0) == 2  # the new base's alone
    whole, part = metrics(tmp_path / "whole" / "run")[-1], metrics(tmp_path / "name" / "1")[-1]
    assert part["reward/mean"] == whole["reward/mean"] and part["loss"] == pytest.approx(whole["loss"], abs=1e-5)
    capsys.readouterr()
    run(tmp_path / "name" / "3", "trainer.updates=4", "trainer.resume=auto", "optimizer.lr=2e-4", *EVERY)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{tmp_path / 'name' / '1'}: not continued, its settings differ")
    assert "optimizer.lr: 0.0001 -> 0.0002" in said[0] and said[1] == f"run folder: {tmp_path / 'name' / '3'}"


def test_with_dropout_the_micro_batch_stays(tmp_path, capsys):
    """LoRA's dropout is drawn per micro-batch. `auto` tells it once."""
    dropout = ["model.lora.rank=2", "model.lora.dropout=0.1", "trainer.eval_size=0", "trainer.updates=1", *EVERY]
    run(tmp_path / "run", *dropout)
    with pytest.raises(UserError, match=r"trainer\.micro_batch: 4 -> 3"):
        run(tmp_path / "new", *dropout, f"trainer.resume={tmp_path / 'run'}", "trainer.micro_batch=3", "trainer.updates=2")
    capsys.readouterr()
    with pytest.raises(UserError, match="another run is kept there"):
        run(tmp_path / "run", *dropout, "trainer.resume=auto", "trainer.micro_batch=3", "trainer.updates=2")
    assert capsys.readouterr().out.count("not continued, its settings differ") == 1


@pytest.fixture
def asked(monkeypatch):
    """Each evaluation of a run: its temperature, and whether weights had been written by then."""
    seen, evaluate = [], Evaluator.__call__

    def counted(self, denoise, sampler, *rest, **options):
        seen.append(sampler.temperature)
        return evaluate(self, denoise, sampler, *rest, **options)

    monkeypatch.setattr(Evaluator, "__call__", counted)
    return seen


def test_the_base_is_measured_once_for_all_runs(tmp_path, asked, capsys):
    once = [*EVERY, "trainer.updates=1", "trainer.eval_temperatures=[0,1]"]
    first = run(tmp_path / "a", *once)
    second = run(tmp_path / "b", *once, "model.lora.rank=2", "optimizer.lr=3e-4")
    assert asked == [0, 1, 0, 1, 0, 1]  # base and end, then the end alone
    assert second["base"] == first["base"]
    base = [[line for line in read_jsonl(tmp_path / run / "eval.jsonl") if line["update"] == 0] for run in "ab"]
    assert len(base[0]) == 8 and base[0] == base[1]
    assert capsys.readouterr().out.count("is reused: outputs/base/countdown-") == 2
    for other in (["task.data.seed=1"], ["task.grading=published"]):
        asked.clear()
        run(tmp_path / other[0], *once, *other, "trainer.eval_temperatures=[1]")
        assert asked == [1, 1], other


def test_a_damaged_evaluation_of_the_base_is_made_again(tmp_path, asked, capsys):
    once = [*EVERY, "trainer.updates=1"]
    run(tmp_path / "a", *once)
    (kept,) = (tmp_path / "outputs" / "base").iterdir()
    kept.write_text(kept.read_text()[:50])
    run(tmp_path / "b", *once)
    assert len(asked) == 4 and "it is measured again" in capsys.readouterr().out


def test_the_first_evaluation_can_be_left_out_and_weights_come_before_the_last(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("in the last evaluation")

    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="in the last"):
        patched.setattr(Evaluator, "__call__", fails)
        run(tmp_path / "run", *EVERY, "trainer.updates=1", "trainer.eval_first=false")
    assert (tmp_path / "run" / "weights" / "model.safetensors").exists()
    summary = run(
        tmp_path / "new", *EVERY, "trainer.updates=1", "trainer.eval_first=false", f"trainer.resume={tmp_path / 'run'}"
    )
    assert "total" not in summary["base"] and summary["final"]["total"] == 4


def test_a_state_of_another_version_is_refused_with_its_fields(tmp_path):
    from tests.integration.test_resume import rewrite

    run(tmp_path / "run", *EVERY, "trainer.updates=1", "trainer.eval_size=0")
    file = tmp_path / "run" / "checkpoints" / "update-000001" / "state.json"
    state = json.loads(file.read_text())
    resumed = [*EVERY, "trainer.updates=2", "trainer.eval_size=0", f"trainer.resume={tmp_path / 'run'}"]
    del state["problems"]
    rewrite(file, state | {"new": 1})
    with pytest.raises(
        UserError, match=r"whose state\.json is not this one's \(new, problems\); continue it with that version"
    ):
        run(tmp_path / "new", *resumed)
    rewrite(file, state | {"problems": 3})
    with pytest.raises(UserError, match=r"is not what stp\.train writes; remove that checkpoint"):
        run(tmp_path / "new", *resumed)
