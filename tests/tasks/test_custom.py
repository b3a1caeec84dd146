"""Your own task: rows with columns of any name, and a function of one's own that may raise, return nonsense or never end."""

import json
import time
from datetime import date
from pathlib import Path

import pyarrow.parquet
import pytest
from omegaconf import OmegaConf

from stp.config import plain, recorded
from stp.errors import UserError
from stp.evaluation.evaluator import record
from stp.evaluation.stored import regrade
from stp.tasks import Custom
from stp.tasks.base import Data, Problem
from stp.tasks.custom import process
from tests.config import composed

OWN = """
import helper

def noted(question, answer, completion):
    with open("calls", "a") as file:
        print(completion, file=file)
    if completion == "raise":
        raise ValueError("no")
    return len(completion) - 3

def right(question, answer, completion):
    return float(helper.plain(completion) == answer)

def named(question, answer, completion):
    print("seen", completion)
    return {"right": right(question, answer, completion), "short": len(completion) < 9}

def odd(question, answer, completion):
    if completion == "raise":
        raise KeyError("no such key")
    if completion == "loop":
        while True:
            pass
    if completion == "leave":
        import os
        os._exit(3)
    if completion == "start":
        import subprocess
        started = subprocess.Popen(["sleep", "60"])
        open("started", "w").write(str(started.pid))
        started.wait()
    values = {"nan": float("nan"), "inf": float("-inf"), "none": None, "text": "1", "empty": {}, "part": {"a": float("nan")}}
    return values.get(completion, -1e7 if completion == "large" else 0.5)

def judge(question, answer, completion):
    return completion in answer
"""


