"""math-verify in a process of its own, so that no answer can hold up, break or kill the caller, whatever thread asks.

The process bounds itself in CPU time, which a busy machine does not stretch: after SOFT seconds an exception ends the
comparison; after HARD seconds the kernel ends the process (a huge power is computed outside Python's reach), and another is
started. Both count as not equal. Run as a script, this file is that process.
"""

import atexit
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from typing import Any

SOFT, HARD = 0.2, 0.4  # seconds of CPU time per question
START = 120  # seconds until a process that does not say it is ready counts as broken
MEMORY = 4 << 30  # bytes of address space


class Judge:
    """A process that compares LaTeX answers, started when first asked. Questions from several threads take turns."""

    def __init__(self) -> None:
        self.ready = False
        self.forget()
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """After a fork the process is the parent's, and the lock may be held by a thread that only the parent has."""
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None

    def equal(self, answer: str, gold: str) -> bool:
        """Whether math-verify finds the answer equal to the gold one within the bound."""
        with self.lock:
            self._start()
            assert self.process is not None and self.process.stdin is not None
            try:
                self.process.stdin.write(json.dumps([gold, answer]).encode() + b"\n")
                self.process.stdin.flush()
                reply = self._line(START)
            except OSError:
                reply = b""
            except BaseException:  # Ctrl-C, or a caller's alarm: the reply still to come is not the next question's
                self.close()
                raise
            if not reply:
                self.close()
                self._launch()  # ready by the time it is asked
            return reply == b"true\n"

    def start(self) -> None:
        """Start the process without waiting for it: it takes a second or two to import its library."""
        with self.lock:
            if self.process is None:
                self._launch()

    def close(self) -> None:
        """End the process."""
        process, self.process = self.process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]

    def _launch(self) -> None:
        # -P: this file's folder holds math.py, which must not hide the standard library's
        command = [sys.executable, "-P", os.path.abspath(__file__)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.ready = False

    def _start(self) -> None:
        if self.process is None:
            self._launch()
        if not self.ready:
            if self._line(START) != b"ready\n":
                self.close()
                raise RuntimeError("math-verify does not start: is it installed? (pip install 'math-verify>=0.9,<0.10')")
            self.ready = True

    def _line(self, seconds: float) -> bytes:
        """The process's next line; empty when it ends, or says nothing for so long."""
        assert self.process is not None and self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            return self.process.stdout.readline() if selector.select(seconds) else b""


_JUDGE = Judge()
atexit.register(_JUDGE.close)
equal, start = _JUDGE.equal, _JUDGE.start


# The process


class Expired(BaseException):
    """The soft bound. Not an Exception, so that no library's handler takes it for one of its own."""


def _expire(*_: Any) -> None:
    raise Expired


def compare(gold: str, answer: str) -> bool:
    """Whether math-verify parses both and finds them equal."""
    from math_verify import parse, verify

    def parsed(text: str) -> list[Any]:
        return parse(f"\\boxed{{{text}}}", parsing_timeout=None)

    return bool(verify(parsed(gold), parsed(answer), timeout_seconds=None))


def serve() -> None:
    """Answer questions, one JSON line each, until the input ends."""
    import logging
    import resource

    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no reply
    compare("x+1", "1+x")  # imports, and builds what the first comparison would build

    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's
    signal.signal(signal.SIGVTALRM, _expire)
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        gold, answer = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, HARD)  # ends the process
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, SOFT, 0.05)  # again, in case a handler swallows it
            result = compare(gold, answer)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        except (Expired, Exception):
            result = False
        while True:  # the timer may strike once more while it is being turned off
            try:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
                break
            except Expired:
                pass
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(result), file=replies, flush=True)


if __name__ == "__main__":
    serve()
