"""Accuracy: the standard sampler on held-out problems, greedy or sampled, with counts and intervals."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stp.diffusion import Denoiser
from stp.errors import require
from stp.models.codec import Codec
from stp.ranks import Ranks
from stp.samplers import Standard
from stp.samplers.generate import generate
from stp.tasks.base import REWARDS, Problem, Task
from stp.types import Batch, Draws


@dataclass(frozen=True)
class Subject:
    """What a command measures or makes: said on screen and kept in its summary. See `source_of`."""

    task: str
    source: str
    split: str
    problems: int
    grading: str

    @classmethod
    def of(cls, task: Any, split: str, problems: list[Problem]) -> "Subject":
        """What these problems of a task's split are."""
        return cls(task.name, source_of(task, split), split, len(problems), task.grading)

    def __str__(self) -> str:
        split = "problems, a whole file" if self.split == "all" else f"{self.split} problems"
        return f"{self.task}: {self.problems} {split}, {self.source}; {self.grading} grading"


def source_of(task: Any, split: str) -> str:
    """Where a split's problems come from: `generated`, `from <path>` or `from the hub's <id>`."""
    data = task.data
    if data.source == "hub":
        return f"from the hub's {data.hub or (task.hub.test if split == 'test' else None) or task.hub.name}"
    return "generated" if data.source == "generate" else f"from {data.path}"


def held_out(task: Any, trained_on: str | None) -> tuple[str, list[Problem]]:
    """The split that is measured and its problems: `test`, or `all` of a single file that the run was not trained on."""
    path = task.data.path
    known = trained_on is not None and path is not None and Path(path).absolute() == Path(trained_on).absolute()
    split = "test" if path is None or Path(path).is_dir() or known else "all"
    return split, task.problems(split)


def standard_sampler(sampler: Standard, temperature: float) -> Standard:
    """The unpruned sampler with another's lengths: what evaluation uses, whatever trains."""
    return Standard(sampler.length, sampler.steps, sampler.block_length, temperature)


