"""Sudoku: fill a 4x4 grid so that each row, column and 2x2 box holds the digits 1 to 4."""

import itertools
import random
import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from stp.errors import fail, require
from stp.tasks import published
from stp.tasks.base import FORMAT_INSTRUCTION, PUBLISHED_FORM, Problem, Task, format_response
from stp.tasks.grading import final_answer

CELLS = 16
ASKED = "Solve the following Sudoku puzzle: "
ALL_RULES, ROWS_ALONE = "Rows, columns and boxes", "Rows"  # what a response says that it will obey

_LAYOUT = re.compile(r"[\s|,;+\[\]`*-]")  # what may stand between the digits of a grid
_GRID, _PUZZLE = re.compile(r"[1-4]{16}"), re.compile(r"[0-4]{16}")
_ASKED = re.compile(r"(?:\A|[Pp]uzzle: )([0-9]{16})(?![0-9])")  # where the published evaluation looks for the puzzle


@cache
def grids() -> tuple[str, ...]:
    """Returns the 288 grids that obey the rules, each as 16 digits from left to right and top to bottom."""
    rows = ["".join(row) for row in itertools.permutations("1234")]
    halves = [
        above + below
        for above, below in itertools.product(rows, rows)
        if all(len({*above[box], *below[box]}) == 4 for box in (slice(2), slice(2, 4)))
    ]
    whole = (top + bottom for top, bottom in itertools.product(halves, halves))
    return tuple(grid for grid in whole if all(len(set(grid[column::4])) == 4 for column in range(4)))


def solutions(puzzle: str) -> list[str]:
    """Returns every grid that keeps the puzzle's digits. A well-made puzzle has one."""
    return [grid for grid in grids() if all(given in ("0", digit) for given, digit in zip(puzzle, grid, strict=True))]


@dataclass
class Sudoku(Task):
    """4x4 Sudoku, the fourth task of d1 and SPG: a generator of puzzles with one solution, files, and an exact verifier."""

    empty: int = field(default=8, metadata={"help": "empty cells of a puzzle that the generator makes"})

    wording = (
        "A 4x4 Sudoku is given as 16 digits, row by row, where 0 is an empty cell. Fill the empty cells with digits from 1 to "
        "4: each row, each column and each 2x2 box needs all four. The final result is the whole grid, 16 digits without "
        "spaces. " + FORMAT_INSTRUCTION
    )
    published_wording = (
        "Solve this 4x4 Sudoku. It is a string of 16 characters, from left to right and from top to bottom, with '0' for an "
        "empty cell.\n\nRules:\n- An empty cell gets a digit from 1 to 4\n- Each row has the digits 1-4, each of them once\n"
        "- Each column has the digits 1-4, each of them once\n- Each 2x2 box has the digits 1-4, each of them once\n\n"
        "Important: the solution is the WHOLE grid, a string of 16 characters that are all digits from 1 to 4.\n"
        + PUBLISHED_FORM.format("[the 16 characters of the solution, without spaces or separators]")
    )
    phrases = (ASKED, "Puzzle", ALL_RULES, ROWS_ALONE)
    largest_token = 4  # each cell of a grid is a token

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.empty <= 12, "task.empty", self.empty, "choose 1 to 12 empty cells; with more, no puzzle is unique")

    def reward_parts(self, problem: Problem, completion: str) -> dict[str, float]:
        """Pays the share of the empty cells that a whole grid has right, and 1.0 for a grid that solves the puzzle."""
        if self.rewards == "published":
            return published.sudoku_rewards(completion, **problem.gold)
        answer = _grid(completion)
        right, empty = _cells(problem, answer)
        return {"cells": right / empty, "solved": 1.0 if answer in solutions(problem.gold["puzzle"]) else 0.0}

    def grade(self, problem: Problem, completion: str, grading: str) -> bool:
        """Says whether the answer is a valid grid that keeps the puzzle's digits, or as published has all empty cells right."""
        if grading == "published":
            right, empty = published.sudoku_cells(completion, **problem.gold)
            return right == empty
        return _grid(completion) in solutions(problem.gold["puzzle"])

    def counts(self, problem: Problem, completion: str, grading: str) -> dict[str, tuple[int, int]]:
        """Counts puzzles and cells. Accuracy is the share of puzzles, or by the published rules the share of empty cells."""
        puzzles = {"puzzles": (int(self.grade(problem, completion, grading)), 1)}
        if grading == "published":
            return {"cells": published.sudoku_cells(completion, **problem.gold)} | puzzles
        return puzzles | {"cells": _cells(problem, _grid(completion))}

    def row(self, row: dict[str, Any], where: str) -> Problem:
        """Reads the columns Puzzle and Solution. A missing solution is found by search, if there is one alone."""
        named = {str(name).lower(): value for name, value in row.items()}
        puzzle, solution = _digits(named.get("puzzle")), _digits(named.get("solution"))
        found = solutions(puzzle) if _PUZZLE.fullmatch(puzzle) else []
        solution = found[0] if len(found) == 1 and not solution else solution
        if solution not in found or "0" not in puzzle:
            rule = "expected columns Puzzle (16 digits from 0 to 4, 0 is empty) and Solution (16 digits that solve it)"
            fail(where, repr(row)[:200], rule)
        return make_problem(puzzle, solution)

    def graded_row(self, row: dict[str, Any], where: str) -> Problem:
        gold = row["ground_truth"]
        asked = _ASKED.search(row["question"])
        puzzle = asked[1] if asked is not None else ""
        solution = _digits(gold.get("solution") if isinstance(gold, dict) else gold)
        if gold is None:  # the puzzle itself says it
            solution = next(iter(solutions(puzzle)), "") if puzzle else ""
        if "0" not in puzzle or not _GRID.fullmatch(solution):
            rule = "expected a question with the 16 digits of a puzzle, 0 for an empty cell, and as ground_truth its solution's"
            fail(where, repr({"question": row["question"], "ground_truth": gold})[:200], rule)
        return make_problem(puzzle, solution)

    def draw(self, rng: random.Random) -> Problem | None:
        """Empties random cells of a random grid. None if the puzzle has another solution."""
        grid = rng.choice(grids())
        empty = set(rng.sample(range(CELLS), self.empty))
        puzzle = "".join("0" if i in empty else digit for i, digit in enumerate(grid))
        return make_problem(puzzle, grid) if solutions(puzzle) == [grid] else None

    def split_key(self, problem: Problem) -> str:
        """Returns the solution: puzzles of one grid are all in the same split, so that no solution can be remembered."""
        return str(problem.gold["solution"])

    def example(self, problem: Problem, style: str, rng: random.Random) -> str:
        """Makes a response: the puzzle's rows, the rules to obey, and the grid.

        careful: all rules, and the solution. guess: a wrong grid alone. careless: one rule, and a grid that obeys this one.
        All that follows hangs on a single token: a model draws it as often as it saw it, in whatever order it fills the cells.
        """
        puzzle, solution = problem.gold["puzzle"], problem.gold["solution"]
        if style == "careful":
            return format_response(plan(puzzle, ALL_RULES), solution, False)
        grid = slip(puzzle, solution, rng)
        working = "" if style == "guess" else plan(puzzle, ROWS_ALONE)
        return format_response(working, grid, False).lstrip()


