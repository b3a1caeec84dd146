"""Evaluates as the public code of d1 and SPG does. The paper's tables rest on this."""

from dataclasses import dataclass
from typing import Any

from stp.errors import fail
from stp.protocols.clean import Clean
from stp.tasks.base import Task

LENGTHS = (128, 256, 512)
BLOCK = 32
_OTHERWISE = ", or use protocol=clean"


@dataclass
class Published(Clean):
    """Prefills `<reasoning>`, asks as the published code does, and samples at T = 0, blocks of 32, N = L/2, L = 128 to 512.

    Grading is the published one. As in the public code, it sees only what the model writes after the prefill.
    """

    prefill = "<reasoning>"
    decides = ("sampler.length", "sampler.steps", "sampler.block_length", "task.grading")

    def instruction(self, task: Task) -> str:
        """Returns text of the published structure, in words of its own. A `task.instruction` that was given stays as it is."""
        return task.published_wording if task.instruction == task.wording else str(task.instruction)

    def check(self, config: Any) -> None:
        sampler, length = config.sampler, config.sampler.length
        if length not in LENGTHS:
            fail("sampler.length", length, f"protocol=published knows 128, 256 and 512; choose one of them{_OTHERWISE}")
        for name, value, rule, right in (
            ("sampler.steps", sampler.steps, f"takes half the length, {length // 2}", length // 2),
            ("sampler.block_length", sampler.block_length, f"decodes blocks of {BLOCK}", BLOCK),
            ("temperatures", list(config.temperatures), "is greedy, [0.0]", [0.0]),
            ("samples", config.samples, "is greedy, 1", 1),
            ("task.grading", config.task.grading, "counts by published grading", "published"),
        ):
            if value != right:
                fail(name, value, f"protocol=published {rule}; leave it out{_OTHERWISE}")
