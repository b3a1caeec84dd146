"""Around every entry point: Hydra, one-line errors with exit code 2, and quiet libraries."""

import contextlib
import difflib
import os
import re
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from hydra.experimental.callback import Callback

from stp.errors import RunError, UserError
from stp.faults import stop_at_once
from stp.text import visible

DEBUG = "STP_DEBUG"  # set it to see tracebacks
FAILED = "failed.txt"  # in a run folder: why the job failed
LONGEST = 2_000  # characters of a message; a value it quotes may be of any length


def run(job: Callable[[Any], Any], name: str) -> None:
    """Compose `conf/<name>.yaml` with the command line, build and check it, and call `job`."""
    stop_at_once()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # in an ASCII terminal, say
    sys.argv = [a for a in sys.argv if not a.startswith("--local_rank")]  # the deepspeed launcher's
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach us here, to be said in one line
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    import hydra
    import torch
    import transformers
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from stp.config import CONF, build, register

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    transformers.utils.logging.disable_progress_bar()
    register()
    if os.environ.get("RANK", "0") != "0":  # one run folder: rank 0 makes it and tells the others
        sys.argv += ["hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=disabled"]
    debug = bool(os.environ.get(DEBUG))

    def checked(config: Any) -> Any:
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        folder, sweeping = Path(HydraConfig.get().runtime.output_dir), HydraConfig.get().mode == RunMode.MULTIRUN
        (folder / FAILED).unlink(missing_ok=True)
        try:
            return job(build(config))
        except Exception as error:  # a sweep goes on; why a job failed is kept beside it and listed at the end
            mistake = isinstance(error, UserError | OmegaConfBaseException)
            said = mistake or isinstance(error, RunError)
            if folder.is_dir() and (sweeping or not said):
                with contextlib.suppress(OSError):
                    (folder / FAILED).write_text(
                        f"{with_causes(error)}\n" if said else traceback.format_exc(), encoding="utf-8"
                    )
                    error.add_note(f"the traceback is in {folder / FAILED}")
            if debug or sweeping:
                raise
            discard_if_empty(folder)
            stop(with_causes(error) if said else unexpected(error), 1 if isinstance(error, RunError) else 2)

    try:
        hydra.main(config_path=CONF, config_name=name, version_base="1.3")(checked)()
        Sweep.stop_if_failed()  # a search goes on to its end all the same
    except (UserError, HydraException, OmegaConfBaseException) as error:
        if debug:
            raise
        Sweep.stop_if_failed()
        stop(with_causes(error))
    except Exception as error:
        if debug:
            raise
        Sweep.stop_if_failed()
        stop(unexpected(error))


class Sweep(Callback):
    """Hydra's callback that knows a sweep's folder, so that its failed jobs can be listed at the end."""

    folder: Path | None = None
    started = 0.0

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        Sweep.folder, Sweep.started = Path(config.hydra.sweep.dir), time.time()

    @classmethod
    def stop_if_failed(cls) -> None:
        """List the jobs of this sweep that failed, one line each, and exit with code 1; return if none did."""
        files = sorted(cls.folder.glob(f"**/{FAILED}")) if cls.folder is not None else []
        failed = [file for file in files if file.stat().st_mtime >= cls.started]
        if failed:
            lines = [
                f"  {file.parent}: {one_line(file.read_text(encoding='utf-8').strip().splitlines()[-1])}" for file in failed
            ]
            print(f"error: {len(failed)} job(s) failed, the others are done:", *lines, sep="\n", file=sys.stderr, flush=True)
            raise SystemExit(1)


def discard_if_empty(folder: Path) -> None:
    """Remove a run folder that holds nothing but Hydra's own records."""
    if (folder / ".hydra").is_dir() and all(p.name == ".hydra" or p.suffix == ".log" for p in folder.iterdir()):
        shutil.rmtree(folder)


def with_causes(error: BaseException) -> str:
    """The messages of an error and of those that led to it, a line or more each."""
    return str(error) + (f"\n{with_causes(error.__cause__)}" if error.__cause__ is not None else "")


def unexpected(error: Exception) -> str:
    """What is said of an error that no rule foresaw: what it is and where it arose."""
    if "Config group override" in str(error):  # Hydra's, of a group that was given a table or a number
        return f"{error}; a group takes one of its options, which --help lists"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; give a path that can be read and written, on a disk with room"
    places = traceback.extract_tb(error.__traceback__)
    own = [place for place in places if Path(place.filename).is_relative_to(Path(__file__).parent)] or places
    kept = "; ".join([*getattr(error, "__notes__", []), f"{DEBUG}=1 shows it"])
    return f"{type(error).__name__}: {error} ({Path(own[-1].filename).name}, line {own[-1].lineno}); {kept}"


def stop(message: str, code: int = 2) -> NoReturn:
    """One line on stderr, and the exit code: 2 for a user's mistake."""
    print(f"error: {one_line(message)}", file=sys.stderr, flush=True)
    raise SystemExit(code)


def one_line(message: str) -> str:
    """Fold a library's message into one line that a terminal can show, with a suggestion where a name is misspelt."""
    wanted = re.search(r"Key '(\w+)' (?:is not in struct|not in '(\w+)')", message)
    noise = ("full_key:", "object_type=", "reference_type=", "To append", "Config search path", "provider=", "^", "Set the env")
    lines = [line.strip() for line in message.splitlines()]
    text = "; ".join(dict.fromkeys(line.rstrip(".") for line in lines if line and not line.startswith(noise)))
    text = visible(text.replace(":; ", ": "))
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    if wanted and (near := _near(*wanted.groups())):
        return text + f"; did you mean {near}?"
    return text + ("; --help lists groups, options and fields" if wanted or "Could not find" in text else "")


def _near(key: str, owner: str | None) -> str | None:
    from dataclasses import fields

    from stp.config import ROOTS, SCHEMAS
    from stp.engine import Optimizer
    from stp.guards import Guards
    from stp.models.policy import Lora
    from stp.tasks.base import Data
    from stp.trainer import Trainer

    classes = [c for group in SCHEMAS.values() for c in group.values()]
    classes += [*ROOTS.values(), Trainer, Guards, Optimizer, Lora, Data]
    names = [f.name for c in classes if owner in (None, c.__name__) for f in fields(c)]
    close = difflib.get_close_matches(key, names, n=1)
    return close[0] if close else None
