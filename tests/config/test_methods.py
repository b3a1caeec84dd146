"""experiment=method_<name>: the field's methods, at the tiny scale and with their published numbers at the paper's."""

from functools import cache
from pathlib import Path

import pytest

from stp.config import CONF, plain
from stp.config.record import leaves
from tests.config import composed as uncached
from tests.config.test_options import FILES

# method: estimator, objective, and the published learning rate, mu and G, where there are any
METHODS = {
    "agrpo": ("trace", "grpo", None),
    "cj_grpo": ("trace", "grpo", (3e-6, 8, 6)),
    "coupled_grpo": ("coupled", "grpo", (1e-6, 2, 10)),
    "d1": ("one_step", "grpo", (3e-6, 8, 6)),
    "d2_stepmerge": ("trace", "grpo", (3e-6, 8, 6)),
    "dapo": ("elbo", "grpo", None),
    "dmpo": ("coupled", "dmpo", (1e-6, 8, 16)),
    "espo": ("coupled", "sequence", (3e-6, 8, 6)),
    "gdpo": ("elbo", "sequence", (3e-7, 4, 6)),
    "igpo": ("one_step", "sequence", (5e-7, 4, 8)),
    "justgrpo": ("causal", "policy_gradient", (5e-6, 1, 16)),
    "rldf": ("trace", "grpo", (1e-6, 1, 4)),
    "spg": ("spg", "policy_gradient", (3e-6, 4, 6)),
    "stabledrl": ("spg", "stable", (1e-6, 2, 16)),
    "tracerl": ("trace", "grpo", (1e-6, 1, 8)),
    "wd1": ("one_step", "wd1", (3e-6, 12, 6)),
}
TRAINING = (
    "optimizer.",
    "trainer.updates",
    "trainer.prompts",
    "trainer.group_size",
    "trainer.micro_",
    "model.",
    "objective.beta",
)


@cache
def composed(*overrides):
    return uncached("train", *overrides)


def settings(*overrides):
    return leaves(plain(composed(*overrides)))


def test_every_preset_is_listed():
    assert {f"method_{name}" for name in METHODS} == {name for name in FILES["experiment"] if name.startswith("method_")}
    published = {f"method_{name}" for name, (_, _, numbers) in METHODS.items() if numbers}
    assert set(FILES["published"]) - {"none"} == published


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_its_parts_at_every_scale(name):
    estimator, objective, _ = METHODS[name]
    for scale in ([], ["scale=paper"]):
        config = composed(f"experiment=method_{name}", *scale)
        assert type(config.estimator).__module__ == f"stp.estimators.{estimator}"
        assert type(config.objective).__module__ == f"stp.objectives.{objective}"
        assert type(config.sampler).__name__ == "Standard"


@pytest.mark.parametrize("name", METHODS)
def test_the_published_numbers_come_with_the_papers_scale_alone(name):
    tiny, default = settings(f"experiment=method_{name}"), settings()
    assert {k: v for k, v in tiny.items() if k.startswith(TRAINING)} == {
        k: v for k, v in default.items() if k.startswith(TRAINING)
    }
    numbers = METHODS[name][2]
    paper = settings(f"experiment=method_{name}", "scale=paper")
    names = ("optimizer.lr", "trainer.inner_updates", "trainer.group_size")
    if numbers is None:
        own = {"objective.beta": 0.0} if name == "dapo" else {}  # DAPO has no KL penalty
        whole = settings("scale=paper", "sampler=standard") | own
        assert {k: v for k, v in paper.items() if k.startswith(TRAINING)} == {
            k: v for k, v in whole.items() if k.startswith(TRAINING)
        }
        return
    assert tuple(paper[key] for key in names) == numbers
    source = (Path(CONF) / "published" / f"method_{name}.yaml").read_text()
    assert "github.com/" in source or "pull request" in source


def test_the_command_line_wins_over_published_numbers():
    assert composed("experiment=method_espo", "scale=paper", "optimizer.lr=1e-5").optimizer.lr == 1e-5
    assert composed("experiment=method_espo", "scale=paper", "published=none").trainer.inner_updates == 4


def test_several_presets_still_compose():
    """Hydra tells no single choice then, so the published numbers have to be named."""
    both = "experiment=[table1_unigrpo,method_espo]"
    assert composed(both, "scale=paper").trainer.inner_updates == 4
    assert composed(both, "scale=paper", "published=method_espo").trainer.inner_updates == 8


