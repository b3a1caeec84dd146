"""Imports the libraries once, then forks a process for each command that `tests.commands` asks for: `python -m tests.server`.

A request is a line of JSON on stdin: either what to start, whose answer is the process's number, or the number of a process to
wait for, whose answer is its exit code as `subprocess` has it.
"""

import atexit
import gc
import json
import os
import runpy
import sys
import threading
import traceback
from types import ModuleType
from typing import Any


def main() -> None:
    import deepspeed  # noqa: F401
    import hydra._internal.hydra  # noqa: F401
    import peft  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401

    gc.collect()
    gc.freeze()  # a fork copies the page of each object that its collector looks at
    for line in sys.stdin:
        request = json.loads(line)
        if isinstance(request, dict):
            answer = os.fork()
            if answer == 0:
                os._exit(command(**request))
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(request, 0)[1])
        print(answer, flush=True)


def command(arguments: list[str], cwd: str, env: dict[str, str], out: str, err: str) -> int:
    """Does what `python <arguments>` does, and returns the exit code. out, err: the files for what it prints."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, path in enumerate((os.devnull, out, err)):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
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
