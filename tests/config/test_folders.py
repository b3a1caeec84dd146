"""A job's folder: one job's alone, never another's files, and gone again where nothing came of the job."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stp.errors import UserError
from stp.run import folders
from tests.commands import environment

TAKE = "import sys; from pathlib import Path; from stp.run.folders import *; "


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nothing taken yet, as in a new process."""
    monkeypatch.setattr(folders, "_taken", {})
    monkeypatch.setattr(folders, "_locks", {})


def take(folder, again=False):
    return folders.take(folder, again, "train.log")


def in_another_process(folder, call):
    command = [sys.executable, "-c", f"{TAKE}\ntry: print({call})\nexcept ValueError as e: print(e)\nsys.stdin.read()"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), text=True, cwd=folder)


def test_a_second_job_gets_a_folder_of_its_own(tmp_path):
    assert [take(tmp_path / "a" / "run").name for _ in range(3)] == ["run", "run-2", "run-3"]


def test_the_working_directory_has_a_name_of_its_own(tmp_path, monkeypatch):
    """`hydra.run.dir=.` is not told to be another run's folder."""
    monkeypatch.chdir(tmp_path)
    assert folders.named(".") == tmp_path == take(folders.named("."))
    assert folders.named("run") == Path("run")


def test_jobs_that_start_at_once_share_no_folder(tmp_path):
    barrier, found = threading.Barrier(8), []

    def one():
        barrier.wait()
        found.append(take(tmp_path / "a" / "run"))

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 8


def test_sweeps_share_no_folder(tmp_path):
    assert [folders.take_sweep(tmp_path / "sweep").name for _ in range(3)] == ["sweep", "sweep-2", "sweep-3"]


def test_the_folder_of_an_earlier_job_is_taken_over_only_where_that_is_asked(tmp_path):
    take(tmp_path / "run")
    (tmp_path / "run" / "config.yaml").write_text("{}")
    assert take(tmp_path / "run", again=True) == tmp_path / "run"
    assert take(tmp_path / "run").name == "run-2"


@pytest.mark.parametrize("name", ["weights", "adapter", "checkpoints", "config.yaml", "summary.json", "eval.jsonl", "wandb"])
@pytest.mark.parametrize("again", [False, True])
def test_files_that_no_job_wrote_are_not_replaced(name, again, tmp_path):
    (tmp_path / "mine" / name).mkdir(parents=True)
    if again and name == "checkpoints":  # a run's, copied without its hidden files
        assert take(tmp_path / "mine", again=True) == tmp_path / "mine"
        return
    with pytest.raises(UserError, match=f"hydra.run.dir=.*mine: it holds {name}, .*give another folder"):
        take(tmp_path / "mine", again)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == [name]


def test_a_folder_that_was_made_for_nothing_is_removed(tmp_path):
    folder = take(tmp_path / "run")
    (folder / "train.log").touch()
    folders.give_back(folder)
    assert not folder.exists()


def test_what_others_keep_in_the_folder_stays(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "nightly.log").write_text("keep")
    folder = take(tmp_path / "logs")
    (folder / "train.log").touch()
    folders.give_back(folder)
    assert [path.name for path in folder.iterdir()] == ["nightly.log"]


@pytest.mark.parametrize("kept", ["metrics.jsonl", "other.log"])
def test_a_folder_with_results_stays_whole(kept, tmp_path):
    folder = take(tmp_path / "run")
    (folder / kept).write_text("{}")
    folders.give_back(folder)
    assert {path.name for path in folder.iterdir()} == {".hydra", kept}


def test_a_folder_that_this_process_did_not_take_stays(tmp_path, monkeypatch):
    (tmp_path / ".hydra").mkdir()
    folders.give_back(tmp_path)
    monkeypatch.chdir(tmp_path)
    folders.give_back(Path("."))
    assert (tmp_path / ".hydra").is_dir()


def test_a_run_at_work_is_not_taken_over_and_a_killed_one_is(tmp_path):
    """The lock goes with the process, however that ends."""
    other = in_another_process(tmp_path, "take(Path('run'), False, 'train.log')")
    assert other.stdout.readline() == "run\n"
    with pytest.raises(UserError, match="another process is at work there"):
        take(tmp_path / "run", again=True)
    other.kill()
    other.wait()
    assert take(tmp_path / "run", again=True) == tmp_path / "run"


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"hydra\.run\.dir=.*file/run: nothing can be written there"):
        take(tmp_path / "file" / "run")
