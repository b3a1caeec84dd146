"""Files and the hub as sources: what is read, how it is split, and what is said when it cannot be."""

import json
import logging
import os
import socket
import tempfile
import time

import pytest

from stp.errors import UserError
from stp.tasks import Countdown, Gsm8k
from stp.tasks.base import Data, Hub
from stp.tasks.sources import load_rows
from stp.text import tell_once
from tests.tasks import shared

ROWS = [{"input": f"{i},{i + 1},{i + 2}", "output": 3 * i + 3} for i in range(1, 21)]


def write(path, rows=ROWS):
    """The rows in the format that the name says."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1))
    elif path.suffix == ".csv":
        path.write_text("input,output\n" + "".join(f'"{row["input"]}",{row["output"]}\n' for row in rows))
    else:
        from datasets import Dataset

        Dataset.from_list(rows).to_parquet(str(path))
    return str(path)


def ids(path, split, **options):
    """The problems' (numbers, target), in order."""
    return [p.id for p in Countdown(data=Data(path=str(path), **options)).problems(split)]


def refusal(path, split="all", held_out=500):
    """The one line that a mistake is told in."""
    with pytest.raises(UserError) as error:
        load_rows(Data(path=str(path)), Hub("", held_out), split)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(autouse=True)
def said_anew():
    """What is said once per process is said once per test."""
    tell_once.cache_clear()


@pytest.fixture
def no_network(monkeypatch):
    """Refuses connections, and fails the test that tried one even where the library swallows the refusal."""
    tried = []

    def refuse(*args, **kwargs):
        tried.append(args)
        raise OSError("no network here")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield
    assert tried == []


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.parquet", "a[b] *?{c}.csv", "ROWS.CSV"])
def test_every_format_gives_the_same_rows_without_network_or_leftovers(name, tmp_path, monkeypatch, no_network):
    import datasets

    leftovers, cache = tmp_path / "tmp", tmp_path / "cache"
    path = write(tmp_path / name) if name != "ROWS.CSV" else write(tmp_path / "rows.csv")
    if name == "ROWS.CSV":
        path = os.rename(path, tmp_path / name) or str(tmp_path / name)
    leftovers.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(leftovers))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    rows = ROWS if not path.lower().endswith(".csv") else [row | {"output": str(row["output"])} for row in ROWS]
    assert load_rows(Data(path=path), Hub("", 500), "all") == [(f"{name} row {i}", row) for i, row in enumerate(rows, 1)]
    assert not cache.exists() and not list(leftovers.iterdir())


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_an_edited_file_is_read_again(name, tmp_path):
    path = tmp_path / name
    write(path)
    before = path.stat()
    assert ids(path, "all")[0] == "1,2,3=6"
    write(path, [{"input": "1,2,4", "output": 7}, *ROWS[1:]])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size or name.endswith("parquet")
    assert ids(path, "all")[0] == "1,2,4=7"


