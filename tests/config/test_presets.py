"""conf/experiment: a preset is a row of the paper; presets of one row are one run, at every scale."""

import json
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from stp.config import CONF, config_hash, plain, register
from stp.samplers import Adaptive
from stp.train.job import main
from tests.commands import ROOT, command
from tests.config import composed as uncached
from tests.config.test_options import BESIDE_THE_PAPER, FILES
from tests.integration.runs import SMALL

STANDARD = ("standard", None, None, None, None)  # sampler, gamma, t_cutoff, select, anchors
STP = ("stp", 0.05, 0.05, "low_confidence", "model")


def pruned(gamma, t_cutoff, select="low_confidence", anchors="model"):
    return "stp", gamma, t_cutoff, select, anchors


# preset -> estimator, sampler: what the paper's rows say (Tables 2-7, Figure 3), and Table 6's missing places
ROWS = {
    "table1_unigrpo": ("unigrpo", STANDARD),
    "table1_unigrpo_stp": ("unigrpo", STP),
    "table3_diffu_grpo": ("one_step", STANDARD),
    "table3_diffu_grpo_stp": ("one_step", STP),
    "table3_spg": ("spg", STANDARD),
    "table3_spg_stp": ("spg", STP),
    "table4_grpo_elbo": ("elbo", STANDARD),
    "table4_model": ("elbo", STP),
    "table4_ground_truth": ("elbo", pruned(0.05, 0.05, anchors="ground_truth")),
    "table5_grpo_elbo": ("elbo", STANDARD),
    "table5_spatial_only": ("elbo", pruned(0.05, 0)),
    "table5_temporal_only": ("elbo", pruned(0, 0.05)),
    "table5_stp": ("elbo", STP),
    "table6_g010_t000": ("elbo", pruned(0.1, 0)),
    "table6_g005_t000": ("elbo", pruned(0.05, 0)),
    "table6_g000_t010": ("elbo", pruned(0, 0.1)),
    "table6_g000_t005": ("elbo", pruned(0, 0.05)),
    "table6_g005_t005": ("elbo", STP),
    "table7_random": ("elbo", pruned(0.05, 0, select="random")),
    "table7_low_confidence": ("elbo", pruned(0.05, 0)),
    "figure3_grpo_elbo": ("elbo", STANDARD),
    "figure3_stp": ("elbo", STP),
    "heatmap_g005_t010": ("elbo", pruned(0.05, 0.1)),
    "heatmap_g010_t005": ("elbo", pruned(0.1, 0.05)),
    "heatmap_g010_t010": ("elbo", pruned(0.1, 0.1)),
    "extra_coupled": ("coupled", STANDARD),
    "extra_coupled_stp": ("coupled", STP),
}
TASKS = dict.fromkeys(ROWS, "countdown")
for task in ("countdown", "gsm8k", "math"):  # Table 2 has these
    for option, row in {"grpo_elbo": ("elbo", STANDARD), "diffu_grpo": ("one_step", STANDARD), "stp": ("elbo", STP)}.items():
        ROWS[f"table2_{task}_{option}"] = row
        TASKS[f"table2_{task}_{option}"] = task
SAME = [
    ("table5_stp", "table2_countdown_stp", "table6_g005_t005", "table4_model", "figure3_stp"),
    ("table5_grpo_elbo", "table2_countdown_grpo_elbo", "table4_grpo_elbo", "figure3_grpo_elbo"),
    ("table5_spatial_only", "table6_g005_t000", "table7_low_confidence"),
    ("table5_temporal_only", "table6_g000_t005"),
    ("table2_countdown_diffu_grpo", "table3_diffu_grpo"),
]
SCALES = FILES["scale"]
TWINS = {preset for presets in SAME for preset in presets[1:]}  # at the scale of the paper the first of each is composed
CASES = [(preset, scale) for scale in SCALES for preset in ROWS if scale == "tiny" or preset not in TWINS]


@cache
def composed(*overrides):
    """The checked config of `python -m stp.train`; composing takes most of these tests' time."""
    return uncached("train", *overrides)


