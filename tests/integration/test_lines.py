"""What a run says without a terminal: its folder first, then how far it is, on the screen and in train.log."""

import re

import pytest

from stp.run import tracking
from stp.run.tracking import Logging, Tracker
from tests.integration.runs import run


def lines_of(tracker, steps, seconds, monkeypatch):
    """What a bar of `steps` steps says, each of which takes so many seconds."""
    now = [100.0]
    monkeypatch.setattr(tracking.time, "monotonic", lambda: now[0])
    with tracker.progress() as progress:
        bar = progress.add_task("training", total=steps + 4, completed=4, note="")
        for step in range(steps):
            now[0] += seconds
            progress.update(bar, advance=1, note=f"reward {step}")


def test_a_bar_says_its_first_and_last_step_and_one_every_half_minute(tmp_path, monkeypatch, capsys):
    lines_of(Tracker(tmp_path, Logging(), {}, True, tmp_path / "train.log"), 5, 12.0, monkeypatch)
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "training 5/9  reward 0  0:00:12 spent  0:00:48 left",
        "training 8/9  reward 3  0:00:48 spent  0:00:12 left",
        "training 9/9  reward 4  0:01:00 spent  0:00:00 left",
    ]
    logged = (tmp_path / "train.log").read_text().splitlines()
    assert [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", line) for line in logged] == said


def test_steps_of_minutes_are_said_one_by_one(tmp_path, monkeypatch, capsys):
    lines_of(Tracker(tmp_path, Logging(), {}, True), 4, 3600.0, monkeypatch)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 4 and said[0].endswith("1:00:00 spent  3:00:00 left")


def test_on_a_terminal_the_log_alone_gets_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    lines_of(Tracker(tmp_path, Logging(), {}, True, tmp_path / "train.log"), 2, 60.0, monkeypatch)
    assert "spent" not in capsys.readouterr().out and len((tmp_path / "train.log").read_text().splitlines()) == 2


def test_other_ranks_say_nothing(tmp_path, monkeypatch, capsys):
    lines_of(Tracker(tmp_path, Logging(), {}, False, tmp_path / "train.log"), 2, 60.0, monkeypatch)
    assert capsys.readouterr().out == "" and not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """The lines of a run's train.log, without their times."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        run(folder)
    return folder, [line[20:] for line in (folder / "train.log").read_text().splitlines()]


def test_a_run_says_its_folder_first_and_every_phase(said):
    folder, lines = said
    assert lines[0] == f"run folder: {folder}"
    found = "\n".join(lines)
    for pattern in (
        r"static dataset \d+/\d+ .* left\n",
        r"evaluating \(T=1\) 4/4 .* left\nupdate 0: accuracy",
        r"training 1/2  reward 0\.\d+  (kl .*)?loss \S+  \d+ forwards  \d+ tok/s  0:\d\d:\d\d spent  0:\d\d:\d\d left\n",
        r"training 2/2 ",
        r"evaluating \(T=1\) 4/4 .* left\nupdate 2: accuracy",
    ):
        assert re.search(pattern, found), (pattern, found)
