"""Files of problems and of completions: read, or refused in one line that names the file."""

import csv
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stp.evaluation.stored import regrade
from stp.tasks import Countdown, Gsm8k, Math
from stp.tasks.base import Data
from stp.tasks.sources import file_rows
from tests.fuzz import inputs, outcome
from tests.fuzz.texts import completions

GOOD = {
    Countdown: [{"nums": [3, 4, 5], "target": 12}, {"input": "3,4,5", "output": "12"}],
    Gsm8k: [{"question": "How many?", "answer": "3+4=<<3+4=7>>7\n#### 7"}],
    Math: [{"problem": "What?", "solution": "so \\boxed{7}", "answer": "7"}, {"problem": "What?", "solution": "so \\boxed{7}"}],
}
COLUMNS = ["nums", "target", "input", "output", "question", "answer", "problem", "solution", "completion", "ground_truth"]
TRUTHS = [None, [[3, 4, 5], 12], {"numbers": [3, 4], "target": 7}, 7, 7.5, "x+5", "1,250", True, [[], []], {}, 10**400]

texts = completions.map(lambda text: text[:3_000])
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(
        [10**30, -(10**400), 0.0, -0.0, 1e308, float("nan"), float("inf"), 3.0, "3", "0x3", "３", "", " ", "#### "]
    ),
    st.floats(),
    texts,
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
strange = st.dictionaries(st.sampled_from(COLUMNS) | texts, values, max_size=5)


def rows(option, *others):
    """Good rows, or others; among them at most two with values replaced, added or left out, or strange altogether."""
    good = st.one_of(st.sampled_from(GOOD[option]), *others)
    spoilt = st.tuples(good, strange).map(lambda pair: pair[0] | pair[1])
    less = st.tuples(good, st.sampled_from(COLUMNS)).map(lambda pair: {k: v for k, v in pair[0].items() if k != pair[1]})
    bad = st.just([]) | st.lists(spoilt | less | strange, max_size=2)
    return st.tuples(st.lists(good, max_size=8), bad, st.lists(good, max_size=2)).map(
        lambda parts: [row for part in parts for row in part]
    )


answered = st.fixed_dictionaries(
    {"question": texts, "completion": completions, "ground_truth": st.sampled_from(TRUTHS) | values}
)


damages = st.one_of(
    st.just(lambda data: data),
    st.just(lambda data: data),
    st.integers(0, 2_000).map(lambda n: lambda data: data[:-n] if n else data),
    st.tuples(st.integers(0, 10_000), st.binary(max_size=6)).map(
        lambda cut: lambda data: data[: cut[0]] + cut[1] + data[cut[0] + len(cut[1]) :]
    ),
    st.binary(max_size=200).map(lambda noise: lambda data: noise),
    st.sampled_from([b"\xef\xbb\xbf", b"\xff\xfe", b"[", b"\x1f\x8b", b"[" * 3_000, b"\0"]).map(
        lambda head: lambda data: head + data
    ),
)


def write(path: Path, records: list[dict]) -> bool:
    """The rows in the format that the name says; False where the format cannot hold them."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in records))
    elif path.suffix == ".json":
        path.write_text(json.dumps(records))
    elif path.suffix == ".csv":
        names = list(dict.fromkeys(name for row in records for name in row))
        with path.open("w", newline="", errors="replace") as file:
            table = csv.DictWriter(file, names)
            table.writeheader()
            table.writerows(records)
    else:
        try:
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path)
        except (pyarrow.ArrowException, TypeError, ValueError, OverflowError):
            return False
    return True


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
@pytest.mark.parametrize("option", GOOD)
def test_a_file_of_problems_is_read_or_refused(option, suffix):
    @inputs(40)
    @given(rows(option), damages, st.sampled_from(["all", "all", "all", "all", "train", "test", "validation"]))
    def check(records, damage, split):
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"rows{suffix}"
            if not write(path, records):
                return
            path.write_bytes(damage(path.read_bytes()))
            task = option(data=Data(path=str(path)))
            for problem in outcome("datasets", lambda: task.problems(split)) or []:
                assert isinstance(problem.id, str) and problem.question.strip()
                assert sum(task.reward_parts(problem, "<answer>5</answer>").values()) >= 0
                solution = task.solution(problem)
                assert solution is None or all(isinstance(part, str) for part in solution)

    check()


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("option", GOOD)
def test_a_file_of_completions_is_graded_or_refused(option, suffix):
    @inputs(40)
    @given(st.lists(answered, max_size=3) | rows(option, answered), damages)
    def check(records, damage):
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"rows{suffix}"
            if not write(path, records):
                return
            path.write_bytes(damage(path.read_bytes()))
            graded = outcome("datasets", lambda: regrade(option(), file_rows(path, "completions"), {}))
            for record in graded or []:
                assert all(type(grade) is bool for grade in record["grades"].values())
                json.dumps(record)

    check()
