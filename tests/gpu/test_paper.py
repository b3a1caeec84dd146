"""`stp.train scale=paper` from a checkpoint of LLaDA-8B's sizes with random weights: stopped and continued, and compiled."""

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


@pytest.fixture(scope="module")
def weights(tmp_path_factory, device):
    """A checkpoint in LLaDA's layout, beside the shipped base's tokenizer: its words are the first tokens of the vocabulary."""
    folder = tmp_path_factory.mktemp("llada")
    sizes = LLADA_8B if device.type == "cuda" else SMALL
    if device.type == "cuda":
        free, disk = torch.cuda.mem_get_info()[0] / GIB, disk_usage(folder).free / GIB
        if free < 26 or disk < GIB_OF_FILES:
            pytest.skip(f"the job needs 26 GiB of the GPU ({free:.0f} are free) and {GIB_OF_FILES} of the disk ({disk:.0f})")
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
        lines = trained(tmp_path, *overrides, f"trainer.updates={updates}")
        assert [line["update"] for line in lines] == [1, 2][:updates]
        if device.type == "cuda":
            what = f"scale=paper sampler=stp from files, update {updates}"
            tell(found, what, lines[-1])
            expected = planned(composed("plan", *overrides, f"trainer.updates={updates}", "ranks=1"))
            used = lines[-1]["memory/peak_mb"] / 1024
            found(f"{what}: memory", f"{expected:.1f} GiB, by the plan", f"{used:.1f} GiB", abs(used / expected - 1) <= 0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="on a CPU tests/models/test_compile.py is enough")
def test_the_papers_job_trains_with_compiled_layers(tmp_path, found, weights):
    """The first update waits for the compiler, the second only for what its sizes compile anew."""
    for line in trained(tmp_path, *JOB, f"model.path={weights}", "trainer.updates=2", "model.compile=true"):
        tell(found, f"the same with model.compile=true, update {line['update']}", line)


def trained(folder, *overrides):
    """Runs the job and returns the lines of its updates, the last of which has finite figures and a gradient."""
    execute(composed("train", *overrides), folder / "run", {})
    lines = read_jsonl(folder / "run" / "metrics.jsonl")
    assert all(math.isfinite(lines[-1][name]) for name in ("loss", "elbo/elbo")) and 0 < lines[-1]["grad_norm"] < math.inf
    return lines


def tell(found, what, line):
    """What an update cost."""
    spent = {name: line[f"time/{name}"] for name in ("sample", "score", "update")}
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in spent.items())
    found(what, "", f"{sum(spent.values()):.1f} s ({parts})")
