"""Measures accuracy: the standard sampler on held-out problems, greedy or sampled, with counts and intervals."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stp.diffusion import Denoiser
from stp.models.codec import Codec
from stp.ranks import Ranks
from stp.samplers import Standard
from stp.samplers.generate import generate
from stp.tasks.base import Problem, Task
from stp.types import Batch, Draws


@dataclass(frozen=True)
class Subject:
    """The problems that a command measures or works on, to show on screen and keep in its summary. See `source_of`."""

    task: str
    source: str
    split: str
    problems: int
    grading: str

    @classmethod
    def of(cls, task: Any, split: str, problems: list[Problem]) -> "Subject":
        """Describes these problems of a task's split."""
        return cls(task.name, source_of(task, split), split, len(problems), task.grading)

    def __str__(self) -> str:
        split = "problems, a whole file" if self.split == "all" else f"{self.split} problems"
        return f"{self.task}: {self.problems} {split}, {self.source}; {self.grading} grading"


def source_of(task: Any, split: str) -> str:
    """Says where a split's problems come from: `generated`, `from <path>` or `from the hub's <id>`."""
    data = task.data
    if data.source == "hub":
        return f"from the hub's {data.hub or (task.hub.test if split == 'test' else None) or task.hub.name}"
    return "generated" if data.source == "generate" else f"from {data.path}"


def held_out(task: Any, trained_on: str | None) -> tuple[str, list[Problem]]:
    """Returns the split to measure and its problems: `test`, or `all` of a single file on which the run was not trained."""
    path = task.data.path
    known = trained_on is not None and path is not None and Path(path).absolute() == Path(trained_on).absolute()
    split = "test" if path is None or Path(path).is_dir() or known else "all"
    return split, task.problems(split)


def standard_sampler(sampler: Standard, temperature: float) -> Standard:
    """Returns the unpruned sampler with another sampler's lengths, by the schedule. Evaluation uses it, whatever trains."""
    return Standard(sampler.length, sampler.steps, sampler.block_length, temperature)


@dataclass(frozen=True)
class Evaluator:
    """Asks questions of a policy, and reads and grades its completions.

    codec: it makes the prompts. seed: the seed of sampled completions. rows: completions denoised at once per rank.
    """

    task: Task
    codec: Codec
    problems: list[Problem]
    seed: int
    rows: int

    def __call__(
        self, denoise: Denoiser, sampler: Standard, ranks: Ranks, samples: int = 1, done: int = 0
    ) -> Iterator[list[dict[str, Any]]]:
        """Yields one record per completion, in problem order and on every rank, in chunks of `rows` completions per rank.

        samples: how often each problem is asked. done: how many completions to leave out, because an interrupted evaluation has
        kept them. A completion depends on its place among all completions, but not on chunks, ranks or what was left out.
        """
        repeated = [problem for problem in self.problems for _ in range(samples)]
        if done >= len(repeated):
            return
        draws = Draws(f"{self.seed}/evaluate/{sampler.temperature}", len(repeated))
        batch = Batch(self.codec.prompts(repeated), draws)
        for begin in range(done, len(repeated), self.rows * ranks.count):
            share = ranks.share(min(self.rows * ranks.count, len(repeated) - begin))
            mine = slice(begin + share.start, begin + share.stop)
            records: list[dict[str, Any]] = []
            if repeated[mine]:  # in the last chunk a rank may have nothing to do, but still meets the others below
                trajectory = generate(denoise, sampler, batch, self.rows, mine)
                rows = {"tokens": trajectory.until_eos_BL.sum(dim=1).tolist()}
                if not trajectory.scheduled:
                    rows["forwards"] = trajectory.nfe_B.tolist()
                each = [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
                for problem, text, counted in zip(repeated[mine], self.codec.completions(trajectory), each, strict=True):
                    records.append(record(self.task, problem, text, self.codec.prefill) | counted)
            yield ranks.lists({"records": records})["records"]


def record(task: Task, problem: Problem, text: str, prefill: str) -> dict[str, Any]:
    """Returns the record of a completion. The prefill counts for the reward, which pays for the format, but is not graded."""
    asked = {"problem": problem.id, "question": problem.question, "ground_truth": problem.gold}
    parts, solved = task.judge(problem, text, prefill)
    written = {"prefill": prefill, "completion": text} if prefill else {"completion": text}
    counts = task.counts(problem, text, task.grading)
    graded = {"reward": sum(parts.values()), "correct": solved} | ({"counts": counts} if counts else {})
    graded |= {"failed": True} if "failed" in parts else {}  # its reward could not be computed
    return asked | written | graded


def trained_on(run_config: dict[str, Any]) -> str | None:
    """Returns the file or folder of problems on which a run was trained, by its config."""
    return run_config["task"]["data"]["path"] if run_config else None
