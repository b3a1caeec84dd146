"""Asks questions of a process of its own: a script of this package that reads and answers JSON, one line each."""

import atexit
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import weakref
from typing import Any

START = 120  # seconds in which a process must report that it is ready, or count as broken


class Servant:
    """The caller's side of the process, which starts at the first question. Questions from several threads take turns.

    command: the script and its arguments. It writes a line with `ready` when it can be asked. broken: the error message if it
    cannot. A fork of the caller, and whoever gets no answer in time, starts a new process. It is a plain subprocess: it shares
    no memory, no locks and no CUDA context with the caller.
    """

    def __init__(self, command: list[str], broken: str, errors: int | None = subprocess.DEVNULL) -> None:
        """errors: where the process writes what it says to people, None for the caller's stderr."""
        self.command, self.broken, self.errors = command, broken, errors
        self.forget()
        _SERVANTS.add(self)

    def forget(self) -> None:
        """Starts afresh after a fork: the process belongs to the parent, and a thread of the parent may hold the lock."""
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.ready = False

    def ask(self, question: Any, seconds: float) -> bytes:
        """Returns the line that answers a question. It is empty if the process ended, or was silent for `seconds`.

        Raises:
            RuntimeError: the process does not start.
        """
        line = json.dumps(question).encode() + b"\n"
        with self.lock:
            self._start()
            assert self.process is not None and self.process.stdin is not None
            try:
                self.process.stdin.write(line)
                self.process.stdin.flush()
                reply = self._line(seconds)
            except OSError:
                reply = b""
            except BaseException:  # Ctrl-C or an alarm: the late reply must not answer the next question
                self.close()
                raise
            if not reply:
                self.close()
                self._launch()  # gives it time to get ready for the next question
            return reply

    def start(self) -> None:
        """Starts the process without waiting for it, because its imports take a moment."""
        with self.lock:
            if self.process is None:
                self._launch()

    def wait(self) -> None:
        """Starts the process and waits until it is ready.

        Raises:
            RuntimeError: the process does not start.
        """
        with self.lock:
            self._start()

    def close(self) -> None:
        """Ends the process, and the processes that it has started."""
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):  # its group, because what it has started may be what never ends
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]

    def _launch(self) -> None:
        # -P: math.py in this file's folder must not hide the standard library's
        command = [sys.executable, "-P", *self.command]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, process_group=0
        )
        self.ready = False

    def _start(self) -> None:
        if self.process is None:
            self._launch()
        if not self.ready:
            said = self._line(START)
            if said != b"ready\n":
                self.close()
                raise RuntimeError(said.decode(errors="replace").strip() or self.broken)
            self.ready = True

    def _line(self, seconds: float) -> bytes:
        """Reads the process's next line. Empty if the process ends, or stays silent for `seconds`."""
        assert self.process is not None and self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            return self.process.stdout.readline() if selector.select(seconds) else b""


_SERVANTS: "weakref.WeakSet[Servant]" = weakref.WeakSet()


def _forget_all() -> None:
    for servant in _SERVANTS:
        servant.forget()


@atexit.register
def _close_all() -> None:
    for servant in _SERVANTS:
        servant.close()


os.register_at_fork(after_in_child=_forget_all)
