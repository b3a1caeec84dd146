"""`python -m stp.evaluate completions=…`: stored completions graded with no model."""

import json
import subprocess
import sys

import pytest

from stp.errors import UserError
from stp.evaluation.stored import regrade
from stp.run.files import read_jsonl
from stp.tasks import Countdown, Gsm8k, Math
from tests.commands import environment
from tests.config import composed

ROWS = [
    {"question": "Anna has 6 eggs and buys 12.", "completion": "<answer>\n\\boxed{18}\n</answer>", "ground_truth": 18.0},
    {"question": "Ben has 1,000.", "completion": "so \\boxed{1,000}", "ground_truth": 1000.0},
    {"question": "Tom has -3.", "completion": "\\boxed{-3}", "ground_truth": None},
]


def write(path, rows=ROWS):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def grade(folder, *overrides):
    from stp.evaluate.evaluate import main

    main(composed("evaluate", f"to={folder}", *overrides))
    return json.loads((folder / "summary.json").read_text()), read_jsonl(folder / "eval.jsonl")


def test_both_counts_are_kept_and_the_tasks_own_is_the_accuracy(tmp_path, capsys):
    file = write(tmp_path / "rows.jsonl")
    summary, records = grade(tmp_path / "a", f"completions={file}", "task=gsm8k")
    assert summary["published"]["correct"] == 1 and summary["corrected"]["correct"] == summary["correct"] == 2
    assert summary["total"] == 3 and summary["without_ground_truth"] == 1 and summary["task"] == "gsm8k"
    assert [r["correct"] for r in records] == [True, True, False]
    assert [r["grades"]["published"] for r in records] == [True, False, False]
    assert [r["question"] for r in records] == [row["question"] for row in ROWS]
    said = capsys.readouterr().out
    assert "published grading: accuracy 33.3% (1/3)" in said and "rows.jsonl row 3" in said
    summary, _ = grade(tmp_path / "b", f"completions={file}", "task=gsm8k", "task.grading=published")
    assert summary["correct"] == 1 and summary["grading"] == "published"


def test_d1s_own_files_are_graded(tmp_path):
    rows = [
        {"question": row["question"], "prompt_input": "…", "generations": row["completion"], "ground_truth": 18.0}
        for row in ROWS
    ]
    file = tmp_path / "d1.json"
    file.write_text(json.dumps({"metrics": {"wall_time": 1.0}, "gen_length": 256, "generations": rows}, indent=2))
    summary, records = grade(tmp_path / "a", f"completions={file}", "task=gsm8k")
    assert [r["completion"] for r in records] == [row["completion"] for row in ROWS] and summary["correct"] == 1


def test_the_problems_file_supplies_what_the_rows_lack(tmp_path):
    file, problems = write(tmp_path / "rows.jsonl"), tmp_path / "problems.jsonl"
    write(problems, [{"question": row["question"], "answer": "so\n#### -3"} for row in ROWS])
    summary, records = grade(tmp_path / "a", f"completions={file}", "task=gsm8k", f"task.data.path={problems}")
    assert records[2]["ground_truth"] == "-3" and records[2]["correct"] and "without_ground_truth" not in summary
    assert records[0]["ground_truth"] == "18"  # a row's own stays


def test_an_evaluation_of_ours_is_graded_again(tmp_path, monkeypatch):
    """eval.jsonl has all that grading needs; each of its measurements is counted."""
    from tests.integration.runs import run

    monkeypatch.chdir(tmp_path)
    small = ["trainer.updates=1", "trainer.inner_updates=1", "trainer.probe_every=0", "sampler=standard", "trainer.eval_size=6"]
    run(tmp_path / "run", *small, "trainer.eval_temperatures=[0.0, 1.0]")
    before = read_jsonl(tmp_path / "run" / "eval.jsonl")
    summary, records = grade(tmp_path / "again", f"completions={tmp_path / 'run' / 'eval.jsonl'}", "task=countdown")
    names = ("problem", "completion", "reward", "correct", "update", "temperature")
    assert [{name: r[name] for name in names} for r in records] == [{name: r[name] for name in names} for r in before]
    assert summary["total"] == 24 and summary["update 0, T=0"]["total"] == summary["update 1, T=1"]["total"] == 6


@pytest.mark.parametrize(
    ("task", "row", "expected"),
    [
        (Gsm8k(), {"question": "?", "completion": "x"}, "expected columns question and completion (text) and ground_truth"),
        (Gsm8k(), {"question": "?", "completion": None, "ground_truth": 1}, "expected columns question and completion"),
        (Gsm8k(), {"question": "?", "completion": "x", "ground_truth": "many"}, "expected a number as ground_truth"),
        (Math(), {"question": "?", "completion": "x", "ground_truth": []}, "expected a LaTeX answer as ground_truth"),
        (Countdown(), {"question": "?", "completion": "x", "ground_truth": 5}, "[[3, 4, 5], 12]"),
        (Countdown(), {"question": "?", "completion": "x", "ground_truth": [[3, 4]]}, "[[3, 4, 5], 12]"),
        (Countdown(), {"question": "?", "completion": "x", "ground_truth": ["44", 8]}, "[[3, 4, 5], 12]"),
    ],
)
def test_a_malformed_row_is_named(task, row, expected):
    with pytest.raises(UserError) as error:
        regrade(task, [("rows.jsonl row 7", row)], {})
    assert str(error.value).startswith("rows.jsonl row 7=") and expected in str(error.value)


def test_the_command_loads_no_model(tmp_path):
    file = write(tmp_path / "rows.jsonl")
    code = "import sys; from stp.cli import run; from stp.evaluate.evaluate import Evaluation, main; "
    code += "run(main, 'evaluate', Evaluation); print('deepspeed' in sys.modules)"
    arguments = [f"completions={file}", "task=gsm8k", "model.path=/nowhere"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0 and done.stdout.strip().endswith("False"), done.stderr
    (summary,) = tmp_path.glob("outputs/evaluate/*/summary.json")
    assert json.loads(summary.read_text())["correct"] == 2


def test_a_missing_file_and_a_folder_in_use(tmp_path):
    with pytest.raises(UserError, match=r"^completions=\S+none\.jsonl: no such file"):
        grade(tmp_path, f"completions={tmp_path / 'none.jsonl'}", "task=gsm8k")
    file = write(tmp_path / "eval.jsonl")
    with pytest.raises(UserError, match=r"^to=\S+: an evaluation is kept there; give another folder$"):
        grade(tmp_path, f"completions={file}", "task=gsm8k")
