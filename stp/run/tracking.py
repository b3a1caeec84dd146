"""Records a run: W&B (imported nowhere else), JSONL files, phase timers and the progress display."""

import json
import logging
import math
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from stp.errors import fail, require, require_choice
from stp.run.files import read_jsonl, write_atomically
from stp.run.memory import peak_memory_mb
from stp.text import visible_lines


@dataclass
class Logging:
    """Where metrics go besides the run's own files."""

    wandb: str = field(
        default="auto", metadata={"help": "auto (online when logged in, else offline) | online | offline | disabled"}
    )
    project: str = field(default="stp", metadata={"help": "W&B project"})
    name: str | None = field(
        default=None,
        metadata={"help": "W&B's name of the run; null is <task>/<experiment, or model-sampler-estimator>-seed<seed>"},
    )
    group: str | None = field(default=None, metadata={"help": "W&B's group; null is the default name without the seed"})
    system: bool = field(default=True, metadata={"help": "W&B records the use of GPUs, CPUs, memory and disk too"})
    samples: int = field(default=4, metadata={"help": "completions written to samples.jsonl per update"})
    ledger: str | None = field(
        default=None, metadata={"help": "a CSV file that gets a line per finished run; trainer.resume=auto skips what it has"}
    )

    def __post_init__(self) -> None:
        require_choice("logging.wandb", self.wandb, ("auto", "online", "offline", "disabled"))
        strange = sorted(set(self.project) & set("/\\#?%:"))
        require(bool(self.project) and not strange, "logging.project", self.project, "a name without / \\ # ? % :, say stp")
        require(len(self.project) <= 128, "logging.project", self.project, "W&B takes at most 128 characters")
        for name in ("name", "group"):
            given = getattr(self, name)
            require(given is None or 0 < len(given) <= 128, f"logging.{name}", given, "W&B takes 1 to 128 characters")
        rule = "it is a table of finished runs; give a file whose name ends in .csv"
        require(self.ledger is None or self.ledger.endswith(".csv"), "logging.ledger", self.ledger, rule)
        require(self.samples >= 0, "logging.samples", self.samples, "a number of completions cannot be negative")


def labelled(options: Logging, choices: dict[str, Any], seed: int) -> Logging:
    """Fills in W&B's name and group where they are null. choices: the option taken in each group."""
    method = "-".join(str(choices.get(group)) for group in ("model", "sampler", "estimator"))
    experiment = f"{choices.get('task')}/{choices.get('experiment') or method}"
    return replace(options, name=options.name or f"{experiment}-seed{seed}", group=options.group or experiment)


EVERY = 30.0  # seconds between two lines of a progress bar
TRAINING = ("sample", "score", "reward", "rescue", "update")  # the phases of an update


