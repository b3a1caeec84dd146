"""The process that runs the functions which a user named with `task.reward` and `task.correct`.

This is the only place where the project runs code that is not its own: the user named it. The process imports these files and
nothing of the package, neither torch nor transformers.

Run as a script with the functions' names and the seconds that a call may take. Each line that it reads is a call: the number of
the function, a question, its answer and a completion. Each line that it writes is `{"value": …}` or `{"error": "…"}`.
"""

import importlib
import importlib.util
import json
import math
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

LARGEST = 1e6  # of a number, either way: squares of rewards are added up in 32 bits
SPARE = 5  # seconds after which the process ends by itself, in case nobody is left to end it


def load(name: str) -> Callable[[Any, Any, str], Any]:
    """Imports `file.py:function` or `module:function`. A file may import its neighbours."""
    place, _, function = name.rpartition(":")
    if place.endswith(".py"):
        path = Path(place).absolute()
        sys.path.append(str(path.parent))
        known = f"own_code_{path.stem}"
        module = sys.modules.get(known)
        if module is None or module.__file__ != str(path):
            spec = importlib.util.spec_from_file_location(known, path)
            assert spec is not None and spec.loader is not None
            module = sys.modules[known] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
    else:
        sys.path.append(os.getcwd())
        module = importlib.import_module(place)
    found = getattr(module, function, None)
    if not callable(found):
        there = sorted(known for known, value in vars(module).items() if callable(value) and not known.startswith("_"))
        raise LookupError(f"it has no function {function!r}" + (f", but {', '.join(there[:8])}" if there else ""))
    return found  # type: ignore[no-any-return]


class NoNumberError(Exception):
    """A function returned what cannot be a reward."""


def number(value: Any) -> float:
    """Returns a number from any type that is one. Text is none.

    Raises:
        NoNumberError: it is something else, NaN, infinite, or beyond LARGEST.
    """
    try:
        found = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise NoNumberError(f"it returned {value!r:.80}, which is no finite number")
    if abs(found) > LARGEST:
        raise NoNumberError(f"it returned {value!r:.80}, which is not between -{LARGEST:g} and {LARGEST:g}")
    return found


def parts(value: Any) -> dict[str, float]:
    """Returns named parts: those of a dict, or a number as the part `reward`."""
    if not isinstance(value, dict):
        return {"reward": number(value)}
    if not value:
        raise NoNumberError("it returned a dict without parts")
    return {str(name): number(part) for name, part in value.items()}


def said(error: BaseException) -> str:
    """Returns an error in one line, with the place in the user's file where it was raised."""
    text = " ".join(f"{type(error).__name__}: {error}".rstrip(": ").split())
    trace, place = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        place = (
            f" ({Path(file).name}, line {trace.tb_lineno})" if file not in (__file__, "") and "importlib" not in file else place
        )
        trace = trace.tb_next
    return text[:400] + place


def serve(names: list[str], seconds: float) -> None:
    """Imports the functions, says `ready` (or the error that prevents it), and answers calls until the input ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a function prints must not look like a reply
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller
    functions = []
    for name in names:
        try:
            functions.append(load(name))
        except BaseException as error:  # whatever the import raises, SystemExit included
            print(f"{name}: {said(error)}", file=replies, flush=True)
            return
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        which, *arguments = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, seconds + SPARE)
        try:
            reply: dict[str, Any] = {"value": parts(functions[which](*arguments))}
        except NoNumberError as error:
            reply = {"error": str(error)}
        except BaseException as error:
            reply = {"error": said(error)}
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    serve(sys.argv[2:], float(sys.argv[1]))
