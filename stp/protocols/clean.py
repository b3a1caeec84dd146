"""The clean protocol, which is the base of the others."""

from dataclasses import dataclass
from typing import Any, ClassVar

from stp.tasks.base import Task


@dataclass
class Clean:
    """Asks each question uncut, as in training, at the sampler's own lengths. task.grading counts (corrected by default).

    prefill: the beginning of the assistant's turn, given to the model with the prompt. decides: the settings that the protocol
    decides, and that a run folder's config therefore does not.
    """

    prefill: ClassVar[str] = ""
    decides: ClassVar[tuple[str, ...]] = ()

    def instruction(self, task: Task) -> str:
        """Returns the text before the question, for models that get instructions."""
        return task.instruction or ""

    def check(self, config: Any) -> None:
        """Refuses what contradicts the protocol. config: the evaluation's composed config."""
