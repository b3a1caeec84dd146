"""Sweeps: jobs that share a process are the jobs run alone, one that fails or stops harms no other, nothing runs twice."""

import errno
import gc
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from transformers.utils import logging as bars

from stp import cli
from stp.config import Config, plain
from stp.report import report
from stp.run.files import read_jsonl
from stp.run.ledger import Ledger
from stp.run.summary import Summary
from stp.train import job, resume
from stp.train.data import RunData
from tests.commands import ROOT, command, environment, interpreter
from tests.config.test_options import BESIDE_THE_PAPER, FILES
from tests.integration.runs import SMALL, composed, metrics, run

# the script chooses seeds and greedy evaluation
TINY = [o for o in SMALL if not o.startswith(("seed", "trainer.eval_temperatures"))] + ["trainer.checkpoint_every=1"]
PRESETS = ("table5_grpo_elbo", "table5_spatial_only", "table5_stp", "table5_temporal_only")

# a program in which a job of the preset $FAULTY ends badly, once its first checkpoint is written
FAULTY = """
import os, runpy, signal, sys
from stp.run import checkpoints

save = checkpoints.save

def fail(engine, run, *rest):
    save(engine, run, *rest)
    if os.environ["FAULTY"] in str(run):
        if os.environ["FAULT"] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("the disk\\nis full")

checkpoints.save = fail
sys.argv = sys.argv[2:]
runpy.run_module("stp.train", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def sweep(monkeypatch, capsys):
    """`python -m stp.train --multirun ...` in this process; (exit code, stdout, stderr)."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    handlers = logging.root.handlers[:]

    def call(*arguments):
        monkeypatch.setattr(cli.Sweep, "folder", None)
        monkeypatch.setattr(sys, "argv", ["stp.train", "--multirun", *arguments])
        capsys.readouterr()
        code = 0
        try:
            cli.run(job.main, "train", Config)
        except SystemExit as stopped:
            code = stopped.code
        said = capsys.readouterr()
        return code, said.out, said.err

    yield call
    logging.root.handlers[:] = handlers


def ablations(*overrides, to, **variables):
    """The sweep of the script, in this process."""
    presets = [name for name in FILES["experiment"] if name.startswith(tuple(variables["only"].split(",")))]
    subdir = "hydra.sweep.subdir=${hydra:runtime.choices.experiment}/seed${seed}"
    return [f"experiment={','.join(presets)}", "trainer.resume=auto", f"hydra.sweep.dir={to}", subdir, *TINY, *overrides]


def script(folder, *arguments, cwd=None, **variables):
    """Call a project's scripts/ablations.sh, from anywhere."""
    bash = ["bash", str(folder / "scripts" / "ablations.sh"), *arguments]
    own = ("TO", "ONLY", "SEEDS", "SAMPLER", "FRESH")  # which the shell of these tests may have set
    settings = {k: v for k, v in environment().items() if k not in own} | {"PYTHON": interpreter()} | variables
    return subprocess.run(bash, capture_output=True, text=True, env=settings, cwd=cwd, timeout=600)


@pytest.fixture
def project(tmp_path):
    """A folder with the script and conf/, in which it leaves its outputs."""
    (tmp_path / "project" / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "ablations.sh", tmp_path / "project" / "scripts")
    (tmp_path / "project" / "conf").symlink_to(ROOT / "conf")
    return tmp_path / "project"


