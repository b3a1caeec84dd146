"""`scale=paper` is Table 8 of the paper."""

from dataclasses import replace

import pytest

from tests.config import composed

TABLE_8 = {
    "Base Model": ("model.path", "GSAI-ML/LLaDA-8B-Instruct"),
    "LoRA Rank": ("model.lora.rank", 128),
    "LoRA Alpha": ("model.lora.alpha", 64),
    "Temperature": ("sampler.temperature", 0.9),
    "Learning Rate": ("optimizer.lr", 3e-6),
    "beta 1": ("optimizer.beta1", 0.9),
    "beta 2": ("optimizer.beta2", 0.99),
    "Weight Decay": ("optimizer.weight_decay", 0.1),
    "Batch Size": ("trainer.micro_batch", 6),
    "Inner Updates": ("trainer.inner_updates", 4),
    "Clip Ratio": ("objective.clip", 0.2),
    "KL Coefficient": ("objective.beta", 0.04),
    "Number of Completions per Prompt": ("trainer.group_size", 6),
    "Number of Monte Carlo Estimation Samples": ("estimator.samples", 3),
    "Sequence Length": ("sampler.length", 256),
    "Spatial Pruning Ratio": ("sampler.gamma", 0.05),
    "Temporal Pruning Cutoff": ("sampler.t_cutoff", 0.05),
    "Static Source": ("sampler.anchors", "model"),
}


@pytest.fixture(scope="module")
def paper():
    return composed("train", "scale=paper")


@pytest.mark.parametrize("name", TABLE_8)
def test_table_8(name, paper):
    path, expected = TABLE_8[name]
    value = paper
    for part in path.split("."):
        value = getattr(value, part)
    assert value == expected


def test_gradient_accumulation_is_2_batches_of_6(paper):
    trainer = paper.trainer
    assert trainer.prompts_per_update * trainer.group_size == 2 * trainer.micro_batch == 12


def test_the_prompt_is_never_masked(paper):
    assert getattr(paper.estimator, "p_mask", 0.0) == 0.0


def test_the_rules_around_the_table(paper):
    """The ELBO (Eq. 3) and the better rule of Table 7."""
    assert type(paper.estimator).__name__ == "Elbo" and paper.estimator.masks == "exact"
    assert (paper.sampler.select, paper.sampler.gamma_of) == ("low_confidence", "length")
    assert paper.trainer.fresh_masks


@pytest.mark.parametrize("entry", ["evaluate", "trace", "pregenerate"])
def test_other_commands_take_the_scales_model_data_and_lengths(entry, paper):
    looked = composed(entry, "scale=paper", "task=gsm8k")
    assert looked.model == replace(paper.model, logit_chunk=looked.model.logit_chunk)
    assert looked.task.data == paper.task.data and looked.task.data.source == "hub"
    lengths = ("length", "steps", "block_length", "temperature")
    assert all(getattr(looked.sampler, name) == getattr(paper.sampler, name) for name in lengths)


def test_the_scale_chooses_the_stage_and_the_command_line_another_one(paper):
    assert paper.zero.stage == 2 and composed("train").zero.stage == 0
    assert composed("train", "scale=paper", "zero=stage1").zero.stage == 1


@pytest.mark.parametrize(
    ("choice", "steps"),
    [
        ("task=countdown", 6000),
        ("task=gsm8k", 6000),
        ("task=math", 4000),
        ("experiment=table2_math_stp", 4000),
        ("experiment=table2_math_grpo_elbo", 4000),
        ("experiment=table2_math_diffu_grpo", 4000),
        ("experiment=table2_gsm8k_stp", 6000),
    ],
)
def test_the_published_numbers_of_optimizer_updates(choice, steps):
    """4,000 for MATH, 6,000 for the other tasks, mu of them for each rollout; a number of one's own goes before."""
    trainer = composed("train", "scale=paper", choice).trainer
    assert trainer.updates * trainer.inner_updates == steps
    assert composed("train", "scale=paper", choice, "trainer.updates=7").trainer.updates == 7