def test_json_lines_are_numbered_as_in_the_file_and_types_are_not_guessed(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('\ufeff{"a": "2020-01-01"}\n\n{"a": 1, "b": [2]}\r\n{"a": "x\u2028y"}', encoding="utf-8")
    assert load_rows(Data(path=str(path)), Hub("", 1), "all") == [
        ("rows.jsonl row 1", {"a": "2020-01-01"}),
        ("rows.jsonl row 3", {"a": 1, "b": [2]}),
        ("rows.jsonl row 4", {"a": "x\u2028y"}),
    ]


@pytest.mark.parametrize(("rows", "held_out", "test"), [(20, 500, 4), (20, 3, 3), (4, 500, 1), (2, 500, 1), (20, 1, 1)])
def test_a_single_file_is_split_into_disjoint_parts(rows, held_out, test, tmp_path):
    data = Data(path=write(tmp_path / "rows.jsonl", ROWS[:rows]))
    whole, train, held = (load_rows(data, Hub("", held_out), split) for split in ("all", "train", "test"))
    assert len(held) == test
    assert sorted(train + held, key=whole.index) == whole  # each row once, under its own number
    assert (train, held) == tuple(load_rows(data, Hub("", held_out), split) for split in ("train", "test"))


def test_the_split_depends_on_the_seed_and_on_no_size(tmp_path):
    path = write(tmp_path / "rows.jsonl")
    for split in ("train", "test"):
        whole = ids(path, split, train_size=None, test_size=None)
        assert ids(path, split, train_size=2, test_size=2) == whole[:2]
        assert ids(path, split, train_size=512, test_size=512) == whole
    assert ids(path, "train") != sorted(ids(path, "train"), key=ids(path, "all").index)  # shuffled
    assert len({tuple(sorted(ids(path, "test", seed=seed))) for seed in range(5)}) > 1
    assert len(ids(path, "all", train_size=2, test_size=2)) == 20


def test_a_problem_in_several_rows_is_never_in_both_parts(tmp_path):
    twins = [{"input": ",".join(reversed(row["input"].split(","))), "output": str(row["output"])} for row in ROWS]
    path = write(tmp_path / "rows.jsonl", ROWS + twins)
    train, test = ids(path, "train"), ids(path, "test")
    assert len(test) == 8 and train and not set(train) & set(test)
    path = write(tmp_path / "same.jsonl", [ROWS[0]] * 5)
    with pytest.raises(UserError, match=r"same\.jsonl: every train problem is also held out"):
        ids(path, "train")


def test_what_was_done_to_the_rows_is_said_once(tmp_path, capsys, monkeypatch):
    """The split of a single file, rows that do not fit, problems that are held out too, and sizes beyond what there is."""
    four = [{"nums": [i, i, i, i], "target": i} for i in range(1, 6)]
    path = write(tmp_path / "rows.jsonl", ROWS + four)
    for _ in range(2):
        assert len(ids(path, "train", validation_size=3)) == 13
    assert capsys.readouterr().out.splitlines() == [
        f"{path}: 5 of 25 rows are left out, which do not fit task.numbers=3",
        f"{path}: of 20 rows, shuffled by seed 0, 4 as test and 3 as validation are held out of train",
    ]
    assert len(ids(path, "train", train_size=4000)) == 16
    assert f"task.data.train_size=4000: {path} has 16 train problems, all of them are taken" in capsys.readouterr().out
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "train.csv", ROWS[:5])
    write(tmp_path / "folder" / "test.csv", ROWS[3:8])
    assert len(ids(tmp_path / "folder", "train")) == 3
    (line,) = capsys.readouterr().out.splitlines()
    assert line == f"{tmp_path / 'folder'}: 2 train problems are held out too, and left out of train"
    monkeypatch.setenv("RANK", "1")
    ids(write(tmp_path / "more.jsonl", ROWS + four), "train")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("split", ["train", "test", "all"])
def test_a_copy_of_the_hubs_rows_is_filtered_as_the_hubs_are(split, tmp_path):
    """task.numbers says which rows are kept, before any is held out; in both kinds of columns."""
    rows = [{"nums": [i, i + 1, i + 2, i + 3][: 3 + i % 2], "target": 6} for i in range(1, 101)]
    for path in (
        write(tmp_path / "rows.parquet", rows),
        write(tmp_path / "rows.csv", [*ROWS, {"input": "1,2,3,4", "output": 10}]),
    ):
        kept = Countdown(data=Data(path=path)).problems(split)
        assert kept and all(len(p.gold["numbers"]) == 3 for p in kept)
    path = str(tmp_path / "rows.parquet")
    counts = {"all": 50, "test": 10, "train": 40}
    assert [len(Countdown(data=Data(path=path), numbers=n).problems(split)) for n in (3, 4)] == [counts[split]] * 2
    with pytest.raises(UserError, match=r"rows\.parquet: none of its 100 rows fits task\.numbers=5$"):
        Countdown(data=Data(path=path), numbers=5).problems(split)


