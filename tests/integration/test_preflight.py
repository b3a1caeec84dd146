"""What can be known at the start is said there: before any weight is read, nothing written."""

import os
import shutil
from collections import namedtuple
from pathlib import Path
from statistics import median

import pytest
import torch

from stp import export, pregenerate, trained
from stp.anchors.dataset import StaticDataset
from stp.config import build
from stp.errors import UserError
from stp.evaluate import evaluate
from stp.evaluation.evaluator import Subject
from stp.models.codec import Codec
from stp.models.policy import checkpoint_folder, load_tokenizer
from stp.pretrain import pretrain
from stp.run import preflight
from stp.run.tracking import Logging, Tracker
from stp.tasks import Problem
from stp.trace import trace
from stp.train import job
from tests.commands import command, environment
from tests.config import raw
from tests.integration.runs import composed, run


@pytest.fixture(autouse=True)
def unread(monkeypatch):
    """No weights are read."""
    for module in (job, pregenerate, trained):
        monkeypatch.setattr(module, "load_policy", lambda *_: pytest.fail("the weights were read"))
    monkeypatch.setattr(pretrain, "pretrain", lambda *_: pytest.fail("the work began"))


def refused(work, *arguments):
    """The line that a mistake is refused in."""
    with pytest.raises(UserError) as error:
        work(*arguments)
    return str(error.value)


@pytest.fixture
def blocked(tmp_path):
    """A path under a file, where nobody can make a folder, not even root."""
    (tmp_path / "file").touch()
    return tmp_path / "file" / "folder"


def test_a_run_folder_that_cannot_be_written(blocked):
    line = refused(run, blocked)
    assert line == f"hydra.run.dir={blocked}: nothing can be written there (Not a directory); give another folder"


@pytest.mark.parametrize("entry", ["pregenerate", "trace", "export", "pretrain"])
def test_a_place_to_write_that_cannot_be_written(entry, blocked):
    option = "folder" if entry == "export" else "to"
    checkpoint = ["checkpoint=."] if entry == "export" else []
    main = {"pregenerate": pregenerate, "trace": trace, "export": export, "pretrain": pretrain}[entry].main
    line = refused(main, build(raw(entry, f"{option}={blocked}/x", *checkpoint)))
    assert line.startswith(f"{option}={blocked}") and "nothing can be written there (Not a directory)" in line


def test_outputs_static_that_cannot_be_written(tmp_path):
    (tmp_path / "outputs").touch()
    line = refused(run, tmp_path / "run")
    assert line.startswith("sampler.static=outputs/static: nothing can be written there")
    assert "make it writable" in line and "stp.pregenerate to=<folder>" in line and "give another folder" not in line


def test_a_base_is_not_pretrained_over_other_weights(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model.safetensors").write_text("of a model")
    line = refused(pretrain.main, build(raw("pretrain", f"to={tmp_path / 'base'}")))
    assert line == f"to={tmp_path / 'base'}: something is there already; remove it or give another folder"


def test_a_full_disk(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 2 * 2**30))
    policy = torch.nn.Linear(2**14, 2**14, bias=False, device="meta")  # 1 GiB
    policy.llama = torch.nn.Module()
    policy.llama.dtype = torch.float32
    preflight.room(tmp_path / "new", policy, 0)  # the weights alone have room
    line = refused(preflight.room, tmp_path / "new", policy, 3)
    assert "3 checkpoint(s) and the weights take 10.0 GiB, 2.0 are free" in line and "trainer.keep_checkpoints=1" in line
    policy.requires_grad_(False)
    preflight.room(tmp_path, policy, 3)


