"""Sudoku: unique puzzles in splits that share no grid, rows whose digits stay text, and cells counted as published."""

import json
import random

import pytest

from stp.errors import UserError
from stp.evaluation.intervals import scored
from stp.evaluation.stored import regrade
from stp.models.tiny import tiny_tokenizer
from stp.tasks import Sudoku
from stp.tasks.base import Data
from stp.tasks.published import sudoku_cells
from stp.tasks.sources import file_rows
from stp.tasks.sudoku import grids, make_problem, solutions
from tests.tasks import shared

PUZZLE, GRID = "3102200002100320", "3142243142131324"
PROBLEM = make_problem(PUZZLE, GRID)
EMPTY = [i for i, digit in enumerate(PUZZLE) if digit == "0"]
WRONG = GRID[:2] + "3" + GRID[3:]  # one of the eight empty cells
TASK = Sudoku()


def searched(puzzle: str) -> list[str]:
    """Every solution, found cell by cell without the list of all grids."""
    if "0" not in puzzle:
        return [puzzle]
    at = puzzle.index("0")
    row, column = divmod(at, 4)
    seen = {
        digit
        for i, digit in enumerate(puzzle)
        if i // 4 == row or i % 4 == column or (i // 8, i % 4 // 2) == (at // 8, column // 2)
    }
    return [found for digit in "1234" if digit not in seen for found in searched(puzzle[:at] + digit + puzzle[at + 1 :])]


def test_the_grids_are_those_that_a_search_finds():
    assert sorted(grids()) == sorted(searched("0" * 16)) and len(grids()) == 288
    rng = random.Random(0)
    for _ in range(50):
        puzzle = "".join(rng.choice((digit, "0")) for digit in rng.choice(grids()))
        assert sorted(solutions(puzzle)) == sorted(searched(puzzle))


@pytest.mark.parametrize("empty", [4, 8, 11])
def test_the_generator_makes_unique_puzzles_in_splits_that_share_no_grid(empty):
    task = Sudoku(Data(train_size=60, validation_size=30, test_size=30), empty=empty)
    seen = []
    for split in ("train", "validation", "test"):
        problems = task.problems(split)
        assert len({p.id for p in problems}) == task.data.size(split)
        for problem in problems:
            puzzle, grid = problem.gold["puzzle"], problem.gold["solution"]
            assert searched(puzzle) == [grid] and puzzle.count("0") == empty and problem.question.endswith(puzzle)
        seen.append({p.gold["solution"] for p in problems})
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


def answer(text: str) -> str:
    return f"<reasoning>…</reasoning>\n<answer>\n{text}\n</answer>"


def spaced(grid: str) -> str:
    return "\n".join(" | ".join(grid[i : i + 4]) for i in range(0, 16, 4))


@pytest.mark.parametrize(
    ("text", "cells", "solved", "published"),
    [
        (GRID, 1, True, 1),
        (spaced(GRID), 1, True, 1),
        (WRONG, 7 / 8, False, 7 / 8),
        ("4" + GRID[1:], 1, False, 1),  # a digit of the puzzle changed: no published cell, no valid grid
        (GRID + "1", 0, False, 1),  # cut to 16
        (GRID[:8], 0, False, sum(i < 8 for i in EMPTY) / 8),  # filled up
        ("Row 1: " + GRID, 0, False, None),
        ("", 0, False, 0),
    ],
)
def test_rewards(text, cells, solved, published):
    """Corrected: a whole grid, and a valid one. Published: whatever digits there are."""
    assert TASK.reward_parts(PROBLEM, answer(text)) == {"cells": cells, "solved": float(solved)}
    assert TASK.solves(PROBLEM, answer(text)) is solved
    paid = Sudoku(rewards="published").reward_parts(PROBLEM, answer(text))["cells"]
    shifted = ("1" + GRID)[:16]
    assert paid == (published if published is not None else sum(shifted[i] == GRID[i] for i in EMPTY) / 8)


