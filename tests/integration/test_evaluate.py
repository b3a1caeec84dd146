"""`python -m stp.evaluate`: an evaluation that was interrupted ends with the files of one that was not, byte for byte."""

import json
import signal

import pytest
import torch

from stp.errors import UserError
from stp.evaluate.evaluate import main
from stp.evaluation import evaluator as evaluation
from stp.models.options import Model
from stp.models.policy import Policy, load_policy
from stp.protocols import Published
from stp.run.files import read_jsonl, whole_lines
from stp.run.tracking import Tracker
from stp.tasks import Math, Problem
from tests.commands import command, on_ranks
from tests.config import composed
from tests.integration.runs import metrics, run

SMALL = ["size=5", "rows=2", "temperatures=[0,1]", "samples=2", "seed=1"]
SMALL += ["sampler.length=24", "sampler.steps=12", "sampler.block_length=8"]
COMPLETIONS = [5, 10]  # at each temperature


def evaluated(folder, *overrides):
    """The files of an evaluation, by name."""
    main(composed("evaluate", f"to={folder}", *SMALL, *overrides))
    return files(folder)


def files(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def interrupted(folder, monkeypatch, batches):
    """An evaluation that ends with an exception after so many batches."""
    append, written = Tracker.append, []

    def dying(self, name, records):
        append(self, name, records)
        written.append(name)
        if len(written) == batches:
            raise InterruptedError

    with monkeypatch.context() as patched, pytest.raises(InterruptedError):
        patched.setattr(Tracker, "append", dying)
        evaluated(folder)


@pytest.fixture
def generated(monkeypatch):
    """How many completions are denoised, batch by batch."""
    counts, generate = [], evaluation.generate

    def counted(*args, **kwargs):
        trajectory = generate(*args, **kwargs)
        counts.append(len(trajectory.response_BL))
        return trajectory

    monkeypatch.setattr(evaluation, "generate", counted)
    return counts


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The files of the uninterrupted evaluation."""
    return evaluated(tmp_path_factory.mktemp("whole"))


def test_an_evaluation_leaves_records_settings_and_a_summary(whole):
    assert list(whole) == ["eval.jsonl", "evaluation.json", "summary.json"]
    records, summary = [json.loads(line) for line in whole["eval.jsonl"].splitlines()], json.loads(whole["summary.json"])
    assert [r["temperature"] for r in records] == [0.0] * 5 + [1.0] * 10
    problems = [r["problem"] for r in records[:5]]
    assert [r["problem"] for r in records[5:]] == [p for p in problems for _ in range(2)] and len(set(problems)) == 5
    assert all(0 < r["tokens"] <= 24 and "prefill" not in r for r in records)
    assert (summary["protocol"], summary["grading"]) == ("clean", "corrected")
    assert set(summary["T=1"]["interval"]) == {"accuracy", "mean@2", "pass@1", "pass@2"}
    assert summary["T=1"]["correct"] == sum(r["correct"] for r in records[5:]) and summary["T=1"]["total"] == 10


@pytest.mark.parametrize("rows", [1, 3, 128])
def test_batches_change_nothing(tmp_path, whole, rows):
    assert evaluated(tmp_path, f"rows={rows}") == whole


def test_questions_are_asked_whole(tmp_path, whole, monkeypatch):
    """In training's own evaluations, too."""
    monkeypatch.setattr("stp.run.preflight.prompts", lambda *_: 0)  # which refuses to cut most prompts
    assert evaluated(tmp_path / "evaluation", "model.prompt_tokens=2") == whole
    for name, tokens in (("cut", 2), ("uncut", 200)):
        run(tmp_path / name, "trainer.updates=1", "trainer.probe_every=0", "sampler=standard", f"model.prompt_tokens={tokens}")
    cut, uncut = ([r for r in read_jsonl(tmp_path / name / "eval.jsonl") if r["update"] == 0] for name in ("cut", "uncut"))
    assert cut == uncut and len(cut) == 4
    assert metrics(tmp_path / "cut") != metrics(tmp_path / "uncut")


@pytest.mark.parametrize("batches", [1, 3, 5])
def test_an_interrupted_evaluation_goes_on_where_it_stopped(tmp_path, monkeypatch, generated, capsys, whole, batches):
    interrupted(tmp_path, monkeypatch, batches)
    assert files(tmp_path).keys() == {"eval.jsonl", "evaluation.json"}
    kept = len(read_jsonl(tmp_path / "eval.jsonl"))
    assert kept == sum(generated) == [2, 4, 5, 7, 9][batches - 1]
    assert evaluated(tmp_path) == whole
    assert sum(generated) == sum(COMPLETIONS)
    assert f"continued after {kept} of 15 completions" in capsys.readouterr().out


def test_other_batches_may_finish_it(tmp_path, monkeypatch, generated, whole):
    """Of the four completions kept, three are a whole batch of the new size."""
    interrupted(tmp_path, monkeypatch, 2)
    generated.clear()
    assert evaluated(tmp_path, "rows=3") == whole
    assert generated == [2, 3, 3, 3, 1]


def test_a_killed_process_leaves_half_a_line(tmp_path, whole):
    """SIGKILL in the middle of the second batch's write: one of its lines is whole, the other one is not."""
    code = """
import os, signal
from stp.cli import run
from stp.evaluate.evaluate import Evaluation, main
from stp.protocols import Published
from stp.tasks import Math, Problem
from stp.run.tracking import Tracker

append, batches = Tracker.append, []

def dying(self, name, records):
    batches.append(records)
    append(self, name, records[: 3 - len(batches)])
    if len(batches) == 2:
        with (self.folder / f"{name}.jsonl").open("a") as file:
            file.write('{"temperature": 0.0, "problem": "countd')
        os.kill(os.getpid(), signal.SIGKILL)

Tracker.append = dying
run(main, "evaluate", Evaluation)
"""
    folder = tmp_path / "run"
    done = command("-c", code, f"to={folder}", *SMALL, cwd=tmp_path)
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    text = (folder / "eval.jsonl").read_text()
    assert not text.endswith("\n") and len(whole_lines(folder / "eval.jsonl")) == 3
    assert evaluated(folder) == whole


def test_two_ranks_finish_what_one_began(tmp_path, monkeypatch, whole):
    """A batch of each rank at a time; the last of the five greedy completions leaves one rank without work."""
    folder = tmp_path / "run"
    interrupted(folder, monkeypatch, 1)
    first, second = on_ranks("-m", "stp.evaluate", f"to={folder}", *SMALL, "rows=1", cwd=tmp_path)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr[-3000:] + second.stderr[-3000:]
    assert "continued after 2 of 15 completions" in first.stdout
    assert files(folder) == whole


def test_a_finished_evaluation_says_so_and_does_nothing(tmp_path, generated, capsys, whole):
    for name, content in whole.items():
        (tmp_path / name).write_bytes(content)
    assert evaluated(tmp_path) == whole
    said = capsys.readouterr().out
    assert f"{tmp_path}: finished" in said and "T=0: accuracy" in said and "pass@2" in said
    assert not generated


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("sampler.steps=8", "sampler.steps: 12 -> 8"),
        ("temperatures=[0]", r"temperatures: \[0.0, 1.0\] -> \[0.0\]"),
        ("samples=4", "samples: 2 -> 4"),
        ("seed=2", "seed: 1 -> 2"),
        ("size=4", "problems.count: 5 -> 4"),
        ("task.grading=published", "task.grading: corrected -> published"),
        ("task.data.seed=3", "task.data.seed: 0 -> 3"),
        ("model.instructions=true", "model.instructions: False -> True"),
    ],
)
def test_other_settings_are_refused_before_the_weights_are_loaded(tmp_path, whole, override, named):
    for name, content in whole.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"^to={tmp_path}: .*other settings \(.*{named}.*\); give the same ones"):
        evaluated(tmp_path, override, "model.path=/nowhere")
    assert files(tmp_path) == whole


