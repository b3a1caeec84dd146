"""Reads a task's rows from a file, a folder or the hub, with their places for messages, and splits them reproducibly."""

import csv
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stp.errors import fail, require
from stp.tasks.base import Data, Hub
from stp.text import tell_once

FORMATS = (".jsonl", ".json", ".csv", ".parquet")
HUB_SEED = 42  # the published code shuffles with it
HUB_TIMEOUT = 10  # seconds until a hub that does not answer counts as unreachable
TEST_SHARE = 5  # at most one row in five of a single file is held out

Row = tuple[str, dict[str, Any]]

_SHARD = re.compile(r"(?P<split>\w+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?:-\w+)?\.(?:jsonl|json|csv|parquet)")


@dataclass(frozen=True)
class Fit:
    """Decides which rows a task takes. rule: the options that decide it, for messages."""

    keeps: Callable[[dict[str, Any]], bool] = lambda row: True
    rule: str = "the task's options"

    def __call__(self, rows: list[Row], option: str, place: Path | str) -> list[Row]:
        """Returns the rows that fit, and tells how many do not. Refuses a place where none fits."""
        kept = [row for row in rows if self.keeps(row[1])]
        require(bool(kept), option, place, f"none of its {len(rows)} rows fits {self.rule}")
        if len(kept) < len(rows):
            tell_once(f"{place}: {len(rows) - len(kept)} of {len(rows)} rows are left out, which do not fit {self.rule}")
        return kept