def test_published_rewards_take_the_last_answer_and_corrected_ones_a_box():
    twice = answer(WRONG) + answer(GRID)
    assert Sudoku(rewards="published").reward_parts(PROBLEM, twice)["cells"] == 1 and TASK.solves(PROBLEM, twice)
    assert Sudoku(rewards="published").reward_parts(PROBLEM, f"\\boxed{{{GRID}}}")["cells"] == 0
    assert TASK.solves(PROBLEM, f"so \\boxed{{{GRID}}}")


@pytest.mark.parametrize(
    ("completion", "taken"),
    [  # in the order in which the published evaluation looks
        (f"<answer>so ```\n{GRID}\n``` or {WRONG}</answer>", GRID),
        (f"<answer>{WRONG}</answer> or <answer>{GRID}</answer>", WRONG),
        (f"<answer>{WRONG}<|eot_id|><|endoftext|>", WRONG),
        (f"<answer>\n</answer>\n{WRONG}<|eot_id|>{GRID}", WRONG),
        (f"</answer> {WRONG}", WRONG),
        (f"</answer>{GRID}\n\n", GRID),
        (f"{GRID} is near {WRONG}9\n</answer><|eot_id|>", (WRONG + "9")[1:]),
        (f"x{WRONG} {GRID} {WRONG}", GRID),
        (f"<answer>{GRID}", GRID),  # never closed: 16 digits that stand alone
        (f"<answer>{GRID[:4]},{GRID[4:]}</answer>", (GRID[:4] + "," + GRID[4:])[:16]),  # only white space is left out
        (f"<answer>{GRID[:9]}</answer>", GRID[:9] + "0" * 7),
        ("nothing", "0" * 16),
    ],
)
def test_published_grading_looks_in_several_places(completion, taken):
    assert sudoku_cells(completion, PUZZLE, GRID) == (sum(taken[i] == GRID[i] for i in EMPTY), 8)


def test_an_answer_that_is_open_at_the_end():
    """Published grading reads it up to the end of turn, or as 16 digits that stand alone; nothing else counts or pays."""
    spaced = f"<answer>{GRID[:8]} {GRID[8:]}"
    for text, right in ((spaced, 0), (spaced + "<|eot_id|>", 8), (f"<answer>{GRID}", 8), (f"<answer>\\boxed{{{GRID}}}", 8)):
        assert sudoku_cells(text, PUZZLE, GRID) == (right, 8)
        assert Sudoku(rewards="published").reward_parts(PROBLEM, text) == {"cells": 0.0}
        boxed = "boxed" in text
        assert TASK.solves(PROBLEM, text) is boxed and sum(TASK.reward_parts(PROBLEM, text).values()) == 2.0 * boxed


def test_accuracy_is_the_share_of_cells_as_published_and_else_of_puzzles():
    rows = [(GRID, True), (WRONG, False), (GRID[:15], False)]
    counted = [{"problem": text, "correct": ok, "counts": TASK.counts(PROBLEM, answer(text), "corrected")} for text, ok in rows]
    score = scored(counted)
    assert (score["correct"], score["total"], score["unit"]) == (1, 3, "puzzles")
    assert (score["cells"]["correct"], score["cells"]["total"]) == (15, 24)
    counted = [r | {"counts": TASK.counts(PROBLEM, answer(t), "published")} for r, (t, _) in zip(counted, rows, strict=True)]
    score = scored(counted)
    assert (score["correct"], score["total"], score["unit"]) == (22, 24, "cells")
    assert (score["puzzles"]["correct"], score["puzzles"]["total"]) == (1, 3)


def test_any_valid_grid_solves_a_puzzle_that_has_several():
    puzzle = "0" * 15 + GRID[15]
    other = next(grid for grid in solutions(puzzle) if grid != GRID)
    problem = make_problem(puzzle, GRID)
    assert TASK.reward_parts(problem, answer(other)) == {"cells": 1.0, "solved": 1.0}
    assert not TASK.grade(problem, answer(other), "published")  # which knows one alone


