"""The launch scripts, dry: what they run, and whether stp.train takes it."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stp.config import check_ranks
from tests.config import composed

SCRIPTS = Path(__file__).parents[2] / "scripts"
ZERO = ["stage2", "stage2_offload", "stage3", "stage3_offload"]
SIZES = [(1, 1), (1, 2), (1, 4), (1, 8), (2, 8), (4, 8)]  # nodes, GPUs of each


def dry(name, *overrides, **env):
    """What a script says it would run, word by word: (everything before the module, the module, its arguments)."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
    done = subprocess.run(
        [SCRIPTS / f"launch_{name}.sh", *overrides],
        env=kept | {"DRY_RUN": "1", "PYTHON": sys.executable} | env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    words = shlex.split(done.stdout)
    at = words.index("stp.train")
    return words[:at], words[at + 1 :]


def option(words, name):
    return words[words.index(name) + 1]


@pytest.mark.parametrize(("nodes", "gpus"), SIZES)
@pytest.mark.parametrize("name", ["torchrun", "deepspeed", "slurm"])
def test_every_size_composes_with_every_preset(name, nodes, gpus):
    zero = ZERO[SIZES.index((nodes, gpus)) % len(ZERO)]
    env = {"NODES": str(nodes), "GPUS": str(gpus), "HEAD": "node1", "HOSTFILE": "hosts", "PROMPTS_PER_GPU": "2"}
    launcher, arguments = dry(name, "scale=paper", f"zero={zero}", "trainer.eval_temperatures=[0.0, 1.0]", **env)
    config = composed("train", *arguments)
    check_ranks(config, nodes * gpus)
    assert config.trainer.prompts_per_update == 2 * nodes * gpus
    assert (config.zero.stage, config.zero.offload) == (int(zero[5]), "cpu" if "offload" in zero else "none")
    assert config.trainer.eval_temperatures == [0.0, 1.0]  # a blank in an override survives
    if name == "deepspeed":
        assert launcher[:3] == [sys.executable, "-m", "deepspeed.launcher.runner"] and launcher[-1] == "--module"
        assert int(option(launcher, "--num_gpus")) == gpus
        assert ("--hostfile" in launcher) == (nodes > 1)
        if nodes > 1:
            assert (option(launcher, "--hostfile"), int(option(launcher, "--num_nodes"))) == ("hosts", nodes)
        return
    assert int(option(launcher, "--nnodes")) == nodes and int(option(launcher, "--nproc_per_node")) == gpus
    assert launcher[-1] == "-m" and "torch.distributed.run" in launcher
    if name == "slurm":
        assert launcher[0] == "srun" and option(launcher, "--ntasks-per-node") == "1"
        assert int(option(launcher, "--nodes")) == int(option(launcher, "--ntasks")) == nodes
    assert ("--standalone" in launcher) == (name == "torchrun" and nodes == 1)
    if "--standalone" not in launcher:
        assert option(launcher, "--rdzv_endpoint") == "node1:29500"


@pytest.mark.parametrize(
    ("name", "module"), [("torchrun", "torch.distributed.run"), ("deepspeed", "deepspeed.launcher.runner"), ("slurm", "")]
)
def test_the_launcher_knows_the_options(name, module):
    """Parsed by the launcher's own parser, as far as it is a Python one."""
    launcher, arguments = dry(name, "scale=paper", NODES="2", GPUS="8", HEAD="node1", HOSTFILE="hosts")
    own = ["trainer.resume=auto", "trainer.checkpoint_every=10", "hydra.run.dir=outputs/slurm/0/run"] if name == "slurm" else []
    assert arguments == [*own, "scale=paper"]  # no PROMPTS_PER_GPU: the configuration's number
    if name == "deepspeed":
        from deepspeed.launcher.runner import parse_args

        found = parse_args([*launcher[3:], "stp.train", *arguments])
        assert (found.num_nodes, found.num_gpus, found.hostfile, found.module) == (2, 8, "hosts", True)
        assert (found.user_script, found.user_args) == ("stp.train", ["scale=paper"])
    else:
        from torch.distributed.run import parse_args

        found = parse_args([*launcher[launcher.index("torch.distributed.run") + 1 :], "stp.train", *arguments])
        assert (found.nnodes, found.nproc_per_node, found.rdzv_endpoint, found.module) == ("2", "8", "node1:29500", True)
        assert (found.training_script, found.training_script_args) == ("stp.train", arguments)


def test_slurm_tells_the_script_its_nodes(tmp_path):
    """Inside an allocation the numbers are Slurm's and the first host is the meeting point."""
    tool = tmp_path / "scontrol"
    tool.write_text('#!/bin/sh\n[ "$*" = "show hostnames gpu[3-4]" ] && printf "gpu3\\ngpu4\\n"\n')
    tool.chmod(0o755)
    slurm = {"SLURM_JOB_ID": "17", "SLURM_JOB_NUM_NODES": "2", "SLURM_GPUS_ON_NODE": "4", "SLURM_JOB_NODELIST": "gpu[3-4]"}
    launcher, _ = dry("slurm", SLURM_SUBMIT_DIR=str(tmp_path), PATH=f"{tmp_path}:{os.environ['PATH']}", **slurm)
    assert (option(launcher, "--nnodes"), option(launcher, "--nproc_per_node")) == ("2", "4")
    assert (option(launcher, "--rdzv_id"), option(launcher, "--rdzv_endpoint")) == ("17", "gpu3:29500")


@pytest.mark.parametrize(("ends", "queued"), [(143, True), (0, False)])
def test_a_slurm_job_out_of_time_saves_its_state_and_is_queued_again(tmp_path, ends, queued):
    """ends: the exit code of the step that was told to stop; one that had just finished stays finished."""
    tools = {
        "srun": f"trap 'echo told >> log; exit {ends}' TERM; echo started >> log; while :; do sleep 0.1; done",
        "scontrol": 'case "$*" in show*) echo node1 ;; *) echo "$*" >> log ;; esac',
    }
    for name, text in tools.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "17", "SLURM_JOB_NODELIST": "node1", "SLURM_SUBMIT_DIR": str(tmp_path)}
    env = os.environ | slurm | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    job = subprocess.Popen([SCRIPTS / "launch_slurm.sh"], env=env)
    log, patience = tmp_path / "log", time.monotonic() + 60
    while not (log.exists() and log.read_text()) and time.monotonic() < patience:
        time.sleep(0.1)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=60) == 0
    assert log.read_text().splitlines() == ["started", "told", *(["requeue 17"] if queued else [])]


@pytest.mark.parametrize(
    ("name", "missing"), [("torchrun", "HEAD"), ("deepspeed", "HOSTFILE"), ("slurm", "submit it with sbatch")]
)
def test_what_is_missing_is_named(name, missing):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
    done = subprocess.run([SCRIPTS / f"launch_{name}.sh"], env=kept | {"NODES": "2"}, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith("error: ") and missing in line