@dataclass(frozen=True)
class Evaluator:
    """Questions to ask of a policy, and how its completions are read and graded.

    seed: of the sampled completions. rows: completions denoised at once per rank. prompts are those of `codec`.
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

        With `samples` > 1 each problem is asked that many times. done: completions to leave out, which an evaluation that was
        interrupted has kept. A completion depends on its place among all of them, not on chunks, ranks or what was done before.
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
            if repeated[mine]:  # in the last chunk a rank may have nothing to do, and still meets the others below
                trajectory = generate(denoise, sampler, batch, self.rows, mine)
                tokens_B = trajectory.until_eos_BL.sum(dim=1).tolist()
                for problem, text, tokens in zip(repeated[mine], self.codec.completions(trajectory), tokens_B, strict=True):
                    records.append(record(self.task, problem, text, self.codec.prefill) | {"tokens": tokens})
            yield ranks.lists({"records": records})["records"]


def record(task: Task, problem: Problem, text: str, prefill: str) -> dict[str, Any]:
    """What is kept of a completion. The prefill counts for the reward, which pays for the format, and is not graded."""
    asked = {"problem": problem.id, "question": problem.question, "ground_truth": problem.gold}
    reward = sum(task.reward_parts(problem, prefill + text).values())
    written = {"prefill": prefill, "completion": text} if prefill else {"completion": text}
    return asked | written | {"reward": reward, "correct": task.correct(problem, text)}


def regrade(task: Task, rows: list[tuple[str, dict[str, Any]]], known: dict[str, Problem]) -> list[dict[str, Any]]:
    """One record per stored completion, (where, row) with question, completion and ground_truth: graded by both sets of rules.

    `correct` is by the task's own. A row whose ground_truth is null takes that of the known problem (by id) with its question;
    where there is none it counts as wrong, and says so in `graded`.
    """
    records = []
    for where, row in rows:
        if "completion" not in row and "generations" in row:  # d1's name
            row = row | {"completion": row["generations"]}
        whole = "ground_truth" in row and all(isinstance(row.get(column), str) for column in ("question", "completion"))
        require(whole, where, f"{row!r:.200}", "expected columns question and completion (text) and ground_truth")
        problem = task.graded_row(row, where)
        if problem.gold is None:
            problem = known.get(problem.id, problem)
        text, graded = row["completion"], problem.gold is not None
        prefill = row["prefill"] if isinstance(row.get("prefill"), str) else ""
        grades = {grading: graded and task.grade(problem, text, grading) for grading in REWARDS}
        reward = sum(task.reward_parts(problem, prefill + text).values()) if graded else 0.0
        kept = {name: row[name] for name in ("update", "temperature") if isinstance(row.get(name), int | float)}
        kept |= {"prefill": prefill} if prefill else {}
        asked = {"problem": problem.id, "question": row["question"], "ground_truth": problem.gold}
        result = {"completion": text, "reward": reward, "correct": grades[task.grading], "grades": grades, "graded": graded}
        records.append(kept | asked | result)
    return records


def accuracy(records: list[dict[str, Any]]) -> dict[str, Any]:
    """{"correct", "total", "accuracy"}: counts over completions."""
    correct = sum(r["correct"] for r in records)
    return {"correct": correct, "total": len(records), "accuracy": correct / len(records) if records else 0.0}


def counts(score: dict[str, Any]) -> str:
    """`37.5% (192/512)`."""
    return f"{100 * score['accuracy']:.1f}% ({score['correct']}/{score['total']})"


def scored(records: list[dict[str, Any]]) -> dict[str, Any]:
    """accuracy(records), and under "interval" its 95 % interval, however often each problem was asked."""
    by_problem: dict[str, list[bool]] = {}
    for one in records:
        by_problem.setdefault(one["problem"], []).append(one["correct"])
    groups = by_problem.values()
    return accuracy(records) | {"interval": {"accuracy": interval([sum(g) for g in groups], [len(g) for g in groups])}}


def measured(records: list[dict[str, Any]], samples: int) -> dict[str, Any]:
    """accuracy, mean@k and pass@1, 2, 4, …, k of k `samples` per problem, and under "interval" the 95 % interval of each.

    mean@k is the accuracy over all completions. pass@j: the unbiased estimator of Chen et al. (2021), averaged over problems.
    """
    groups = [[r["correct"] for r in records[i : i + samples]] for i in range(0, len(records), samples)]
    solved_N = [sum(group) for group in groups]
    score = accuracy(records) | {"interval": {"accuracy": interval(solved_N, [samples] * len(groups))}}
    if samples == 1:
        return score
    shares = {f"mean@{samples}": [solved / samples for solved in solved_N]}
    for j in sorted({2**i for i in range(samples.bit_length()) if 2**i <= samples} | {samples}):
        shares[f"pass@{j}"] = [1 - math.comb(samples - solved, j) / math.comb(samples, j) for solved in solved_N]
    for name, share_N in shares.items():
        score[name] = sum(share_N) / len(groups)
        score["interval"][name] = interval([samples * share for share in share_N], [samples] * len(groups))
    return score


def interval(solved_N: Sequence[float], asked_N: Sequence[int]) -> list[float]:
    """95 % interval of sum(solved) / sum(asked) over problems: Wilson's (1927), for as many answers as theirs are worth.

    Completions of one problem depend on each other. From the spread of the problems about the ratio p follows its variance v
    (linearised), and p(1 - p)/v is the number of independent answers with that variance (Kish's effective size). One
    completion per problem gives the number of problems, so Wilson's interval itself; so does p = 0 or 1.
    """
    problems, asked = len(asked_N), sum(asked_N)
    p = sum(solved_N) / asked
    v = sum((solved - p * n) ** 2 for solved, n in zip(solved_N, asked_N, strict=True)) / asked**2
    size = problems if not 0 < p < 1 else asked if v == 0 else min(p * (1 - p) / v, asked)
    z = 1.959964
    middle, half = p + z**2 / (2 * size), z * math.sqrt(p * (1 - p) / size + z**2 / (4 * size**2))
    return [max((middle - half) / (1 + z**2 / size), 0.0), min((middle + half) / (1 + z**2 / size), 1.0)]


def shown(score: dict[str, Any]) -> str:
    """`accuracy 37.5% (192/512) [33.4, 41.8]`, and pass@j in the same way where there are several samples."""
    means = [name for name in score if name.startswith("mean@")]
    passes = [name for name in score if name.startswith("pass@") and name != "pass@1"]  # which is the mean
    parts = [
        f"accuracy{f' ({means[0]})' if means else ''} {counts(score)}",
        *(f"{name} {100 * score[name]:.1f}%" for name in passes),
    ]
    ends = [score["interval"][name] for name in ["accuracy", *passes]]
    return ", ".join(f"{part} [{100 * low:.1f}, {100 * high:.1f}]" for part, (low, high) in zip(parts, ends, strict=True))
