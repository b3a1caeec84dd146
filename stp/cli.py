"""Surrounds every entry point: runs Hydra, tells errors in one line with exit code 2, and keeps libraries quiet."""

import contextlib
import difflib
import hashlib
import os
import re
import runpy
import shlex
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.errors import OverrideParseException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from stp.errors import RunError, UserError, require
from stp.run import folders
from stp.run.faults import stop_at_once
from stp.text import visible

DEBUG = "STP_DEBUG"  # set it to see tracebacks
FAILED = "failed.txt"  # a file in a run folder that says why the job failed
RANK = os.environ.get("RANK", "0")  # this process's rank, as the launcher sets it
LONGEST = 2_000  # the most characters of a message, which may quote a value of any length


def run(job: Callable[[Any], Any], name: str, options: type) -> None:
    """Composes `conf/<name>.yaml` and the command line, builds and checks the `options`, and calls `job` with them."""
    stop_at_once()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # in an ASCII terminal, say
    sys.argv = [a for a in sys.argv if not a.startswith("--local_rank")]  # the deepspeed launcher adds it
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors must reach us, to be told in one line
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from stp.config import CONF, build, register
    from stp.run.ranks import choose_accelerator

    register(name, options)
    try:
        choose_accelerator()
        sys.argv[1:] = arguments(sys.argv[1:])
    except UserError as error:
        stop(str(error))
    if RANK != "0":  # rank 0 makes the run folder and tells the others, whose own Hydra records are temporary
        aside = tempfile.TemporaryDirectory(prefix="stp-rank", ignore_cleanup_errors=True)
        sys.argv += [f"hydra.{kind}.dir={quoted(aside.name)}" for kind in ("run", "sweep")]
        sys.argv += ["hydra.output_subdir=null", "hydra/job_logging=disabled"]
    debug = bool(os.environ.get(DEBUG))

    def checked(config: Any) -> Any:
        from hydra.types import RunMode

        folder, sweeping = Path(HydraConfig.get().runtime.output_dir), HydraConfig.get().mode == RunMode.MULTIRUN
        try:
            if sweeping and RANK == "0":
                check_job(folder, config)
            (folder / FAILED).unlink(missing_ok=True)
            built = build(config, HydraConfig.get().overrides.task)
            import transformers  # takes a second, which a mistake in the settings need not wait for

            transformers.utils.logging.disable_progress_bar()
            return job(built)
        except Exception as error:  # a sweep goes on: the reason is kept in the job's folder and listed at the end
            mistake = isinstance(error, UserError | OmegaConfBaseException)
            said = mistake or isinstance(error, RunError)
            if folder.is_dir() and (sweeping or not said):
                with contextlib.suppress(OSError):
                    (folder / FAILED).write_text(
                        f"{with_causes(error)}\n" if said else traceback.format_exc(), encoding="utf-8"
                    )
                    error.add_note(f"the traceback is in {folder / FAILED}")
            if sweeping and not debug:
                let_go(error)
            if debug or sweeping:
                raise
            folders.give_back(folder)
            stop(with_causes(error) if said else unexpected(error), 1 if isinstance(error, RunError) else 2)

    try:
        hydra.main(config_path=CONF, config_name=name, version_base="1.3")(checked)()
        Sweep.stop_if_failed()  # also a search, which runs to its end in any case
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


def commands() -> list[str]:
    """Returns the names of the commands: what `python -m stp.<name>` runs."""
    folder = Path(__file__).parent
    modules = [file.stem for file in folder.glob("*.py") if '\nif __name__ == "__main__":' in file.read_text(encoding="utf-8")]
    return sorted([*modules, *(file.parent.name for file in folder.glob("*/__main__.py"))])


def main() -> None:
    """Runs `stp <command> …`, the console script, as `python -m stp.<command> …`."""
    _, *given = sys.argv
    usage = f"stp <command> <its options>; the commands are {', '.join(commands())}; stp <command> --help lists its options"
    if not given or given[0] in ("-h", "--help"):
        print(usage)
        return
    if given[0] not in commands():
        stop(f"stp {given[0]}: no such command; {usage}")
    sys.argv = given
    runpy.run_module(f"stp.{given[0]}", run_name="__main__", alter_sys=True)


