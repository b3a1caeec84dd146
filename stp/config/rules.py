"""Rules that join several groups."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from stp.config.root import Config
from stp.errors import fail, require
from stp.estimators import Spg
from stp.models.options import Model
from stp.objectives import PolicyGradient


def decided(built: Any) -> Any:
    """The config with what follows from other settings: a tiny model's base is the task's, no micro-batch exceeds the batch."""
    model, task = getattr(built, "model", None), getattr(built, "task", None)
    if isinstance(model, Model) and model.path is None and model.base is None and task is not None:
        built = replace(built, model=replace(model, base=task.base))
    if isinstance(built, Config):
        trainer = built.trainer
        batch = trainer.prompts_per_update * trainer.group_size
        built = replace(built, trainer=replace(trainer, micro_batch=min(trainer.micro_batch, batch)))
    return built


def check(config: Config) -> None:
    """Rules that join several groups."""
    full = config.model.lora.rank == 0
    if config.model.dtype == "bfloat16" and config.zero.stage == 0:
        fail(
            "model.dtype", "bfloat16", "needs fp32 master weights, which zero=off does not keep; add zero=stage1 or zero=stage2"
        )
    if config.model.quantize != "none":
        require(not full, "model.quantize", config.model.quantize, "4-bit weights cannot be trained; add model.lora.rank=128")
        require(config.zero.stage < 3, "zero.stage", 3, "4-bit weights are not sharded; use zero=stage2 or model.quantize=none")
    if config.model.compile:
        require(config.zero.stage < 3, "model.compile", True, "ZeRO-3 gathers each layer's weights; use zero=stage2")
        require(
            config.sampler.cache == "none",
            "model.compile",
            True,
            "kept keys and values are not compiled; use sampler.cache=none",
        )
    objective = named(config.objective)
    if full and config.model.dtype == "bfloat16" and config.objective.reads_reference and config.zero.stage == 3:
        rule = "the reference would be a whole frozen copy on each GPU; use LoRA (model.lora.rank=128) or "
        if config.objective.tilts_reference:
            fail("objective", objective, f"{rule}another objective")
        fail("objective.beta", config.objective.beta, f"{rule}objective.beta=0")
    if isinstance(config.estimator, Spg) and not isinstance(config.objective, PolicyGradient):
        fail("objective", objective, "SPG's bounds have no ratio; use objective=policy_gradient")
    if config.trainer.micro_draws:
        check_micro_draws(config)
    total, decay = config.trainer.updates * config.trainer.inner_updates, config.optimizer.decay
    rule = f"nothing would be learned after it; give 0, or at least trainer.updates * trainer.inner_updates = {total}"
    require(decay == 0 or decay >= total, "optimizer.decay", decay, rule)
    if config.zero.stage == 3:
        at_once = config.estimator.positions_at_once(config.sampler.length, config.trainer.micro_draws)
        scored = config.trainer.micro_batch * at_once
        require(
            config.model.logit_chunk >= scored,
            "model.logit_chunk",
            config.model.logit_chunk,
            f"ZeRO-3 needs one run of the head per pass: set model.logit_chunk={scored}, or a smaller trainer.micro_batch",
        )


def check_instruction(built: Any, given: Sequence[str]) -> None:
    """Refuses an instruction for a model that is asked without one."""
    named = any(override.lstrip("+").startswith("task.instruction=") for override in given)
    asked = not isinstance(getattr(built, "model", None), Model) or built.model.instructions
    rule = "this model is asked without an instruction, the question alone; leave it out, or add model.instructions=true"
    require(asked or not named, "task.instruction", f"{getattr(built.task, 'instruction', '')!r:.40}", rule)


def check_micro_draws(config: Config) -> None:
    """Refuses to backpropagate draws apart where the parts would not add up to the whole."""
    draws, objective, estimator = config.trainer.micro_draws, named(config.objective), named(config.estimator)
    rule = (
        f"the ratio of objective={objective} is the exponential of a mean over draws, so all need one pass; lower "
        "trainer.micro_batch, or use objective=policy_gradient, whose gradient is the same at theta_old"
    )
    require(config.objective.linear, "trainer.micro_draws", draws, rule)
    rule = f"the bound of estimator={estimator} is the log of a mean over draws, so all need one pass; leave it at 0"
    require(config.estimator.separable, "trainer.micro_draws", draws, rule)


def named(part: Any) -> str:
    """Returns the class of an option, as messages name it."""
    return type(part).__name__.lower()


def check_ranks(config: Config, ranks: int) -> None:
    """Groups stay whole, so the prompts of an update must divide among the ranks."""
    prompts = config.trainer.prompts_per_update
    require(
        prompts % ranks == 0,
        "trainer.prompts_per_update",
        prompts,
        f"{ranks} ranks share the prompts of an update evenly; choose a multiple of {ranks}",
    )