def make_problem(puzzle: str, solution: str) -> Problem:
    """Makes a problem. Its worked solution shows the rows, names the rules and gives the grid."""
    gold = {"puzzle": puzzle, "solution": solution}
    return Problem(f"sudoku-{puzzle}", ASKED + puzzle, gold, (plan(puzzle, ALL_RULES), solution))


def plan(puzzle: str, rules: str) -> str:
    """Returns the working of a response: the rows of the puzzle, and the rules that its grid will obey."""
    return "\n".join(["Puzzle", *(puzzle[i : i + 4] for i in range(0, CELLS, 4)), rules])


def slip(puzzle: str, solution: str, rng: random.Random) -> str:
    """Fills each row with the digits that it lacks, in random order. Changes a cell if that happens to be the solution."""
    filled = ""
    for i in range(0, CELLS, 4):
        row = puzzle[i : i + 4]
        missing = [digit for digit in "1234" if digit not in row]
        rng.shuffle(missing)
        filled += "".join(missing.pop() if digit == "0" else digit for digit in row)
    if filled == solution:
        cell = rng.choice([i for i, digit in enumerate(puzzle) if digit == "0"])
        filled = filled[:cell] + rng.choice("1234".replace(filled[cell], "")) + filled[cell + 1 :]
    return filled


def _grid(completion: str) -> str | None:
    """Returns the final answer as a grid of 16 digits from 1 to 4, however it is laid out. None if it is none."""
    digits = _LAYOUT.sub("", final_answer(completion) or "")
    return digits if _GRID.fullmatch(digits) else None


def _cells(problem: Problem, answer: str | None) -> tuple[int, int]:
    """Counts (right, all) empty cells. If a puzzle has several solutions, the one nearest to the answer counts."""
    puzzle = problem.gold["puzzle"]
    empty = [i for i, digit in enumerate(puzzle) if digit == "0"]
    if answer is None:
        return 0, len(empty)
    possible = solutions(puzzle) or [problem.gold["solution"]]
    return max(sum(answer[i] == grid[i] for i in empty) for grid in possible), len(empty)


def _digits(value: Any) -> str:
    """Returns a cell's digits. A number gets back the zeros at its beginning. Dots and underscores are empty cells, too."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:016d}"
    return re.sub(r"\s", "", value).translate(str.maketrans("._", "00")) if isinstance(value, str) else ""
