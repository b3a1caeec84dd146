"""Countdown: what the generator promises, and what the verifier pays for."""

import re
from collections import Counter
from fractions import Fraction

import pytest

from stp.errors import UserError
from stp.tasks import Countdown, format_response, last_answer
from stp.tasks.base import Data
from stp.tasks.countdown import evaluate_expression, expressions, make_problem, solve

VARIANTS = [
    {},
    {"operators": "+-*/"},
    {"operators": "*/", "max_number": 100},
    {"numbers": 2, "max_number": 100},
    {"numbers": 4, "max_number": 9, "operators": "+*"},
]


def countdown(seed=0, size=200, **options):
    return Countdown(data=Data(seed=seed, train_size=size, test_size=size), **options)


def pair(problem):
    """What makes two problems the same: the numbers in any order, and the target."""
    return (*sorted(problem.gold["numbers"]), problem.gold["target"])


def test_the_generator_depends_on_the_seed_alone():
    assert countdown(3).problems("train") == countdown(3).problems("train")
    assert countdown(3).problems("train") != countdown(4).problems("train")
    assert countdown(3, size=80).problems("train") == countdown(3).problems("train")[:80]


def test_train_and_test_share_no_problem_across_seeds_and_sizes():
    train = {pair(p) for seed in range(3) for p in countdown(seed, 2000, max_number=20).problems("train")}
    sizes = {0: 300, 1: 700, 2: 500}
    test = {pair(p) for seed, size in sizes.items() for p in countdown(seed, size, max_number=20).problems("test")}
    assert len(train) > 3000 and len(test) > 700
    assert not train & test


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_generated_problems_are_distinct_well_formed_and_solvable(options, split):
    task = countdown(size=60, **options)
    problems = task.problems(split)
    assert len({pair(p) for p in problems}) == len({p.id for p in problems}) == 60
    for problem in problems:
        numbers, target = problem.gold["numbers"], problem.gold["target"]
        assert len(numbers) == task.numbers and all(1 <= n <= task.max_number for n in numbers) and 1 <= target <= 100
        found = solve(numbers, target, task.operators)
        assert found is not None and task.solves(problem, f"<answer>{found}</answer>")


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("tagged", [True, False])
def test_ground_truth_solutions_are_correct_and_use_the_operators_asked_for(options, tagged):
    task = countdown(size=60, **options)
    for problem in task.problems("train"):
        working, answer = task.solution(problem)
        *steps, last = working.split("=")
        assert last == str(problem.gold["target"]) and evaluate_expression(steps[-1]) == problem.gold["target"]
        if "/" not in working:  # each step is true: 13+7=20-4=16
            reached = [int(re.match("-?[0-9]+", text)[0]) for text in [*steps[1:], last]]
            assert [evaluate_expression(step) for step in steps] == reached
        assert task.solves(problem, format_response(working, answer, tagged))
        assert set(answer) <= set("0123456789()" + task.operators)


def test_more_problems_than_exist_is_an_error_that_names_the_value():
    with pytest.raises(UserError, match=r"^task\.data\.train_size=5000: only \d+ distinct problems .* raise task\.max_number$"):
        countdown(size=5000, numbers=2, max_number=5).problems("train")
    with pytest.raises(UserError, match=r"^task\.data\.test_size=5000: "):
        countdown(size=5000, numbers=2, max_number=5).problems("test")


def test_a_problem_reads_as_the_prompt_shows_it():
    problem = make_problem([7, 3], 21)
    assert problem.question == "Numbers: [7, 3]\nTarget: 21"
    assert problem.id == "3,7=21"
    assert problem.solution is None and Countdown().solution(problem) == ("7*3=21", "7*3")


def test_solve_searches_everything():
    assert solve([8, 3, 8, 3], 24) is not None  # only 8/(3-8/3)
    assert solve([1, 1, 1], 7) is None
    assert solve([2, 3, 4], 24, "+-") is None
    values = Counter(value for _, value in expressions([1, 2], "+-*/"))
    assert values == Counter({Fraction(3): 1, Fraction(-1): 1, Fraction(1): 1, Fraction(2): 2, Fraction(1, 2): 1})


TASK = Countdown()
PROBLEM = make_problem([3, 7, 9], 19, None)


