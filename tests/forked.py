"""`python -m …` and `python -c …` as a fork of the server (`tests/server.py`): `python forked.py <socket> <arguments>`.

This is what scripts and launchers get as their interpreter. It imports next to nothing, passes on its arguments, folder,
environment, output and the signals that it gets, and ends as the fork ends, by the same signal too.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence


class Fork:
    """A command that the server has started. files: the descriptors of its stdin, stdout and stderr."""

    def __init__(self, path: str, arguments: Sequence[str], cwd: str, env: Mapping[str, str], files: Sequence[int]) -> None:
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.connect(path)
        socket.send_fds(self.connection, [b"+"], files)
        request = {"arguments": list(arguments), "cwd": cwd, "env": dict(env)}
        self.connection.sendall(json.dumps(request).encode() + b"\n")
        self.pid = self._answer()

    def _answer(self) -> int:
        return int(self.connection.recv(8, socket.MSG_WAITALL))

    def code(self) -> int:
        """Waits for the end. Returns the exit code as `subprocess` has it."""
        return self._answer()


def main() -> None:
    path, *arguments = sys.argv[1:]
    arguments = arguments[arguments[:1] == ["-u"] :]  # torchrun's
    if arguments[:1] not in (["-m"], ["-c"]):
        os.execv(sys.executable, [sys.executable, *arguments])
    fork = Fork(path, arguments, os.getcwd(), os.environ, (0, 1, 2))
    passed = (signal.SIGTERM, signal.SIGINT)
    for number in passed:
        signal.signal(number, lambda number, _: os.kill(fork.pid, number))
    code = fork.code()
    if code < 0:
        for number in passed:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