def test_other_weights_are_refused(tmp_path, monkeypatch):
    interrupted(tmp_path / "run", monkeypatch, 1)
    before = files(tmp_path / "run")
    policy, tokenizer = load_policy(Model(), trainable=False)
    with torch.no_grad():
        policy.llama.lm_head.weight += 0.01
    policy.llama.save_pretrained(tmp_path / "weights")
    tokenizer.save_pretrained(tmp_path / "weights")
    with pytest.raises(UserError, match=r"other settings \(weights: \w+ -> \w+\)"):
        evaluated(tmp_path / "run", f"model.path={tmp_path / 'weights'}")
    assert files(tmp_path / "run") == before


def test_records_without_their_settings_are_left_alone(tmp_path, whole):
    (tmp_path / "eval.jsonl").write_bytes(whole["eval.jsonl"])
    with pytest.raises(UserError, match=rf"^to={tmp_path}: .*without its settings.*give another folder$"):
        evaluated(tmp_path)
    assert files(tmp_path) == {"eval.jsonl": whole["eval.jsonl"]}


@pytest.mark.parametrize(("task", "instructions"), [("countdown", False), ("gsm8k", True), ("math", False)])
def test_the_published_protocol(tmp_path, monkeypatch, task, instructions):
    """128 masks behind the opening tag, 16 forwards for each block of 32; graded is what follows the tag."""
    seen, draw = [], Policy.draw

    def watched(self, ids_BS, *args):
        seen.append(ids_BS.clone())
        return draw(self, ids_BS, *args)

    monkeypatch.setattr(Policy, "draw", watched)
    config = composed(
        "evaluate",
        "protocol=published",
        "sampler.length=128",
        f"task={task}",
        f"model.instructions={instructions}",
        "size=2",
        f"to={tmp_path}",
    )
    main(config)
    _, tokenizer = load_policy(config.model, trainable=False)
    first_BS = seen[0]
    assert (first_BS[:, -128:] == tokenizer.mask_token_id).all() and (first_BS[:, :-128] != tokenizer.mask_token_id).all()
    asked = tokenizer.batch_decode(first_BS[:, :-128], skip_special_tokens=True)
    problems = config.task.problems("test")[:2]
    for problem in problems:  # rows are sorted by width
        assert sum(text.endswith(f"{problem.question}<reasoning>") for text in asked) == 1
    assert all(("\\boxed{...}" in text) == instructions for text in asked)
    assert len(seen) % 16 == 0 and len(seen) <= 64  # fewer where both ended in an earlier block
    records, summary = read_jsonl(tmp_path / "eval.jsonl"), json.loads((tmp_path / "summary.json").read_text())
    for record, problem in zip(records, problems, strict=True):
        text = record["completion"]
        assert record["prefill"] == "<reasoning>" and not text.startswith("<reasoning>")
        assert record["correct"] == config.task.grade(problem, text, "published")
        assert record["reward"] == sum(config.task.reward_parts(problem, "<reasoning>" + text).values())
    assert (summary["protocol"], summary["grading"]) == ("published", "published")
    assert summary["sampler"] == {"length": 128, "steps": 64, "block_length": 32}


