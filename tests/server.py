"""Imports the libraries once, then forks a process for each command that is asked for: `python -m tests.server <socket>`.

A request comes over a connection of its own (`tests/forked.py`): the descriptors of the command's stdin, stdout and stderr, and
a line of JSON. The answers are the process's number, and at its end the exit code as `subprocess` has it. The server ends with
its own stdin.
"""

import atexit
import contextlib
import gc
import json
import os
import runpy
import select
import socket
import sys
import threading
import traceback
from types import ModuleType
from typing import Any


def main() -> None:
    import deepspeed  # noqa: F401
    import hydra._internal.hydra  # noqa: F401
    import peft  # noqa: F401
    import rich.progress  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401

    import stp.config
    import stp.loop  # not stp.cli, which looks at the environment

    stp.config.preset_config("lora")  # what composes and parses has been used once

    gc.collect()
    gc.freeze()  # a fork copies the page of each object that its collector looks at
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1] + "~")
    listener.listen()
    os.rename(sys.argv[1] + "~", sys.argv[1])
    while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
        connection = listener.accept()[0]
        if os.fork() == 0:
            listener.close()
            attend(connection)
            os._exit(0)
        connection.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def attend(connection: socket.socket) -> None:
    """Starts what is asked for and tells how it ends."""
    files = socket.recv_fds(connection, 1, 3)[1]
    with connection.makefile("rb") as lines:
        request = json.loads(lines.readline())
    pid = os.fork()
    if pid == 0:
        connection.detach()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os._exit(command(**request))
    for file in files:
        os.close(file)
    connection.sendall(b"%8d" % pid)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # whoever asked may have gone
        connection.sendall(b"%8d" % code)


def command(arguments: list[str], cwd: str, env: dict[str, str]) -> int:
    """Does what `python <arguments>` does, and returns the exit code."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    streams = ((0, "r", -1, None), (1, "w", -1, None), (2, "w", 1, "backslashreplace"))  # as an interpreter begins with them
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, buffering, errors=errors, closefd=False)  # noqa: SIM115
        for number, mode, buffering, errors in streams
    )
    kind, what, *rest = arguments
    try:
        if kind == "-m":
            sys.argv = [what, *rest]
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            sys.argv = ["-c", *rest]
            program = sys.modules["__main__"] = ModuleType("__main__")
            exec(compile(what, "<string>", "exec"), vars(program))
        code: Any = 0
    except SystemExit as ending:
        code = ending.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    if not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # what the interpreter does at its end
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    main()
