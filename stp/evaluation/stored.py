"""Stored completions, graded without a model."""

from typing import Any

from stp.errors import require
from stp.tasks.base import REWARDS, Problem, Task


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
