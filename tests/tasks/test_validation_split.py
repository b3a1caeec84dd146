"""The validation split: for tuning, kept from training, and the test problems stay where they were."""

import json

import pytest

from stp.errors import UserError
from stp.tasks import Countdown
from stp.tasks.base import Data
from tests.tasks.test_sources import ROWS, ids, write

SPLITS = ("train", "validation", "test")


def keys(**options) -> dict[str, list[str]]:
    """The problems' (sorted numbers, target) in each split."""
    return {split: [p.id for p in Countdown(data=Data(**options)).problems(split)] for split in SPLITS}


def disjoint(parts) -> bool:
    return sum(len(set(part)) for part in parts) == len(set().union(*parts))


def test_generated_splits_share_no_problem_across_seeds_and_sizes():
    """Not even the training problems of one run with another run's validation or test problems."""
    found = {split: set() for split in SPLITS}
    for seed, (train, validation, test) in enumerate([(900, 100, 300), (200, 400, 100), (500, 250, 500), (40, 500, 40)]):
        part = keys(seed=seed, train_size=train, validation_size=validation, test_size=test)
        assert [len(set(part[split])) for split in SPLITS] == [train, validation, test]
        for split in SPLITS:
            found[split] |= set(part[split])
    assert disjoint(found.values())


def test_the_generator_makes_512_of_each_and_more_begins_with_fewer():
    default, few = keys(seed=3), keys(seed=3, train_size=9, validation_size=9, test_size=9)
    assert all(len(default[split]) == 512 and few[split] == default[split][:9] for split in SPLITS)
    assert keys(seed=4)["validation"] != default["validation"]
    resized = keys(seed=3, validation_size=20)
    assert resized["train"] == default["train"] and resized["test"] == default["test"]


def test_each_held_out_split_takes_a_fifth_of_all_pairs():
    from stp.tasks.base import split_of

    count = dict.fromkeys(SPLITS, 0)
    for i in range(20_000):
        count[split_of(f"{i},{i + 1},{2 * i}={i % 100}")] += 1
    assert abs(count["validation"] - 4_000) < 5 * 57 and abs(count["test"] - 4_000) < 5 * 57  # binomial: s.d. 57


def test_more_problems_than_exist_names_the_split():
    with pytest.raises(UserError, match=r"^task\.data\.validation_size=5000: only \d+ distinct problems"):
        Countdown(data=Data(validation_size=5_000), numbers=2, max_number=9).problems("validation")


def test_a_file_gives_the_validation_rows_from_its_training_rows(tmp_path):
    path = write(tmp_path / "rows.jsonl")
    whole, test = ids(path, "train"), ids(path, "test")
    for size in (1, 3, 15):
        train, validation = (ids(path, split, validation_size=size) for split in ("train", "validation"))
        assert train == whole[:-size] and validation == whole[-size:]  # carved from the end of train
        assert ids(path, "test", validation_size=size) == test
        assert ids(path, "all", validation_size=size) == ids(path, "all")
    assert ids(path, "train", validation_size=3, train_size=2) == whole[:2]
    assert ids(path, "validation", validation_size=3, seed=1) != ids(path, "validation", validation_size=3)


def test_a_file_without_validation_rows_says_how_to_keep_some(tmp_path):
    path = write(tmp_path / "rows.jsonl")
    with pytest.raises(UserError, match=r"^task\.data\.validation_size=None: no row is kept for tuning; set it, say to "):
        ids(path, "validation")
    for split in SPLITS:
        with pytest.raises(UserError, match=r"^task\.data\.path=.*rows \(20\) are too few to hold 20 out; give more"):
            ids(path, split, validation_size=16)


def test_a_problem_in_several_rows_is_in_one_split_alone(tmp_path):
    twins = [{"input": ",".join(reversed(row["input"].split(","))), "output": str(row["output"])} for row in ROWS]
    path = write(tmp_path / "rows.jsonl", ROWS + twins)
    for seed in range(5):
        parts = [set(ids(path, split, validation_size=10, seed=seed)) for split in SPLITS]
        assert disjoint(parts) and all(parts)


def test_a_file_whose_validation_problems_are_all_test_problems_is_refused(tmp_path):
    path = write(tmp_path / "same.jsonl", [ROWS[0]] * 10)
    with pytest.raises(UserError, match=r"same\.jsonl: every validation problem is also held out"):
        ids(path, "validation", validation_size=2)


def folder(path, train, test, validation=None):
    write(path / "train.jsonl", train)
    write(path / "test.csv", test)
    if validation is not None:
        write(path / "validation.jsonl", validation)
    return path


