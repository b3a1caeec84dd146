"""Corrected grading on pairs of an answer and a gold one, with the verdicts of mathematics."""

import doctest

import pytest

from stp.tasks import Math, Problem, latex, units
from stp.tasks.grading import number
from tests.tasks.altered import ALTERATIONS, REWRITINGS, golds
from tests.tasks.pairs import NUMBERS, RIGHT, WRONG, lines


def grade(answer, gold):
    return Math().grade(Problem("p", "?", gold), f"<answer>{answer}</answer>", "corrected")


@pytest.mark.parametrize("kind", RIGHT)
def test_right_answers_are_accepted(kind):
    assert [(answer, gold) for _, answer, gold in lines({kind: RIGHT[kind]}) if not grade(answer, gold)] == []


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_answers_are_refused(kind):
    assert [(answer, gold) for _, answer, gold in lines({kind: WRONG[kind]}) if grade(answer, gold)] == []


def test_gold_and_answer_may_change_places():
    """A letter behind the gold number is a variable, behind the answer's a unit; boxes and bold are read in answers alone."""
    one_way = ("15 m", "15 m/s", "**12**")
    pairs = [(answer, gold) for _, answer, gold in lines(RIGHT) if answer not in one_way and "boxed" not in answer]
    assert [(answer, gold) for answer, gold in pairs if not grade(gold, answer)] == []
    assert [(answer, gold) for _, answer, gold in lines(WRONG) if grade(gold, answer)] == []


def made(ways, gold):
    """The texts that ways make of a gold answer, with their names."""
    return [(name, text) for name, way in ways.items() if (text := way(gold)) is not None and text != gold]


@pytest.mark.parametrize(("subject", "gold"), golds())
def test_a_gold_answer_written_in_ten_usual_ways_is_right(subject, gold):
    texts = made(REWRITINGS, gold)
    assert len(texts) >= 10 and [text for text in texts if not grade(text[1], gold)] == []


@pytest.mark.parametrize(("subject", "gold"), golds())
def test_a_gold_answer_altered_in_ten_ways_is_wrong(subject, gold):
    texts = made(ALTERATIONS, gold) + [("another answer", other) for _, other in golds() if other != gold]
    assert len(made(ALTERATIONS, gold)) >= 10 and [text for text in texts if grade(text[1], gold)] == []


@pytest.mark.parametrize("module", [latex, units])
def test_the_examples_of_the_rewritings_hold(module):
    done = doctest.testmod(module)
    assert done.attempted and not done.failed


@pytest.mark.parametrize(("answer", "value"), [line.rsplit(" | ", 1) for line in NUMBERS.strip().split("\n")])
def test_numbers(answer, value):
    assert number(answer) == (None if value == "none" else float(value))
