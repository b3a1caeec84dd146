"""What every task shares: the problem record, the response format and the task protocol."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from stp.errors import require, require_choice

ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"

FORMAT_INSTRUCTION = (
    "Think step by step inside <reasoning> and </reasoning>, then give only the final result inside <answer> and </answer>."
)


@dataclass(frozen=True)
class Problem:
    """One question with what is needed to grade it.

    id: stable name, the same in every run. question: the text asked. gold: what the verifier compares with.
    solution: a worked (reasoning, answer) pair where the source has one; ask the task's `solution` for one in any case.
    """

    id: str
    question: str
    gold: Any
    solution: tuple[str, str] | None = None


@dataclass
class Data:
    """Where a task's problems come from."""

    source: str = field(default="generate", metadata={"help": "generate | hub | file"})
    path: str | None = field(
        default=None,
        metadata={"help": "a .jsonl/.json/.csv/.parquet file, or a folder with train.* and test.* (implies source=file)"},
    )
    hub: str | None = field(default=None, metadata={"help": "dataset id on the hub; null takes the task's own"})
    seed: int = field(default=0, metadata={"help": "seed of the generator, and of the shuffle that splits a single file"})
    train_size: int | None = field(default=None, metadata={"help": "training problems; null: all (the generator makes 512)"})
    validation_size: int | None = field(
        default=None, metadata={"help": "problems for tuning, kept from training; null: none (the generator makes 512)"}
    )
    test_size: int | None = field(default=None, metadata={"help": "held-out problems; null: all (the generator makes 512)"})

    def __post_init__(self) -> None:
        if self.path is not None:
            self.source = "file"
        require_choice("task.data.source", self.source, ("generate", "hub", "file"))
        require(
            self.source != "file" or self.path is not None,
            "task.data.source",
            "file",
            "reading a file needs its name; add task.data.path=<file>",
        )
        require(self.seed >= 0, "task.data.seed", self.seed, "choose a whole number from 0 on")
        for name in ("train_size", "validation_size", "test_size"):
            size = getattr(self, name)
            require(size is None or size >= 1, f"task.data.{name}", size, "at least 1 problem is needed")

    @property
    def keeps_validation(self) -> bool:
        """Whether a file or hub source holds problems out for tuning."""
        return self.validation_size is not None or (self.path is not None and any(Path(self.path).glob("validation.*")))

    def size(self, split: str) -> int | None:
        """Problems wanted of a split; None takes all."""
        return getattr(self, f"{split}_size", None)


class Task(Protocol):
    """A task is a dataclass of options with these members."""

    data: Data
    instruction: str

    def problems(self, split: str) -> list[Problem]:
        """`train`, `validation`, `test`, or `all` (a file taken whole). The first three never share a problem."""
        ...

    def solution(self, problem: Problem) -> tuple[str, str] | None:
        """A worked (reasoning, answer) pair: a ground-truth anchor. None where there is none."""
        ...

    def rewards(self, problem: Problem, completion: str) -> dict[str, float]:
        """Named parts of the reward; their sum is what the objective sees. Pure and total."""
        ...

    def correct(self, problem: Problem, completion: str) -> bool:
        """Whether the completion solves the problem: what accuracy counts."""
        ...


def format_response(reasoning: str, answer: str, tagged_reasoning: bool) -> str:
    """The text a model should write: with `<reasoning>` tags for instructed models, bare lines for the tiny one."""
    if tagged_reasoning:
        return f"<reasoning>\n{reasoning}\n</reasoning>\n{ANSWER_OPEN}\n{answer}\n{ANSWER_CLOSE}"
    return f"{reasoning}\n{ANSWER_OPEN}{answer}{ANSWER_CLOSE}"


def last_answer(completion: str) -> str | None:
    """Text of the last complete `<answer>…</answer>`, or None. Linear in the length of the completion."""
    close = completion.rfind(ANSWER_CLOSE)
    if close < 0:
        return None
    start = completion.rfind(ANSWER_OPEN, 0, close)
    return None if start < 0 else completion[start + len(ANSWER_OPEN) : close]
