"""Commands in processes of their own, without the seconds of processor time that each would take to import the libraries.

A server imports them once (`tests/server.py`). A command is a fork of it that has its own arguments, folder, environment and
output, runs its module itself and ends on its own: its exit code, its signals and what it prints are those of
`python <arguments>`.
"""

import atexit
import itertools
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory

from tests.forked import Fork

ROOT = Path(__file__).parents[1]
SHARED = "STP_TEST_SERVER"  # names a socket


def environment() -> dict[str, str]:
    """This process's environment for a new command: on its own, one thread, from any folder."""
    launched = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "WANDB_SERVICE")
    kept = {k: v for k, v in os.environ.items() if k not in launched}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}


_numbers = itertools.count()


@cache
def _folder() -> Path:
    folder = TemporaryDirectory()
    atexit.register(folder.cleanup)
    return Path(folder.name)


def begin_server() -> str:
    """Starts a server. Returns the path of its socket, which is there once the libraries are imported."""
    path = str(_folder() / "server")
    env = environment() | {"DS_ACCELERATOR": "cpu"}
    server = subprocess.Popen([sys.executable, "-m", "tests.server", path], stdin=subprocess.PIPE, env=env, cwd=ROOT)
    atexit.register(server.communicate)
    return path


@cache
def _server() -> str:
    """The socket of the server that the processes of a suite share, or of an own one."""
    path, deadline = os.environ.get(SHARED) or begin_server(), time.monotonic() + 300
    while not Path(path).exists():
        assert time.monotonic() < deadline, "the server has not started"
        time.sleep(0.05)
    return path


@cache
def interpreter() -> str:
    """A command that does what `python` does, for scripts and launchers; its commands are forks too."""
    path = _folder() / "python"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -S {ROOT}/tests/forked.py {_server()} "$@"\n')
    path.chmod(0o755)
    return str(path)


@dataclass
class Command:
    """A command that has been started. out, err: the files for what it prints."""

    arguments: list[str]
    fork: Fork
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        return self.fork.pid

    def wait(self, timeout: float = 300) -> CompletedProcess[str]:
        """What became of it. One that takes longer than `timeout` seconds is killed, which is a failure."""
        late = not select.select([self.fork.connection], [], [], timeout)[0]
        if late:
            os.kill(self.pid, signal.SIGKILL)
        done = CompletedProcess(self.arguments, self.fork.code(), self.out.read_text(), self.err.read_text())
        assert not late, f"{self.arguments} took longer than {timeout} s: {done.stderr[-3000:]}"
        return done


def start(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> Command:
    """Starts `python <arguments>`, which begin with -m or -c, in a folder."""
    out, err = (_folder() / f"{next(_numbers)}" for _ in range(2))
    with open(os.devnull, "rb") as nothing, open(out, "wb") as said, open(err, "wb") as told:
        files = [file.fileno() for file in (nothing, said, told)]
        fork = Fork(_server(), arguments, str(cwd), env or environment(), files)
    return Command(list(arguments), fork, out, err)


def command(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> CompletedProcess[str]:
    """Runs `python <arguments>` to its end."""
    return start(*arguments, cwd=cwd, env=env).wait()


def on_ranks(*arguments: str, cwd: Path, count: int = 2) -> list[CompletedProcess[str]]:
    """Runs `torchrun --nproc_per_node <count> <arguments>` to the end of every rank; none is ended because another failed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    places = [environment() | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    started = [start(*arguments, cwd=cwd, env=place) for place in places]
    return [rank.wait() for rank in started]
