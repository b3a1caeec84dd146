"""Every method on every task, with the samplers in turn, and every objective with every estimator: updates of real runs.

A method is a preset conf/experiment/method_*.yaml, or a row of the paper. All tasks, samplers, estimators and objectives
together would be hundreds of runs. So each method runs on each task once, with the next sampler on the next task, and every
objective meets every estimator on a small policy, without a command line.
"""

import math
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stp.config import CONF, SCHEMAS
from stp.config.rules import check
from stp.errors import UserError
from stp.loop import update
from stp.models.tiny import shipped
from stp.objectives import PolicyGradient
from stp.roles import Learner, Run
from stp.train.job import execute
from tests.equations import test_savings as small
from tests.integration.runs import composed, metrics, weights

LEAST = [
    "sampler.length=16",
    "sampler.steps=4",
    "trainer.eval_size=0",
    "trainer.probe_every=0",
    "trainer.group_size=3",
    "trainer.micro_batch=8",
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


TASKS, SAMPLERS = files("task"), files("sampler")
METHODS = ["table5_stp", "table1_unigrpo", *(name for name in files("experiment") if name.startswith("method_"))]
RUNS = [(method, task, SAMPLERS[(i + j) % len(SAMPLERS)]) for i, method in enumerate(METHODS) for j, task in enumerate(TASKS)]


@cache
def chosen(*overrides: str):
    """A checked config with the least of everything. Composing one takes as long as training with it."""
    return composed(*LEAST, *overrides)


def of_method(method: str, task: str, sampler: str):
    """The config of `experiment=<method> task=<task> sampler=<sampler>`, put together from two that are composed once."""
    config, place = chosen(f"experiment={method}", "trainer.inner_updates=2"), chosen(f"task={task}", f"sampler={sampler}")
    whole = config.rescue.needs_solutions or task == "sudoku"  # whose completions all begin with the rows of the puzzle
    sampler = replace(place.sampler, length=48, steps=6) if whole else place.sampler
    return replace(config, task=place.task, sampler=sampler, model=place.model)


def train(folder: Path, config):
    """Metrics of a run of one or two updates; its losses finite, its weights moved."""
    named = {option: name for group in ("task", "sampler", "estimator") for name, option in SCHEMAS[group].items()}
    choices = {group: named[type(getattr(config, group))] for group in ("task", "sampler", "estimator")} | {"model": "tiny"}
    summary, lines = execute(config, folder, choices), metrics(folder)
    assert [line["update"] for line in lines] == [1, 2][: config.trainer.updates] and summary["updates"] == len(lines)
    assert {group: summary[group] for group in choices} == choices
    assert all(math.isfinite(line["loss"]) and math.isfinite(line["elbo/elbo"]) for line in lines)
    assert all(math.isfinite(line["grad_norm"]) for line in lines) and any(line["grad_norm"] > 0 for line in lines)
    return lines


def changed(folder: Path, task: str = "countdown") -> bool:
    """Whether the exported weights are finite, and not those that the run began with."""
    base, trained = load_file(shipped(SCHEMAS["task"][task]().base) / "model.safetensors"), weights(folder)
    assert all(weight.isfinite().all() for weight in trained.values())
    return any(not torch.equal(trained[name], base[name]) for name in base)


def test_the_files_are_the_classes():
    assert all(files(group) == sorted(SCHEMAS[group]) for group in ("task", "sampler", "estimator", "objective"))


def test_the_methods_use_every_part():
    """Each estimator and each objective meets each sampler and each task in a run."""
    met = set()
    for method, *places in RUNS:
        config = of_method(method, *places)
        met |= set(product([type(config.estimator), type(config.objective)], places))
    parts = [option for group in ("estimator", "objective") for option in SCHEMAS[group].values()]
    assert met >= set(product(parts, [*TASKS, *SAMPLERS]))


@pytest.mark.parametrize(("method", "task", "sampler"), RUNS)
def test_every_method_trains_on_every_task(tmp_path, method, task, sampler):
    config = of_method(method, task, sampler)
    if task != TASKS[0] and not config.rescue.needs_solutions:  # a rescued first update may have equal rewards
        config = replace(config, trainer=replace(config.trainer, updates=1))
    check(config)
    lines = train(tmp_path / "run", config)
    assert changed(tmp_path / "run", task)
    measured = config.estimator.independent and config.estimator.samples > 1
    for line in lines:
        assert ("elbo/variance" in line) == measured and (not measured or line["elbo/variance"] > 0)
        assert ("bound/lower" in line) == isinstance(config.objective, PolicyGradient) != ("ratio/clipped" in line)


KILLED = [(method, TASKS[i % len(TASKS)], SAMPLERS[-i % len(SAMPLERS)]) for i, method in enumerate(METHODS)][
    :: max(1, len(METHODS) // 4)
]


@pytest.mark.parametrize(("method", "task", "sampler"), KILLED)
def test_a_killed_method_goes_on_with_the_same_bits(tmp_path, method, task, sampler):
    config = of_method(method, task, sampler)
    train(tmp_path / "whole", config)
    first = replace(config, trainer=replace(config.trainer, updates=1, checkpoint_every=1))
    execute(first, tmp_path / "parts", {"task": task})
    again = replace(config, trainer=replace(config.trainer, resume=str(tmp_path / "parts"), checkpoint_every=1))
    execute(again, tmp_path / "other", {"task": task})
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")
    ours, theirs = weights(tmp_path / "parts"), weights(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(("objective", "estimator"), product(files("objective"), files("estimator")))
def test_every_objective_takes_every_estimator(objective, estimator):
    """Bounds have no ratio; otherwise any two fit, in two inner updates with new masks."""
    objective, estimator = SCHEMAS["objective"][objective](), SCHEMAS["estimator"][estimator]()
    config = replace(chosen("task=countdown"), objective=objective, estimator=estimator)
    if not isinstance(objective, PolicyGradient) and not estimator.separable:
        with pytest.raises(UserError, match="use objective=policy_gradient"):
            check(config)
        return
    check(config)
    policy, before = small.a_policy(), torch.cat([p.flatten() for p in small.a_policy().parameters()])
    rollout = small.a_rollout(small.ALL_TEACH, objective)
    step_BL = torch.arange(small.LENGTH).expand_as(rollout.trajectory.step_BL)
    rollout = replace(rollout, trajectory=replace(rollout.trajectory, step_BL=step_BL))
    trainer = replace(config.trainer, inner_updates=2, group_size=small.GROUP, fresh_masks=True)
    reference = small.a_policy(1) if objective.reads_reference else None
    stats = update(Learner(small.Engine(policy), estimator, objective, trainer, reference), rollout, Run())
    after = torch.cat([p.flatten() for p in policy.parameters()])
    assert math.isfinite(stats["loss"]) and after.isfinite().all() and not torch.equal(after, before)


@pytest.mark.parametrize("estimator", files("estimator"))
def test_every_estimator_masks_prompts_and_is_probed_under_lora(tmp_path, estimator):
    lora = ["model.lora.rank=4", "model.lora.dropout=0.1", "estimator.p_mask=0.15", "estimator.samples=2"]
    config = composed(*LEAST, f"estimator={estimator}", *lora, "trainer.probe_every=1", "trainer.inner_updates=1")
    lines = train(tmp_path / "run", config)
    adapter = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    assert any(weight.any() for name, weight in adapter.items() if "lora_B" in name)
    assert all(weight.isfinite().all() for weight in adapter.values())
    assert all(0 < line["probe/variance"] < math.inf for line in lines)


def test_spg_with_new_masks_for_each_inner_update(tmp_path):
    spg = ["estimator=spg", "estimator.p_mask=0.15", "estimator.samples=2", "sampler.block_length=4"]
    config = composed(*LEAST, *spg, "trainer.fresh_masks=true")
    fresh = train(tmp_path / "fresh", config)
    assert config.estimator.block_length == 4 and changed(tmp_path / "fresh")  # the sampler's
    assert all(line["bound/lower"] < 0 and line["bound/upper"] != line["bound/lower"] for line in fresh)
    assert not {"kl", "ratio/mean", "elbo/delta_max"} & set(fresh[0])
    shared = train(tmp_path / "shared", replace(config, trainer=replace(config.trainer, fresh_masks=False)))
    assert shared[0]["reward/mean"] == fresh[0]["reward/mean"] and shared[0]["loss"] != fresh[0]["loss"]
