"""`stp.train scale=paper`, stopped after an update and continued, from a checkpoint of LLaDA-8B's sizes with random weights."""

import math
from dataclasses import replace
from shutil import disk_usage

import pytest
import torch

from stp.bench.bench import random_policy
from stp.models.llada import LLADA_8B, llama_config, save_llada
from stp.models.options import Model
from stp.models.policy import load_tokenizer
from stp.models.tiny import shipped
from stp.plan.plan import GIB, Planner
from stp.run.files import read_jsonl
from stp.train.job import execute
from tests.config import composed
from tests.gpu.test_memory import SMALL
from tests.integration.test_combinations import every_group_teaches  # noqa: F401 (random weights earn no reward)

JOB = ["scale=paper", "sampler=stp", "task=countdown", "task.data.source=generate", "task.data.train_size=12", "logging=files"]
JOB += ["trainer.eval_size=0", "trainer.checkpoint_every=1", "trainer.probe_every=0", "trainer.resume=auto"]
JOB += ["model.prompt_tokens=208"]  # the tiny tokenizer needs more of them than LLaDA's
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
    def job(updates):
        smaller = ON_CPU if device.type == "cpu" else []
        return composed("train", *JOB, *smaller, f"model.path={weights}", f"trainer.updates={updates}")

    for updates in (1, 2):
        execute(job(updates), tmp_path / "run", {})
    lines = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert [line["update"] for line in lines] == [1, 2]
    assert all(math.isfinite(line[name]) for line in lines for name in ("loss", "elbo/elbo"))
    assert all(0 < line["grad_norm"] < math.inf for line in lines)
    if device.type == "cpu":
        return
    second = {name: lines[1][f"time/{name}"] for name in ("sample", "score", "update")}
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in second.items())
    found("scale=paper sampler=stp, from files: the second update", "", f"{sum(second.values()):.1f} s ({parts})")
    plan = replace(composed("plan", *JOB, f"model.path={weights}"), ranks=1)
    planned = Planner(plan.model).memory(plan, 1)
    expected = max(planned.total(phase) for phase in ("rollout", "update", "optimizer step")) / GIB
    used = lines[1]["memory/peak_mb"] / 1024
    close = abs(used / expected - 1) <= 0.1
    found("scale=paper sampler=stp, from files: memory", f"{expected:.1f} GiB, by the plan", f"{used:.1f} GiB", close)