def results(folder):
    """Every file of the runs in a sweep, and when it was written (Hydra rewrites its own ones in each call)."""
    own = (".hydra", "train.log", "multirun.yaml", "runs.csv")
    files = (path for path in folder.rglob("*") if path.is_file() and not set(path.parts) & set(own))
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in files}


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def test_the_script_from_its_first_call_to_the_tables(project, tmp_path, monkeypatch, capsys):
    """Killed in the second job, then failing in the third, then whole, then with nothing left to do."""
    python = tmp_path / "python"
    (tmp_path / "faulty.py").write_text(FAULTY)
    python.write_text(f'#!/bin/sh\nexec {interpreter()} -c "$(cat {tmp_path / "faulty.py"})" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "elsewhere").mkdir()
    runs = project / "outputs" / "ablations"

    def call(**variables):
        return script(project, *TINY, cwd=tmp_path / "elsewhere", **{"ONLY": "table5", "SEEDS": "0"} | variables)

    done = call(PYTHON=str(python), FAULT="killed", FAULTY="table5_spatial_only")
    assert done.returncode == -signal.SIGKILL
    assert {p.parent.parent.name for p in runs.glob("*/seed0/summary.json")} == {"table5_grpo_elbo"}
    assert (runs / "table5_spatial_only/seed0/checkpoints/latest").read_text() == "update-000001"
    first = results(runs / "table5_grpo_elbo")

    done = call(PYTHON=str(python), FAULT="raised", FAULTY="table5_stp")
    failed = Path("outputs/ablations/table5_stp/seed0")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[-2].startswith("error: 1 job(s) failed") and str(failed) in lines[-1] and lines[-1].endswith("is full")
    assert "Traceback" not in done.stderr.split("error: 1 job(s)")[1]
    assert "RuntimeError: the disk\nis full" in (project / failed / "failed.txt").read_text()
    assert f"resumed after update 1 from {runs / 'table5_spatial_only/seed0'}" in done.stdout  # went on where it was killed
    assert {p.parent.parent.name for p in runs.glob("*/seed0/summary.json")} == set(PRESETS) - {"table5_stp"}
    assert results(runs / "table5_grpo_elbo") == first  # had finished, was not touched

    done = call()
    assert done.returncode == 0, done.stderr
    assert not list(runs.glob("**/failed.txt")) and "failed" not in done.stderr
    assert {p.parent.parent.name for p in runs.glob("*/seed0/summary.json")} == set(PRESETS)
    whole = results(runs)

    done = call(ONLY="table5_stp,table6_g005_t005")  # nothing to train: one has finished, the other has its settings
    assert (done.returncode, done.stdout.count(": finished")) == (0, 2)
    assert results(runs) == whole | {
        "table6_g005_t005/seed0/summary.json": results(runs)["table6_g005_t005/seed0/summary.json"]
    }
    twin = summary(runs / "table6_g005_t005" / "seed0")
    assert twin == summary(runs / "table5_stp" / "seed0") | {
        "experiment": "table6_g005_t005",
        "same_as": "../../table5_stp/seed0",
    }
    assert not list((tmp_path / "elsewhere").iterdir())
    entered = {tuple(line.presets): line.correct for line in Ledger(runs / "runs.csv").lines()}
    names = {("table5_stp", "table6_g005_t005"), *((preset,) for preset in PRESETS if preset != "table5_stp")}
    assert entered.keys() == names
    assert entered["table5_grpo_elbo",] == summary(runs / "table5_grpo_elbo/seed0")["final"]["correct"]

    for preset in ("table5_spatial_only", "table5_stp"):  # those that stopped: as if they had not
        run(tmp_path / preset, "seed=0", "trainer.eval_temperatures=[0.0]", *pruning(preset))
        assert metrics(runs / preset / "seed0") == metrics(tmp_path / preset)
        assert read_jsonl(runs / preset / "seed0" / "eval.jsonl") == read_jsonl(tmp_path / preset / "eval.jsonl")
        assert summary(runs / preset / "seed0")["final"]["temperature"] == 0.0

    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "argv", ["stp.report"])
    report.main()
    assert capsys.readouterr().out.count("## Table") == 2
    text = (project / "outputs/report/tables.md").read_text()
    table = [line for line in text.split("## Table 5.")[1].split("##")[0].splitlines() if line.startswith("|")]
    assert len(table) == 6 and "missing" not in "".join(table)
    assert all(f"{summary(runs / p / 'seed0')['final']['correct']} of 4)" in table[i + 2] for i, p in PLACES.items())
    assert text.split("## Table 6.")[1].split("##")[0].count(" of 4)") == 1  # the twin


PLACES = {0: "table5_grpo_elbo", 1: "table5_spatial_only", 2: "table5_temporal_only", 3: "table5_stp"}


