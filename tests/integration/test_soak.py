"""A short soak: a run struck at random ends as the one left alone; a run that does not is noticed."""

import os
import signal
import subprocess

import pytest

from stp.soak.soak import Episode, fingerprint, main, members
from tests.commands import environment
from tests.integration.runs import SMALL


def test_a_run_struck_at_random_ends_as_the_one_left_alone(tmp_path, monkeypatch, capsys):
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    main(["--minutes", "0", "--to", str(tmp_path / "soak"), "--seed", "2", *SMALL, "trainer.updates=6", "trainer.eval_every=3"])
    alone, struck, result = capsys.readouterr().out.splitlines()
    assert "no strike" in alone and "SIG" in struck and "0 processes left behind" in result
    assert len(fingerprint(tmp_path / "soak" / "alone")) == 6  # weights, metrics, variance, samples, calibration, eval


def test_a_difference_is_seen(tmp_path):
    for name, loss in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text(f'{{"update": 1, "loss": {loss}, "time/eval": {ord(name)}}}\n')
    a, b, c = (fingerprint(tmp_path / name) for name in "abc")
    assert a == b != c


def test_a_process_left_behind_is_found():
    parent = subprocess.Popen(["sh", "-c", "sleep 60 & exit 0"], start_new_session=True)
    parent.wait()
    (left,) = members(parent.pid)
    os.kill(left, signal.SIGKILL)


def test_growth_leaves_the_start_out(tmp_path):
    assert Episode(tmp_path, memory_mb=[0, 0, 5, 5, 6, 6, 8, 8]).growth() == 3.0


def test_a_folder_in_use_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as refused:
        main(["--to", str(tmp_path)])
    assert refused.value.code == 2 and "it exists" in capsys.readouterr().err
