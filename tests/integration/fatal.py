"""A run struck at a chosen moment: `python -m tests.integration.fatal <signal> <moment> <nth> <folder> [override …]`."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import stp.anchors.dataset
import stp.run.checkpoints
import stp.samplers.reveal
import stp.trained
from stp.cli import stop_at_once
from stp.run.engine import Engine
from stp.run.tracking import Tracker
from tests.integration.runs import run

# where a call is counted; the signal comes before the nth one does anything
MOMENTS: dict[str, tuple[Any, str]] = {
    "static dataset": (stp.anchors.dataset, "save_file"),
    "forward": (stp.samplers.reveal, "draw"),
    "optimizer": (Engine, "step"),
    "checkpoint": (stp.run.checkpoints, "_sync"),
    "latest": (stp.run.checkpoints, "write_atomically"),
    "log": (Tracker, "log"),
    "export": (stp.trained, "export"),
}


def strike(patch: Any, moment: str, nth: int, number: int) -> None:
    """Send this process a signal at the nth call of a moment. patch: pytest's monkeypatch, or its like."""
    owner, name = MOMENTS[moment]
    original, calls = getattr(owner, name), 0

    def struck(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    patch.setattr(owner, name, struck)


if __name__ == "__main__":
    number, moment, nth, folder, *overrides = sys.argv[1:]
    stop_at_once()
    if os.environ.get("RANK", "1") == "1":  # of two ranks the second
        strike(type("patch", (), {"setattr": staticmethod(setattr)}), moment, int(nth), signal.Signals[number])
    run(Path(folder), *overrides)
