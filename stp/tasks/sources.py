"""Rows of a task from a file, a folder or the hub, each with its place for error messages, split the same way every time."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stp.errors import fail, require
from stp.tasks.base import Data, Hub

FORMATS = (".jsonl", ".json", ".csv", ".parquet")
HUB_SEED = 42  # the published code's shuffle
HUB_TIMEOUT = 10  # seconds until a hub that does not answer counts as unreachable
TEST_SHARE = 5  # at most one row in five of a single file is held out

Row = tuple[str, dict[str, Any]]


def load_rows(data: Data, hub: Hub, split: str, keep: Callable[[dict[str, Any]], bool] = lambda row: True) -> list[Row]:
    """(where, row) pairs of a split, `where` naming file and row: `countdown.jsonl row 17`.

    A folder's own files are its splits. A single file is shuffled by data.seed, the hub (its rows that `keep` accepts) by the
    published seed; the last rows are `test`: `hub.held_out` of them, of a file never more than a fifth, none where the hub
    has a test split of its own. Of the others the last data.validation_size are `validation`, the rest `train`. `all` keeps a
    file's order.
    """
    if data.source == "hub":
        name = data.hub or hub.name
        if hub.test is not None and split == "test":
            return _hub_rows(data.hub or hub.test, "test", keep)
        rows, seed, most = _hub_rows(name, "train", keep), HUB_SEED, 0 if hub.test is not None else hub.held_out
    else:
        path = Path(str(data.path)).expanduser()
        if path.is_dir():
            return [row for file in _split_files(path, split) for row in file_rows(file)]
        rows = file_rows(path)
        seed, most = data.seed, max(1, min(hub.held_out, len(rows) // TEST_SHARE))
    if split == "all":
        return rows
    tuning = data.validation_size or 0
    rule = f"its rows ({len(rows)}) are too few to hold {most + tuning} out; give more, or a folder with train and test files"
    require(len(rows) > most + tuning, "task.data.path", data.path or data.hub or hub.name, rule)
    if split == "validation":
        require(tuning > 0, "task.data.validation_size", data.validation_size, "no row is kept for tuning; set it, say to 500")
    import datasets

    order = datasets.Dataset.from_dict({"row": range(len(rows))}).shuffle(seed=seed, keep_in_memory=True)["row"][:]
    first, second = len(rows) - most - tuning, len(rows) - most
    places = {"train": slice(first), "validation": slice(first, second), "test": slice(second, None)}
    return [rows[i] for i in order[places[split]]]


def _split_files(folder: Path, split: str) -> list[Path]:
    files = []
    for name in ("train", "test") if split == "all" else (split,):
        found = [folder / f"{name}{suffix}" for suffix in FORMATS if (folder / f"{name}{suffix}").is_file()]
        require(
            len(found) == 1,
            "task.data.path",
            folder,
            f"a folder needs one {name} file, it has {len(found)}; name it {name}.jsonl (or .json, .csv, .parquet)",
        )
        files += found
    return files


def file_rows(path: Path, option: str = "task.data.path") -> list[Row]:
    """Every row of a file, in order; mistakes are told about the option that names it.

    Files are read here: `datasets` would guess types and could not name a malformed row.
    """
    suffix = path.suffix.lower()
    require(path.is_file(), option, path, "no such file or folder; check the name (relative to where the command runs)")
    require(suffix in FORMATS, option, path, "unknown format; give a .jsonl, .json, .csv or .parquet file")
    rows = _json_rows(path, option) if suffix in (".jsonl", ".json") else _table_rows(path, suffix, option)
    require(bool(rows), option, path, "the file is empty; it needs at least one row")
    return rows


def _json_rows(path: Path, option: str) -> list[Row]:
    """One object per line, one array of objects, or such an array in an object's `generations`, as d1's evaluation writes it.

    A row of a line-wise file is numbered by its line.
    """
    fix = "write one JSON object per line, or one array of objects"
    try:
        text = path.read_text(encoding="utf-8-sig")
        array = _array(text)
        items = list(enumerate(array or [], 1))
    except (OSError, ValueError, RecursionError) as error:
        fail(option, path, f"not readable as JSON ({_reason(error)}); {fix}")
    for number, line in enumerate(
        text.split("\n") if array is None else [], 1
    ):  # not splitlines: JSON strings may hold its breaks
        try:
            items += [(number, json.loads(line))] if line.strip() else []
        except (ValueError, RecursionError) as error:
            fail(option, path, f"row {number} is not JSON ({_reason(error)}); {fix}")
    for number, item in items:
        require(isinstance(item, dict), option, path, f"row {number} is not a JSON object; {fix}")
    return [(f"{path.name} row {number}", item) for number, item in items]


def _array(text: str) -> list[Any] | None:
    """The rows of a text that is one array, or one object with an array of `generations`; None where it is neither."""
    if text.lstrip().startswith("["):
        return json.loads(text)
    try:
        held = json.loads(text)
    except ValueError:  # a line for each row
        return None
    held = held.get("generations") if isinstance(held, dict) else None
    return held if isinstance(held, list) else None


def _table_rows(path: Path, suffix: str, option: str) -> list[Row]:
    """Parquet, or CSV with every cell as it is written (an empty one is None): a guess would make 7 of 007, nothing of NA."""
    import pyarrow.parquet

    rows: list[dict[str, Any]] = []
    try:
        if suffix == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = [{name: cell or None for name, cell in row.items()} for row in csv.DictReader(file, strict=True)]
        elif path.stat().st_size:
            rows = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, ValueError, csv.Error, pyarrow.ArrowException) as error:
        fail(option, path, f"not readable as {suffix} ({_reason(error)}); mend it, or write it as .jsonl")
    for number, row in enumerate(rows, 1):
        require(None not in row, option, path, f"row {number} has more cells than the header; quote cells that hold commas")
    return [(f"{path.name} row {number}", row) for number, row in enumerate(rows, 1)]


def _hub_rows(name: str, split: str, keep: Callable[[dict[str, Any]], bool]) -> list[Row]:
    """A split of a hub dataset, `id` or `id:config`. The hub is asked once, briefly, before `datasets` retries at length."""
    import datasets
    import huggingface_hub

    hub, _, config = name.partition(":")
    try:
        if not huggingface_hub.is_offline_mode():  # with HF_HUB_OFFLINE=1 a copy in the cache is used
            huggingface_hub.HfApi().dataset_info(hub, timeout=HUB_TIMEOUT)
        rows = datasets.load_dataset(hub, *([config] if config else []), split=split).to_list()
    except Exception as error:  # the hub raises a dozen kinds of errors, all of which mean: not available
        fail(
            "task.data.hub",
            name,
            f"the hub cannot give it ({_reason(error)}); offline, use task.data.path=<file> or task.data.source=generate",
        )
    kept = [(f"{name} {split} row {number}", row) for number, row in enumerate(rows, 1) if keep(row)]
    require(bool(kept), "task.data.hub", name, f"none of its {len(rows)} rows fits the task's options")
    return kept


def _reason(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
