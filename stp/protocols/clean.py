"""The clean protocol, from which others differ."""

from dataclasses import dataclass
from typing import Any, ClassVar

from stp.tasks.base import Task


@dataclass
class Clean:
    """Each question whole, asked as in training, at the sampler's own lengths; task.grading counts (corrected by default).

    prefill: how the assistant's turn begins, given to the model with the prompt. decides: the settings that are the
    protocol's own, so that a run folder does not bring its.
    """

    prefill: ClassVar[str] = ""
    decides: ClassVar[tuple[str, ...]] = ()

    def instruction(self, task: Task) -> str:
        """What stands before the question, for models that are given instructions."""
        return task.instruction

    def check(self, config: Any) -> None:
        """Refuse what contradicts the protocol. config: the evaluation's, composed."""
