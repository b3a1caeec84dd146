"""The problems on which a run trains and is evaluated, and what its files record of them."""

from dataclasses import dataclass
from typing import Any

from stp.config import Config
from stp.evaluation.evaluator import Subject
from stp.tasks.base import Problem, fingerprint


@dataclass(frozen=True)
class RunData:
    """A run's problems. about: what checkpoints and summary.json record of `train`, and of `eval` if there is one."""

    train: list[Problem]
    held_out: list[Problem]
    about: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, config: Config) -> "RunData":
        """Reads the training and the held-out problems that a config names."""
        task, options = config.task, config.trainer
        train, held_out = task.problems("train"), []
        about = {"train": described(task, "train", train)}
        if options.eval_size:
            held_out = task.problems(options.eval_split, options.eval_size)
            about["eval"] = described(task, options.eval_split, held_out)
        return cls(train, held_out, about)

    @property
    def hashes(self) -> dict[str, str]:
        """The hash of each part, by which these problems are compared with others."""
        return {name: part["hash"] for name, part in self.about.items()}


def described(task: Any, split: str, problems: list[Problem]) -> dict[str, Any]:
    """Describes problems, with their number and hash."""
    subject = str(Subject.of(task, split, problems))
    return {"problems": len(problems), "hash": fingerprint(problems), "subject": subject}