class Folder(Callback):
    """Hydra's callback that takes the folder of a job before Hydra writes there, so that two jobs never share one."""

    def on_run_start(self, config: Any, **_: Any) -> None:
        if RANK != "0":
            return
        given, again = _resolved(config, "hydra.run.dir"), bool(config.get("trainer", {}).get("resume"))
        try:
            wanted = folders.named(given)
            folder = folders.take(wanted, again, f"{config.hydra.job.name}.log")
        except (UserError, RuntimeError) as error:  # RuntimeError: `~name` of an unknown user
            stop(str(error))  # Hydra would go on after a callback's exception
        if str(folder) != given:
            _set(config.hydra.run, "dir", str(folder))
        if folder.name != wanted.name:
            print(f"{wanted} holds another run: this one is in {folder}", flush=True)


class Sweep(Callback):
    """Hydra's callback that takes a sweep's folder, and remembers it to list failed jobs at the end."""

    folder: Path | None = None
    started = 0.0

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        given = _resolved(config, "hydra.sweep.dir")
        try:
            folder = wanted = folders.named(given)
            if RANK == "0" and config.trainer.resume != "auto":
                folder = folders.take_sweep(folder)
        except (UserError, RuntimeError) as error:
            stop(str(error))
        if str(folder) != given:  # each job composes its config from the overrides again
            _set(config.hydra.sweep, "dir", str(folder))
            _set(config.hydra.overrides, "hydra", [*config.hydra.overrides.hydra, f"hydra.sweep.dir={quoted(str(folder))}"])
        if folder.name != wanted.name:
            print(f"{wanted} holds another sweep: this one is in {folder} (trainer.resume=auto continues one)", flush=True)
        Sweep.folder, Sweep.started = folder, time.time()

    @classmethod
    def stop_if_failed(cls) -> None:
        """Lists this sweep's failed jobs, one line each, and exits with code 1. Does nothing if none failed."""
        files = sorted(cls.folder.glob(f"**/{FAILED}")) if cls.folder is not None else []
        failed = [file for file in files if file.stat().st_mtime >= cls.started]
        if failed:
            lines = [
                f"  {file.parent}: {one_line(file.read_text(encoding='utf-8').strip().splitlines()[-1])}" for file in failed
            ]
            print(f"error: {len(failed)} job(s) failed, the others are done:", *lines, sep="\n", file=sys.stderr, flush=True)
            raise SystemExit(1)


def _resolved(config: DictConfig, name: str) -> str:
    """Returns a setting of Hydra's that may refer to others of Hydra's, before Hydra itself makes them available."""
    hydra = HydraConfig.instance()
    before = hydra.cfg
    hydra.set_config(config)
    try:
        return str(OmegaConf.select(config, name))
    finally:
        hydra.cfg = before


def _set(config: DictConfig, key: str, value: Any) -> None:
    with read_write(config), open_dict(config):
        config[key] = value


def check_job(folder: Path, config: Any) -> None:
    """Refuses a sweep job's folder if another process works there, or if it holds a run that this job does not continue.

    Raises:
        UserError: it names the folder.
    """
    folders.lock("hydra.sweep.subdir", folder)
    other = config.trainer.resume is None and (folder / "config.yaml").exists()
    rule = (
        "another run is kept there; add trainer.resume=auto to continue it, or give each job a folder, as ${hydra.job.num} does"
    )
    require(not other, "hydra.sweep.subdir", folder, rule)


def arguments(given: list[str]) -> list[str]:
    """Returns the command line as Hydra takes it: flags first, then overrides, with paths like `to=~/x` in quotes.

    Raises:
        UserError: there is no such flag. (Fields are set without dashes.)
    """
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    parser.error = lambda message: stop(f"{' '.join(given)}: {message}; --help lists groups, options and fields")  # type: ignore[method-assign]
    known, unknown = parser.parse_known_intermixed_args(given)
    for word in unknown:
        name, equals, value = word.lstrip("-").partition("=")
        fix = f"a field is set without dashes; write {name}={value or '<value>'}" if "." in name or equals else "no such flag"
        require(False, word.partition("=")[0], value, f"{fix}; --help lists groups, options and fields")
    flags = [word for word in given if word not in known.overrides]
    return flags + [whole(word) for word in known.overrides]


