"""What a forward, a rollout and an update cost at LLaDA-8B's sizes, with random weights that are made on the device."""

from dataclasses import replace

import pytest
import torch

from stp.bench import bench
from stp.run.ranks import bootstrap
from tests.gpu.test_memory import SMALL

FORWARDS = 16  # of the rollouts that are compared: 2 in each block


@pytest.fixture(scope="module")
def shape():
    bootstrap()
    if torch.cuda.is_available():
        free = torch.cuda.mem_get_info()[0] / 2**30
        if free < 40:
            pytest.skip(f"LLaDA-8B's update and the published sampler need 40 GiB, {free:.0f} are free")
        return bench.llada_8b(torch.device("cuda", torch.cuda.current_device()))
    made = bench.llada_8b(torch.device("cpu"), SMALL)
    prompts, sampler = bench.random_prompts(2, 6, 8, made.policy), replace(made.sampler, length=16, steps=4, block_length=8)
    return replace(made, prompts=prompts, sampler=sampler, trainer=replace(made.trainer, inner_updates=2))


@pytest.fixture(scope="module")
def engine(shape):
    made = bench.engine_of(shape)
    yield made
    made.destroy()


REPEATS = {"forward": 5, "sampler": 2, "adaptive": 2, "cache": 2, "paper": 1}
ON_CPU = {"forward": 1, "paper": 1}  # tests/integration/test_bench.py runs the others there


@pytest.mark.parametrize(("item", "repeats"), (REPEATS if torch.cuda.is_available() else ON_CPU).items())
def test_an_item_is_measured(found, shape, engine, item, repeats):
    short = replace(shape, sampler=replace(shape.sampler, steps=min(FORWARDS, shape.sampler.steps)))
    of = shape if item == "paper" else short
    for row in bench.ITEMS[item](of, engine, repeats):
        ratio = "{median:.3f} [{min:.3f}, {max:.3f}]".format(**row["ratio"])
        target = "" if row["target"] is None else f"at most {row['target']:g}"
        right = None if row["target"] is None or not torch.cuda.is_available() else row["ratio"]["median"] <= row["target"]
        found(f"{row['what']} over {row['over']}", target, f"{ratio}, {row['wall_s']:.3f} s", right)