def hub_layout(folder, *parts):
    """Shards of the rows as a dataset's repository holds them."""
    for split, rows, shards in parts:
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(shards):
            size = -(-len(rows) // shards)
            write(folder / f"{split}-{i:05}-of-{shards:05}.parquet", rows[i * size : (i + 1) * size])
    return folder


def test_a_folder_as_on_the_hub(tmp_path, no_network):
    parts = (("train", ROWS[:12], 3), ("test", ROWS[12:], 1))
    plain = [f"{i},{i + 1},{i + 2}={3 * i + 3}" for i in range(1, 21)]
    hub_layout(tmp_path / "one" / "data", *parts)
    hub_layout(tmp_path / "here", *parts)
    for folder in (tmp_path / "one", tmp_path / "one" / "data", tmp_path / "here"):
        assert (ids(folder, "train"), ids(folder, "test"), ids(folder, "all")) == (plain[:12], plain[12:], plain)
    (tmp_path / "here" / "train-00001-of-00003.parquet").unlink()
    assert refusal(tmp_path / "here", "train").endswith(
        "here: it has 2 of the 3 files that its train rows are in; copy them all, each once"
    )


def test_of_several_configs_the_tasks_is_taken(tmp_path):
    row = {"question": "How many?", "answer": "3+4=7\n#### 7"}
    for config, question in (("main", "How many?"), ("socratic", "How much?")):
        hub_layout(tmp_path / config, ("train", [row | {"question": question}], 1), ("test", [row], 1))
    (found,) = load_rows(Data(path=str(tmp_path)), Gsm8k.hub, "train")
    assert found == ("train-00000-of-00001.parquet row 1", row)
    assert refusal(tmp_path, "train").endswith("several folders in it have train files (main, socratic); give one of these")


def test_a_saved_dataset_is_read(tmp_path, no_network):
    from datasets import Dataset, DatasetDict

    Dataset.from_list(ROWS).save_to_disk(tmp_path / "single", num_shards=2)
    DatasetDict(train=Dataset.from_list(ROWS[:12]), test=Dataset.from_list(ROWS[12:])).save_to_disk(tmp_path / "splits")
    file = write(tmp_path / "rows.jsonl")
    for split in ("train", "test", "all"):
        assert ids(tmp_path / "single", split) == ids(file, split)  # split as a single file is
    assert (len(ids(tmp_path / "splits", "train")), len(ids(tmp_path / "splits", "test"))) == (12, 8)
    next((tmp_path / "single").glob("*.arrow")).write_bytes(b"junk")
    assert "single: not readable as a saved dataset (" in refusal(tmp_path / "single")


def test_a_folder_holds_its_own_split(tmp_path):
    write(tmp_path / "train.csv", ROWS[:5])
    write(tmp_path / "test.jsonl", ROWS[5:8])
    assert ids(tmp_path, "train") == ["1,2,3=6", "2,3,4=9", "3,4,5=12", "4,5,6=15", "5,6,7=18"]
    assert ids(tmp_path, "test") == ["6,7,8=21", "7,8,9=24", "8,9,10=27"]
    assert ids(tmp_path, "all") == ids(tmp_path, "train") + ids(tmp_path, "test")


@pytest.mark.parametrize(
    ("names", "split", "message"),
    [
        ((), "train", "a folder needs one train file, it has 0; name it train.jsonl (or .json, .csv, .parquet)"),
        (("train.csv",), "test", "a folder needs one test file, it has 0; name it test.jsonl"),
        (("train.csv", "train.jsonl"), "train", "a folder needs one train file, it has 2; name it train.jsonl"),
        (("train.txt",), "train", "a folder needs one train file, it has 0"),
    ],
)
def test_a_folder_without_its_files(names, split, message, tmp_path):
    for name in names:
        (tmp_path / name).write_text("input,output\n")
    assert refusal(tmp_path, split).startswith(f"task.data.path={tmp_path}: {message}")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", None, "no such file or folder; check the name"),
        ("rows.txt", "1", "unknown format; give a .jsonl, .json, .csv or .parquet file"),
        ("rows", "1", "unknown format; give a .jsonl"),
        ("rows.jsonl", "", "the file is empty; it needs at least one row"),
        ("rows.jsonl", "\n \n", "the file is empty"),
        ("rows.json", "[]", "the file is empty"),
        ("rows.csv", "", "the file is empty"),
        ("rows.csv", "input,output\n", "the file is empty"),
        ("rows.parquet", "", "the file is empty"),
        ("rows.jsonl", '{"a": 1}\n\n{"a":\n{"a": 2}\n', "row 3 is not JSON (Expecting value: "),
        ("rows.jsonl", '{"a": 1}\n{"a": 2} {"a": 3}\n', "row 2 is not JSON (Extra data: "),
        ("rows.jsonl", '{"a": 1}\n3\n', "row 2 is not a JSON object; write one JSON object per line, or one array of objects"),
        ("rows.jsonl", '{"a": ' + "9" * 5000 + "}\n", "row 1 is not JSON (Exceeds the limit"),
        ("rows.jsonl", '{"a": 1}\n' + '{"a":' * 100_000, "row 2 is not JSON ("),
        ("rows.json", '[{"a": 1}, {"a": }]', "not readable as JSON (Expecting value: line 1 column 18"),
        ("rows.json", '[{"a": 1}, 2]', "row 2 is not a JSON object"),
        ("rows.jsonl", b'{"a": "\xff"}', "not readable as JSON ('utf-8' codec can't decode"),
        ("rows.csv", "input,output\n1,2,3,6\n", "row 1 has more cells than the header; quote cells"),
        ("rows.csv", b"input,output\n\xff\xfe,6\n", "not readable as .csv ("),
        ("rows.csv", 'input,output\n"1,2,3",6\n"4,5,6\n"7,8,9",6\n', "not readable as .csv (',' expected after"),
        ("rows.parquet", "not parquet", "not readable as .parquet ("),
    ],
)
def test_a_file_that_cannot_be_read(name, content, message, tmp_path):
    path, logged = tmp_path / name, []
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    handler = logging.Handler()
    handler.emit = logged.append
    logging.getLogger("datasets").addHandler(handler)
    try:
        assert refusal(path).startswith(f"task.data.path={path}: {message}")
    finally:
        logging.getLogger("datasets").removeHandler(handler)
    assert logged == []  # the library adds no line of its own