def whole(override: str) -> str:
    """Puts a path like `to=~/x`, and any text that a person asks, in quotes, so that Hydra's grammar leaves it whole."""
    from stp.config.compose import TEXTS

    name, _, value = override.partition("=")
    if name in TEXTS and value != "null" and not (len(value) > 1 and value[0] == value[-1] and value[0] in "'\""):
        return f"{name}=" + quoted(value.replace("${", "\\${"))
    return re.sub(r"=(~[^,]*)$", lambda found: f"={quoted(found[1])}", override)


def quoted(value: str) -> str:
    """Puts a value in the quotes of Hydra's grammar, which allow any character."""
    return "'" + re.sub(r"(\\*)'", r"\1\1\'", re.sub(r"(\\+)$", r"\1\1", value)) + "'"


def with_causes(error: BaseException) -> str:
    """Returns the messages of an error and of its causes, each on lines of its own."""
    if isinstance(error, OverrideParseException):
        return unreadable(error.override)
    return str(error) + (f"\n{with_causes(error.__cause__)}" if error.__cause__ is not None else "")


def let_go(error: BaseException | None) -> None:
    """Frees what the calls that failed held, a policy say: Hydra keeps the exceptions of a sweep's jobs until its end."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def unreadable(override: str) -> str:
    """Returns the message for an override that Hydra's grammar refuses, such as a path with ü, = or blanks."""
    name, equals, value = override.partition("=")
    if not equals:
        return f"{override}: a field is set with <name>=<value>; --help lists groups, options and fields"
    if value[:1] in ("[", "{", "(") or value[:1] == value[-1:] == "'":
        return f"{override}: its brackets or quotes do not match; write a list as {name}=[1,2], a text as \"{name}='text'\""
    fixed = f"{name}={quoted(value)}"
    fixed = shlex.quote(fixed) if set(fixed) & set('"$`\\!') else f'"{fixed}"'
    return f"{override}: Hydra reads some of these characters as its own; quote the value: {fixed}"


def unexpected(error: Exception) -> str:
    """Returns the message for an error that no rule foresaw: what it is and where it arose."""
    if "Config group override" in str(error):  # Hydra's error for a group that was set to a table or a number
        return f"{error}; a group takes one of its options, which --help lists"
    torch = sys.modules.get("torch")  # not imported for this, because that takes seconds
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        reason = str(error).partition(" Of the allocated")[0]
        return f"{reason} python -m stp.plan, with the same overrides, says what makes it fit"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; give a path that can be read and written, on a disk with room"
    places = traceback.extract_tb(error.__traceback__)
    own = [place for place in places if Path(place.filename).is_relative_to(Path(__file__).parent)] or places
    kept = "; ".join([*getattr(error, "__notes__", []), f"{DEBUG}=1 shows it"])
    return f"{type(error).__name__}: {error} ({Path(own[-1].filename).name}, line {own[-1].lineno}); {kept}"


def stop(message: str, code: int = 2) -> NoReturn:
    """Prints one line to stderr and exits. The code is 2 for a user's mistake. Ranks with the same mistake print it once."""
    line = one_line(message)
    if not _said_by_another_rank(line):
        print(f"error: {line}", file=sys.stderr, flush=True)
    raise SystemExit(code)


def _said_by_another_rank(line: str) -> bool:
    """Says whether another rank on this machine has printed this line. Ranks share a folder that torchrun makes."""
    own = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if own is None:
        return False
    try:
        (Path(own).parents[1] / hashlib.sha256(line.encode()).hexdigest()).touch(exist_ok=False)
    except OSError as error:
        return isinstance(error, FileExistsError)
    return False


def one_line(message: str) -> str:
    """Folds a library's message into one line that a terminal can show, with a suggestion for a misspelt name."""
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

    from stp.config import SCHEMAS
    from stp.config.compose import ROOTS
    from stp.models.options import Lora
    from stp.run.engine import Optimizer
    from stp.run.guards import Guards
    from stp.tasks.base import Data
    from stp.trainer import Trainer

    classes = [c for group in SCHEMAS.values() for c in group.values()]
    classes += [*ROOTS.values(), Trainer, Guards, Optimizer, Lora, Data]
    names = [f.name for c in classes if owner in (None, c.__name__) for f in fields(c)]
    close = difflib.get_close_matches(key, names, n=1)
    return close[0] if close else None