def pruning(preset):
    return ["sampler.t_cutoff=0"] if preset == "table5_spatial_only" else []


def test_no_job_starts_beside_the_policy_of_an_earlier_one(sweep, tmp_path, monkeypatch):
    """A policy is gigabytes: one that finished, one whose updates failed, and one that a full disk stopped are all let go."""
    load, train, alive, found = job.load_policy, job.train, weakref.WeakSet(), []
    trouble = {0: None, 1: RuntimeError("too large"), 2: OSError(errno.ENOSPC, "no space"), 3: None}

    def loaded(*arguments):
        found.append(len(alive))
        policy, tokenizer = load(*arguments)
        alive.add(policy)
        return policy, tokenizer

    def trained(actor, learner, run, seed, *rest):
        if trouble[seed] is not None:
            raise trouble.pop(seed)
        train(actor, learner, run, seed, *rest)

    monkeypatch.setattr(job, "load_policy", loaded)
    monkeypatch.setattr(job, "train", trained)
    gc.disable()
    try:
        code, _, said = sweep(*TINY, "seed=0,1,2,3", "trainer.updates=1", f"hydra.sweep.dir={tmp_path}")
    finally:
        gc.enable()
    assert code == 1 and "2 job(s) failed" in said
    assert found == [0, 0, 0, 0]


def test_the_script_says_what_it_runs(project, tmp_path):
    """All presets of the paper and three seeds by default; ONLY, SEEDS, TO and overrides change that."""
    echo = tmp_path / "echo"
    echo.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    echo.chmod(0o755)
    done = script(project, PYTHON=str(echo))
    arguments = done.stdout.splitlines()
    assert (done.returncode, arguments[:3]) == (0, ["-m", "stp.train", "--multirun"])
    presets = arguments[3].removeprefix("experiment=").split(",")
    rest = BESIDE_THE_PAPER | {name for name in FILES["experiment"] if name.startswith("method_")}
    assert sorted(presets) == [name for name in FILES["experiment"] if name not in rest] and len(set(presets)) == len(presets)
    assert {"seed=0,1,2", "trainer.resume=auto", "hydra.sweep.dir=outputs/ablations"} < set(arguments)
    assert "hydra.sweep.subdir=${hydra:runtime.choices.experiment}/seed${seed}" in arguments
    settings = {"ONLY": "table7,extra_coupled_stp", "SEEDS": "5", "TO": "/a folder"}
    arguments = script(project, "trainer.updates=3", "task=countdown", PYTHON=str(echo), **settings).stdout.splitlines()
    assert arguments[3] == "experiment=table7_low_confidence,table7_random,extra_coupled_stp"
    assert {"seed=5", "hydra.sweep.dir=/a folder"} < set(arguments)
    assert arguments[-2:] == ["trainer.updates=3", "task=countdown"]  # last, so that they win
    arguments = script(project, ONLY="table7", SAMPLER="adaptive", PYTHON=str(echo)).stdout.splitlines()
    assert "sampler=adaptive" in arguments  # and these runs have folders of their own
    assert "hydra.sweep.subdir=${hydra:runtime.choices.experiment}-adaptive/seed${seed}" in arguments


def test_the_scripts_paths_are_from_where_it_is_called(project, tmp_path):
    echo = tmp_path / "elsewhere" / "bin" / "echo.sh"
    echo.parent.mkdir(parents=True)
    echo.write_text('#!/bin/sh\nprintf "%s\\n" "$0" "$@"\n')
    echo.chmod(0o755)
    here = tmp_path / "elsewhere"
    said = script(project, cwd=here, PYTHON="bin/echo.sh", ONLY="table7", TO="runs/new").stdout.splitlines()
    assert said[0] == f"{here}/bin/echo.sh" and f"hydra.sweep.dir={here}/runs/new" in said
    said = script(project, cwd=here, PYTHON="echo", ONLY=",table7,").stdout  # a command is looked up, as a shell does
    assert "experiment=table7_low_confidence,table7_random seed=0,1,2" in said and "hydra.sweep.dir=outputs/ablations" in said


