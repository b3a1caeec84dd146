"""`stp.train scale=paper`, stopped after an update and continued, from a checkpoint of LLaDA-8B's sizes with random weights."""

import math
from shutil import disk_usage

import pytest
import torch

from stp.bench.bench import random_policy
from stp.models.llada import LLADA_8B, llama_config, save_llada
from stp.models.options import Model
from stp.models.policy import load_tokenizer
from stp.models.tiny import shipped
from stp.plan.plan import GIB
from stp.run.files import read_jsonl
from stp.train.job import execute
from tests.config import composed
from tests.gpu.test_memory import SMALL, planned
from tests.integration.test_combinations import every_group_teaches  # noqa: F401 (random weights earn no reward)

JOB = ["scale=paper", "sampler=stp", "task=countdown", "task.data.source=generate", "task.data.train_size=12"]
JOB += ["sampler.anchors=ground_truth", "model.prompt_tokens=208"]  # the tiny tokenizer needs more tokens than LLaDA's
JOB += ["trainer.eval_size=0", "trainer.probe_every=0", "trainer.checkpoint_every=1", "trainer.resume=auto", "logging=files"]
ON_CPU = ["sampler.length=16", "sampler.block_length=8", "sampler.steps=4", "model.lora.rank=2", "trainer.inner_updates=2"]
GIB_OF_FILES = 18  # the weights in bfloat16 and what two checkpoints hold of the adapters


@pytest.fixture
def weights(tmp_path, device):
    """A checkpoint in LLaDA's layout, beside the shipped base's tokenizer: its words are the first tokens of the vocabulary."""
    sizes = LLADA_8B if device.type == "cuda" else SMALL
    if device.type == "cuda":
        free, disk = torch.cuda.mem_get_info()[0] / GIB, disk_usage(tmp_path).free / GIB
        if free < 26 or disk < GIB_OF_FILES:
            pytest.skip(f"the job needs 26 GiB of the GPU ({free:.0f} are free) and {GIB_OF_FILES} of the disk ({disk:.0f})")
    folder = tmp_path / "llada"
    folder.mkdir()
    tokenizer = load_tokenizer(shipped("countdown"))
    tokenizer.save_pretrained(folder)
    save_llada(
        random_policy(llama_config(sizes, folder), Model(dtype="bfloat16"), device).llama, folder, tokenizer.mask_token_id
    )
    return folder


def test_the_papers_job_trains_and_goes_on(tmp_path, device, found, weights):
    """The second update is made by a job that goes on from the first one's checkpoint."""
    overrides = [*JOB, *(ON_CPU if device.type == "cpu" else []), f"model.path={weights}"]
    for updates in (1, 2):
        execute(composed("train", *overrides, f"trainer.updates={updates}"), tmp_path / "run", {})
        lines = read_jsonl(tmp_path / "run" / "metrics.jsonl")
        assert [line["update"] for line in lines] == [1, 2][:updates]
        assert all(math.isfinite(lines[-1][name]) for name in ("loss", "elbo/elbo")) and 0 < lines[-1]["grad_norm"] < math.inf
        if device.type == "cuda":
            tell(found, lines[-1], composed("plan", *overrides, f"trainer.updates={updates}", "ranks=1"))


def tell(found, line, plan):
    """What an update cost, and whether the plan knew."""
    spent = {name: line[f"time/{name}"] for name in ("sample", "score", "update")}
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in spent.items())
    what = f"scale=paper sampler=stp from files, update {line['update']}"
    found(what, "", f"{sum(spent.values()):.1f} s ({parts})")
    expected, used = planned(plan), line["memory/peak_mb"] / 1024
    found(f"{what}: memory", f"{expected:.1f} GiB, by the plan", f"{used:.1f} GiB", abs(used / expected - 1) <= 0.1)
