"""Every sampler with every estimator on every task, and every objective that fits: two updates of a real run each."""

import math
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stp.config import CONF, SCHEMAS
from stp.models.tiny import shipped
from stp.train import execute
from tests.integration.runs import composed, metrics, weights

LEAST = [
    "trainer.eval_size=0",
    "trainer.probe_every=0",
    "trainer.inner_updates=1",
    "trainer.group_size=3",
    "task.data.train_size=4",
    "optimizer.lr=1e-3",
    "optimizer.warmup=0",
]


@pytest.fixture(autouse=True)
def every_group_teaches(monkeypatch):
    """A few short completions are often worth the same: a part of the reward that tells any two texts apart."""
    for task in SCHEMAS["task"].values():

        def reward_parts(self, problem, completion, parts=task.reward_parts):
            return parts(self, problem, completion) | {"text": sum(completion.encode()) % 97 / 970}

        monkeypatch.setattr(task, "reward_parts", reward_parts)


def files(group: str) -> list[str]:
    return sorted(path.stem for path in (Path(CONF) / group).glob("*.yaml"))


def train(folder: Path, task: str, sampler: str, estimator: str, *more: str):
    """Config, summary and metrics of a run; its losses finite."""
    choices = {"task": task, "model": "tiny", "sampler": sampler, "estimator": estimator}
    config = composed(*LEAST, f"task={task}", f"sampler={sampler}", f"estimator={estimator}", *more)
    summary, lines = execute(config, folder, choices), metrics(folder)
    assert [line["update"] for line in lines] == [1, 2] and summary["updates"] == 2
    assert all(math.isfinite(line["loss"]) and math.isfinite(line["grad_norm"]) for line in lines)
    assert all(line["grad_norm"] > 0 for line in lines)
    return config, summary, lines


def changed(folder: Path, task: str = "countdown") -> bool:
    """Whether the exported weights are finite, and not those that the run began with."""
    base, trained = load_file(shipped(task) / "model.safetensors"), weights(folder)
    assert all(weight.isfinite().all() for weight in trained.values())
    return any(not torch.equal(trained[name], base[name]) for name in base)


def test_the_files_are_the_classes():
    assert all(files(group) == sorted(SCHEMAS[group]) for group in ("task", "sampler", "estimator", "objective"))


@pytest.mark.parametrize(("task", "sampler", "estimator"), product(files("task"), files("sampler"), files("estimator")))
def test_every_combination_trains(tmp_path, task, sampler, estimator):
    config, summary, lines = train(tmp_path / "run", task, sampler, estimator)
    assert changed(tmp_path / "run", task)
    assert type(config.estimator) is SCHEMAS["estimator"][estimator] and type(config.sampler) is SCHEMAS["sampler"][sampler]
    assert (summary["task"], summary["sampler"], summary["estimator"]) == (task, sampler, estimator)
    measured = config.estimator.independent and config.estimator.samples > 1
    for line in lines:
        assert math.isfinite(line["elbo/elbo"])
        assert ("elbo/variance" in line) == measured and (not measured or line["elbo/variance"] > 0)
    assert (lines[0]["pruning/fixed"] > 0) == (sampler == "stp")


@pytest.mark.parametrize("estimator", [e for e in files("estimator") if e != "spg"])
@pytest.mark.parametrize("objective", files("objective"))
def test_every_objective_takes_every_estimator_but_spg(tmp_path, estimator, objective):
    """A KL penalty where the objective has one."""
    more = ["objective.beta=0.04"] if objective == "grpo" else []
    _, _, lines = train(tmp_path / "run", "countdown", "standard", estimator, f"objective={objective}", *more)
    assert changed(tmp_path / "run")
    assert all(("bound/lower" in line) == (objective == "policy_gradient") for line in lines)
    if objective == "grpo":
        assert lines[0]["kl"] == pytest.approx(0, abs=1e-9) and lines[1]["kl"] > 0
        assert lines[0]["ratio/mean"] == pytest.approx(1)


@pytest.mark.parametrize("estimator", files("estimator"))
def test_every_estimator_masks_prompts_and_is_probed_under_lora(tmp_path, estimator):
    lora = ["model.lora.rank=4", "model.lora.dropout=0.1", "estimator.p_mask=0.15", "estimator.samples=2"]
    _, summary, lines = train(tmp_path / "run", "countdown", "stp", estimator, *lora, "trainer.probe_every=1")
    adapter = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    assert any(weight.any() for name, weight in adapter.items() if "lora_B" in name)
    assert all(weight.isfinite().all() for weight in adapter.values())
    assert 0 < summary["elbo_variance"]["mean"] < math.inf and all(line["probe/variance"] > 0 for line in lines)


def test_spg_with_new_masks_for_each_inner_update(tmp_path):
    spg = ["trainer.inner_updates=2", "estimator.p_mask=0.15", "estimator.samples=2", "sampler.block_length=12"]
    config, _, fresh = train(tmp_path / "fresh", "countdown", "stp", "spg", *spg, "trainer.fresh_masks=true")
    assert config.estimator.block_length == 12 and changed(tmp_path / "fresh")  # the sampler's
    assert all(line["bound/lower"] < 0 and line["bound/upper"] != line["bound/lower"] for line in fresh)
    assert not {"kl", "ratio/mean", "elbo/delta_max"} & set(fresh[0])
    _, _, shared = train(tmp_path / "shared", "countdown", "stp", "spg", *spg, "trainer.fresh_masks=false")
    assert shared[0]["reward/mean"] == fresh[0]["reward/mean"] and shared[0]["loss"] != fresh[0]["loss"]
