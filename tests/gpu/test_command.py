"""`make gpu`: the table that it makes of what the checks tell, what it does about those that hang, and without a GPU."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from scripts import gpu
from tests.gpu import conftest

RECORDS = [
    {"planned": ["test_a[x]", "test_a[y]", "test_b", "test_c[1]", "test_c[2]", "test_d"]},
    {"test": "test_b", "what": "a number", "expected": "at most 1", "found": "2", "verdict": "FAILED"},
    {"ended": "test_a[x]", "outcome": "passed", "why": ""},
    {"ended": "test_a[y]", "outcome": "passed", "why": ""},
    {"ended": "test_b", "outcome": "failed", "why": "a number: expected at most 1, found 2"},
    {"ended": "test_c[1]", "outcome": "failed", "why": "CUDA error: an illegal memory access"},
    {"ended": "test_c[2]", "outcome": "failed", "why": "CUDA error: an illegal memory access"},
]


@pytest.mark.parametrize(
    ("code", "rest", "whole"),
    [
        (1, "the part ended before", []),
        (-11, "the part ended before", ["exit code -11: last words"]),
        (None, "no time left", ["hung, and was ended; last: last words"]),
    ],
)
def test_nothing_is_hidden_of_what_failed_or_was_not_tried(code, rest, whole):
    lines = gpu.told_of("numbers", RECORDS, code, "last words")
    assert [(line.check, line.found, line.verdict) for line in lines[:4]] == [
        ("a number", "2", "FAILED"),
        ("a", "2 passed", "passed"),
        ("c (1 and 1 more)", "CUDA error: an illegal memory access", "FAILED"),
        ("d", rest, "not tried"),
    ]
    assert [line.found for line in lines[4:]] == whole and all(line.verdict == "FAILED" for line in lines[4:])
    table = gpu.markdown({"gpu": "a card", "flash-attn": None}, lines)
    assert table.splitlines()[0] == "gpu a card; not installed: flash-attn"
    assert f"{2 + len(whole)} FAILED, 1 passed, 0 measured, 1 not tried" in table
    assert table.splitlines()[-1] == f"| numbers | d | passes | {rest} | not tried |"


def test_without_a_gpu_it_says_so_and_nothing_is_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--to", str(tmp_path / "gpu")])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main() == 2 and not (tmp_path / "gpu").exists()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: make gpu: no CUDA GPU can be used here")


def test_the_parts_run_within_their_time_and_the_table_is_written(monkeypatch, tmp_path, capsys):
    """The first part fails, the second one is silent and hangs; the third gets what they left over: nothing."""
    scripts = {
        "numbers": "import json, os; open(os.environ['STP_GPU_FOUND'], 'w').write(json.dumps({'planned': ['test_x']})); 1 / 0",
        "speed": "import time; print('begun', flush=True); time.sleep(60)",
    }
    real = subprocess.Popen

    def popen(command, **options):
        part = command[-1].removeprefix("tests/gpu/test_").removesuffix(".py")
        return real([sys.executable, "-S", "-c", scripts[part]], **options)

    monkeypatch.setattr(gpu.subprocess, "Popen", popen)
    monkeypatch.setattr(gpu, "GRACE", 0.5)
    monkeypatch.setattr(gpu, "PARTS", {"numbers": 1, "speed": 0.1})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    card = SimpleNamespace(name="a card", total_memory=2**34)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--parts", "numbers", "speed", "--to", str(tmp_path)])
    assert gpu.main() == 1
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert record["machine"]["gpu"] == "a card" and record["machine"]["memory_gib"] == 16
    found = [(line["part"], line["check"], line["verdict"]) for line in record["lines"]]
    assert found == [("numbers", "x", "not tried"), ("speed", "the part as a whole", "FAILED")]
    assert record["lines"][1]["found"] == "hung, and was ended; last: begun"
    assert (tmp_path / "gpu.md").read_text().strip() in capsys.readouterr().out


def test_what_a_check_tells_is_on_the_disk_at_once(monkeypatch, tmp_path):
    monkeypatch.setenv(conftest.FOUND, str(tmp_path / "found.jsonl"))
    conftest.pytest_collection_finish(
        SimpleNamespace(items=[SimpleNamespace(name="test_a"), SimpleNamespace(name="test_b[1]")])
    )
    told = {"skipped": False, "failed": False, "duration": 1.0, "when": "call"}
    skipped = told | {
        "nodeid": "x.py::test_a",
        "outcome": "skipped",
        "skipped": True,
        "longrepr": ("x.py", 1, "Skipped: no card"),
    }
    crash = SimpleNamespace(reprcrash=SimpleNamespace(message="assert\n1 == 2"))
    failed = told | {"nodeid": "x.py::test_b[1]", "outcome": "failed", "failed": True, "longrepr": crash}
    for report in (skipped, failed):
        conftest.pytest_runtest_logreport(SimpleNamespace(**report))
    records = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    lines = gpu.told_of("numbers", records, 1, "")
    assert [(line.check, line.found, line.verdict) for line in lines] == [
        ("a", "no card", "not tried"),
        ("b (1)", "assert 1 == 2", "FAILED"),
    ]