def leaves(tree, prefix=""):
    for key, value in tree.items():
        yield from leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]


def test_every_row_has_its_preset_and_every_preset_its_row():
    assert {name for name in FILES["experiment"] if not name.startswith("method_")} - BESIDE_THE_PAPER == set(ROWS)
    assert {"tiny", "paper"} <= set(SCALES)


@pytest.mark.parametrize(("preset", "scale"), CASES)
def test_a_preset_is_its_row_of_the_paper(preset, scale):
    config = composed(f"experiment={preset}", f"scale={scale}")
    estimator, (sampler, *pruning) = ROWS[preset]
    assert type(config.estimator).__module__ == f"stp.estimators.{estimator}"
    assert type(config.objective).__module__ == f"stp.objectives.{'policy_gradient' if estimator == 'spg' else 'grpo'}"
    assert type(config.sampler).__module__ == f"stp.samplers.{sampler}"
    assert type(config.task).__module__ == f"stp.tasks.{TASKS[preset]}"
    names = ("gamma", "t_cutoff", "select", "anchors")
    assert [getattr(config.sampler, name, None) for name in names] == pruning


@pytest.mark.parametrize(("preset", "scale"), CASES)
def test_a_preset_changes_nothing_else(preset, scale):
    """Its sampler and estimator, with gamma, t_cutoff, selection and source: all the rest is the scale's."""
    estimator, (sampler, gamma, t_cutoff, select, anchors) = ROWS[preset]
    chosen = [f"scale={scale}", f"task={TASKS[preset]}", f"sampler={sampler}", f"estimator={estimator}"]
    if sampler == "stp":
        chosen += [f"sampler.gamma={gamma}", f"sampler.t_cutoff={t_cutoff}"]
        chosen += [f"sampler.select={select}", f"sampler.anchors={anchors}"]
    assert composed(f"experiment={preset}", f"scale={scale}") == composed(*chosen)


@pytest.mark.parametrize("preset", ROWS)
def test_a_preset_says_only_what_distinguishes_it(preset):
    file = Path(CONF) / "experiment" / f"{preset}.yaml"
    first, comment = file.read_text().splitlines()[:2]
    assert (first, comment[:2]) == ("# @package _global_", "# ")
    own = OmegaConf.to_container(OmegaConf.load(file))
    groups = dict(pair for item in own.pop("defaults") for pair in item.items())
    estimator, (sampler, *_) = ROWS[preset]
    expected = {"override /sampler": sampler, "override /estimator": estimator}
    assert groups in (expected, {"override /task": TASKS[preset], **expected})
    allowed = {f"sampler.{name}" for name in ("gamma", "t_cutoff", "select", "anchors")}
    assert set(dict(leaves(own))) <= (allowed if sampler == "stp" else set())
    number = re.match(r"table([2-7])_", preset)
    assert number is None or f"Table {number[1]}" in comment


def test_presets_of_one_row_are_one_run():
    """`trainer.resume=auto` in a sweep goes by the hash: equal rows run once, others are never taken for each other."""
    by_hash, by_row = defaultdict(set), defaultdict(set)
    for preset, row in ROWS.items():
        by_hash[config_hash(composed(f"experiment={preset}", "scale=tiny"))].add(preset)
        by_row[TASKS[preset], row].add(preset)
    assert sorted(map(sorted, by_hash.values())) == sorted(map(sorted, by_row.values()))
    assert {names for names in map(frozenset, by_hash.values()) if len(names) > 1} >= set(map(frozenset, SAME))


def test_lora_stays_a_preset_of_the_tiny_model():
    config, default = composed("experiment=lora"), composed()
    changed = dict(leaves(plain(config)))
    before = dict(leaves(plain(default)))
    names = {name for name in changed if changed[name] != before[name]}
    assert names == {"model.lora.rank", "model.lora.alpha", "model.lora.target_modules", "optimizer.lr"}