def test_the_name_of_a_preset_chooses_it_alone(project):
    """Another preset's name begins so: `table1_unigrpo_stp`."""
    assert " experiment=table1_unigrpo seed" in script(project, ONLY="table1_unigrpo", PYTHON="/bin/echo").stdout
    assert " experiment=table1_unigrpo,table1_unigrpo_stp seed" in script(project, ONLY="table1", PYTHON="/bin/echo").stdout


@pytest.mark.parametrize("only", [",", ",,"])
def test_the_script_refuses_to_run_no_preset(project, only):
    done = script(project, ONLY=only, PYTHON="/bin/echo")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: ONLY={only}: it names no preset; conf/experiment lists them\n"


@pytest.mark.parametrize("only", ["nothing", "table5,table9", "table5_stp_"])
def test_the_script_refuses_unknown_presets(project, only):
    done = script(project, ONLY=only, PYTHON="/bin/echo")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr.startswith(f"error: ONLY={only.split(',')[-1]}: no preset") and "conf/experiment lists them" in done.stderr
    )


def test_make_passes_its_variables_on(project):
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    shutil.copy(ROOT / "Makefile", project)
    (project / "bin").mkdir()
    (project / "bin" / "python").symlink_to("/bin/echo")
    variables = ["BIN=bin", "ONLY=table7", "SEEDS=4", "ARGS=trainer.updates=2"]
    done = subprocess.run(
        [make, "--no-print-directory", "ablations", *variables], capture_output=True, text=True, cwd=project, env=environment()
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()[-1]
    assert " experiment=table7_low_confidence,table7_random seed=4 " in said and said.endswith(" trainer.updates=2")


def test_a_job_of_a_sweep_is_the_job_alone(sweep, tmp_path):
    """Two jobs in one process, and each in a fresh one and a folder of its own: the same to the last bit."""
    bars.enable_progress_bar()
    code, _, err = sweep(*SMALL, "sampler.gamma=0.3,0", "hydra.sweep.dir=sweep")
    assert code == 0, err
    assert not bars.is_progress_bar_enabled()  # of loading and saving models, between our own lines
    folders = [tmp_path / name for name in ("first", "second")]
    for folder, gamma in zip(folders, ("0.3", "0"), strict=True):
        folder.mkdir()
        done = command("-m", "stp.train", *SMALL, f"sampler.gamma={gamma}", "hydra.run.dir=run", cwd=folder)
        assert done.returncode == 0, done.stderr
    seen = []
    for i, folder in enumerate(folders):
        together, alone = tmp_path / "sweep" / str(i), folder / "run"
        assert metrics(together) == metrics(alone) and len(metrics(alone)) == 2
        for name in ("variance", "samples", "eval"):
            assert read_jsonl(together / f"{name}.jsonl") == read_jsonl(alone / f"{name}.jsonl")
        assert (together / "weights/model.safetensors").read_bytes() == (alone / "weights/model.safetensors").read_bytes()
        assert summary(together)["config_hash"] == summary(alone)["config_hash"]
        assert summary(together)["elbo_variance"] == summary(alone)["elbo_variance"]
        seen.append(json.dumps(metrics(together)))
    assert len(set(seen)) == 2
    assert [summary(tmp_path / "sweep" / job)["forwards_per_rollout"] for job in "01"] == [5, 6]


def test_failed_jobs_stop_no_other_and_are_listed(sweep, tmp_path, monkeypatch):
    """One refused for its settings, one that breaks down while it trains, one that is fine."""
    loop = job.train

    def breaks(actor, *rest):
        if getattr(actor.sampler, "gamma", 0) == 0.1:
            raise ZeroDivisionError("a bug")
        return loop(actor, *rest)

    settings = [*SMALL, "trainer.updates=1", "trainer.resume=auto", "hydra.sweep.dir=sweep"]
    old = tmp_path / "sweep/9/failed.txt"  # of a job that these calls do not run: not told again
    old.parent.mkdir(parents=True)
    old.write_text("an old one\n")
    os.utime(old, (1e9, 1e9))
    with monkeypatch.context() as patched:
        patched.setattr(job, "train", breaks)
        code, _, err = sweep(*settings, "sampler.gamma=0.98,0.1,0")
    assert code == 1
    head, *lines = err[err.index("error: ") :].splitlines()
    assert head.startswith("error: 2 job(s) failed")
    assert [line.strip().split(": ")[0] for line in lines] == ["sweep/0", "sweep/1"]
    assert "0.98 + 0.05" in lines[0] and "keep their sum below 1" in lines[0]
    assert lines[1].strip() == "sweep/1: ZeroDivisionError: a bug"
    refused, broken = ((tmp_path / f"sweep/{job}/failed.txt").read_text() for job in (0, 1))
    assert refused.count("\n") == 1 and broken.startswith("Traceback") and 'job.py"' in broken
    assert summary(tmp_path / "sweep/2")["updates"] == 1 and not (tmp_path / "sweep/2/failed.txt").exists()
    assert not (tmp_path / "sweep/0/summary.json").exists() and not (tmp_path / "sweep/1/summary.json").exists()
    done = results(tmp_path / "sweep/2")
    code, out, err = sweep(*settings, "sampler.gamma=0.05,0.1,0")  # mended
    assert (code, out.count(": finished"), "error" in err) == (0, 1, False), err
    assert list((tmp_path / "sweep").glob("**/failed.txt")) == [old]
    assert results(tmp_path / "sweep/2") == done and all(summary(tmp_path / f"sweep/{job}") for job in range(3))


def test_more_updates_continue_what_there_is(sweep, tmp_path):
    """trainer.updates raised: from the checkpoint, as if it had been asked for at once; twins follow."""
    arguments = ablations(only="table5_stp,table6_g005_t005", to="sweep")
    assert sweep(*arguments, "trainer.updates=1")[0] == 0
    assert summary(tmp_path / "sweep/table6_g005_t005/seed0")["updates"] == 1
    code, out, _ = sweep(*arguments, "trainer.updates=2")
    assert code == 0 and out.count("resumed after update 1") == 1
    assert sweep(*ablations(only="table5_stp", to="whole"), "trainer.updates=2")[0] == 0
    continued, whole = (  # but for the evaluation that ended the first part
        [{k: v for k, v in line.items() if not k.startswith("eval/")} for line in metrics(tmp_path / name / "table5_stp/seed0")]
        for name in ("sweep", "whole")
    )
    assert continued == whole and len(whole) == 2
    twin = summary(tmp_path / "sweep/table6_g005_t005/seed0")
    assert (twin["updates"], twin["same_as"]) == (2, "../../table5_stp/seed0")
    assert not (tmp_path / "sweep/table6_g005_t005/seed0/metrics.jsonl").exists()


def test_a_twin_whose_run_is_gone_is_trained(sweep, tmp_path):
    assert sweep(*ablations("trainer.updates=1", only="table5_stp,table6_g005_t005", to="sweep"))[0] == 0
    shutil.rmtree(tmp_path / "sweep" / "table5_stp")
    assert sweep(*ablations("trainer.updates=1", only="table6_g005_t005", to="sweep"))[0] == 0
    folder = tmp_path / "sweep/table6_g005_t005/seed0"
    assert len(metrics(folder)) == 1 and "same_as" not in summary(folder)


def test_a_job_of_a_sweep_stays_in_its_own_folder(sweep, tmp_path):
    """trainer.resume=auto: the second job's settings are those of the first, but for more updates."""
    settings = [*SMALL, "trainer.checkpoint_every=1", "trainer.resume=auto", "hydra.sweep.dir=sweep"]
    assert sweep(*settings, "trainer.updates=1,2")[0] == 0
    assert [summary(tmp_path / "sweep" / job)["updates"] for job in ("0", "1")] == [1, 2]


def finish(folder, *overrides, **changes):
    """A folder that says it has run these small settings."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(plain(composed(*overrides)))))
    whole = {"seed": 0, "updates": 2, "base": {}, "final": {}, "time": {"train_s": 1.0}, "finished": "2026-11-25T12:00:00"}
    problems = RunData.read(composed(*overrides)).about
    summary = Summary.of({**whole, "problems": problems, **changes})
    (folder / "summary.json").write_text(json.dumps(summary.record()))


def test_only_the_same_settings_and_updates_are_finished(tmp_path):
    """Another seed, setting or number of updates is another run; a twin is no run to copy from."""
    finish(tmp_path / "a" / "seed0")
    fresh, choices = tmp_path / "b" / "seed0", {"experiment": "b"}
    fresh.mkdir(parents=True)
    for other in ("seed=9", "sampler.gamma=0.1", "trainer.updates=3", "estimator=one_step", "estimator=coupled"):
        assert resume.finished(composed(other), fresh, choices, tmp_path) is None
    assert resume.finished(composed(), fresh, choices, None) is None  # no sweep, no other folders
    assert not (fresh / "summary.json").exists()
    assert resume.finished(composed("logging=wandb", "trainer.probe_every=0"), fresh, choices, tmp_path)["updates"] == 2
    assert summary(fresh) == summary(tmp_path / "a/seed0") | {"experiment": "b", "same_as": "../../a/seed0"}
    for name in ("0", "z"):  # the twin in 0 comes first in order, but has no data
        (tmp_path / name / "seed0").mkdir(parents=True)
        resume.finished(composed(), tmp_path / name / "seed0", choices, tmp_path)
        assert summary(tmp_path / name / "seed0")["same_as"] == "../../a/seed0"
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "c").mkdir()
    assert resume.finished(composed(), tmp_path / "c", choices, tmp_path) is None


def test_a_run_without_probes_is_no_twin_of_one_that_is_to_be_probed(tmp_path):
    """Figure 3's presets have settings of others, but need their probes; those that need none take any."""
    finish(tmp_path / "a", "trainer.probe_every=0")
    fresh = tmp_path / "figure3_stp"
    fresh.mkdir()
    for probes in ("trainer.probe_every=1", "trainer.probe_every=2"):
        assert resume.finished(composed(probes), fresh, {"experiment": "figure3_stp"}, tmp_path) is None
    assert not (fresh / "summary.json").exists()
    finish(tmp_path / "b", "trainer.probe_every=2")
    for other in ("trainer.probe_every=1", "trainer.probe_rows=7", "trainer.probe_draws=9"):
        assert resume.finished(composed("trainer.probe_every=2", other), fresh, {"experiment": "figure3_stp"}, tmp_path) is None
    assert resume.finished(composed("trainer.probe_every=2"), fresh, {"experiment": "figure3_stp"}, tmp_path)
    assert summary(fresh)["same_as"] == "../b"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["estimator=unigrpo", "estimator.samples=2"], ["estimator=coupled", "estimator.samples=2"]),
        (["estimator=spg"], ["estimator=spg", "estimator.mixture=0.25"]),
        (["sampler=standard"], ["sampler=stp", "sampler.gamma=0", "sampler.t_cutoff=0"]),
    ],
)
def test_another_method_is_never_taken_for_this_one(tmp_path, one, other):
    """Two classes with fields of the same names and values are still two methods."""
    finish(tmp_path / "one", *one)
    (tmp_path / "other").mkdir()
    assert resume.finished(composed(*other), tmp_path / "other", {"experiment": "other"}, tmp_path) is None


def test_the_record_of_a_sweeps_job_is_its_own(sweep, tmp_path):
    """config.yaml and summary.json of the later job are not the earlier one's."""
    arguments = ablations("trainer.updates=1", "seed=1", only="table5_grpo_elbo,table5_temporal_only", to="sweep")
    assert sweep(*arguments)[0] == 0
    for preset, sampler in (("table5_grpo_elbo", "standard"), ("table5_temporal_only", "stp")):
        folder = tmp_path / "sweep" / preset / "seed1"
        said, config = summary(folder), OmegaConf.load(folder / "config.yaml")
        assert (said["experiment"], said["sampler"], said["seed"]) == (preset, sampler, 1)
        assert (config.seed, "gamma" in config.sampler) == (1, sampler == "stp")
        assert said["time"]["cpu_s"] > 0 and said["peak_memory_mb"] > 100