@pytest.mark.parametrize(
    ("completion", "reward"),
    [
        ("<answer>3+7+9</answer>", 1.0),
        ("<reasoning>\n3+7=10\n10+9=19\n</reasoning>\n<answer>\n(9 + 7) + 3\n</answer>", 1.0),
        ("3+7=10+9=19\n<answer>9+7+3</answer>", 1.0),
        ("<answer>3+7</answer> no: <answer>3+7+9</answer> done", 1.0),  # the last one counts
        ("<answer>3+<answer>3+7+9</answer>", 1.0),
        ("<answer>3+7+9</answer><answer>", 1.0),  # the last complete one
        ("<answer>3+7+9</answer> or <answer>9-7+3</answer>", 0.1),
        ("<answer>9-7+3</answer>", 0.1),  # right numbers, wrong value
        ("<answer>19</answer>", 0.1),  # right value, no numbers used
        ("<answer>3+7+9+9-9</answer>", 0.1),  # a number used again
        ("<answer>9+7+3*9/9</answer>", 0.1),
        ("<answer>10+9</answer>", 0.1),  # a number that is not given
        ("<answer>3+7+9=19</answer>", 1.0),  # the right side is the target
        ("<answer>\\boxed{3 + 7 + 9 = 19}</answer>", 1.0),
        ("<answer>3+7+9=20</answer>", 0.1),
        ("<answer>9-7+3=19</answer>", 0.1),
        ("<answer>19=3+7+9</answer>", 0.1),
        ("<answer>3+7=10+9=19</answer>", 0.1),
        ("<answer>3+7+9=</answer>", 0.1),
        ("<answer>3+7+9=x</answer>", 0.1),
        ("<answer>3 7 9</answer>", 0.1),
        ("<answer>37-9-9</answer>", 0.1),
        ("<answer>three+7+9</answer>", 0.1),
        ("<answer></answer>", 0.1),
        ("<answer>" + "(" * 10_000 + "3+7+9" + ")" * 10_000 + "</answer>", 0.1),
        ("<answer>" + "3+7+9 " * 200_000 + "</answer>", 0.1),
        ("<answer>9**9**9**9</answer>", 0.1),
        ("<answer>3+7+9", 0.0),  # never closed
        ("3+7+9</answer>", 0.0),  # never opened
        ("</answer>3+7+9<answer>", 0.0),
        ("<ANSWER>3+7+9</ANSWER>", 0.0),
        ("<answer>\n\\boxed{3 + 7 + 9}\n</answer>", 1.0),
        ("<answer>\\boxed{\\left(9+7\\right)\\times3\\div3}</answer>", 0.1),
        ("3+7+9", 0.0),
        ("", 0.0),
        ("\0" * 1000, 0.0),
    ],
)
def test_rewards(completion, reward, capfd):
    assert TASK.reward_parts(PROBLEM, completion) == {"answer": reward}
    assert TASK.solves(PROBLEM, completion) is (reward == 1.0)
    assert capfd.readouterr() == ("", "")  # rewards are pure


def test_a_box_without_a_tag_is_graded_and_not_paid():
    assert TASK.reward_parts(PROBLEM, "so \\boxed{3+7+9}") == {"answer": 0.0}
    assert TASK.solves(PROBLEM, "so \\boxed{3+7+9}") and not TASK.solves(PROBLEM, "so \\boxed{3+7+9")


def test_latex_operators():
    problem = make_problem([8, 2, 3], 12, None)
    for answer in (
        "8\\div2\\times3",
        "8÷2×3",
        "$8/2*3$.",
        "\\(8 \\div 2 × 3 = 12\\)",
        "\\left(8\\div 2\\right)\\cdot 3",
        "\\boxed{8 / 2 \\times 3}",
    ):
        assert TASK.solves(problem, f"<answer>{answer}</answer>")
    assert not TASK.solves(problem, "<answer>8\\divide2\\times3</answer>")


def test_a_number_given_twice_is_used_twice():
    problem = make_problem([5, 5, 2], 12, None)
    assert TASK.solves(problem, "<answer>5+5+2</answer>")
    assert not TASK.solves(problem, "<answer>5*2+2</answer>")
    assert not TASK.solves(problem, "<answer>5+5+2+0</answer>")


def test_values_are_exact():
    assert TASK.solves(make_problem([8, 3, 8, 3], 24, None), "<answer>8/(3-8/3)</answer>")  # floats give 23.999999999999989
    assert not TASK.solves(make_problem([999999999, 1, 3], 333333333, None), "<answer>(999999999+1)/3</answer>")


def test_last_answer_is_linear_in_the_text():
    assert last_answer("<answer>" * 200_000) is None
    assert last_answer("<answer>1</answer>" + "<answer>" * 200_000) == "1"
    assert last_answer("<answer>" * 100_000 + "</answer>" * 100_000) == ""
    assert last_answer("<answer>5</answer>" + "</answer>" * 100_000) == "5"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"numbers": 1}, r"^task\.numbers=1: choose 2 to 6"),
        ({"numbers": 7}, r"^task\.numbers=7: choose 2 to 6"),
        ({"max_number": 1}, r"^task\.max_number=1: "),
        ({"max_number": 101}, r"^task\.max_number=101: "),
        ({"operators": ""}, r"^task\.operators='': choose a non-empty part of"),
        ({"operators": "+^"}, r"^task\.operators='\+\^': "),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(UserError, match=message):
        Countdown(**options)
