"""The example of a task of one's own: it trains as its first lines say, and its reward pays for what it names."""

import importlib.util
import json

import pytest

from stp.run.files import read_jsonl
from stp.tasks import Custom
from stp.tasks.base import Data
from stp.tasks.sources import file_rows
from stp.train.job import execute
from tests.integration.runs import EXAMPLE, composed, metrics


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("sorting", EXAMPLE / "sorting.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_pays_for_numbers_in_their_places(example):
    for text, parts, right in (
        ("3-9\n<answer>3+7-9</answer>", {"numbers": 0.5, "places": 1.0}, True),
        ("<answer>7+3-9</answer>", {"numbers": 0.5, "places": 1 / 3}, False),
        ("<answer>3+7</answer>", {"numbers": 0.0, "places": 0.0}, False),
        ("3+7-9", {"numbers": 0.0, "places": 0.0}, False),
    ):
        assert example.reward("?", [3, 7, 9], text) == parts and example.correct("?", [3, 7, 9], text) is right


def test_its_questions_are_the_tiny_bases_and_their_answers_sorted():
    rows = [row for _, row in file_rows(EXAMPLE / "questions.jsonl")]
    for row in rows:
        shown = json.loads(row["question"].partition("\n")[0].removeprefix("Numbers: "))
        assert row["answer"] == sorted(shown) != shown
    options = {"reward": f"{EXAMPLE / 'sorting.py'}:reward", "data": Data(path=str(EXAMPLE / "questions.jsonl"))}
    assert [len(Custom(**options).problems(split)) for split in ("train", "test")] == [160, 40]


def test_it_trains_with_its_own_reward(tmp_path, monkeypatch):
    """Two updates: the parts are in samples.jsonl, the reward's hash in the record, what fails is counted."""
    monkeypatch.chdir(tmp_path)
    reward = tmp_path / "reward.py"
    reward.write_text((EXAMPLE / "sorting.py").read_text() + "\ndef unsure(q, a, c):\n    return {'x': 1 / (len(c) % 2)}\n")
    own = [f"task.reward={reward}:unsure", "task.on_error=zero", "trainer.probe_every=0", "trainer.inner_updates=1"]
    config = composed("task=custom", "sampler=standard", *own)
    execute(config, tmp_path / "run", {"task": "custom"})
    samples, lines = read_jsonl(tmp_path / "run" / "samples.jsonl"), metrics(tmp_path / "run")
    odd = [len(one["completion"]) % 2 for one in samples]
    assert [one["rewards"] for one in samples] == [{"x": 1.0} if is_odd else {"failed": 0.0} for is_odd in odd]
    assert 0 < lines[0]["reward/failed"] < 1 and lines[0]["reward/failed"] == pytest.approx(1 - lines[0]["reward/mean"])
    assert config.task.code in (tmp_path / "run" / "config.yaml").read_text()