def running(pid):
    """Whether a process runs; what is ended and waits for its parent to notice does not."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] not in "ZX"


ROWS = [{"q": f"Sort: {word}", "a": "".join(sorted(word))} for word in ("cab", "bad", "dab", "ace", "fed", "gab")]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A task on rows of its own, beside the file of its functions, which imports a neighbour."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "helper.py").write_text("def plain(text):\n    return text.strip()\n")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    made = []

    def task(**options):
        options = {"reward": "own.py:named", "question": "q", "answer": "a", "data": Data(path="rows.jsonl")} | options
        made.append(Custom(**options))
        return made[-1]

    yield task
    for one in made:
        process(tuple(one.functions.items()), one.timeout, one.code).close()


def test_a_function_pays_in_named_parts_or_a_number(own):
    task = own()
    problem = task.problems("all")[0]
    assert (problem.question, problem.gold) == ("Sort: cab", "abc")
    assert task.reward_parts(problem, " abc ") == {"right": 1.0, "short": 1.0}
    assert task.reward_parts(problem, "a longer one") == {"right": 0.0, "short": 0.0}
    assert own(reward="own.py:right").reward_parts(problem, "abc") == {"reward": 1.0}
    assert own(reward="json:loads", answer=None).functions == {"task.reward": "json:loads"}  # installed


def test_accuracy_compares_the_answer_unless_a_function_decides(own):
    task = own()
    problem = task.problems("all")[0]
    assert task.solves(problem, "so <answer> abc </answer>") and not task.solves(problem, "abc")
    assert own(correct="own.py:judge").solves(problem, "b") and not own(correct="own.py:judge").solves(problem, "x")
    alone = own(answer=None)  # rows without answers: a reward above 0
    assert alone.solves(alone.problems("all")[0], "short") and not alone.solves(alone.problems("all")[0], "a long one")


@pytest.mark.parametrize(
    ("completion", "what"),
    [
        ("raise", "KeyError: 'no such key' (own.py, line 20)"),
        ("nan", "it returned nan, which is no finite number"),
        ("inf", "it returned -inf, which"),
        ("none", "it returned None, which"),
        ("text", "it returned '1', which"),
        ("empty", "it returned a dict without parts"),
        ("part", "it returned nan, which"),
        ("large", "it returned -10000000.0, which is not between -1e+06 and 1e+06"),
        ("loop", "it took more than 0.5 s (task.timeout)"),
        ("start", "it took more than 0.5 s (task.timeout)"),
        ("leave", "it ended its process"),
    ],
)
def test_a_function_that_fails_is_one_line_with_the_row_or_a_counted_zero(own, completion, what):
    """And the next call is answered."""
    task = own(reward="own.py:odd", timeout=0.5)
    problem = task.problems("all")[2]
    with pytest.raises(UserError) as error:
        task.reward_parts(problem, completion)
    line = str(error.value)
    assert line.startswith(f"rows.jsonl row 3: task.reward=own.py:odd: {what}") and "\n" not in line, line
    assert line.endswith(f"for the completion '{completion}'; mend it, or count such completions as 0 with task.on_error=zero")
    assert task.reward_parts(problem, "fine") == {"reward": 0.5}
    lenient = own(reward="own.py:odd", timeout=0.5, on_error="zero")
    assert (
        lenient.reward_parts(problem, completion) == {"failed": 0.0} and lenient.reward_parts(problem, "fine")["reward"] == 0.5
    )
    assert record(lenient, problem, completion, "")["failed"] and "failed" not in record(lenient, problem, "fine", "")
    if completion == "start":  # and what it has started is gone
        until = time.monotonic() + 10
        while running(int(Path("started").read_text())):
            assert time.monotonic() < until


def test_a_reward_that_also_says_what_is_right_is_asked_once_a_completion(own, tmp_path):
    """In rollouts, evaluations and where stored completions are graded. A failed call is neither paid nor right."""
    task = own(reward="own.py:noted", answer=None, on_error="zero")
    problem = task.problems("all")[0]
    assert task.judge(problem, "four") == ({"reward": 1.0}, True) and task.judge(problem, "ab") == ({"reward": -1.0}, False)
    assert task.judge(problem, "raise") == ({"failed": 0.0}, False)
    evaluated = record(task, problem, "four", "")
    assert (evaluated["reward"], evaluated["correct"]) == (1.0, True)
    rows = [("a row", {"question": "Sort: cab", "completion": text, "ground_truth": None}) for text in ("four", "raise")]
    right, failed = regrade(task, rows, {})
    assert (right["reward"], right["correct"]) == (1.0, True) and "failed" not in right
    assert (failed["reward"], failed["correct"], failed["failed"]) == (0.0, False, True)
    assert (tmp_path / "calls").read_text().split() == ["four", "ab", "raise", "four", "four", "raise"]


def test_a_function_is_fast_to_ask_and_runs_beside_no_torch(own):
    task = own(reward="own.py:right")
    problem = task.problems("all")[0]
    pid = process(tuple(task.functions.items()), task.timeout, task.code).process.pid
    maps = Path(f"/proc/{pid}/maps")
    assert not maps.exists() or "libtorch" not in maps.read_text()
    began = time.process_time()
    for _ in range(500):
        task.reward_parts(problem, "abc")
    assert time.process_time() - began < 1.0  # of this process: 2 ms a call would be 1 s


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"reward": None}, r"task\.reward=None: name a function as <file\.py>:<function>"),
        ({"reward": "own.py"}, r"task\.reward=own\.py: name a function as"),
        ({"reward": "none.py:f"}, r"task\.reward=none\.py:f: there is no file none\.py \(relative to where the command runs\)"),
        ({"reward": "no_such.module:f"}, r"task\.reward=no_such\.module:f: there is no module no_such\.module"),
        (
            {"reward": "own.py:rihgt"},
            r"task\.reward=own\.py:rihgt: LookupError: it has no function 'rihgt', but judge, named, noted, odd, r",
        ),
        ({"correct": "own.py:OWN"}, r"task\.reward=own\.py:OWN: LookupError: it has no function 'OWN'"),
        ({"question": "text"}, r"task\.question=text: rows\.jsonl row \d has no such column, but q, a"),
        ({"answer": "gold"}, r"task\.answer=gold: rows\.jsonl row \d has no such column, but q, a"),
        ({"data": Data()}, r"task\.data\.source=generate: name your rows: task\.data\.path=<file or folder>"),
        ({"data": Data(source="hub")}, r"task\.data\.source=hub: this task has no dataset of its own there; name one with"),
        ({"on_error": "retry"}, r"task\.on_error=retry: choose one of stop, zero"),
        ({"timeout": 0}, r"task\.timeout=0: seconds for one call lie in"),
        ({"grading": "published"}, r"task\.grading=published: your own task has no published rules"),
    ],
)
def test_a_mistake_is_one_line_before_the_work(own, options, line):
    with pytest.raises(UserError, match=f"^{line}") as error:
        own(**options).problems("train")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_thing\n", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("def f(:\n", "SyntaxError: invalid syntax"),
        ("exit(1)\n", "SystemExit: 1"),
    ],
)
def test_a_file_that_cannot_be_imported_is_one_line(own, tmp_path, source, said):
    (tmp_path / "bad.py").write_text(source)
    with pytest.raises(UserError, match=rf"^task\.reward=bad\.py:f: {said}"):
        own(reward="bad.py:f").problems("train")


def test_a_text_that_is_no_question_is_named(own, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"q": 3, "a": "x"}\n')
    with pytest.raises(UserError, match=r"^rows\.jsonl row 1=3: expected a text in the column q"):
        own().problems("all")


def test_an_answer_that_records_cannot_hold_is_named(own, tmp_path):
    table = pyarrow.table({"q": ["Which day?", "And then?"], "a": [date(2024, 1, 31), date(2024, 2, 1)]})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(
        UserError, match=r"^rows\.parquet row 1=datetime\.date\(2024, 1, 31\): in the column a \(task\.answer\) "
    ):
        own(data=Data(path="rows.parquet")).problems("all")


def test_no_completion_equals_an_answer_that_is_missing(own, tmp_path):
    (tmp_path / "rows.csv").write_text("q,a\nfirst,1\nsecond\n")
    task = own(data=Data(path="rows.csv"))
    first, second = task.problems("all")
    assert second.gold is None and not task.solves(second, "<answer>None</answer>") and task.solves(first, "<answer>1</answer>")


def test_steps_to_the_answer_are_a_solution(own):
    task = own(working="q")
    assert task.solution(task.problems("all")[0]) == ("Sort: cab", "abc") and own().solution(own().problems("all")[0]) is None


def test_a_run_is_read_where_its_functions_are_not(own, tmp_path, monkeypatch, capsys):
    """Only who asks them needs them: an export does not."""
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(plain(composed("train", "task=custom")))))
    config = OmegaConf.load(tmp_path / "config.yaml")
    config.task.reward, config.task.code = "own.py:right", own().code
    OmegaConf.save(config, tmp_path / "config.yaml")
    assert recorded(tmp_path)[1]["task"]["code"] == own(reward="own.py:right").code
    (tmp_path / "own.py").unlink()
    assert recorded(tmp_path)[1]["task"]["reward"] == "own.py:right"
    with pytest.raises(UserError, match=r"^task\.reward=own\.py:right: there is no file own\.py \(relative to where"):
        own(reward="own.py:right").problems("all")


def test_a_failure_that_counts_as_zero_is_told_once(own, capsys):
    task = own(reward="own.py:odd", on_error="zero")
    for problem in task.problems("all"):
        assert task.reward_parts(problem, "raise") == {"failed": 0.0}
    assert capsys.readouterr().out.count("it counts as 0, and so do others of which nothing is said") == 1


def test_the_record_tells_another_function_from_this_one(own, tmp_path):
    """A run is not continued with another reward, and its anchors are kept apart."""
    one, same, other = own(), own(), own(reward="own.py:right")
    assert one.code == same.code == one.paid_by and other.code != one.code
    (tmp_path / "own.py").write_text(OWN + "\n# changed\n")
    changed = own()
    assert changed.code != one.code
    with pytest.raises(UserError, match=r"^task\.reward=own\.py:named: its file has changed since the work began"):
        one.problems("train")  # its process was not started yet
    from stp.config.record import FREE, PLACE

    assert {"task.reward", "task.correct"} <= set(PLACE) and {"task.on_error", "task.timeout"} <= set(FREE)


def test_stored_completions_are_graded_by_the_function(own):
    rows = [("a row", {"question": "Sort: cab", "completion": "abc", "ground_truth": "abc"})]
    (graded,) = regrade(own(correct="own.py:judge"), rows, {})
    assert graded["correct"] and graded["reward"] == 2.0 and list(graded["grades"]) == ["corrected"]


def test_a_single_file_is_split_and_answers_may_be_of_any_type(own, tmp_path):
    (tmp_path / "rows.csv").write_text("q,a\n" + "".join(f"question {i},{i}\n" for i in range(20)))
    task = own(data=Data(path="rows.csv", validation_size=3))
    parts = [{p.id for p in task.problems(split)} for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [13, 3, 4] and len(set.union(*parts)) == 20
    task = own(reward="own.py:odd")
    task.start()
    assert task.reward_parts(Problem("p", "?", {"any": [1, None]}), "x") == {"reward": 0.5}