def test_the_digits_of_files_stay_text(tmp_path):
    """Leading zeros are cells: of CSV as it is, of a JSON number that lost them, and of a grid with dots."""
    zeros = "0142243142131324"
    (tmp_path / "a.csv").write_text(f"Puzzle,Solution\n{zeros},{GRID}\n")
    (tmp_path / "b.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in [{"puzzle": int(zeros), "solution": int(GRID)}, {"Puzzle": "." + zeros[1:]}])
    )
    found = [TASK.row(row, where) for name in ("a.csv", "b.jsonl") for where, row in file_rows(tmp_path / name)]
    assert [problem.gold for problem in found] == [{"puzzle": zeros, "solution": GRID}] * 3
    assert found[0] == found[1] == found[2] == make_problem(zeros, GRID)


@pytest.mark.parametrize(
    "row",
    [
        {"Puzzle": PUZZLE[:15], "Solution": GRID},
        {"Puzzle": PUZZLE, "Solution": WRONG},
        {"Puzzle": GRID, "Solution": GRID},
        {"Puzzle": "5" + PUZZLE[1:], "Solution": GRID},
        {"Puzzle": "0" * 16},
        {"Solution": GRID},
        {"Puzzle": True, "Solution": 1.5},
    ],
)
def test_a_malformed_row_is_named(row):
    with pytest.raises(UserError, match=r"^rows\.csv row 7=.*expected columns Puzzle \(16 digits from 0 to 4, 0 is empty\)"):
        TASK.row(row, "rows.csv row 7")


@pytest.mark.parametrize("gold", [GRID, int(GRID), {"puzzle": PUZZLE, "solution": GRID}, None])
@pytest.mark.parametrize("question", [PUZZLE, f"Solve the following Sudoku puzzle: {PUZZLE}\n"])
def test_stored_completions_name_the_puzzle_in_their_question(question, gold):
    row = {"question": question, "completion": answer(WRONG), "ground_truth": gold}
    (record,) = regrade(TASK, [("rows.jsonl row 1", row)], {})
    assert record["counts_by"] == {
        "corrected": {"puzzles": (0, 1), "cells": (7, 8)},
        "published": {"cells": (7, 8), "puzzles": (0, 1)},
    }
    for bad in ({"question": "?"}, {"ground_truth": "12"}):
        with pytest.raises(UserError, match=r"^rows\.jsonl row 1=.*expected a question with the 16 digits of a puzzle"):
            regrade(TASK, [("rows.jsonl row 1", row | bad)], {})


def test_the_hub_needs_a_name():
    with pytest.raises(UserError, match=r"^task\.data\.source=hub: .*task\.data\.hub=<id>"):
        Sudoku(Data(source="hub")).problems("train")


def test_the_answer_of_an_example_begins_a_block_and_hangs_on_the_token_before():
    """So no cell of the grid is drawn before the rules that it obeys, however sure a model is of it."""
    rng, tokenizer = random.Random(0), tiny_tokenizer(TASK.phrases, TASK.largest_token)
    for problem in Sudoku(Data(train_size=20)).problems("train"):
        right, wrong = (tokenizer(TASK.example(problem, style, rng))["input_ids"] for style in ("careful", "careless"))
        assert next(i for i, pair in enumerate(zip(right, wrong, strict=True)) if pair[0] != pair[1]) == 22
        assert right.index(tokenizer.convert_tokens_to_ids("<answer>")) == 24
        working, grid = TASK.solution(problem)
        assert TASK.solves(problem, f"{working}\n<answer>{grid}</answer>")


@pytest.mark.parametrize("empty", [0, 13])
def test_an_impossible_number_of_empty_cells_is_refused(empty):
    with pytest.raises(UserError, match=rf"^task\.empty={empty}: choose 1 to 12"):
        Sudoku(empty=empty)


def test_the_published_files_and_completions():
    """Public files outside the project: 500 puzzles, and 256 completions of LLaDA-8B-Instruct with 137 right cells of 2,048."""
    problems = [TASK.row(row, where) for where, row in file_rows(shared("data/sudoku/4x4_test.csv"))]
    assert len({p.id for p in problems}) == 500 and sum(len(solutions(p.gold["puzzle"])) > 1 for p in problems) == 124
    rows = file_rows(shared("data/completions/sudoku_llada8b_256.jsonl"))
    records = regrade(Sudoku(grading="published"), rows, {})
    score = scored(records)
    assert (score["correct"], score["total"], score["puzzles"]["correct"], score["puzzles"]["total"]) == (137, 2048, 0, 256)
