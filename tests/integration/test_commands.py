"""A forked command is what a new interpreter would be: its exit code, what it prints, its folder, arguments and environment."""

import os
import subprocess
import sys
import time

import pytest

import stp.config
from tests.commands import command, environment, on_ranks, start

CODES = {
    "ends": "print('done')",
    "a code": "import sys; sys.exit(3)",
    "a message": "import sys; sys.exit('no')",
    "an exception": "{}['key']",
    "a signal": "import os; os.kill(os.getpid(), 9)",
    "at its end": "import atexit, threading; atexit.register(print, 'last'); threading.Timer(0.1, print, ['first']).start()",
    "its surroundings": "import os, sys; print(os.getcwd(), sys.argv, sorted(os.environ), sys.stdin.read(), __name__)",
}


@pytest.mark.parametrize("kind", CODES)
def test_a_fork_ends_and_speaks_as_a_new_interpreter(tmp_path, kind):
    given, env = ["-c", CODES[kind], "one", "two"], environment() | {"OWN": "1"}
    new = subprocess.run(
        [sys.executable, *given], cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    fork = command(*given, cwd=tmp_path, env=env)
    said = [done.stderr.splitlines()[-1:] for done in (fork, new)]  # above it, a traceback may show more of the source
    assert (fork.returncode, fork.stdout, said[0]) == (new.returncode, new.stdout, said[1])


def test_a_command_has_the_projects_modules_to_itself(tmp_path):
    """What one changes in a module is not so in the next."""
    for _ in range(2):
        done = command("-c", "import stp.config; print(stp.config.CONF); stp.config.CONF = 'another'", cwd=tmp_path)
        assert done.stdout == f"{stp.config.CONF}\n"
    done = command("-c", "import sys; print('stp.cli' in sys.modules)", cwd=tmp_path)  # which looks at the environment
    assert done.stdout == "False\n"


def test_ranks_know_their_places_and_meet(tmp_path):
    code = "import os, torch.distributed as group; group.init_process_group('gloo'); found = [None, None]; "
    code += "group.all_gather_object(found, os.environ['LOCAL_RANK']); print(group.get_rank(), found)"
    assert [done.stdout for done in on_ranks("-c", code, cwd=tmp_path)] == ["0 ['0', '1']\n", "1 ['0', '1']\n"]


def test_one_that_takes_too_long_is_killed(tmp_path):
    started, slow = time.perf_counter(), start("-c", "import time; time.sleep(60)", cwd=tmp_path)
    with pytest.raises(AssertionError, match="took longer"):
        slow.wait(timeout=0.2)
    assert time.perf_counter() - started < 30
    with pytest.raises(ProcessLookupError):
        os.kill(slow.pid, 0)


def test_settings_are_checked_and_runs_reported_without_what_loads_models(tmp_path):
    code = "import sys, stp.config, stp.report.report, stp.train.__main__; "
    code += "print({'transformers', 'peft', 'deepspeed'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
