"""MATH: competition problems with LaTeX expressions as answers (Hendrycks et al., 2021), and a small generator of algebra."""

import random
import re
from dataclasses import dataclass
from typing import Any

from stp.errors import fail
from stp.tasks import published, verifier
from stp.tasks.base import (
    ANSWER_CLOSE,
    ANSWER_OPEN,
    BOXED_INSTRUCTION,
    FORMAT_INSTRUCTION,
    Hub,
    Problem,
    Task,
    flooded,
    last_answer,
    text_key,
)
from stp.tasks.generator import Kind, draw, example, fragments, result
from stp.tasks.grading import final_answer, last_boxed, same_answer

KINDS = {
    "sum": Kind("Solve x + {a} = {d} for x.", ("d-a",), (20, 2, 2, 30)),
    "less": Kind("Solve x - {a} = {d} for x.", ("d+a",), (20, 2, 2, 20)),
    "line": Kind("Solve {a} x + {b} = {d} for x.", ("d-b", "A/a"), (9, 20, 2, 30)),
    "lineless": Kind("Solve {a} x - {b} = {d} for x.", ("d+b", "A/a"), (9, 20, 2, 20)),
    "outside": Kind("Solve {a} ( x + {b} ) = {d} for x.", ("d/a", "A-b"), (9, 20, 2, 30)),
    "half": Kind("Solve x / {a} + {b} = {d} for x.", ("d-b", "A*a"), (9, 20, 2, 30)),
    "value": Kind("Let x = {a}. What is {b} x + {c}?", ("b*a", "A+c"), (9, 9, 20, 2)),
    "product": Kind("Let x = {a} and y = {b}. What is {c} x + y?", ("c*a", "A+b"), (9, 20, 9, 2)),
    "pair": Kind("Let x + y = {a} and x - y = {b}. What is x?", ("a+b", "A/2"), (20, 20, 2, 2)),
}

_BARE_BOX = re.compile(r"\\boxed +([0-9A-Za-z]+)\$")  # two solutions of MATH's training set end in `$\boxed 2$`, `\boxed 9$`


@dataclass
class Math(Task):
    """MATH and MATH-500: competition problems, answered by an expression in `\\boxed{}`."""

    wording = FORMAT_INSTRUCTION + BOXED_INSTRUCTION
    hub = Hub("ankner/math-500", held_out=500, test="HuggingFaceH4/MATH-500")
    phrases = (*fragments(KINDS), "\\boxed{")

    def problems(self, split: str, at_most: int | None = None) -> list[Problem]:
        verifier.start()  # gives it time to get ready
        return super().problems(split, at_most)

    def reward_parts(self, problem: Problem, completion: str) -> dict[str, float]:
        """Pays 2.0 for an equivalent answer, 0.5 for an `<answer>`, 0.25 for a `\\boxed{}` in it (without one, anywhere)."""
        if self.rewards == "published":
            return published.math_rewards(completion, problem.gold)
        answer = last_answer(completion)
        boxed = not flooded(completion) and last_boxed(completion if answer is None else answer) is not None
        return {
            "correct": 2.0 if self.grade(problem, completion, "corrected") else 0.0,
            "format": 0.5 * (answer is not None) + 0.25 * boxed,
        }

    def grade(self, problem: Problem, completion: str, grading: str) -> bool:
        """Says whether the final answer is equivalent to the gold one."""
        if grading == "published":
            return published.math_correct(completion, problem.gold)
        answer = final_answer(completion)
        return answer is not None and same_answer(answer, problem.gold)

    def gradable(self, problem: Problem) -> bool:
        """Says whether the gold answer can be read. The corrected rules need that; the published ones compare any text."""
        published_alone = self.rewards == self.grading == "published"
        return published_alone or self.grade(problem, f"{ANSWER_OPEN}{problem.gold}{ANSWER_CLOSE}", "corrected")

    def row(self, row: dict[str, Any], where: str) -> Problem:
        """Reads the columns problem, solution and answer. Without an answer it takes the solution's last `\\boxed{}`.

        The solution may be missing if there is an answer.
        """
        question, solution, answer = row.get("problem"), row.get("solution"), _text(row.get("answer"))
        if not answer and isinstance(solution, str):
            bare = _BARE_BOX.search(solution)
            answer = last_boxed(solution) if bare is None else bare[1]
        if not isinstance(question, str) or not question.strip() or not answer or not answer.strip():
            fail(
                where, repr(row)[:200], "expected columns problem, solution and answer (or a solution with a \\boxed{} answer)"
            )
        worked = (solution.strip(), f"\\boxed{{{answer}}}") if isinstance(solution, str) and solution.strip() else None
        return Problem(f"math-{text_key(question)}", question, answer, worked)

    def graded_row(self, row: dict[str, Any], where: str) -> Problem:
        gold = _text(row["ground_truth"])
        if not gold and row["ground_truth"] is not None:
            fail(where, repr(row["ground_truth"])[:200], "expected a LaTeX answer as ground_truth")
        return Problem(f"math-{text_key(row['question'])}", row["question"], gold)

    def draw(self, rng: random.Random) -> Problem | None:
        """Draws short algebra in one or two steps."""
        drawn = draw(KINDS, rng)
        if drawn is None:
            return None
        key, kind, numbers, lines = drawn
        answer = f"\\boxed{{{result(lines)}}}"
        return Problem(f"math-{key}", kind.text.format(**numbers), result(lines), ("\n".join(lines), answer))

    def example(self, problem: Problem, style: str, rng: random.Random) -> str:
        """Makes a response. careful: the right steps. guess: a wrong answer alone. careless: a last step that is wrong."""
        return example(problem, style, rng, "\\boxed{{{}}}")


def _text(value: Any) -> str | None:
    """Returns an answer as text. A column of numbers may give numbers."""
    if isinstance(value, bool) or value is None or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value.strip() if isinstance(value, str) else str(value) if isinstance(value, int | float) else None