def test_a_folder_holds_its_own_validation_file(tmp_path):
    folder(tmp_path, ROWS[:10], ROWS[15:], ROWS[10:15])
    expected = ["11,12,13=36", "12,13,14=39", "13,14,15=42", "14,15,16=45", "15,16,17=48"]
    assert ids(tmp_path, "validation") == ids(tmp_path, "validation", validation_size=9) == expected
    assert ids(tmp_path, "validation", validation_size=2) == expected[:2]
    assert len(ids(tmp_path, "train", validation_size=2)) == 10  # nothing is carved out of a folder's train file


def test_a_folder_without_one_is_told_its_name(tmp_path):
    folder(tmp_path, ROWS[:10], ROWS[15:])
    assert len(ids(tmp_path, "train")) == 10
    rule = r"needs one validation file, it has 0; name it validation\.jsonl .* \(or set task\.data\.validation_size\)$"
    with pytest.raises(UserError, match=rule):
        ids(tmp_path, "validation")


def test_a_folder_without_one_gives_the_validation_rows_from_its_training_rows(tmp_path):
    """Of a size that is asked for, wherever they stand in the file; the test file is left alone."""
    folder(tmp_path, ROWS[:15], ROWS[15:])
    whole = ids(tmp_path, "train")
    for size in (1, 5):
        train, validation = (ids(tmp_path, split, validation_size=size) for split in ("train", "validation"))
        assert len(validation) == size and sorted(train + validation) == sorted(whole) and validation != whole[-size:]
        assert ids(tmp_path, "test", validation_size=size) == ids(tmp_path, "test")
        assert ids(tmp_path, "all", validation_size=size) == ids(tmp_path, "all")
    with pytest.raises(UserError, match=r"rows \(15\) are too few to hold 15 out"):
        ids(tmp_path, "train", validation_size=15)


@pytest.mark.parametrize("size", [None, 1, 5])
def test_a_folder_whose_files_overlap_is_made_disjoint(tmp_path, size):
    """Test problems leave both other splits, validation problems leave train; whatever number of them is asked for."""
    folder(tmp_path, ROWS[:14], ROWS[12:16], ROWS[8:14])
    parts = {split: ids(tmp_path, split, validation_size=size) for split in SPLITS}
    assert disjoint(parts.values())
    assert len(parts["train"]) == 8 and len(parts["test"]) == 4


def test_the_hub_gives_the_validation_rows_from_its_training_rows(monkeypatch):
    import datasets
    import huggingface_hub

    rows = [{"nums": [i, i + 1, i + 2], "target": 3 * i + 3} for i in range(1, 801)]
    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: datasets.Dataset.from_list(rows))

    def of(split, **options):
        return [p.id for p in Countdown(data=Data(source="hub", **options)).problems(split)]

    whole, test = of("train"), of("test")
    assert (len(whole), len(test)) == (300, 500)  # the published split
    assert of("train", validation_size=50) == whole[:-50]
    assert of("validation", validation_size=50) == whole[-50:]
    assert of("test", validation_size=50) == test
    with pytest.raises(UserError, match=r"^task\.data\.validation_size=None: no row is kept for tuning"):
        of("validation")


def test_a_run_evaluates_on_the_split_it_is_told(tmp_path, monkeypatch):
    """Through the loop: the problems in eval.jsonl are the split's, and those trained on are neither."""
    from tests.integration.runs import run

    monkeypatch.chdir(tmp_path)
    small = ["sampler=standard", "trainer.updates=1", "trainer.inner_updates=1", "trainer.probe_every=0"]
    seen = {}
    for split in ("test", "validation"):
        run(tmp_path / split, *small, f"trainer.eval_split={split}")
        lines = (tmp_path / split / "eval.jsonl").read_text().splitlines()
        seen[split] = {json.loads(line)["problem"] for line in lines}
        expected = Countdown(data=Data(train_size=12)).problems(split)[:4]
        assert seen[split] == {p.id for p in expected}
    assert not seen["test"] & seen["validation"]


def test_the_first_problems_are_those_of_the_whole_split(tmp_path):
    """Whether they are made or read, only as many as are wanted."""
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f'{{"nums": [{n}, 2, 3], "target": {n + 5}}}\n' for n in range(1, 30)))
    for data in (Data(test_size=30), Data(path=str(file))):
        task = Countdown(data=data)
        assert task.problems("test", 4) == task.problems("test")[:4] and len(task.problems("test", 4)) == 4
        assert task.problems("test", 999) == task.problems("test")