def test_settings_that_make_the_method():
    """What a table of methods promises, by name."""
    for name, setting, value in [
        ("gdpo", "estimator.times", "gauss"),
        ("espo", "objective.baseline", "leave_one_out"),
        ("espo", "objective.kl", "k2"),
        ("cj_grpo", "estimator.groups", 0),
        ("d2_stepmerge", "estimator.groups", 8),
        ("agrpo", "estimator.pick", "uniform"),
        ("rldf", "estimator.score", "confident"),
        ("justgrpo", "sampler.block_length", 1),
        ("dapo", "objective.clip_high", 0.28),
        ("coupled_grpo", "estimator.t_range", [0.2, 0.8]),
        ("coupled_grpo", "objective.baseline", "leave_one_out"),
        ("igpo", "rescue.share", [0.2, 0.6]),
        ("igpo", "rescue.chunk", [5, 10]),
        ("igpo", "rescue.entropy_share", 0.2),
        ("dapo", "rescue.tries", 3),
    ]:
        assert settings(f"experiment=method_{name}")[setting] == value
    paper = settings("experiment=method_justgrpo", "scale=paper")
    assert paper["estimator.samples"] == paper["sampler.steps"] == paper["sampler.length"] == 256
    assert settings("experiment=method_tracerl", "scale=paper")["estimator.groups"] == 128 // 8
    assert settings("experiment=method_espo", "scale=paper", "task=gsm8k")["objective.beta"] == 1e-3


PUBLISHED = [  # read in the released files that the presets name
    ("cj_grpo", "gsm8k", {"trainer.inner_updates": 12, "estimator.p_mask": 0.0, "model.quantize": "none"}),
    ("coupled_grpo", "countdown", {"objective.normalize": "token", "model.lora.rank": 0}),
    ("d1", "countdown", {"objective.normalize": "token", "model.quantize": "nf4"}),
    ("d2_stepmerge", "countdown", {"trainer.prompts_per_update": 16, "estimator.groups": 16, "objective.normalize": "token"}),
    ("d2_stepmerge", "gsm8k", {"trainer.inner_updates": 12, "estimator.groups": 8, "sampler.temperature": 0.9}),
    ("d2_stepmerge", "sudoku", {"trainer.inner_updates": 8, "estimator.groups": 8, "sampler.temperature": 0.3}),
    ("igpo", "gsm8k", {"trainer.prompts_per_update": 64, "optimizer.warmup": 50, "trainer.micro_batch": 8}),
    ("igpo", "gsm8k", {"model.quantize": "none", "objective.beta": 0.01}),
    ("rldf", "math", {"optimizer.max_grad_norm": 1.0, "objective.beta": 0.0, "trainer.prompts_per_update": 32}),
    ("stabledrl", "gsm8k", {"optimizer.lr": 2e-6}),
    ("stabledrl", "math", {"optimizer.lr": 2e-6}),
    ("stabledrl", "sudoku", {"optimizer.lr": 1e-6}),
    ("tracerl", "math", {"model.lora.rank": 0, "optimizer.max_grad_norm": 1.0, "optimizer.weight_decay": 0.0}),
    ("tracerl", "math", {"optimizer.beta2": 0.999, "trainer.prompts_per_update": 32, "objective.beta": 0.0}),
]


@pytest.mark.parametrize(("name", "task", "numbers"), PUBLISHED)
def test_published_numbers_are_those_of_the_released_files(name, task, numbers):
    paper = settings(f"experiment=method_{name}", "scale=paper", f"task={task}")
    assert {key: paper[key] for key in numbers} == numbers


@pytest.mark.parametrize("name", ["d1", "dmpo", "espo", "igpo", "spg", "wd1"])
def test_adapters_are_on_the_modules_that_lladas_code_has(name):
    """The released code lists seven names, of which LLaDA's remote code has four."""
    paper = settings(f"experiment=method_{name}", "scale=paper")
    assert paper["model.lora.target_modules"] == ["q_proj", "k_proj", "v_proj", "up_proj"]


@pytest.mark.parametrize("scale", ["tiny", "paper"])
def test_dapo_does_not_train_groups_of_equal_rewards(scale):
    assert not composed("experiment=method_dapo", f"scale={scale}").objective.trains_equal
