"""Handles what happens to a run from outside: a signal to stop, a full disk, a lost rank."""

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from stp.errors import RunError

SIGNALS = (signal.SIGTERM, signal.SIGINT)

asked: int | None = None  # the signal that asked this process to stop, if any
_held = False


class Interrupted(SystemExit):
    """A signal ends the run on all ranks together. The exit code is the shell's: 143 for SIGTERM, 130 for SIGINT."""


def stop_at_once() -> None:
    """Makes a signal end this process at once, with the shell's exit code and without a traceback. For entry points."""

    def stop(number: int, frame: Any) -> None:
        raise Interrupted(128 + number)

    for number in SIGNALS:
        signal.signal(number, stop)


@contextmanager
def listening(grace: float) -> Iterator[None]:
    """Remembers a signal instead of obeying it at once. The run then stops at the next place where its state is whole.

    After `grace` seconds the process ends wherever it is; its written files stay whole. Only the main thread can listen.
    """
    global asked
    timers: list[threading.Timer] = []

    def give_up(number: int) -> None:
        print(f"error: {signal.Signals(number).name}: no state to save within {grace:g} s", file=sys.stderr, flush=True)
        os._exit(128 + number)

    def note(number: int, frame: Any) -> None:
        global asked
        if asked is None:
            asked = number
            timers.append(threading.Timer(grace, give_up, [number]))
            timers[0].daemon = True
            timers[0].start()

    asked = None
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, note) for number in SIGNALS} if main else {}
    try:
        yield
    finally:
        asked = None
        for timer in timers:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def hold(on: bool) -> None:
    """Forbids to stop while `on`, because the weights are between two updates."""
    global _held
    _held = on


def stop_if_asked(ranks: list[int | None]) -> None:
    """Raises `Interrupted` if a rank was asked to stop, unless stopping is forbidden. ranks: each rank's signal or None."""
    first = next((number for number in ranks if number is not None), None)
    if first is not None and not _held:
        raise Interrupted(128 + first)


@contextmanager
def explained(run: Path) -> Iterator[None]:
    """Turns long reports of libraries into an error of one line, for a full disk and for ranks that do not answer."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        again = f"continue with trainer.resume={run}"
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(
            sign in str(error) for sign in ("No space left", "PytorchStreamWriter", "inline_container")
        ):
            raise RunError(f"{run}: no space left on the disk ({reason}); free some, then {again}") from error
        if type(error).__name__.startswith("Dist") or "gloo" in str(error) or "NCCL" in str(error):
            where = f"rank {os.environ.get('RANK', '0')} of {os.environ.get('WORLD_SIZE', '1')}"
            raise RunError(
                f"{where}: another rank ended or does not answer ({reason}); see its message or the launcher's; {again}"
            ) from error
        raise