@pytest.mark.parametrize(("preset", "sampler"), [("unscaled", "standard"), ("unscaled_stp", "stp")])
def test_the_unscaled_presets_divide_no_advantage_by_a_standard_deviation(preset, sampler):
    chosen = (f"sampler={sampler}", "estimator=elbo", "objective.scale=none")
    assert composed(f"experiment={preset}") == composed(*chosen)


@pytest.mark.parametrize("scale", SCALES)
def test_the_fast_preset_is_adaptive_rollouts_and_one_forward_to_score(scale):
    """It needs no static dataset, and changes nothing beside its sampler and its estimator."""
    config = composed("experiment=fast", f"scale={scale}")
    assert isinstance(config.sampler, Adaptive) and not config.sampler.needs_anchors and config.sampler.threshold == 0.9
    assert config == composed("sampler=adaptive", "estimator=one_step", f"scale={scale}", "sampler.gamma_max=0")


# Table 8, as printed, and where it went. Two rows of 6 completions are an update of 12.
TABLE_8 = {
    "LoRA Rank ( r)": ("model.lora.rank", 128),
    "LoRA Alpha ( α)": ("model.lora.alpha", 64),
    "Temperature": ("sampler.temperature", 0.9),
    "Learning Rate": ("optimizer.lr", 3e-6),
    "β1": ("optimizer.beta1", 0.9),
    "β2": ("optimizer.beta2", 0.99),
    "Weight Decay": ("optimizer.weight_decay", 0.1),
    "Batch Size": ("trainer.micro_batch", 6),
    "Inner Updates ( μ)": ("trainer.inner_updates", 4),
    "Clip Ratio ( ϵ)": ("objective.clip", 0.2),
    "KL Coefficient ( β)": ("objective.beta", 0.04),
    "Prompt Masking ( pmask )": ("estimator.p_mask", 0.0),
    "Number of Completions per Prompt": ("trainer.group_size", 6),
    "Number of Monte Carlo Estimation Samples": ("estimator.samples", 3),
    "Sequence Length ( L)": ("sampler.length", 256),
    "Spatial Pruning Ratio ( γ)": ("sampler.gamma", 0.05),
    "Temporal Pruning Cutoff ( tcutoff )": ("sampler.t_cutoff", 0.05),
}


@pytest.mark.parametrize("choice", [[], ["experiment=table2_countdown_stp"], ["experiment=figure3_stp", "seed=1"]])
def test_the_paper_scale_holds_table_8_with_any_preset_of_stp(choice):
    config = composed("scale=paper", *choice)
    values = dict(leaves(plain(config)))
    assert {path: values[path] for path, _ in TABLE_8.values()} == dict(TABLE_8.values())
    trainer = config.trainer
    assert trainer.prompts_per_update * trainer.group_size == 12 == 2 * trainer.micro_batch  # accumulation 2
    assert (values["model.path"], values["sampler.anchors"]) == ("GSAI-ML/LLaDA-8B-Instruct", "model")
    assert values["model.lora.target_modules"] == ["q_proj", "k_proj", "v_proj", "up_proj"]


@pytest.mark.parametrize("preset", [preset for preset, scale in CASES if scale == "paper"])
def test_every_preset_keeps_table_8_at_paper_scale(preset):
    """What the method has of it: SPG has no KL penalty, and the one-step draws are all the same, so one is taken."""
    values = dict(leaves(plain(composed(f"experiment={preset}", "scale=paper"))))
    pruning = ("sampler.gamma", "sampler.t_cutoff")
    kept = {path: value for path, value in TABLE_8.values() if path in values and path not in pruning}
    kept |= {"spg": {"objective.beta": 0.0}, "one_step": {"estimator.samples": 1}}.get(ROWS[preset][0], {})
    assert {path: values[path] for path in kept} == kept and len(kept) >= 14


