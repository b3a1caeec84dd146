"""Every option file composes, builds and is the class that its name says."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from stp.config import CONF, SCHEMAS, build, check_ranks, config_hash, plain
from stp.errors import UserError
from tests.config import ROOTS, composed, raw

FILES = {
    folder.name: sorted(f.stem for f in folder.glob("*.yaml")) for folder in sorted(Path(CONF).iterdir()) if folder.is_dir()
}
# presets that are neither a row of the paper's tables nor a published method
BESIDE_THE_PAPER = {"lora", "fast", "unscaled", "unscaled_stp"}


def groups(entry):
    """The groups that an entry point's defaults list names."""
    names = [next(iter(item)) for item in OmegaConf.load(Path(CONF) / f"{entry}.yaml").defaults if not isinstance(item, str)]
    return [name for name in names if not name.startswith("override ")]


def options(entry, group):
    """The options that an entry point takes of a group, without the presets that tests of their own compose and build."""
    if (entry, group) == ("lm_eval", "estimator"):
        return ["elbo", "causal"]  # the others give no likelihood
    return [option for option in FILES[group] if not option.startswith("method_")]  # see test_presets.py and test_methods.py


def together(entry, names):
    """One option of every group at once, until each option has been chosen."""
    choices = {name: options(entry, name) for name in names}
    return [tuple(f"{name}={of[-i % len(of)]}" for name, of in choices.items()) for i in range(max(map(len, choices.values())))]


APART = ("estimator", "objective", "zero")  # which do not fit all others
CASES = [  # training is tried at each scale
    ("train", (*chosen, f"scale={scale}"))
    for scale in FILES["scale"]
    for chosen in [
        *together("train", [name for name in groups("train") if name not in ("scale", "experiment", *APART)]),
        *((f"{name}={option}",) for name in APART for option in FILES[name]),
    ]
] + [
    (entry, chosen)
    for entry in ROOTS
    if entry not in ("train", "plan")  # the groups of a plan are train's
    for chosen in together(entry, groups(entry))
]


def test_every_option_is_reachable():
    assert {group for entry in ROOTS for group in groups(entry)} == set(FILES)
    assert {"model", "task", "sampler", "estimator", "objective", "zero", "logging", "scale"} <= set(groups("train"))
    assert set(SCHEMAS) <= set(FILES)


def test_a_plan_takes_what_training_takes():
    def listed(entry):
        defaults = OmegaConf.to_container(OmegaConf.load(Path(CONF) / f"{entry}.yaml").defaults, resolve=False)
        return [item for item in defaults if not isinstance(item, str) and not next(iter(item)).startswith("override ")]

    assert listed("plan") == listed("train")


@pytest.mark.parametrize("entry", ROOTS)
def test_the_defaults_build(entry):
    assert type(composed(entry)) is ROOTS[entry]


@pytest.mark.parametrize(("entry", "overrides"), CASES)
def test_every_option_builds(entry, overrides):
    config = raw(entry, *overrides)
    if entry == "train" and config.model.dtype == "bfloat16" and config.zero.stage == 0:  # impossible
        config = raw(entry, *overrides, "model.dtype=float32")
    built = build(config)
    assert type(built) is ROOTS[entry]
    for name in (g for g in groups(entry) if g in SCHEMAS):
        assert type(getattr(built, name)) in SCHEMAS[name].values()


@pytest.mark.parametrize(("group", "option"), [(g, o) for g in ("sampler", "estimator", "objective", "task") for o in FILES[g]])
def test_an_option_is_a_file_is_a_class(group, option):
    part = getattr(composed("train", f"{group}={option}"), group)
    assert type(part).__module__ == f"stp.{group}s.{option}"
    assert type(part).__name__.lower() == option.replace("_", "")


def test_the_model_brings_its_lengths():
    llada = ("model=llada_8b", "zero=stage2", "sampler=standard")
    for model, sampler in (("tiny", composed("train").sampler), ("llada_8b", composed("train", *llada).sampler)):
        lengths = OmegaConf.load(Path(CONF) / "sampling" / f"{model}.yaml")
        assert {name: getattr(sampler, name) for name in lengths} == dict(lengths) and "length" in lengths
    assert composed("evaluate", "model=llada_8b").sampler == composed("train", *llada).sampler


@pytest.mark.parametrize("length", [128, 256, 512])
@pytest.mark.parametrize("model", FILES["model"])
def test_the_published_protocol_brings_its_settings(model, length):
    config = composed("evaluate", f"model={model}", "protocol=published", f"sampler.length={length}")
    assert (config.sampler.length, config.sampler.steps, config.sampler.block_length) == (length, length // 2, 32)
    assert (config.temperatures, config.samples, config.task.grading) == ([0.0], 1, "published")
    assert composed("evaluate", "protocol=published").sampler.length == 256
    assert composed("evaluate").task.grading == "corrected" and composed("evaluate").protocol.prefill == ""


def test_the_command_line_wins():
    config = composed("train", "scale=paper", "model=tiny", "sampler.gamma=0.1", "trainer.updates=3", "optimizer.lr=1e-4")
    assert (config.model.name, config.sampler.gamma, config.trainer.updates, config.optimizer.lr) == ("tiny", 0.1, 3, 1e-4)


def test_a_micro_batch_never_exceeds_the_batch():
    config = composed("train", "trainer.prompts_per_update=2", "trainer.group_size=3", "trainer.micro_batch=32")
    assert config.trainer.micro_batch == 6


def test_prompts_divide_among_ranks():
    config = composed("train", "trainer.prompts_per_update=12")
    for ranks in (1, 2, 3, 12):
        check_ranks(config, ranks)
    with pytest.raises(UserError, match=r"^trainer\.prompts_per_update=12: 5 ranks .* choose a multiple of 5$"):
        check_ranks(config, 5)


def test_the_hash_names_what_decides_the_results():
    base = config_hash(composed("train"))
    assert config_hash(composed("train", "logging=files", "trainer.eval_every=3", "trainer.updates=9")) == base
    for override in ("seed=1", "sampler.gamma=0.1", "trainer.group_size=4", "optimizer.lr=0.0123", "task.data.seed=1"):
        assert config_hash(composed("train", override)) != base


def test_a_config_survives_yaml():
    record = plain(composed("train"))
    assert OmegaConf.to_container(OmegaConf.create(OmegaConf.to_yaml(OmegaConf.create(record)))) == record


def test_values_on_options_composed_before_are_hydras_own():
    """What `tests.config.raw` puts together is what Hydra composes of the same command line."""
    given = ["trainer.updates=3", "sampler=standard", "seed=5", "scale=paper", "sampler.length=64", "task.data.path=null"]
    ours = raw("train", *given)
    with initialize_config_dir(CONF, version_base="1.3"):
        assert ours == compose("train", given)
