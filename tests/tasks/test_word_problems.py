"""GSM8K and MATH: what the generators promise, and what their files and hub sources hold."""

import json
import re

import pytest

from stp.errors import UserError
from stp.tasks import Gsm8k, Math, format_response
from stp.tasks.base import Data, split_of
from stp.tasks.countdown import evaluate_expression
from tests.tasks import shared

OPTIONS = [Gsm8k, Math]
SPLITS = ("train", "validation", "test")
GSM8K_ROWS = [
    {
        "question": f"Anna has {i} books and buys {i}. How many now?",
        "answer": f"She has {i}+{i}=<<{i}+{i}={2 * i}>>{2 * i}.\n#### {2 * i}",
    }
    for i in range(1, 21)
]
MATH_ROWS = [{"problem": f"Find $x+{i}$.", "solution": f"It is $\\boxed{{x+{i}}}$.", "answer": f"x+{i}"} for i in range(1, 21)]
ROWS = {Gsm8k: GSM8K_ROWS, Math: MATH_ROWS}


def write(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        from datasets import Dataset

        whole = Dataset.from_list(rows)
        whole.to_csv(str(path)) if path.suffix == ".csv" else whole.to_parquet(str(path))
    return str(path)


@pytest.mark.parametrize("option", OPTIONS)
def test_the_generator_depends_on_the_seed_alone_and_more_begins_with_fewer(option):
    def made(seed, size):
        return option(data=Data(seed=seed, train_size=size)).problems("train")

    assert made(3, 100) == made(3, 100) and made(3, 100)[:40] == made(3, 40) and made(3, 40) != made(4, 40)


@pytest.mark.parametrize("option", OPTIONS)
def test_splits_share_no_arithmetic_whatever_the_seed(option):
    found = {split: set() for split in SPLITS}
    for seed in range(3):
        data = Data(seed=seed, train_size=600, validation_size=300, test_size=300)
        for split in SPLITS:
            problems = option(data=data).problems(split)
            assert len({p.id for p in problems}) == data.size(split) and all(split_of(p.id) == split for p in problems)
            found[split] |= {p.id for p in problems}
    assert sum(map(len, found.values())) == len(set().union(*found.values()))


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("rewards", ["published", "corrected"])
def test_generated_problems_are_worked_correctly_with_numbers_that_have_tokens(option, rewards):
    task = option(data=Data(train_size=400), rewards=rewards)
    kinds = set()
    for problem in task.problems("train"):
        kinds.add(problem.id.split("-")[1])
        working, answer = task.solution(problem)
        lines = working.split("\n")
        assert 1 <= len(lines) <= 3 and lines[-1].endswith("=" + problem.gold)
        for line in lines:
            left, right = line.split("=")
            assert evaluate_expression(left) == int(right)
        assert all(0 <= int(n) <= 99 for n in re.findall("[0-9]+", problem.question + working))
        assert answer == (f"\\boxed{{{problem.gold}}}" if option is Math else problem.gold)
        text = format_response(working, answer, True)
        assert task.solves(problem, text) and task.reward_parts(problem, text)["correct"] == 2.0
        other = format_response(working, answer.replace(problem.gold, str(int(problem.gold) + 1)), True)
        assert not task.solves(problem, other) and task.reward_parts(problem, other)["correct"] == 0.0
    from stp.tasks import gsm8k, math

    assert kinds == set((gsm8k if option is Gsm8k else math).KINDS)


@pytest.mark.parametrize(("option", "most"), [(Gsm8k, 42), (Math, 16)])
def test_the_texts_use_few_words(option, most):
    words = set()
    for problem in option(data=Data(train_size=1500)).problems("train"):
        words |= set(re.findall(r"[A-Za-z]+|[^A-Za-z0-9\s]", problem.question))
    assert len(words) <= most, sorted(words)


def test_more_problems_than_exist_is_an_error(monkeypatch):
    from stp.tasks import math

    monkeypatch.setattr(math, "KINDS", {"sum": math.KINDS["sum"]})
    with pytest.raises(UserError, match=r"^task\.data\.test_size=5000: only \d+ distinct problems were found; ask for fewer$"):
        Math(data=Data(test_size=5_000)).problems("test")


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.parquet"])
def test_every_format_gives_the_same_problems(option, name, tmp_path):
    path = write(tmp_path / name, ROWS[option])
    task = option(data=Data(path=path, validation_size=4))
    whole = task.problems("all")
    assert [p.question for p in whole] == [row.get("question", row.get("problem")) for row in ROWS[option]]
    parts = [{p.id for p in task.problems(split)} for split in SPLITS]
    assert [len(part) for part in parts] == [12, 4, 4] and len(set().union(*parts)) == 20


def test_a_gsm8k_solution_loses_its_marks(tmp_path):
    (first, *_) = Gsm8k(data=Data(path=write(tmp_path / "rows.jsonl", GSM8K_ROWS))).problems("all")
    assert first.gold == "2" and first.solution == ("She has 1+1=2.", "2")


def test_math_takes_an_answer_or_a_boxed_solution(tmp_path):
    rows = [
        {"problem": "a", "solution": "so $\\boxed{\\frac{1}{2}}$"},
        {"problem": "e", "solution": "so our answer is $\\boxed 2$."},
        {"problem": "b", "answer": "7"},
        {"problem": "c", "answer": 7, "solution": None},
        {"problem": "d", "answer": 0.5, "solution": "half"},
    ]
    problems = Math(data=Data(path=write(tmp_path / "rows.jsonl", rows))).problems("all")
    assert [p.gold for p in problems] == ["\\frac{1}{2}", "2", "7", "7", "0.5"]
    assert [p.solution for p in problems] == [
        ("so $\\boxed{\\frac{1}{2}}$", "\\boxed{\\frac{1}{2}}"),
        ("so our answer is $\\boxed 2$.", "\\boxed{2}"),
        None,
        None,
        ("half", "\\boxed{0.5}"),
    ]


@pytest.mark.parametrize(
    ("option", "row", "expected"),
    [
        (Gsm8k, {"question": "?"}, "expected columns question and answer, the answer ending in '#### <number>'"),
        (Gsm8k, {"question": "?", "answer": "18"}, "ending in '#### <number>'"),
        (Gsm8k, {"question": "?", "answer": "#### many"}, "ending in '#### <number>'"),
        (Gsm8k, {"question": "", "answer": "#### 18"}, "expected columns question and answer"),
        (Gsm8k, {"question": None, "answer": None}, "expected columns question and answer"),
        (Gsm8k, {"input": "1,2,3", "output": 6}, "expected columns question and answer"),
        (Math, {"problem": "?"}, "expected columns problem, solution and answer (or a solution with a \\boxed{} answer)"),
        (Math, {"problem": "?", "solution": "no box"}, "expected columns problem, solution and answer"),
        (Math, {"problem": "?", "answer": " "}, "expected columns problem, solution and answer"),
        (Math, {"problem": "?", "answer": True}, "expected columns problem, solution and answer"),
        (Math, {"problem": 3, "answer": "3"}, "expected columns problem, solution and answer"),
        (Math, {"question": "?", "answer": "#### 18"}, "expected columns problem, solution and answer"),
    ],
)
def test_a_malformed_row_is_named(option, row, expected, tmp_path):
    path = write(tmp_path / "rows.jsonl", [ROWS[option][0], row])
    with pytest.raises(UserError) as error:
        option(data=Data(path=path)).problems("all")
    assert str(error.value).startswith("rows.jsonl row 2={") and expected in str(error.value) and "\n" not in str(error.value)


def test_math_rows_that_cannot_be_graded_are_named_and_left_out(tmp_path, capsys):
    lost = ["x" * 401, "\\frac{1}{2", "}{", "٥", "5\x01"]
    rows = [
        *MATH_ROWS,
        *({"problem": f"Lost {i}", "answer": gold} for i, gold in enumerate(lost)),
        {"problem": "h", "answer": "½"},
    ]
    path = write(tmp_path / "rows.jsonl", rows)
    problems = Math(data=Data(path=path)).problems("all")
    assert [p.question for p in problems] == [row["problem"] for row in (*MATH_ROWS, rows[-1])]
    said = capsys.readouterr().out
    assert said.startswith("rows.jsonl row 21, rows.jsonl row 22,") and "rows.jsonl row 25: left out, no answer can be" in said
    task = Math()
    for problem in problems:
        assert task.grade(problem, f"<answer>\\boxed{{{problem.gold}}}</answer>", "corrected")
    published = Math(data=Data(path=path), rewards="published", grading="published")
    assert len(published.problems("all")) == len(rows)


def test_a_file_without_a_row_that_can_be_graded_is_refused(tmp_path):
    path = write(tmp_path / "rows.jsonl", [{"problem": "a", "answer": "x" * 401}] * 2)
    with pytest.raises(UserError, match=r"^task\.data\.path=\S+: of all its 2 rows no answer can be graded right"):
        Math(data=Data(path=path)).problems("all")


class TestTheHub:
    """The hub itself is never asked."""

    @pytest.fixture
    def asked(self, monkeypatch):
        import datasets
        import huggingface_hub

        calls = []

        def load(*where, split):
            calls.append((*where, split))
            rows = GSM8K_ROWS if "gsm8k" in where[0] else MATH_ROWS
            return datasets.Dataset.from_list(rows[15:] if split == "test" else rows[:15])

        monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: True)
        monkeypatch.setattr(datasets, "load_dataset", load)
        return calls

    @pytest.mark.parametrize(
        ("option", "train", "test"),
        [
            (Gsm8k, ("openai/gsm8k", "main", "train"), ("openai/gsm8k", "main", "test")),
            (Math, ("ankner/math-500", "train"), ("HuggingFaceH4/MATH-500", "test")),
        ],
    )
    def test_the_published_sets(self, asked, option, train, test):
        task = option(data=Data(source="hub"))
        assert len(task.problems("test")) == 5 and asked == [test]
        assert len(task.problems("train")) == 15 and set(asked) == {train, test}
        tuned = option(data=Data(source="hub", validation_size=5))
        parts = [{p.id for p in tuned.problems(split)} for split in SPLITS]
        assert [len(part) for part in parts] == [10, 5, 5] and len(set().union(*parts)) == 20

    def test_another_id_and_config(self, asked):
        Gsm8k(data=Data(source="hub", hub="someone/gsm8k:socratic")).problems("train")
        assert set(asked) == {("someone/gsm8k", "socratic", "train"), ("someone/gsm8k", "socratic", "test")}

    def test_a_malformed_row_is_named(self, asked, monkeypatch):
        monkeypatch.setitem(GSM8K_ROWS[17], "answer", "none")
        with pytest.raises(UserError, match=r"^openai/gsm8k:main test row 3=\{.*expected columns question and answer"):
            Gsm8k(data=Data(source="hub")).problems("test")

    def test_unreachable(self, asked, monkeypatch):
        import datasets

        def unreachable(*where, split):
            raise ConnectionError("Name or service not known\nand more")

        monkeypatch.setattr(datasets, "load_dataset", unreachable)
        with pytest.raises(UserError) as error:
            Math(data=Data(source="hub")).problems("test")
        assert str(error.value) == (
            "task.data.hub=HuggingFaceH4/MATH-500: the hub cannot give it (Name or service not known); "
            "offline, use task.data.path=<file> or task.data.source=generate"
        )


def test_the_published_files():
    folder = Gsm8k(data=Data(path=str(shared("data/gsm8k"))))
    train, test = folder.problems("train"), folder.problems("test")
    assert len(test) == 1319 and 7400 < len(train) <= 7473 and not {p.id for p in train} & {p.id for p in test}
    assert all("<<" not in p.solution[0] and p.solution[1] == p.gold for p in train + test)
    assert len(Math(data=Data(path=str(shared("data/math500/test.jsonl")))).problems("all")) == 500


@pytest.mark.parametrize(("name", "value"), [("rewards", "paper"), ("grading", "strict")])
@pytest.mark.parametrize("option", OPTIONS)
def test_options_out_of_range(option, name, value):
    with pytest.raises(UserError, match=rf"^task\.{name}={value}: choose one of corrected, published$"):
        option(**{name: value})
