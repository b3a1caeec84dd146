"""Checkpoints: written aside, hashed, then renamed; resumable to the bit. And what was trained: written, and read again."""

import dataclasses
import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from stp.run import ranks
from stp.run.engine import Engine
from stp.run.files import write_atomically

MANIFEST = "manifest.json"
NOT_OURS = "its state.json is not what stp.train writes; remove that checkpoint"


@dataclass(frozen=True)
class State:
    """What a checkpoint says about its run, in state.json.

    update: how many updates are done. unlogged: the last of them, which may not be in metrics.jsonl yet. clock: seconds by
    phase. base: the base's accuracy by temperature. problems: number and hash of the run's training and evaluation problems.
    config: the run's settings. ranks: the number of ranks. code, devices: the versions of the code that have run it, and rank
    0's devices. visits: right completions and completions of each problem so far, by its key.
    """

    update: int
    optimizer_updates: int
    unlogged: dict[str, Any]
    clock: dict[str, float]
    base: dict[str, Any]
    problems: dict[str, Any]
    config: dict[str, Any]
    ranks: int
    code: list[str]
    visits: dict[str, list[int]]
    wandb_id: str | None = None
    devices: list[str] = field(default_factory=list)

    @property
    def tag(self) -> str:
        """The name of the checkpoint's folder."""
        return f"update-{self.update:06d}"

    @staticmethod
    def read(record: Any) -> "State":
        """Makes a State from the record of a state.json.

        Raises:
            OtherVersionError: this version of the code does not write such a record.
        """
        kinds = {name: get_origin(kind) or kind for name, kind in get_type_hints(State).items() if name != "wandb_id"}
        if not isinstance(record, dict) or any(name in record and not isinstance(record[name], kinds[name]) for name in kinds):
            raise OtherVersionError(NOT_OURS)
        if differ := (record.keys() ^ kinds.keys()) - {"wandb_id", "devices"}:
            raise OtherVersionError(
                "another version of the code wrote it, whose state.json is not this one's "
                f"({', '.join(sorted(differ))}); "
                "continue it with that version, or start a new run in another folder"
            )
        if not all(isinstance(pair, list) and [type(n) for n in pair] == [int, int] for pair in record["visits"].values()):
            raise OtherVersionError(NOT_OURS)
        return State(**record)


def save(engine: Engine, run: Path, state: State, keep: int) -> None:
    """Writes `checkpoints/update-<n>` whole or not at all, and removes the oldest checkpoints beyond `keep`.

    Files are written in a folder of another name and read back into a manifest of SHA-256 hashes. Only then the folder gets its
    name. The file `latest` names it for people only; a resumed run looks at the checkpoints themselves.
    """
    folder = run / "checkpoints"
    name, aside = state.tag, folder / f"writing-{state.update:06d}"
    if ranks.rank() == 0:
        clean(run)
        aside.mkdir(parents=True)
    ranks.barrier()
    try:
        engine.save(folder, aside.name)
        ranks.barrier()
        if ranks.rank() == 0:
            (aside / "state.json").write_text(json.dumps(dataclasses.asdict(state)), encoding="utf-8")
            hashes = {file.relative_to(aside).as_posix(): _hash(file) for file in _files(aside)}
            (aside / MANIFEST).write_text(json.dumps(hashes, indent=1), encoding="utf-8")
            for file in [*_files(aside), aside, *run.glob("*.jsonl")]:  # the checkpoint relies on lines written so far
                _sync(file)
            for other in folder.glob("update-*"):
                if other.name >= name:  # the run resumed from an earlier one because these were not whole
                    shutil.rmtree(other)
            os.rename(aside, folder / name)
            _sync(folder)
            write_atomically(folder / "latest", name)
            for old in sorted(folder.glob("update-*"))[:-keep]:
                shutil.rmtree(old)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)  # on a full disk this frees the space
        raise
    ranks.barrier()


def clean(run: Path) -> None:
    """Removes unfinished checkpoints of a killed run."""
    for left in (run / "checkpoints").glob("writing-*"):
        shutil.rmtree(left)


def written(run: Path) -> list[Path]:
    """Returns a run's checkpoints, whole or not, newest first."""
    return sorted((run / "checkpoints").glob("update-*"), reverse=True)


def state(checkpoint: Path) -> State:
    """Reads what a checkpoint says about its run.

    Raises:
        BrokenError: there is no readable state.json, or its hash differs from the manifest's.
        OtherVersionError: another version of the code wrote it.
    """
    manifest = checkpoint / MANIFEST
    if not manifest.is_file():
        raise BrokenError(f"no {MANIFEST}: it was not written by stp.train, or not to the end")
    try:
        hashes = json.loads(manifest.read_text(encoding="utf-8"))
        if hashes["state.json"] != _hash(checkpoint / "state.json"):
            raise BrokenError("state.json has changed since it was written")
        return State.read(json.loads((checkpoint / "state.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BrokenError(f"cannot be read ({error})") from None


def verify(checkpoint: Path) -> None:
    """Raises `BrokenError` unless the files agree with the manifest, name by name and hash by hash. Unpickles nothing."""
    hashes = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
    found = {file.relative_to(checkpoint).as_posix(): file for file in _files(checkpoint) if file.name != MANIFEST}
    for name in sorted(hashes.keys() | found.keys()):
        if name not in found:
            raise BrokenError(f"{name} is missing")
        if name not in hashes:
            raise BrokenError(f"{name} does not belong to it")
        if hashes[name] != _hash(found[name]):
            raise BrokenError(f"{name} has changed since it was written ({found[name].stat().st_size} bytes)")


class BrokenError(Exception):
    """A checkpoint cannot be used; the message says why."""


class OtherVersionError(BrokenError):
    """A checkpoint is whole, but another version of the code wrote it; the message says how that shows."""


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if not file.is_dir())


def _hash(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
