"""W&B, offline: what a run that was stopped, or killed, and resumed has sent is one run without a missing update."""

import json
import signal
from types import SimpleNamespace

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from stp.run.tracking import Logging, Tracker, labelled
from tests.commands import command
from tests.integration.runs import metrics

LOGGED = ["logging=wandb", "logging.wandb=offline", "trainer.updates=3", "trainer.checkpoint_every=1", "trainer.eval_size=0"]


BLOCK, HEAD = 32_768, 7  # the file is a LevelDB log: records (checksum, length, kind) in blocks, after a header as long


def records(file):
    """The protobuf records of an offline file; a torn last one is left out."""
    content, place, parts = file.read_bytes(), HEAD, []
    while place + HEAD <= len(content):
        if BLOCK - place % BLOCK < HEAD:  # too little left in this block for a record
            place += BLOCK - place % BLOCK
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        parts.append(content[place + HEAD : place + HEAD + length])
        place += HEAD + length
        if kind in (1, 4) and place <= len(content):  # whole, or the last part of several
            yield Record.FromString(b"".join(parts))
            parts = []


def sent(folder):
    """For each offline file of a run folder, in time: its name, and the reward logged at each step."""
    found = {}
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        found[file.parent.name] = rewards = {}
        for record in records(file):
            if record.HasField("history"):
                items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
                assert items["_step"] not in rewards
                rewards[items["_step"]] = items["reward/mean"]
    return found


def launched(folder, number, nth, *overrides):
    """A run that gets a signal at its nth inner update."""
    arguments = [number, "optimizer", nth, str(folder / "run"), *LOGGED, *overrides]
    return command("-m", "tests.integration.fatal", *arguments, cwd=folder)


def test_the_last_file_of_a_resumed_run_holds_the_whole_run(tmp_path):
    """Synced, the offline files of one run replace each other; what a killed process had not written is lost to W&B."""
    killed = launched(tmp_path, "SIGKILL", "5")
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    ((name, first),) = sent(tmp_path / "run").items()
    assert list(first) == []
    again = launched(tmp_path, "SIGKILL", "9999", "trainer.resume=auto")
    assert again.returncode == 0, again.stderr[-2000:]
    files = sent(tmp_path / "run")
    assert len(files) == 2 and {file.rpartition("-")[2] for file in files} == {name.rpartition("-")[2]}
    lines = metrics(tmp_path / "run")
    assert [line["update"] for line in lines] == [1, 2, 3]
    assert list(files.values())[1] == {line["update"]: line["reward/mean"] for line in lines}


@pytest.mark.parametrize(("known", "again"), [(0, [1, 2]), (2, [2]), (3, [])])
def test_only_what_the_service_lacks_is_sent_again(tmp_path, known, again):
    """known: the step that it expects next of the run that is resumed."""
    (tmp_path / "metrics.jsonl").write_text("".join(f'{{"update": {i}, "loss": 0.5}}\n' for i in (1, 2, 3)))
    tracker, steps = Tracker(tmp_path, Logging(wandb="disabled"), {}, active=True), []
    tracker.run = SimpleNamespace(step=known, log=lambda metrics, step: steps.append(step))
    assert tracker.keep_until(2, 9) == 2 and steps == again


CHOICES = {"task": "gsm8k", "model": "tiny", "sampler": "stp", "estimator": "elbo", "experiment": None}


@pytest.mark.parametrize(
    ("given", "experiment", "name", "group"),
    [
        ({}, None, "gsm8k/tiny-stp-elbo-seed3", "gsm8k/tiny-stp-elbo"),
        ({}, "table2_gsm8k_stp", "gsm8k/table2_gsm8k_stp-seed3", "gsm8k/table2_gsm8k_stp"),
        ({"name": "mine", "group": "ours"}, None, "mine", "ours"),
    ],
)
def test_a_run_has_a_name_and_a_group_of_its_seeds(given, experiment, name, group):
    options = labelled(Logging(**given), CHOICES | {"experiment": experiment}, seed=3)
    assert (options.name, options.group) == (name, group)


@pytest.mark.parametrize("system", [True, False])
def test_wandb_is_told_the_name_the_group_and_whether_to_watch_the_machine(system, tmp_path, monkeypatch):
    told = {}
    monkeypatch.setattr("wandb.init", lambda **settings: told.update(settings))
    Tracker(tmp_path, Logging(wandb="offline", name="a", group="b", system=system), {}, active=True).start_wandb(None)
    assert (told["name"], told["group"], told["settings"].x_disable_stats) == ("a", "b", not system)
