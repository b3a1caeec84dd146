"""Two updates of every sampler, estimator and objective, under each ZeRO stage and under LoRA; and a run that is continued."""

import math
from itertools import product

import pytest
import torch

from stp.config import SCHEMAS
from stp.errors import UserError
from stp.models.policy import require_available
from stp.train.job import execute
from tests.integration.runs import composed, metrics, weights
from tests.integration.test_combinations import LEAST, every_group_teaches  # noqa: F401 (short completions earn one reward)

PRECISE = ["zero=off"]
SETTINGS = {
    "zero=off": PRECISE,
    **{f"zero={stage} bfloat16": [f"zero={stage}", "model.dtype=bfloat16"] for stage in ("stage1", "stage2", "stage3")},
    "LoRA zero=stage2 bfloat16": ["zero=stage2", "model.dtype=bfloat16", "model.lora.rank=4"],
    "NF4 LoRA zero=stage2 bfloat16": ["zero=stage2", "model.dtype=bfloat16", "model.lora.rank=4", "model.quantize=nf4"],
}
COMBINATIONS = list(product(*(sorted(SCHEMAS[group]) for group in ("sampler", "estimator", "objective"))))
# first each combination once, the settings taken in turn, then again with the next setting: time may run out
EVERY = [
    (*combination, list(SETTINGS)[(i + turn) % len(SETTINGS)])
    for turn in range(len(SETTINGS))
    for i, combination in enumerate(COMBINATIONS)
]
ON_CPU = [("stp", "elbo", "grpo", "zero=stage2 bfloat16"), ("standard", "one_step", "grpo", "LoRA zero=stage2 bfloat16")]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_continued_run_ends_as_one_that_was_not_stopped(tmp_path, found):
    """On a GPU sums may be taken in another order."""
    plain = [*LEAST, "trainer.checkpoint_every=1"]
    execute(composed(*plain), tmp_path / "whole", {})
    execute(composed(*plain, "trainer.updates=1"), tmp_path / "part", {})
    execute(composed(*plain, f"trainer.resume={tmp_path / 'part'}"), tmp_path / "unused", {})
    whole, part = weights(tmp_path / "whole"), weights(tmp_path / "part")
    off = max(float((whole[name] - part[name]).abs().max()) for name in whole)
    most = 1e-4 if torch.cuda.is_available() else 0.0
    found("a run continued after its first update: weights of the second", f"within {most:g}", f"{off:.1e}", off <= most)


@pytest.mark.parametrize(("sampler", "estimator", "objective", "setting"), EVERY if torch.cuda.is_available() else ON_CPU)
def test_two_updates(tmp_path, sampler, estimator, objective, setting):
    # a bfloat16 policy has no frozen copy to be compared with, and a penalty needs one
    beta = ["objective.beta=0"] if hasattr(SCHEMAS["objective"][objective], "beta") else []
    chosen = [f"sampler={sampler}", f"estimator={estimator}", f"objective={objective}"]
    try:
        config = composed(*LEAST, *chosen, *SETTINGS[setting], *beta)
        require_available(config.model)
    except UserError as error:
        pytest.skip(f"refused: {error}")
    execute(config, tmp_path / "run", {"task": "countdown"})
    lines = metrics(tmp_path / "run")
    assert [line["update"] for line in lines] == [1, 2]
    assert all(math.isfinite(line[name]) for line in lines for name in ("loss", "grad_norm"))