def test_wandb_online_without_a_login(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    line = refused(run, tmp_path / "run", "logging=wandb", "logging.wandb=online")
    assert line == "logging.wandb=online: not logged in to W&B; run wandb login, or use logging.wandb=offline"
    monkeypatch.setenv("WANDB_MODE", "of line")
    assert refused(run, tmp_path / "run", "logging=wandb").startswith("WANDB_MODE=of line: choose one of online, offline")


def test_wandb_that_cannot_start(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_CONSOLE", "nowhere")  # as wandb's own settings know no such console
    monkeypatch.setenv("WANDB_SILENT", "perhaps")
    line = refused(Tracker(tmp_path, Logging(wandb="offline"), {}, True).start_wandb, None)
    assert line.startswith("logging.wandb=offline: W&B does not start (") and "\n" not in line


@pytest.mark.parametrize("project", ["", "a/b", "a:b", "x" * 129])
def test_a_project_that_wandb_would_refuse(project):
    assert refused(Logging, "offline", project).startswith(f"logging.project={project}: ")


def test_a_response_longer_than_the_model_can_place(tmp_path):
    """The tiny model has 512 positions; the longest prompt of the twelve and four takes some of them."""
    line = refused(run, tmp_path / "run", "sampler.length=512", "sampler.steps=64")
    assert line.startswith("sampler.length=512: after a prompt of ") and "leaves the model's 512 positions" in line
    longest = int(line.partition("prompt of ")[2].split()[0])
    assert f"choose {512 - longest} or less" in line and 5 < longest < 20
    config = composed()
    problems = config.task.problems("train")
    assert preflight.prompts(config.model, config.task, 512 - longest, problems) == 0


def test_prompts_longer_than_prompt_tokens(tmp_path):
    line = refused(run, tmp_path / "run", "model.prompt_tokens=4")
    assert line.startswith("model.prompt_tokens=4: 12 of 12 prompts are longer and would lose their beginning; choose ")
    config = composed(f"model.prompt_tokens={line.rpartition('choose ')[2].split()[0]}")
    assert preflight.prompts(config.model, config.task, 24, config.task.problems("train")) == 0


@pytest.mark.parametrize(
    ("tokens", "length", "prompts", "advice"),
    [
        (4, 24, [10, 12, 14], "choose 14 or more"),
        (4, 24, [10, 12, 600], "choose 12 to 488, which the model's 512 positions hold"),
        (4, 500, [10, 14, 600], "the model's 512 positions hold 12 beside sampler.length=500"),
        (14, 500, [10, 12, 14], "choose 498 or less or model.prompt_tokens=12 or less"),
        (600, 24, [10, 12, 600], "leave that problem out or model.prompt_tokens=488 or less"),
    ],
)
def test_advice_can_be_followed(monkeypatch, tokens, length, prompts, advice):
    """Whatever is advised of the prompts leaves room for the response."""
    monkeypatch.setattr(Codec, "encode_prompt", lambda self, question: [0] * int(question))
    config = composed(f"model.prompt_tokens={tokens}")
    problems = [Problem(name, name, None) for name in map(str, prompts)]
    assert advice in refused(preflight.prompts, config.model, config.task, length, problems)


def test_problems_that_are_asked_whole_must_fit(monkeypatch):
    """Evaluations cut no prompt, so a held-out one counts as it is."""
    monkeypatch.setattr(Codec, "encode_prompt", lambda self, question: [0] * int(question))
    config = composed("model.prompt_tokens=20")
    short, long = Problem("a", "20", None), Problem("b", "495", None)
    assert preflight.prompts(config.model, config.task, 24, [short, short, long]) == 1
    line = refused(preflight.prompts, config.model, config.task, 24, [short], [long])
    assert line == "sampler.length=24: after a prompt of 495 tokens that leaves the model's 512 positions; choose 17 or less"


@pytest.mark.parametrize("entry", ["evaluate", "trace"])
def test_what_looks_at_a_model_looks_at_its_positions(entry, tmp_path):
    config = build(raw(entry, f"to={tmp_path / 'to'}", "sampler.length=600", "sampler.block_length=24"))
    line = refused({"evaluate": evaluate, "trace": trace}[entry].main, config)
    assert line.startswith("sampler.length=600: after a prompt of ") and "leaves the model's 512 positions" in line


def test_generated_problems_of_a_large_model_are_named(tmp_path):
    (tmp_path / "config.json").write_text('{"vocab_size": 126464}')
    subject, of_file = (Subject("gsm8k", source, "test", 3, "corrected") for source in ("generated", "from here"))
    assert "WARNING: these problems are generated for the tiny model, not gsm8k's own" in preflight.told(subject, tmp_path)
    assert preflight.told(of_file, tmp_path) == "gsm8k: 3 test problems, from here; corrected grading"
    assert "WARNING" not in preflight.told(subject, checkpoint_folder(composed().model))


def test_a_few_longer_prompts_are_counted():
    config = composed("task=gsm8k")
    problems = config.task.problems("train")
    codec = Codec(load_tokenizer(checkpoint_folder(config.model)), "", 10_000)
    lengths = [len(codec.encode_prompt(problem.question)) for problem in problems]
    config.model.prompt_tokens = int(median(lengths))
    cut = preflight.prompts(config.model, config.task, 24, problems)
    assert cut == sum(tokens > config.model.prompt_tokens for tokens in lengths) > 0


def test_a_static_dataset_that_does_not_fit(tmp_path):
    assert "no static dataset there" in refused(run, tmp_path / "run", f"sampler.static={tmp_path}")
    ones = torch.ones(1, 1, 24)
    made_by = {"task": "countdown", "source": "model", "length": 48}
    tensors = ones.long(), ones.bool(), ones, ones[:, :, 0].clone(), ones[:, :, 0].bool()
    StaticDataset({**made_by, "length": 24}, ["p"], *tensors).save(tmp_path / "s")
    for override, said in {
        "sampler.anchors=ground_truth": "made with source model",
        "task=gsm8k": "made with task countdown",
    }.items():
        assert said in refused(run, tmp_path / "run", f"sampler.static={tmp_path / 's'}", override)
    line = refused(run, tmp_path / "run", f"sampler.static={tmp_path / 's'}", "sampler.length=48", "sampler.steps=12")
    assert "made with length 24, this run has 48" in line
    with pytest.raises(UserError, match="not of the length that it names"):
        StaticDataset(made_by, ["p"], *tensors).save(tmp_path / "t")
        StaticDataset.load(tmp_path / "t")


def test_what_no_rule_foresaw_is_one_line_too(tmp_path):
    """An error in the work itself: its kind, its place, and where the traceback is; shown when it is asked for."""
    code = "from stp.cli import run; from stp.pretrain.pretrain import Pretraining; "
    code += "run(lambda options: {}['\\x1b[31m'], 'pretrain', Pretraining)"
    done = command("-c", code, "hydra.run.dir=out", cwd=tmp_path)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith("error: KeyError: '\\x1b[31m' (") and "STP_DEBUG=1 shows it" in line
    assert "KeyError" in (tmp_path / "out" / "failed.txt").read_text().splitlines()[-1]
    shown = command("-c", code, "hydra.run.dir=out", cwd=tmp_path, env=environment() | {"STP_DEBUG": "1"})
    assert "Traceback" in shown.stderr


def test_a_place_that_hydra_cannot_make(tmp_path):
    (tmp_path / "file").touch()
    done = command("-m", "stp.pretrain", "hydra.run.dir=file/run", cwd=tmp_path)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and "file/run: Not a directory" in line and not Path("file/run").exists()
