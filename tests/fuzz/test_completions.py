"""Completions: rewards and grades are total, finite, bounded and the same each time, under both sets of rules."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stp.tasks import Countdown, Gsm8k, Math, Problem, verifier
from stp.tasks.base import REWARDS
from tests.fuzz import inputs, tried
from tests.fuzz.texts import completions

GOLD = {
    Countdown: [{"numbers": [3, 4, 5], "target": 12}, {"numbers": [9, 9], "target": 0}],
    Gsm8k: ["5", "1,250", "-3", "0.5"],
    Math: ["5", "x+5", "\\frac{1}{2}", "(1,2)", "\\text{red}", "3\\sqrt{2}"],
}
MOST = {Countdown: 1.0, Gsm8k: 4.0, Math: 2.75}


@pytest.fixture
def remembered(monkeypatch):
    """A comparison is made once: its own repeatability is a matter of the time that it is given."""
    known, ask = {}, verifier.equal

    def equal(answer, gold):
        if (answer, gold) not in known:
            known[answer, gold] = ask(answer, gold)
        return known[answer, gold]

    monkeypatch.setattr(verifier, "equal", equal)


@pytest.mark.parametrize("rules", REWARDS)
@pytest.mark.parametrize("option", GOLD)
def test_rewards_and_grades_are_total(option, rules, remembered):
    task = option(rewards=rules, grading=rules)

    @inputs(250)
    @given(st.sampled_from(GOLD[option]), completions)
    def check(gold, completion):
        tried["completions", "accepted"] += 1
        problem = Problem("p", "?", gold)
        parts, grade = task.reward_parts(problem, completion), task.grade(problem, completion, rules)
        assert type(grade) is bool and task.solves(problem, completion) is grade
        assert all(type(value) is float and math.isfinite(value) for value in parts.values())
        # published tags cost 0.001 for each trailing character, twice
        least = -0.002 * len(completion) if (option, rules) == (Gsm8k, "published") else 0.0
        assert least <= sum(parts.values()) <= MOST[option]
        assert (task.reward_parts(problem, completion), task.grade(problem, completion, rules)) == (parts, grade)

    check()
