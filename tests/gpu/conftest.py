"""Where the checks run, and how each tells what it expected and what it found."""

import json
import os
import time
from pathlib import Path

import pytest
import torch

# `scripts/gpu.py` sets these: the file to which each finding is added as a line of JSON, and the time at which checks stop
FOUND, UNTIL = "STP_GPU_FOUND", "STP_GPU_UNTIL"


@pytest.hookimpl(tryfirst=True)  # before -m chooses by the marker
def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


def pytest_collection_finish(session):
    write(planned=[item.name for item in session.items])


def write(**line):
    """Adds a line to the file of findings, at once: what was found before a crash is kept."""
    if FOUND in os.environ:
        with open(os.environ[FOUND], "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


@pytest.fixture(autouse=True)
def time_left():
    if time.time() > float(os.environ.get(UNTIL, "inf")):
        pytest.skip("no time left")


@pytest.fixture(scope="session")
def device():
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


@pytest.fixture
def found(request):
    """Takes a finding: what is checked, what was expected, what was found, and whether that is right (None: only measured).

    A check with a wrong finding fails at its end, when all of its findings are known.
    """
    wrong = []

    def finding(what, expected, value, right=None):
        verdict = {None: "measured", True: "passed", False: "FAILED"}[right]
        write(test=request.node.name, what=what, expected=expected, found=value, verdict=verdict)
        if right is False:
            wrong.append(f"{what}: expected {expected}, found {value}")

    yield finding
    assert not wrong, "; ".join(wrong)


def pytest_runtest_logreport(report):
    """Writes how a test ended: one that was skipped was not tried, and its reason is kept."""
    if report.when == "call" or report.outcome != "passed":
        why = ""
        if report.skipped:
            why = report.longrepr[2].removeprefix("Skipped: ")
        elif report.failed:
            why = " ".join(str(report.longrepr.reprcrash.message).split()) if hasattr(report.longrepr, "reprcrash") else "error"
        write(ended=report.nodeid.partition("::")[2], outcome=report.outcome, why=why[:300], seconds=round(report.duration, 1))