def load_rows(data: Data, hub: Hub, split: str, fit: Fit = Fit()) -> list[Row]:  # noqa: B008 - it is frozen
    """Returns (where, row) pairs of a split, where `where` names file and row: `countdown.jsonl row 17`.

    Only rows that fit are counted. A folder's own files are its splits. Other rows are shuffled: a single file by data.seed,
    the hub by the published seed. Then the last rows are `test`, the data.validation_size rows before them `validation`, and
    the rest `train`. `test` has `hub.held_out` rows, but at most a fifth of a file, and none if the hub has its own test split.
    A folder without a validation file is treated the same way: `validation` comes from its train rows. `all` keeps the order.
    """
    if data.source == "hub":
        rule = (
            "this task has no dataset of its own there; name one with task.data.hub=<id>, or a file with task.data.path=<file>"
        )
        require(bool(data.hub or hub.name), "task.data.source", "hub", rule)
        option, place = "task.data.hub", data.hub or hub.name
        if hub.test is not None and split == "test":
            name = data.hub or hub.test
            return fit(_hub_rows(name, "test"), option, name)
        rows, seed, most = fit(_hub_rows(place, "train"), option, place), HUB_SEED, 0 if hub.test is not None else hub.held_out
        most = most if hub.name else max(1, min(most, len(rows) // TEST_SHARE))
    else:
        option, path = "task.data.path", _path(data)
        place, seed = str(path), data.seed
        if path.is_dir() and not _saved(path):
            carved = data.validation_size is not None and not _split_files(path, "validation", hub)
            if split not in ("train", "validation") or not carved:
                return [row for name in _names(split) for row in _folder_rows(path, name, hub, fit)]
            rows, most = _folder_rows(path, "train", hub, fit), 0
        else:
            rows = fit(file_rows(path), option, path)
            most = max(1, min(hub.held_out, len(rows) // TEST_SHARE))
    if split == "all":
        return rows
    tuning = data.validation_size or 0
    rule = f"its rows ({len(rows)}) are too few to hold {most + tuning} out; give more, or a folder with train and test files"
    require(len(rows) > most + tuning, option, place, rule)
    if split == "validation":
        require(tuning > 0, "task.data.validation_size", data.validation_size, "no row is kept for tuning; set it, say to 500")
    import datasets

    order = datasets.Dataset.from_dict({"row": range(len(rows))}).shuffle(seed=seed, keep_in_memory=True)["row"][:]
    first, second = len(rows) - most - tuning, len(rows) - most
    held = [f"{count} as {name}" for name, count in (("test", most), ("validation", tuning)) if count]
    if held:
        tell_once(f"{place}: of {len(rows)} rows, shuffled by seed {seed}, {' and '.join(held)} are held out of train")
    places = {"train": slice(first), "validation": slice(first, second), "test": slice(second, None)}
    return [rows[i] for i in order[places[split]]]


def keeps_validation(data: Data, hub: Hub) -> bool:
    """Says whether a file or hub source holds out problems for tuning."""
    path = _path(data) if data.source == "file" else None
    own = path is not None and path.is_dir() and not _saved(path) and bool(_split_files(path, "validation", hub))
    return data.validation_size is not None or own


def _path(data: Data) -> Path:
    return Path(str(data.path)).expanduser()


def _names(split: str) -> tuple[str, ...]:
    return ("train", "test") if split == "all" else (split,)


def _folder_rows(folder: Path, split: str, hub: Hub, fit: Fit) -> list[Row]:
    """Returns the rows of a split from a folder's files."""
    files = _split_files(folder, split, hub)
    fix = " (or set task.data.validation_size)" if split == "validation" else ""
    rule = f"a folder needs one {split} file, it has 0; name it {split}.jsonl (or .json, .csv, .parquet){fix}"
    require(bool(files), "task.data.path", folder, rule)
    return fit([row for file in files for row in file_rows(file)], "task.data.path", files[0] if len(files) == 1 else folder)


def _split_files(folder: Path, split: str, hub: Hub) -> list[Path]:
    """Returns the files of a split, from the folder itself or from one inside it, as on the hub.

    The folder inside is named like the config, or is the only one with such files.
    """
    found = _files_in(folder, split)
    if found:
        return found
    below = {place.name: _files_in(place, split) for place in sorted(folder.iterdir()) if place.is_dir()}
    below = {name: files for name, files in below.items() if files}
    config = hub.name.partition(":")[2]
    if config in below:
        return below[config]
    rule = f"several folders in it have {split} files ({', '.join(below)}); give one of these"
    require(len(below) <= 1, "task.data.path", folder, rule)
    return next(iter(below.values()), [])


def _files_in(folder: Path, split: str) -> list[Path]:
    """Returns a split's file (`train.csv`), shards (`train-00000-of-00002.parquet`) or saved dataset (`train/`), or nothing."""
    single = [folder / f"{split}{suffix}" for suffix in FORMATS if (folder / f"{split}{suffix}").is_file()]
    single += [folder / split] if _saved(folder / split) else []
    named = [(_SHARD.fullmatch(file.name), file) for file in sorted(folder.iterdir())]
    shards = [(match, file) for match, file in named if match is not None and match["split"] == split]
    found = len(single) + bool(shards)
    rule = f"a folder needs one {split} file, it has {found}; name it {split}.jsonl (or .json, .csv, .parquet)"
    require(found <= 1, "task.data.path", folder, rule)
    if shards:
        count = int(shards[0][0]["count"])
        whole = [int(match["number"]) for match, _ in shards] == list(range(count))
        rule = f"it has {len(shards)} of the {count} files that its {split} rows are in; copy them all, each once"
        require(whole, "task.data.path", folder, rule)
    return single or [file for _, file in shards]


def _saved(folder: Path) -> bool:
    """Says whether a folder is a single dataset that `save_to_disk` of the library `datasets` wrote."""
    return (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()


def file_rows(path: Path, option: str = "task.data.path") -> list[Row]:
    """Returns every row of a file, in order. Error messages name `option`.

    It does not use the library `datasets`, which would guess types and could not name a malformed row.
    """
    if _saved(path):
        return _saved_rows(path, option)
    suffix = path.suffix.lower()
    require(path.is_file(), option, path, "no such file or folder; check the name (relative to where the command runs)")
    require(suffix in FORMATS, option, path, "unknown format; give a .jsonl, .json, .csv or .parquet file")
    rows = _json_rows(path, option) if suffix in (".jsonl", ".json") else _table_rows(path, suffix, option)
    require(bool(rows), option, path, "the file is empty; it needs at least one row")
    return rows


def _json_rows(path: Path, option: str) -> list[Row]:
    """Reads one object per line, one array of objects, or one object with such an array as `generations` (d1's evaluation).

    Rows of a file with one object per line have their line's number.
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
    ):  # not splitlines: JSON strings may hold other line breaks
        try:
            items += [(number, json.loads(line))] if line.strip() else []
        except (ValueError, RecursionError) as error:
            fail(option, path, f"row {number} is not JSON ({_reason(error)}); {fix}")
    for number, item in items:
        require(isinstance(item, dict), option, path, f"row {number} is not a JSON object; {fix}")
    return [(f"{path.name} row {number}", item) for number, item in items]


def _array(text: str) -> list[Any] | None:
    """Returns the rows of a text that is one array, or one object with an array of `generations`. None if it is neither."""
    if text.lstrip().startswith("["):
        return json.loads(text)
    try:
        held = json.loads(text)
    except ValueError:  # not one JSON value: it has one line per row
        return None
    held = held.get("generations") if isinstance(held, dict) else None
    return held if isinstance(held, list) else None


def _table_rows(path: Path, suffix: str, option: str) -> list[Row]:
    """Reads Parquet or CSV. A CSV's cells stay text (None if empty): guessing types would turn 007 into 7 and NA into None."""
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


def _saved_rows(folder: Path, option: str) -> list[Row]:
    """Reads the rows of a folder that `save_to_disk` wrote."""
    import datasets

    try:
        rows = datasets.load_from_disk(str(folder), keep_in_memory=True).to_list()  # type: ignore[union-attr]
    except Exception as error:  # the library raises a dozen kinds of errors
        fail(option, folder, f"not readable as a saved dataset ({_reason(error)}); save it again, or write it as .jsonl")
    require(bool(rows), option, folder, "the dataset is empty; it needs at least one row")
    return [(f"{folder.name} row {number}", row) for number, row in enumerate(rows, 1)]


def _hub_rows(name: str, split: str) -> list[Row]:
    """Reads a split of a hub dataset, `id` or `id:config`. It asks the hub first, as `datasets` retries for long."""
    import datasets
    import huggingface_hub

    hub, _, config = name.partition(":")
    here = Path(hub).expanduser().exists()
    require(not here, "task.data.hub", name, f"that is a file or folder here, no dataset on the hub; use task.data.path={hub}")
    try:
        if not huggingface_hub.is_offline_mode():  # offline (HF_HUB_OFFLINE=1) the cached copy is used
            huggingface_hub.HfApi().dataset_info(hub, timeout=HUB_TIMEOUT)
        rows = datasets.load_dataset(hub, *([config] if config else []), split=split).to_list()
    except Exception as error:  # the hub raises a dozen kinds of errors; all mean that it is not available
        fail(
            "task.data.hub",
            name,
            f"the hub cannot give it ({_reason(error)}); offline, use task.data.path=<file> or task.data.source=generate",
        )
    return [(f"{name} {split} row {number}", row) for number, row in enumerate(rows, 1)]


def _reason(error: BaseException) -> str:
    """Returns the first line of an error's message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