def test_table_8_is_the_papers():
    texts = sorted((ROOT.parent / "shared" / "paper").glob("*.txt"))
    if not texts:
        pytest.skip("the paper's text is not beside the repository")
    text = " ".join(texts[0].read_text().split("Table 8. Hyperparameters for Training.")[1].split())
    for name, (path, value) in TABLE_8.items():
        printed = re.search(re.escape(name) + r" ?([\d.]+)(?: × 10 −(\d))?", text)
        assert printed is not None, name
        assert float(printed[1]) * 10 ** -int(printed[2] or 0) == pytest.approx(value, rel=1e-12), path
    assert re.search(r"Gradient Accumulation Steps 2\D", text) and "Static Source Model Pre-generations" in text
    assert "Base Model LLaDA-8B-Instruct" in text and "Optimizer AdamW" in text


def hydra_config(*overrides):
    register()
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose("train", list(overrides), return_hydra_config=True)


def test_slurm_is_a_launcher():
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install -e '.[sweeps]'")
    overrides = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu", "hydra.launcher.gpus_per_node=2"]
    launcher = hydra_config(*overrides, "scale=paper", "experiment=table5_stp").hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher")
    assert (launcher.partition, launcher.gpus_per_node) == ("gpu", 2)


def test_the_jobs_of_a_cluster_are_queued_again_and_continue():
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install -e '.[sweeps]'")
    config = hydra_config("cluster=slurm", "hydra.launcher.partition=gpu", "scale=paper", "experiment=table5_stp")
    launcher = config.hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher") and launcher.partition == "gpu"
    assert launcher.timeout_min >= 720 and launcher.max_num_timeout >= 1
    assert launcher.additional_parameters == {"requeue": True}
    assert config.trainer.resume == "auto" and config.trainer.checkpoint_every > 0


def test_a_search_is_on_validation_problems_and_for_accuracy():
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="pip install -e '.[sweeps]'")
    config = hydra_config("search=optuna", "experiment=table5_stp")
    sweeper = config.hydra.sweeper
    assert sweeper._target_.endswith("OptunaSweeper") and sweeper.sampler._target_.endswith("TPESampler")
    assert (sweeper.direction, config.trainer.eval_split, main.__annotations__["return"]) == ("maximize", "validation", float)
    assert set(sweeper.params) == {"sampler.gamma", "sampler.t_cutoff"}


def test_a_trial_that_fails_ends_no_search(tmp_path):
    """The first one's settings are refused; the second runs, is the best, and the failure is told at the end."""
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="pip install -e '.[sweeps]'")
    settings = [*SMALL, "trainer.updates=1", "hydra.sweeper.n_trials=2", "hydra.sweep.dir=search"]
    settings += [
        'hydra.sweeper.params={sampler.t_cutoff:0.05,sampler.gamma:"choice(0.98,0.05)"}',
        "hydra.sweeper.sampler.seed=10",
    ]
    done = command("-m", "stp.train", "--multirun", "search=optuna", *settings, cwd=tmp_path)
    assert done.returncode == 1 and "error: 1 job(s) failed, the others are done" in done.stderr, done.stderr
    assert OmegaConf.load(tmp_path / "search" / "optimization_results.yaml").best_params["sampler.gamma"] == 0.05


def test_a_search_runs(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="pip install -e '.[sweeps]'")
    settings = [*SMALL, "trainer.updates=1", "hydra.sweeper.n_trials=2", "hydra.sweep.dir=search"]
    done = command("-m", "stp.train", "--multirun", "search=optuna", *settings, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    trials = [tmp_path / "search" / number for number in ("0", "1")]
    accuracies = [json.loads((trial / "summary.json").read_text())["final"]["accuracy"] for trial in trials]
    found = OmegaConf.load(tmp_path / "search" / "optimization_results.yaml")
    assert found.best_value == max(accuracies)
    places = [OmegaConf.load(trial / "config.yaml") for trial in trials]
    assert all(place.trainer.eval_split == "validation" for place in places)
    tried = [{"sampler.gamma": place.sampler.gamma, "sampler.t_cutoff": place.sampler.t_cutoff} for place in places]
    assert found.best_params in tried and not (tmp_path / "search" / "2").exists()