class Clock:
    """Counts wall-clock seconds by phase. Phases do not nest; the time between them is `other`.

    `cpu` counts the processor seconds of all threads of this rank in the training phases. A busy machine does not change them.
    """

    def __init__(self, spent: dict[str, float] | None = None) -> None:
        self.spent: dict[str, float] = defaultdict(float, spent or {})
        self.cpu = self.spent.pop("cpu", 0.0)
        self.started = time.perf_counter() - sum(self.spent.values())

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Times a phase. On a GPU it ends when the work has ended, not when it was queued."""
        started, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.spent[name] += time.perf_counter() - started
            self.cpu += time.process_time() - cpu if name in TRAINING else 0.0

    def totals(self) -> dict[str, float]:
        """Returns the seconds of each phase and of `other`, which add up to the wall clock, and `cpu`."""
        phases = {name: s for name, s in self.spent.items() if name != "other"}
        return phases | {"other": time.perf_counter() - self.started - sum(phases.values()), "cpu": self.cpu}


class Tracker:
    """Writes a run's files. Only rank 0's tracker is active; those of other ranks are silent."""

    def __init__(self, folder: Path, options: Logging, config: dict[str, Any], active: bool, log: Path | None = None) -> None:
        """log: the file that keeps what is said. None takes the log file that Hydra has opened for this command, if any."""
        self.folder, self.options, self.config, self.active = folder, options, config, active
        self.file = log or _hydra_log()
        self.console = Console(quiet=not active, highlight=False, soft_wrap=True)
        self.run: Any = None
        if active:
            folder.mkdir(parents=True, exist_ok=True)

    def start_wandb(self, resume_id: str | None) -> None:
        """Starts a W&B run, or continues the one with this id, unless W&B is disabled."""
        if self.active and self.options.wandb != "disabled":
            self.run = _start_wandb(self.folder, self.options, self.config, resume_id)

    @property
    def samples(self) -> int:
        """How many completions of each update go to samples.jsonl."""
        return self.options.samples

    @property
    def wandb_id(self) -> str | None:
        """W&B's id of this run, with which it can be resumed."""
        return self.run.id if self.run is not None else None

    def append(self, name: str, records: list[dict[str, Any]]) -> None:
        """Appends records to `<name>.jsonl`."""
        if self.active and records:
            with (self.folder / f"{name}.jsonl").open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(_finite(record)) + "\n" for record in records)

    def log(self, metrics: dict[str, Any]) -> None:
        """Adds the process's peak memory to an update's metrics, appends them to metrics.jsonl and sends them to W&B."""
        metrics["memory/peak_mb"] = peak_memory_mb()
        self.append("metrics", [metrics])
        self._send(metrics)

    def _send(self, metrics: dict[str, Any]) -> None:
        if self.run is not None:
            self.run.log({k: v for k, v in metrics.items() if k != "update"}, step=metrics["update"])

    def keep_until(self, update: int, updates: int) -> int:
        """Drops lines that a resumed run will write again. Returns the last update whose metrics are logged.

        A checkpoint is written before its update is evaluated and logged. The evaluation after the last of the run's `updates`
        is repeated even if it is logged, because the summary needs it.

        Sends W&B the remaining lines that it has not received yet. In offline mode it sends all of them, because a resumed run
        starts a new file that replaces the old one when it is synced, and a killed run leaves an empty file.
        """
        logged = self._drop_after("metrics", update, default=min(update, 0))
        self._drop_after("eval", min(logged, updates - 1))
        self._drop_after("variance", update)
        self._drop_after("samples", update)
        self._drop_after("calibration", update)
        for line in read_jsonl(self.folder / "metrics.jsonl") if self.run is not None else []:
            if line["update"] >= self.run.step:
                self._send(line)
        return logged

    def drop_base(self) -> None:
        """Drops the base's lines from eval.jsonl, because it will be measured again."""
        file = self.folder / "eval.jsonl"
        if self.active and file.exists():
            lines = [line for line in file.read_text(encoding="utf-8").splitlines() if _update_of(line) != 0]
            write_atomically(file, "".join(line + "\n" for line in lines))

    def _drop_after(self, name: str, update: int, default: int = 0) -> int:
        file = self.folder / f"{name}.jsonl"
        if not (self.active and file.exists()):
            return default
        lines = [line for line in file.read_text(errors="replace", encoding="utf-8").splitlines() if _update_of(line) <= update]
        write_atomically(file, "".join(line + "\n" for line in lines))
        return int(_update_of(lines[-1])) if lines else default

    def summary(self, record: dict[str, Any]) -> None:
        """Writes summary.json and W&B's summary."""
        if self.active:
            write_atomically(self.folder / "summary.json", json.dumps(_finite(record), indent=1) + "\n")
        if self.run is not None:
            self.run.summary.update(_finite(record))

    def say(self, text: str) -> None:
        """Prints a line and adds it to the log file."""
        self.note(text)
        if self.active:
            self.console.print(visible_lines(text), markup=False)

    def note(self, text: str) -> None:
        """Adds a line with the time to the log file only."""
        if self.active and self.file is not None and self.file.parent.is_dir():
            with self.file.open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {visible_lines(text)}\n")

    def progress(self) -> Progress:
        """Returns a live display on a terminal, or plain lines elsewhere. The log file gets the lines in any case."""
        terminal = sys.stdout.isatty()
        return Lines(
            self.note if terminal else self.say,
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            speed_estimate_period=3600,  # seconds: a large model's update or batch takes minutes
            disable=not (self.active and terminal),
        )

    def close(self) -> None:
        """Ends the W&B run."""
        if self.run is not None:
            self.run.finish()
            self.run = None