def test_the_prefill_is_paid_for_and_not_graded():
    """Without a box the published parser compares the whole text, which the prefill would spoil."""
    task, problem = Math(rewards="published", grading="published"), Problem("one", "6 + 12?", "18")
    kept = evaluation.record(task, problem, "18", Published.prefill)
    assert kept["correct"] and kept["completion"] == "18" and kept["prefill"] == "<reasoning>"
    assert kept["reward"] == 0.25 == sum(task.reward_parts(problem, "<reasoning>18").values())
    assert evaluation.record(task, problem, "18", "")["reward"] == 2.25


def test_a_published_evaluation_is_graded_again(tmp_path):
    """Its stored completions give the same rewards and verdicts, and both counts."""
    main(composed("evaluate", "protocol=published", "sampler.length=128", "size=2", f"to={tmp_path / 'run'}"))
    before = read_jsonl(tmp_path / "run" / "eval.jsonl")
    main(
        composed("evaluate", f"completions={tmp_path / 'run' / 'eval.jsonl'}", "protocol=published", f"to={tmp_path / 'again'}")
    )
    names = ("problem", "prefill", "completion", "reward", "correct")
    again = read_jsonl(tmp_path / "again" / "eval.jsonl")
    assert [{n: r[n] for n in names} for r in again] == [{n: r[n] for n in names} for r in before]
    assert set(again[0]["grades"]) == {"corrected", "published"}


def test_a_run_brings_its_lengths_to_the_clean_protocol_alone(tmp_path):
    run(tmp_path / "run", "trainer.updates=1", "trainer.eval_size=0", "trainer.probe_every=0")
    checkpoint = [f"checkpoint={tmp_path / 'run'}", "size=1"]
    for protocol, length in (("clean", 24), ("published", 128)):
        to = tmp_path / protocol
        extra = ["sampler.length=128"] if protocol == "published" else []
        main(composed("evaluate", f"protocol={protocol}", f"to={to}", *checkpoint, *extra))
        assert json.loads((to / "summary.json").read_text())["sampler"]["length"] == length
