"""Takes the folder of a job for one process alone, and leaves it as it was if nothing comes of the job."""

import fcntl
import itertools
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stp.errors import fail, require

RECORDS = ".hydra"  # the folder of Hydra's records of a job; a process takes a job's folder by making this one inside it
SWEEP = "multirun.yaml"  # the file of Hydra's record of a sweep; it takes a sweep's folder in the same way
WRITTEN = (
    *("config.yaml", "metrics.jsonl", "variance.jsonl", "samples.jsonl", "calibration.jsonl", "eval.jsonl"),
    *("summary.json", "failed.txt", "evaluation.json", "trace.html", "checkpoints", "weights", "adapter", "bad", "wandb"),
)  # files and folders that a job writes


@dataclass(frozen=True)
class Taken:
    """A folder that this process has taken.

    before: what was in it. made: whether this process also made the folder itself. log: the name of Hydra's log file there.
    """

    before: frozenset[str]
    made: bool
    log: str


_taken: dict[Path, Taken] = {}
_locks: dict[Path, int] = {}  # open descriptors, which hold the locks until the process ends


def named(text: str) -> Path:
    """Returns the path that a text means: `~` is expanded, and a path that ends without a name, such as `.`, is resolved.

    Raises:
        RuntimeError: `~name` of an unknown user.
    """
    path = Path(text).expanduser()
    return path if path.name not in ("", "..") else path.resolve()


def take(wanted: Path, again: bool, log: str) -> Path:
    """Takes a folder for a job: the wanted one, or if another job has it, `<name>-2`, `<name>-3`, ….

    again: take over the folder of an earlier job, because trainer.resume says so. log: the log file that Hydra will write.

    Raises:
        UserError: the folder holds files that the job would replace, cannot be written, or another process works there.
    """
    if again and ((wanted / RECORDS).is_dir() or (wanted / "checkpoints").is_dir()):
        lock("hydra.run.dir", wanted)
        return wanted
    for folder in _names(wanted):
        there = frozenset(os.listdir(folder)) if folder.is_dir() else None
        if there is not None and RECORDS not in there:
            refuse_others("hydra.run.dir", folder)
        try:
            (folder / RECORDS).mkdir(parents=True)
        except FileExistsError:
            if not (folder / RECORDS).is_dir():
                fail("hydra.run.dir", folder, "a file is in the way; give another folder")
            continue
        except OSError as error:
            fail("hydra.run.dir", folder, f"nothing can be written there ({error.strerror}); give another folder")
        _taken[folder.resolve()] = Taken(there or frozenset(), there is None, log)
        lock("hydra.run.dir", folder)
        return folder
    raise AssertionError


def take_sweep(wanted: Path) -> Path:
    """Takes a folder for a new sweep, with a name as in `take`."""
    for folder in _names(wanted):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / SWEEP).touch(exist_ok=False)
        except FileExistsError:
            if not (folder / SWEEP).exists():
                fail("hydra.sweep.dir", folder, "a file is in the way; give another folder")
            continue
        except OSError as error:
            fail("hydra.sweep.dir", folder, f"nothing can be written there ({error.strerror}); give another folder")
        return folder
    raise AssertionError


def _names(wanted: Path) -> Iterator[Path]:
    return itertools.chain([wanted], (wanted.with_name(f"{wanted.name}-{n}") for n in itertools.count(2)))


def refuse_others(option: str, folder: Path) -> None:
    """Refuses a folder that holds a file which a job would replace.

    Raises:
        UserError: it names the file.
    """
    held = next((name for name in WRITTEN if os.path.lexists(folder / name)), None)
    require(held is None, option, folder, f"it holds {held}, which would be replaced; give another folder")


def lock(option: str, folder: Path) -> None:
    """Locks a folder against other processes. The lock ends with this process, however it ends.

    Raises:
        UserError: another process is at work there.
    """
    place = folder.resolve()
    if place in _locks:
        return
    try:
        (folder / RECORDS).mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / RECORDS / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError:
        return  # whoever writes there later refuses it
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        fail(option, folder, "another process is at work there; wait for its end, or give another folder")
    except OSError:  # this file system has no locks
        os.close(descriptor)
        return
    _locks[place] = descriptor


def give_back(folder: Path) -> None:
    """Removes what this process made in a folder that it took, if that is only Hydra's own records."""
    taken = _taken.get(folder.resolve())
    if taken is None or not folder.is_dir():
        return
    new = [path for path in folder.iterdir() if path.name not in taken.before]
    if not all(path.name == RECORDS or path.name == taken.log for path in new):
        return
    del _taken[folder.resolve()]
    held = _locks.pop(folder.resolve(), None)
    for path in new:
        shutil.rmtree(path) if path.name == RECORDS else path.unlink()
    if held is not None:
        os.close(held)
    if taken.made:
        folder.rmdir()