def test_a_parquet_file_without_rows_is_empty(tmp_path):
    from datasets import Dataset

    path = tmp_path / "rows.parquet"
    Dataset.from_dict({"input": [], "output": []}).to_parquet(str(path))
    assert refusal(path) == f"task.data.path={path}: the file is empty; it needs at least one row"


def test_csv_cells_stay_as_they_are_written(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n007,NA\n0.10,\n12345678901234567,1e5\n")
    assert [row for _, row in load_rows(Data(path=str(path)), Hub("", 1), "all")] == [
        {"a": "007", "b": "NA"},
        {"a": "0.10", "b": None},
        {"a": "12345678901234567", "b": "1e5"},
    ]


def test_one_row_cannot_be_split(tmp_path):
    path = write(tmp_path / "rows.jsonl", ROWS[:1])
    assert "its rows (1) are too few to hold 1 out; give more, or a folder" in refusal(path, "train")
    assert "too few" in refusal(path, "test")
    assert ids(path, "all") == ["1,2,3=6"]


@pytest.mark.parametrize(
    "row",
    [
        {"question": "?", "answer": "!"},
        {"input": "1,2,3"},
        {"input": "1,2,3", "output": "x"},
        {"input": "1,2,3", "output": None},
        {"input": "1;2;3", "output": 6},
        {"input": "1,2.5,3", "output": 6},
        {"input": "7", "output": 7},
        {"input": "", "output": 7},
        {"input": "1,-2,3", "output": 2},
        {"input": "1,2,3", "output": 6.5},
        {"input": "1,2,3", "output": float("inf")},
        {"input": "1,2,3", "output": float("nan")},
        {"nums": None, "target": 3},
        {"nums": [1, 2]},
        {"nums": [1, 2.5], "target": 3},
        {"nums": 3, "target": 3},
        {"nums": [1, 10**12], "target": 3},
        {"nums": "x" * 100_000, "target": 3},
        {"nums": "44", "target": 8},
        {"nums": {"4": 1, "5": 2}, "target": 9},
        {"nums": True, "target": 1},
        {"nums": [True, 2], "target": 3},
        {"nums": [1, 2], "target": True},
    ],
    ids=lambda row: str(row)[:40],
)
def test_a_row_with_other_columns_is_named(row, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(
        UserError, match=r"^rows\.jsonl row 2=\{.*: expected integer columns nums .* or input .* and output$"
    ) as e:
        ids(path, "all")
    assert len(str(e.value)) < 400


def test_both_kinds_of_columns(tmp_path):
    path = write(tmp_path / "rows.jsonl", [{"nums": [3, 1, 2], "target": 6}, {"input": "3, 1,2", "output": "6"}])
    a, b = Countdown(data=Data(path=path)).problems("all")
    assert a == b and a.gold == {"numbers": [3, 1, 2], "target": 6} and Countdown().solution(a) is not None


class TestTheHub:
    """The hub itself is never asked."""

    ROWS = [{"nums": [i, i + 1, i + 2][: 3 + i % 2], "target": 3 * i + 3} for i in range(1, 1001)]
    ROWS += [{"nums": [i, i, i, i], "target": i} for i in range(1, 200)]

    @pytest.fixture
    def hub(self, monkeypatch):
        import datasets
        import huggingface_hub

        asked = []
        monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: False)
        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, name, timeout: asked.append((name, timeout)))
        monkeypatch.setattr(datasets, "load_dataset", lambda name, split: datasets.Dataset.from_list(self.ROWS))
        return asked

    def test_the_published_split(self, hub):
        """Rows with three numbers, shuffled with seed 42, the last 500 left out."""
        from datasets import Dataset

        def problems(split):
            return Countdown(data=Data(source="hub", train_size=None, test_size=None)).problems(split)

        published = Dataset.from_list(self.ROWS).filter(lambda row: len(row["nums"]) == 3).shuffle(seed=42)["target"][:]
        assert [p.gold["target"] for p in problems("train")] == published[:-500]
        assert [p.gold["target"] for p in problems("test")] == published[-500:]
        assert hub[0][0] == "Jiayi-Pan/Countdown-Tasks-3to4"

    def test_seed_and_sizes_do_not_move_the_split(self, hub):
        few = Countdown(data=Data(source="hub", seed=7, train_size=5, test_size=5))
        more = Countdown(data=Data(source="hub", train_size=50, test_size=50))
        for split in ("train", "test"):
            assert few.problems(split) == more.problems(split)[:5] and len(few.problems(split)) == 5

    def test_another_hub_id(self, hub):
        """An id needs no further word, and never goes with a path."""
        Countdown(data=Data(hub="someone/else")).problems("test")
        assert {name for name, _ in hub} == {"someone/else"}
        with pytest.raises(UserError, match=r"^task\.data\.hub=someone/else: .* not both$"):
            Data(hub="someone/else", path="rows.csv")

    def test_a_folder_is_no_id(self, hub, tmp_path, monkeypatch):
        """The library would take it without asking the hub."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / "Jiayi-Pan" / "Countdown-Tasks-3to4").mkdir(parents=True)
        for name in (None, str(tmp_path)):
            with pytest.raises(
                UserError, match=r"^task\.data\.hub=.*: that is a file or folder here.*; use task\.data\.path="
            ) as e:
                Countdown(data=Data(source="hub", hub=name)).problems("train")
            assert str(e.value).endswith(name or "Jiayi-Pan/Countdown-Tasks-3to4")
        assert hub == []

    def test_no_row_fits(self, hub):
        with pytest.raises(UserError, match=r"^task\.data\.hub=\S+: none of its 1199 rows fits task\.numbers=5$"):
            Countdown(data=Data(source="hub"), numbers=5).problems("train")

    def test_unreachable_fails_fast_with_a_way_out(self, hub, monkeypatch):
        import datasets
        import huggingface_hub

        def unreachable(self, name, timeout):
            assert timeout <= 10
            raise ConnectionError("Name or service not known\nand more")

        def retries(*args, **kwargs):
            raise AssertionError("load_dataset would retry for minutes")

        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
        monkeypatch.setattr(datasets, "load_dataset", retries)
        with pytest.raises(UserError) as error:
            Countdown(data=Data(source="hub")).problems("train")
        assert str(error.value) == (
            "task.data.hub=Jiayi-Pan/Countdown-Tasks-3to4: the hub cannot give it (Name or service not known); "
            "offline, use task.data.path=<file> or task.data.source=generate"
        )

    def test_offline_mode_asks_nobody(self, hub, monkeypatch):
        import huggingface_hub

        monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: True)
        assert len(Countdown(data=Data(source="hub")).problems("train")) > 0
        assert hub == []


def test_the_published_test_file():
    path = shared("data/countdown/countdown_cd3_test.jsonl")
    started = time.perf_counter()
    problems = Countdown(data=Data(path=str(path))).problems("all")
    assert len(problems) == 256 and problems[0].gold == {"numbers": [30, 100, 93], "target": 23}
    assert all(Countdown().solution(p) is not None and len(p.gold["numbers"]) == 3 for p in problems)
    train, test = ids(path, "train"), ids(path, "test")
    assert len(train) == 205 and len(test) == 51
    assert set(train) | set(test) == {p.id for p in problems} and not set(train) & set(test)
    assert time.perf_counter() - started < 30
