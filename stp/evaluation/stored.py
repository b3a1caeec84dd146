"""Grades stored completions without a model."""

from typing import Any

from stp.errors import require
from stp.tasks.base import Problem, Task


def regrade(task: Task, rows: list[tuple[str, dict[str, Any]]], known: dict[str, Problem]) -> list[dict[str, Any]]:
    """Grades stored completions, (where, row) with question, completion and ground_truth, by all of the task's sets of rules.

    `correct` and `counts` follow the task's own rules. If ground_truth is null, the known problem with the same question (by
    id) gives it. Without one the completion counts as wrong, and `graded` is False.
    """
    records = []
    for where, row in rows:
        if "completion" not in row and "generations" in row:  # d1's name for it
            row = row | {"completion": row["generations"]}
        whole = "ground_truth" in row and all(isinstance(row.get(column), str) for column in ("question", "completion"))
        require(whole, where, f"{row!r:.200}", "expected columns question and completion (text) and ground_truth")
        problem = task.graded_row(row, where)
        if problem.gold is None:
            problem = known.get(problem.id, problem)
        text, graded = row["completion"], problem.gold is not None
        prefill = row["prefill"] if isinstance(row.get("prefill"), str) else ""
        parts, solved = task.judge(problem, text, prefill) if graded else ({}, False)
        grades = {
            grading: solved if grading == task.grading else graded and task.grade(problem, text, grading)
            for grading in task.gradings
        }
        counts = {grading: task.counts(problem, text, grading) for grading in task.gradings if graded}
        kept = {name: row[name] for name in ("update", "temperature") if isinstance(row.get(name), int | float)}
        kept |= {"prefill": prefill} if prefill else {}
        asked = {"problem": problem.id, "question": row["question"], "ground_truth": problem.gold}
        result = {"completion": text, "reward": sum(parts.values(), 0.0), "correct": solved, "grades": grades, "graded": graded}
        result |= {"failed": True} if "failed" in parts else {}
        if any(counts.values()):
            result |= {"counts": counts[task.grading], "counts_by": counts}
        records.append(kept | asked | result)
    return records
