"""`python -m stp.pregenerate` writes the static dataset of anchors (earlier responses) from which spatial pruning starts."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from stp.anchors.make import FOLDER, Maker, static_dataset
from stp.cli import run
from stp.errors import require, require_choice
from stp.evaluation.evaluator import Subject
from stp.models.codec import Codec
from stp.models.policy import checkpoint_folder, load_policy
from stp.run import preflight, ranks
from stp.run.memory import move
from stp.run.tracking import Logging, Tracker
from stp.samplers import Pruned, Stp


@dataclass
class Pregeneration:
    """What `python -m stp.pregenerate` runs."""

    model: Any = MISSING
    task: Any = MISSING
    sampler: Any = MISSING
    checkpoint: str = field(
        default="base",
        metadata={"help": "a run folder: its model, task, data and lengths are taken (the anchors are the base's)"},
    )
    source: str = field(default="model", metadata={"help": "model (its own completions) | ground_truth (worked solutions)"})
    to: str | None = field(
        default=None, metadata={"help": "folder to write; null is where training looks, under outputs/static"}
    )
    rows: int | None = field(
        default=None,
        metadata={"help": "completions denoised at once, and then written; null is 128 for the tiny model, else 12"},
    )

    def __post_init__(self) -> None:
        require_choice("source", self.source, ("model", "ground_truth"))
        require(self.rows is None or self.rows >= 1, "rows", self.rows, "at least 1 completion is denoised at a time")


def main(config: Pregeneration) -> None:
    """Makes the static dataset for a task's training problems."""
    ranks.bootstrap()
    sampler = config.sampler if isinstance(config.sampler, Pruned) else Stp(**vars(config.sampler))
    config = dataclasses.replace(config, sampler=dataclasses.replace(sampler, anchors=config.source, static=None))
    preflight.writable("to", Path(config.to) if config.to is not None else FOLDER)
    problems = config.task.problems("train")
    preflight.prompts(config.model, config.task, config.sampler.length, problems)
    policy, tokenizer = load_policy(config.model, trainable=False)
    move(policy, ranks.device())
    codec = Codec(tokenizer, config.task.instruction if config.model.instructions else "", config.model.prompt_tokens)
    tracker = Tracker(Path("."), Logging(wandb="disabled"), {}, ranks.rank() == 0)
    tracker.say(preflight.told(Subject.of(config.task, "train", problems), checkpoint_folder(config.model)))
    rows = config.rows or (128 if config.model.path is None else 12)
    maker = Maker(config, policy, codec, rows, ranks.current())
    dataset = static_dataset(maker, problems, tracker, None if config.to is None else Path(config.to))
    tracker.say(
        f"mean reward {float(dataset.reward_NK.mean()):.3f}, {float(dataset.eligible_NKL.sum(dim=2).float().mean()):.1f} "
        "eligible tokens per anchor"
    )


if __name__ == "__main__":
    run(main, "pregenerate", Pregeneration)
