"""Killed, stopped, out of space, damaged: nothing is lost, and what continues is the uninterrupted run, bit for bit."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from stp.errors import RunError, UserError
from stp.run.engine import Engine
from stp.run.files import read_jsonl
from stp.samplers import reveal
from tests.commands import command, environment, on_ranks, start
from tests.integration.fatal import strike
from tests.integration.runs import SMALL, metrics, run, weights

THREE = ["trainer.updates=3", "guards.window=3", "guards.entropy=99"]  # an alarm that takes all three updates to ring
EVERY = [*THREE, "trainer.checkpoint_every=1", "trainer.keep_checkpoints=9"]
RARELY = [*THREE, "trainer.checkpoint_every=0"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run, with a checkpoint after each of its three updates."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(folder / "run", *EVERY)
    return folder / "run"


def test_the_alarm_of_three_updates_rings_at_the_third(whole):
    assert [line["guard/alarms"] for line in metrics(whole)] == [0, 0, 1]


def assert_same(found, whole):
    assert metrics(found) == metrics(whole)
    for name in ("variance", "samples", "calibration", "eval"):
        assert read_jsonl(found / f"{name}.jsonl") == read_jsonl(whole / f"{name}.jsonl")
    assert all(torch.equal(a, b) for a, b in zip(weights(found).values(), weights(whole).values(), strict=True))
    assert not list(found.glob("checkpoints/writing-*"))
    for name in ("base", "final", "forwards_per_rollout"):
        assert json.loads((found / "summary.json").read_text())[name] == json.loads((whole / "summary.json").read_text())[name]


def damaged(whole, folder):
    """A copy of the run as if it had been killed after its last checkpoint."""
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns("weights", "summary.json"))
    return folder / "checkpoints"


def kill(folder, moment, nth):
    arguments = ["SIGKILL", moment, str(nth), str(folder), *EVERY, "trainer.resume=auto"]
    done = command("-m", "tests.integration.fatal", *arguments, cwd=Path.cwd())
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]


def test_killed_again_and_again(tmp_path, whole):
    """kill -9 while each kind of file is written, in a rollout and between two inner updates; resumed by itself each time."""
    run_folder = tmp_path / "name" / "run"
    kill(run_folder, "static dataset", 1)
    (static,) = (tmp_path / "outputs" / "static").iterdir()
    assert [p.name for p in static.iterdir()] == ["anchors.json"]
    kill(run_folder, "optimizer", 4)  # the second inner update of update 2
    assert [p.name for p in sorted(run_folder.glob("checkpoints/update-*"))] == ["update-000001"]
    kill(run_folder, "checkpoint", 2)  # its files are written, its name is not
    assert [p.name for p in run_folder.glob("checkpoints/writing-*")] == ["writing-000002"]
    kill(run_folder, "log", 1)  # its checkpoint is there, its line in metrics.jsonl is not
    assert (run_folder / "checkpoints" / "update-000002").is_dir() and len(metrics(run_folder)) == 1
    kill(run_folder, "forward", 10)  # in the rollout of update 3
    run(run_folder, *EVERY, "trainer.resume=auto")
    assert_same(run_folder, whole)


@pytest.mark.parametrize(
    ("number", "moment", "nth", "updates"),
    [
        (signal.SIGTERM, "forward", 5, 0),  # in the pregeneration
        (signal.SIGINT, "forward", 20, 1),  # in the rollout of update 2
        (signal.SIGTERM, "optimizer", 3, 2),  # in the first inner update of update 2, which it ends
        (signal.SIGTERM, "log", 2, 2),
        (signal.SIGINT, "log", 3, 3),  # when all is logged, and not yet exported and summed up
        (signal.SIGTERM, "export", 1, 3),
    ],
)
def test_a_signal_saves_the_last_update(tmp_path, monkeypatch, whole, number, moment, nth, updates):
    """No checkpoint is due in this run: only the signal makes one."""
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
        strike(patch, moment, nth, number)
        run(tmp_path / "run", *RARELY)
    assert stopped.value.code == 128 + number
    assert signal.getsignal(number) is not None
    found = sorted((tmp_path / "run" / "checkpoints").glob("update-*"))
    assert [p.name for p in found] == ([f"update-{updates:06d}"] if updates else [])
    run(tmp_path / "run", *RARELY, "trainer.resume=auto")
    assert_same(tmp_path / "run", whole)


def test_a_signal_in_a_rollout_lets_no_other_forward_begin(tmp_path, monkeypatch):
    forwards, draw = [], reveal.draw

    def counted(*args):
        forwards.append(None)
        if len(forwards) == 20:  # in the rollout of update 2
            os.kill(os.getpid(), signal.SIGTERM)
        return draw(*args)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(reveal, "draw", counted)
        run(tmp_path / "run", *RARELY)
    assert len(forwards) == 20


def test_a_signal_in_an_evaluation_keeps_the_update_before_it(tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        strike(patch, "forward", 6 * 5 + 3, signal.SIGTERM)  # pregeneration, three rollouts and an evaluation before it
        run(tmp_path / "run", *RARELY)
    assert [p.name for p in (tmp_path / "run" / "checkpoints").glob("update-*")] == ["update-000003"]
    assert len(metrics(tmp_path / "run")) == 2
    run(tmp_path / "run", *RARELY, "trainer.resume=auto")
    assert_same(tmp_path / "run", whole)


def test_a_signal_while_a_checkpoint_is_written_lets_it_end(tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        strike(patch, "checkpoint", 2, signal.SIGTERM)
        run(tmp_path / "run", *EVERY)
    assert [p.name for p in (tmp_path / "run" / "checkpoints").glob("*-0*")] == ["update-000001"]
    run(tmp_path / "run", *EVERY, "trainer.resume=auto")
    assert_same(tmp_path / "run", whole)


def test_the_command_ends_within_seconds(tmp_path):
    process = start("-m", "stp.train", *SMALL, "trainer.updates=1000", f"hydra.run.dir={tmp_path / 'run'}", cwd=tmp_path)
    deadline = time.perf_counter() + 60
    while not (tmp_path / "run" / "metrics.jsonl").exists() and time.perf_counter() < deadline:
        time.sleep(0.1)
    started = time.perf_counter()
    os.kill(process.pid, signal.SIGINT)
    done = process.wait(timeout=60)
    assert done.returncode == 130, done.stderr
    assert time.perf_counter() - started < 30
    assert "continue after update-0" in done.stdout and "Traceback" not in done.stderr


def truncate(checkpoint):
    file = next(checkpoint.rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-100])


def flip(checkpoint):
    file = max(checkpoint.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES = [
    ("manifest.json", "no manifest.json", lambda checkpoint: (checkpoint / "manifest.json").unlink()),
    ("manifest.json", "cannot be read", lambda checkpoint: (checkpoint / "manifest.json").write_text("{")),
    ("state.json", "cannot be read", lambda checkpoint: (checkpoint / "manifest.json").write_text("[]")),
    ("state.json", "state.json has changed", lambda checkpoint: (checkpoint / "state.json").write_text("{}")),
    ("tensors", "safetensors has changed since", truncate),
    ("tensors", "safetensors has changed since", flip),
    ("files", "is missing", lambda checkpoint: next(checkpoint.rglob("*.safetensors")).unlink()),
    ("files", "evil.pt does not belong", lambda checkpoint: (checkpoint / "evil.pt").write_bytes(b"\x80")),
]


@pytest.mark.parametrize("kind", ["manifest.json", "state.json", "tensors", "files"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path, capfd, whole, kind):
    checkpoints = damaged(whole, tmp_path / "run")
    damages = [(said, damage) for name, said, damage in DAMAGES if name == kind]
    for (_, damage), checkpoint in zip(damages, sorted(checkpoints.glob("update-*"), reverse=True), strict=False):
        damage(checkpoint)
    run(tmp_path / "unused", *EVERY, f"trainer.resume={tmp_path / 'run'}")
    lines = capfd.readouterr().out.splitlines()
    skipped = [line for line in lines if "skipped" in line]
    for line, (said, _), name in zip(skipped, damages, ("update-000003", "update-000002"), strict=True):
        assert said in line and name in line
    assert any("resumed after update 1" in line for line in lines)
    assert_same(tmp_path / "run", whole)
    assert len(list(checkpoints.glob("update-*"))) == 3  # the damaged ones are replaced


def test_what_ran_before_in_the_process_changes_nothing(tmp_path, whole):
    run(tmp_path / "other", "seed=5", "trainer.updates=1", "model.lora.rank=4", "model.lora.dropout=0.1", "sampler=standard")
    torch.manual_seed(7)
    torch.rand(3)
    run(tmp_path / "run", *EVERY)
    assert_same(tmp_path / "run", whole)


def test_another_number_of_ranks_is_continued_without_zero(tmp_path, whole):
    """One rank wrote it, two continue: the same completions, and a loss that is the same to rounding."""
    damaged(whole, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "update-000003")
    for done in on_ranks("-m", "stp.train", *SMALL, *EVERY, f"trainer.resume={tmp_path / 'run'}", cwd=tmp_path):
        assert done.returncode == 0, done.stderr[-3000:]
    found, wanted = metrics(tmp_path / "run"), metrics(whole)
    assert found[:2] == wanted[:2] and found[2]["reward/mean"] == wanted[2]["reward/mean"]
    assert found[2]["loss"] == pytest.approx(wanted[2]["loss"], abs=1e-5)


def test_no_whole_checkpoint_is_an_error_for_auto_too(tmp_path, whole):
    checkpoints = damaged(whole, tmp_path / "name" / "run")
    for checkpoint in checkpoints.glob("update-*"):
        truncate(checkpoint)
    for wanted in (str(tmp_path / "name" / "run"), "auto"):
        with pytest.raises(UserError, match=r"trainer\.resume=.*none of its checkpoints is whole"):
            run(tmp_path / "name" / "new", *EVERY, f"trainer.resume={wanted}")
    run(tmp_path / "name" / "other", "seed=3", "trainer.updates=1", "trainer.resume=auto")  # of other settings: a new run


def test_no_code_of_a_checkpoint_runs(tmp_path, whole):
    """A checkpoint whose manifest agrees with its files, one of which is a pickle that would run a command."""
    import hashlib

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "done"),)

    checkpoints = damaged(whole, tmp_path / "run")
    newest = checkpoints / "update-000003"
    file = next(newest.rglob("*.safetensors"))
    torch.save({"module": Evil()}, file)
    manifest = json.loads((newest / "manifest.json").read_text())
    manifest[file.relative_to(newest).as_posix()] = hashlib.sha256(file.read_bytes()).hexdigest()
    (newest / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="is no safetensors file"):
        run(tmp_path / "unused", *EVERY, "trainer.updates=4", f"trainer.resume={tmp_path / 'run'}")
    assert not (tmp_path / "done").exists()


def test_a_full_disk_ends_the_run_with_its_last_checkpoint_whole(tmp_path, monkeypatch, whole):
    save = Engine.save

    def full(self, folder, tag):
        save(self, folder, tag)
        if self.updates_done > 2:  # two inner updates each: the second checkpoint
            next((folder / tag).rglob("*.safetensors")).write_bytes(b"half")
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(RunError, match=r"no space left.*trainer\.resume="):
        patched.setattr(Engine, "save", full)
        run(tmp_path / "run", *EVERY)
    assert [p.name for p in (tmp_path / "run" / "checkpoints").glob("*-0*")] == ["update-000001"]
    run(tmp_path / "run", *EVERY, "trainer.resume=auto")
    assert_same(tmp_path / "run", whole)


@pytest.fixture
def small_disk(tmp_path):
    """A disk on which a few checkpoints fit; only root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_really_full(tmp_path, small_disk, whole, monkeypatch):
    monkeypatch.setattr("stp.run.preflight.room", lambda *_: None)  # as if something else had taken the room later
    with pytest.raises(RunError, match="no space left"):
        run(small_disk / "run", *EVERY)
    kept = sorted((small_disk / "run" / "checkpoints").glob("update-*"))
    assert kept and not list((small_disk / "run" / "checkpoints").glob("writing-*"))
    shutil.copytree(small_disk / "run", tmp_path / "run")
    run(tmp_path / "unused", *EVERY, f"trainer.resume={tmp_path / 'run'}")
    assert_same(tmp_path / "run", whole)


