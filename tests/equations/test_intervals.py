"""Accuracy's interval, mean@k and pass@k: textbook values, laws, and how often the interval holds the truth."""

from itertools import combinations

import pytest
import torch

from stp.evaluation.intervals import accuracy, interval, measured, scored, shown


def records(groups):
    return [{"problem": str(i), "correct": bool(c)} for i, group in enumerate(groups) for c in group]


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_single_samples_have_wilsons_interval(correct, total, low, high):
    """The examples of Newcombe (1998), Table I, method 3."""
    score = measured(records([[i < correct] for i in range(total)]), 1)
    assert score["interval"]["accuracy"] == pytest.approx([low, high], abs=6e-5)
    assert score | {"interval": None} == accuracy(records([[i < correct] for i in range(total)])) | {"interval": None}


def test_copies_of_a_sample_say_nothing_new():
    """Eight samples that always agree leave the interval of one; counted as independent they would narrow it."""
    once = [i % 3 == 0 for i in range(60)]
    one, eight = measured(records([[c] for c in once]), 1), measured(records([[c] * 8 for c in once]), 8)
    assert eight["interval"]["mean@8"] == pytest.approx(one["interval"]["accuracy"])
    naive = interval([float(c) for c in once for _ in range(8)], [1] * 480)
    assert naive[1] - naive[0] < 0.4 * (one["interval"]["accuracy"][1] - one["interval"]["accuracy"][0])


def test_the_interval_stays_a_range_of_probabilities():
    for groups in ([[1, 1]] * 5, [[0, 0]] * 5, [[0, 1]] * 5, [[1, 0], [1, 1]], [[1]]):
        low, high = measured(records(groups), len(groups[0]))["interval"]["accuracy"]
        assert 0 <= low < high <= 1
        assert low <= accuracy(records(groups))["accuracy"] <= high


def test_stored_records_may_ask_one_problem_more_often_than_another():
    groups = [[1, 1, 0], [0], [1], [0, 0]]
    score = scored(records(groups))
    assert score["accuracy"] == 3 / 7
    assert score["interval"]["accuracy"] == interval([2, 0, 1, 0], [3, 1, 1, 2])
    assert scored(records([[1], [0], [0]]))["interval"] == measured(records([[1], [0], [0]]), 1)["interval"]


def test_pass_at_k_is_the_mean_over_all_choices_of_k_samples():
    groups = [[1, 0, 0, 1, 0, 0], [0] * 6, [1] * 6, [0, 0, 0, 0, 0, 1]]
    score = measured(records(groups), 6)
    assert [name for name in score if "@" in name] == ["mean@6", "pass@1", "pass@2", "pass@4", "pass@6"]
    assert score["mean@6"] == score["accuracy"] == pytest.approx(score["pass@1"])
    for k in (1, 2, 4, 6):
        chosen = [[any(some) for some in combinations(group, k)] for group in groups]
        assert score[f"pass@{k}"] == pytest.approx(sum(sum(c) / len(c) for c in chosen) / 4)
    assert score["interval"]["pass@6"] == pytest.approx(interval([1, 0, 1, 1], [1] * 4))  # yes or no for each problem


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 2.0), (0.2, 0.4), (20.0, 40.0)])
def test_the_interval_holds_the_truth_as_often_as_it_says(alpha, beta):
    """A third of the completions is correct, problems differing moderately, much or hardly: 100 of them, 8 samples each."""
    torch.manual_seed(0)
    p_RN = torch.distributions.Beta(alpha, beta).sample((2000, 100))
    solved_RN = torch.distributions.Binomial(8, p_RN).sample()
    ends = torch.tensor([interval(solved_N, [8] * 100) for solved_N in solved_RN.tolist()])
    held = ((ends[:, 0] <= 1 / 3) & (ends[:, 1] >= 1 / 3)).float().mean()
    assert 0.935 <= held <= 0.965


def test_the_printed_line_names_counts_and_intervals():
    line = shown(measured(records([[1], [0], [0], [0]]), 1))
    assert line == "accuracy 25.0% (1/4) [4.6, 69.9]"
    line = shown(measured(records([[1, 0], [0, 0], [0, 1], [0, 0]]), 2))
    assert line.startswith("accuracy (mean@2) 25.0% (2/8) [") and ", pass@2 50.0% [15.0, 85.0]" in line


def test_a_task_may_count_parts_of_a_completion():
    """Cells of two puzzles, of which one was tried twice: the first count is the accuracy, the other stands beside it."""
    counted = [
        {"problem": p, "correct": right == of, "counts": {"cells": [right, of], "puzzles": [int(right == of), 1]}}
        for p, right, of in (("a", 8, 8), ("a", 3, 8), ("b", 1, 4))
    ]
    score = scored(counted)
    assert (score["correct"], score["total"], score["accuracy"], score["unit"]) == (12, 20, 0.6, "cells")
    assert score["interval"]["accuracy"] == interval([11, 1], [16, 4])
    assert (score["puzzles"]["correct"], score["puzzles"]["total"]) == (1, 3)
    assert score["puzzles"]["interval"]["accuracy"] == interval([1, 0], [2, 1])
    assert shown(score).startswith("accuracy 60.0% (12/20 cells) [") and ", puzzles 33.3% (1/3 puzzles) [" in shown(score)
    twice = measured([counted[0], counted[1], counted[2], counted[2]], 2)
    assert twice["mean@2"] == twice["accuracy"] == 13 / 24 and twice["pass@2"] == 0.5  # pass counts whole puzzles