class Lines(Progress):
    """rich's progress bars, which also print how far each is: at its first and last step, and every half minute between."""

    def __init__(self, say: Callable[[str], None], *columns: ProgressColumn, **options: Any) -> None:
        super().__init__(*columns, **options)
        self.say = say
        self.began: dict[TaskID, tuple[float, float]] = {}  # when a bar began, and how much was done by then
        self.said: dict[TaskID, float] = {}

    def add_task(self, description: str, *arguments: Any, **options: Any) -> TaskID:
        """Begins a bar."""
        bar = super().add_task(description, *arguments, **options)
        self.began[bar] = (time.monotonic(), self._tasks[bar].completed)
        return bar

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Moves a bar forward, and prints a line if one is due."""
        super().update(task_id, **changes)
        bar, now = self._tasks[task_id], time.monotonic()
        if now - self.said.get(task_id, -math.inf) < EVERY and not bar.finished:
            return
        self.said[task_id] = now
        (began, before), total = self.began[task_id], bar.total or 0
        left = (now - began) * (total - bar.completed) / max(bar.completed - before, 1e-9)
        parts = [f"{bar.description} {bar.completed:g}/{total:g}", bar.fields["note"], f"{_time(now - began)} spent"]
        self.say("  ".join(part for part in [*parts, f"{_time(left)} left"] if part))


def _time(seconds: float) -> str:
    """Formats seconds as `1:02:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def _hydra_log() -> Path | None:
    """Returns the log file that Hydra has opened for this command, or None if Hydra does not run it."""
    return next((Path(h.baseFilename) for h in logging.getLogger().handlers if isinstance(h, logging.FileHandler)), None)


def _update_of(line: str) -> float:
    try:
        return json.loads(line)["update"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return math.inf  # a line cut short by a crash


def _finite(value: Any) -> Any:
    """Makes a value fit for JSON: NaN and infinities become null, tensors become numbers."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, torch.Tensor):
        return _finite(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def require_wandb(options: Logging) -> None:
    """Refuses early what W&B would refuse late: `online` without a login, and an unknown mode in the environment."""
    if options.wandb == "online":
        require(_logged_in(), "logging.wandb", "online", "not logged in to W&B; run wandb login, or use logging.wandb=offline")
    if options.wandb == "auto" and os.environ.get("WANDB_MODE"):
        require_choice("WANDB_MODE", os.environ["WANDB_MODE"], ("online", "offline", "disabled", "shared", "dryrun", "run"))


def _start_wandb(folder: Path, options: Logging, config: dict[str, Any], resume_id: str | None) -> Any:
    import wandb

    mode = options.wandb
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE") or ("online" if _logged_in() else "offline")
    try:
        settings = wandb.Settings(
            silent=True, console="off", x_disable_stats=not options.system, disable_git=True, save_code=False, init_timeout=30
        )
        common: dict[str, Any] = {"project": options.project, "dir": folder, "config": config, "settings": settings}
        common |= {"name": options.name, "group": options.group, "id": resume_id, "resume": "allow" if resume_id else None}
        try:
            return wandb.init(mode=mode, **common)  # type: ignore[arg-type]
        except wandb.errors.Error:
            if options.wandb == "online":
                raise
            return wandb.init(mode="offline", **common)  # there is a login, but the service cannot be reached
    except (wandb.errors.Error, ValueError) as error:  # ValueError: a WANDB_… variable has a bad value
        reason = " ".join(str(error).split())
        fail("logging.wandb", options.wandb, f"W&B does not start ({reason}); use logging.wandb=offline or logging=files")


def _logged_in() -> bool:
    """Says whether W&B has a key or a token for its service. Their values are not used."""
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").partition("://")[2].split("/")[0]
    given = any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"))
    return given or host in _netrc()


def _netrc() -> str:
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return path.read_text(encoding="utf-8") if path.is_file() else ""