def test_what_befalls_one_rank_ends_both(tmp_path):
    """Rank 1 of two gets SIGTERM, which both obey together, then kill -9, which both survive no longer than a moment."""
    short = ["trainer.updates=2", "trainer.checkpoint_every=0", "trainer.eval_size=3", "zero=stage2"]
    resume = f"trainer.resume={tmp_path / 'run'}"

    def both(folder, *strike, more=()):
        return on_ranks("-m", "tests.integration.fatal", *strike, str(tmp_path / folder), *SMALL, *short, *more, cwd=tmp_path)

    for alone in both("alone", "SIGKILL", "forward", "9999"):
        assert alone.returncode == 0, alone.stderr[-3000:]
    stopped = both("run", "SIGTERM", "forward", "9")  # in the rollout of update 2
    assert [rank.returncode for rank in stopped] == [143, 143], stopped[0].stderr[-3000:]
    assert "continue after update-000001" in stopped[0].stdout
    shutil.copytree(tmp_path / "run", tmp_path / "one")
    run(tmp_path / "unused", *short, "zero=stage3", f"trainer.resume={tmp_path / 'one'}")  # on one rank, at another stage
    one, two = metrics(tmp_path / "one"), metrics(tmp_path / "alone")
    assert one[0] == two[0] and one[1]["reward/mean"] == two[1]["reward/mean"]
    assert one[1]["loss"] == pytest.approx(two[1]["loss"], abs=1e-5)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv_backend", "c10d"]
    torchrun += ["--rdzv_endpoint", "localhost:0", "-m", "tests.integration.fatal", "SIGKILL", "optimizer", "2"]
    torchrun += [str(tmp_path / "unused"), *SMALL, *short, resume]
    killed = subprocess.run(torchrun, capture_output=True, text=True, cwd=tmp_path, env=environment(), timeout=300)
    assert killed.returncode != 0
    assert "rank      : 1" in killed.stderr and "SIGKILL" in killed.stderr  # the launcher names the cause
    assert "rank 0 of 2: another rank ended" in killed.stderr
    for again in both("unused", "SIGKILL", "forward", "9999", more=[resume]):
        assert again.returncode == 0, again.stderr[-3000:]
    assert_same(tmp_path / "run", tmp_path / "alone")
