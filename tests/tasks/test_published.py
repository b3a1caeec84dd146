"""What the public code pays and counts, value by value, quirks included."""

import json

import pytest

from stp.tasks import Countdown, Gsm8k, Math, Problem, format_response
from stp.tasks.base import Data
from stp.tasks.published import equivalent, normalised, python_value
from tests.tasks import shared

WELL_FORMED = "<reasoning>\nsix and twelve\n</reasoning>\n<answer>\n18\n</answer>\n"


def problem(gold):
    return Problem("p", "?", gold)


def gsm8k(completion, gold="18"):
    return Gsm8k(rewards="published").reward_parts(problem(gold), completion)


@pytest.mark.parametrize(
    ("completion", "parts"),
    [  # correct, integer, strict, soft, tags
        (WELL_FORMED, (2, 0.5, 0.5, 0, 0.5)),  # the soft format stops at a line break
        (WELL_FORMED.replace("18", "17"), (0, 0.5, 0.5, 0, 0.5)),
        (WELL_FORMED.replace("six and", "six\nand"), (2, 0.5, 0, 0, 0.5)),  # several lines of reasoning
        (WELL_FORMED.replace("18", "18.0"), (0, 0, 0.5, 0, 0.5)),  # a string
        (WELL_FORMED.replace("18", "\\boxed{18}"), (0, 0, 0.5, 0, 0.5)),
        ("<reasoning>6+12</reasoning> <answer>18</answer>", (2, 0.5, 0, 0.5, 0)),
        ("<reasoning>6+12</reasoning> <answer>18</answer> and more", (2, 0.5, 0, 0.5, 0)),
        ("<reasoning>6\n12</reasoning> <answer>18</answer>", (2, 0.5, 0, 0, 0)),
        ("so <reasoning>6+12</reasoning> <answer>18</answer>", (2, 0.5, 0, 0, 0)),
        ("18", (2, 0.5, 0, 0, 0)),  # no tag is needed
        ("<answer> 18", (2, 0.5, 0, 0, 0)),  # nor a closing one
        ("<answer>17</answer><answer>18</answer>", (2, 0.5, 0, 0, 0)),  # the last
        ("", (0, 0, 0, 0, 0)),
    ],
)
def test_gsm8k_rewards(completion, parts):
    names = ("correct", "integer", "strict", "soft", "tags")
    assert gsm8k(completion) == pytest.approx(dict(zip(names, parts, strict=True)))


def test_each_tag_counts_on_a_line_of_its_own_and_what_follows_costs():
    assert gsm8k(WELL_FORMED + "1234567890")["tags"] == pytest.approx(0.5 - 2 * 0.010)
    assert gsm8k(WELL_FORMED + "x" * 1000)["tags"] == pytest.approx(0.5 - 2 * 1.0)  # no floor
    assert gsm8k(WELL_FORMED[:-1])["tags"] == pytest.approx(0.5 - 0.001 * len(WELL_FORMED[:-1]) + 0.001)
    assert gsm8k("<reasoning>\nx")["tags"] == 0.125
    assert gsm8k("<reasoning>\nx\n</reasoning>\n")["tags"] == 0.25
    assert gsm8k("<reasoning>\n<reasoning>\nx")["tags"] == 0.0  # twice is not once


def test_gsm8k_compares_strings_thousands_separators_included():
    assert gsm8k("<answer>1,250</answer>", "1,250")["correct"] == 2.0
    assert gsm8k("<answer>1,250</answer>", "1,250")["integer"] == 0.0
    assert gsm8k("<answer>1250</answer>", "1,250")["correct"] == 0.0


@pytest.mark.parametrize(
    ("completion", "correct", "format"),
    [
        ("<answer>\\boxed{\\frac12}</answer>", 2.0, 0.75),
        ("\\boxed{\\frac{1}{2}}", 2.0, 0.25),
        ("<answer>\\frac{1}{2}</answer>", 0.0, 0.75),  # no box
        ("\\frac{1}{2}", 2.0, 0.25),  # the whole text
        ("\\boxed{3} then \\boxed{0.5}", 2.0, 0.25),  # the last
        ("\\boxed{\\dfrac{1}{2}", 0.0, 0.25),  # not closed
        ("<answer>\\boxed{2}", 0.0, 0.75),  # opened is enough
        ("\\boxed{\\frac{2}{4}}", 0.0, 0.25),  # strings
        ("<answer>\boxed{1/2}</answer>", 0.0, 0.75),
        ("", 0.0, 0.25),
    ],
)
def test_math_rewards(completion, correct, format):
    assert Math(rewards="published").reward_parts(problem("\\frac{1}{2}"), completion) == {"correct": correct, "format": format}


@pytest.mark.parametrize(
    ("completion", "reward"),
    [
        ("<answer>3+7+9</answer>", 1.0),
        ("<answer>9+7-3</answer>", 0.1),
        ("<answer>19</answer>", 0.1),
        ("<answer>3+<answer>3+7+9</answer>", 0.1),  # paired from the left
        ("<answer>03+7+9</answer>", 0.1),  # Python takes no leading zero
        ("<answer>\\boxed{3+7+9}</answer>", 0.1),
        ("<answer>3**9**7</answer>", 0.1),
        ("3+7+9", 0.0),
        ("<answer>3+7+9", 0.0),
    ],
)
def test_countdown_rewards(completion, reward):
    gold = {"numbers": [3, 7, 9], "target": 19}
    assert Countdown(rewards="published").reward_parts(problem(gold), completion) == {"answer": reward}


def test_countdown_takes_powers_and_whole_division():
    task = Countdown(rewards="published")
    assert task.reward_parts(problem({"numbers": [2, 3, 1], "target": 9}), "<answer>2**3+1</answer>") == {"answer": 1.0}
    assert task.reward_parts(problem({"numbers": [7, 2, 1], "target": 4}), "<answer>7//2+1</answer>") == {"answer": 1.0}
    assert not Countdown().solves(problem({"numbers": [2, 3, 1], "target": 9}), "<answer>2**3+1</answer>")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1+2*3", 7),
        ("-2**2", -4),
        ("2**-1", 0.5),
        ("7//2", 3),
        (".5+1.", 1.5),
        ("44**19**35", None),
        ("9**9**9", None),
        ("(-8)**.5", None),
        ("0**-1", None),
        ("1/0", None),
        ("3(7)", None),
        ("07", None),
        ("()", None),
        ("(" * 120 + "1" + ")" * 120, 1),
        ("(" * 255, None),
        ("-" * 255 + "1", -1),
        ("٣", None),
        ("1\0", None),
        ("1" * 257, None),
    ],
)
def test_python_value(text, value):
    assert python_value(text) == value


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("\\dfrac12", "\\frac{1}{2}"),
        ("\\tfrac{1}2", "\\frac{1}2"),
        ("\\frac1{72}", "\\frac{1}{72}"),
        ("0.5", "\\frac{1}{2}"),
        (".5", "\\frac{1}{2}"),
        ("3/4", "\\frac{3}{4}"),
        ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3,\\frac{\\pi}{2})"),
        ("x = 5", "5"),
        ("abc = 5", "abc=5"),
        ("90^\\circ", "90"),
        ("90^{\\circ}", "90"),
        ("\\$36", "36"),
        ("50\\%", "50"),
        ("10\\text{ cm}", "10"),
        ("\\sqrt3", "\\sqrt{3}"),
        ("10,\\!080", "10,080"),
        ("1\n2", "12"),
        ("", ""),
    ],
)
def test_normalised(text, form):
    assert normalised(text) == form


def test_what_cannot_be_normalised_is_compared_as_it_is():
    for text in ("x/2", "\\sqrt", "\\frac", "\\text{ a}\\text{ b}"):
        assert equivalent(text, text) and not equivalent(text, text + " ")


@pytest.mark.parametrize(
    ("completion", "gold", "correct"),
    [
        ("\\boxed{18}", "18", True),
        ("\\boxed{...} \\boxed{18 eggs} \\boxed{19}", "18", True),  # the first that holds a number
        ("\\boxed{1,250}", "1,250", False),  # 1
        ("\\boxed{1,250}", "1", True),
        ("\\boxed{1250.0}", "1,250", True),
        ("<answer>3 + 15 = 18</answer>", "18", True),  # its last number
        ("<answer>18</answer><answer>19</answer>", "18", True),  # the first answer
        ("\\boxed{a\nb 18}", "18", False),
        ("<answer>18", "18", False),
        ("18", "18", False),
        ("-3", "-3", False),
    ],
)
def test_gsm8k_grading(completion, gold, correct):
    assert Gsm8k(grading="published").solves(problem(gold), completion) is correct


@pytest.mark.parametrize(
    ("completion", "correct"),
    [
        ("\\boxed{\\dfrac{1}{2}}", True),
        ("\\boxed{1/2} \\boxed{1/3}", False),
        ("<answer>\\frac{1}{2}</answer>", False),  # no box: the whole text is compared
        ("\\boxed{} <answer>1/2</answer>", True),  # an empty box, and one that is not closed, give way
        ("\\boxed{3 <answer>1/2</answer>", True),
        ("\\fbox{1/2}", False),  # compared with its command
        ("$\\boxed 1/2$", True),
    ],
)
def test_math_grading(completion, correct):
    assert Math(grading="published").solves(problem("\\frac{1}{2}"), completion) is correct


@pytest.mark.parametrize(
    ("completion", "correct"),
    [
        ("\\boxed{3 + 7 + 9}", True),
        ("\\boxed{3 + 7 + 9 = 19}", True),  # the left side
        ("3+7+9=19", True),  # the whole text
        ("x 3+7+9=19 y", True),
        ("<answer>3+7+9</answer>", False),  # of which the tags are part
        ("\\boxed{3 <answer>3+7+9</answer>", True),
        ("\\boxed{3\\times7-9}", False),
    ],
)
def test_countdown_grading(completion, correct):
    gold = {"numbers": [3, 7, 9], "target": 19}
    assert Countdown(grading="published").solves(problem(gold), completion) is correct


@pytest.mark.parametrize(
    ("task", "file", "rows", "published", "corrected"),
    [
        (Gsm8k(), "gsm8k_llada8b_128", 1130, 783, 786),
        (Math(), "math500_llada8b_256", 500, 162, 179),
        (Countdown(), "countdown_llada8b_256", 256, 50, 49),
    ],
)
def test_the_known_counts_of_stored_completions(task, file, rows, published, corrected):
    from stp.evaluation.stored import regrade

    lines = shared(f"data/completions/{file}.jsonl").read_text().splitlines()
    records = regrade(task, [(f"row {i}", json.loads(line)) for i, line in enumerate(lines, 1)], {})
    assert len(records) == rows
    assert sum(record["grades"]["published"] for record in records) == published
    assert sum(record["grades"]["corrected"] for record in records) == corrected
    assert sum(not record["graded"] for record in records) == (2 if file.startswith("gsm8k") else 0)


@pytest.mark.parametrize("rewards", ["published", "corrected"])
@pytest.mark.parametrize(("option", "file", "rows"), [(Gsm8k, "gsm8k/test.jsonl", 1319), (Math, "math500/test.jsonl", 500)])
def test_gold_answers_are_right_and_wrong_ones_are_not(option, file, rows, rewards):
    task = option(data=Data(path=str(shared(f"data/{file}"))), rewards=rewards)
    problems = task.problems("all")
    assert len({p.id for p in problems}) == len(problems) == rows
    for one in problems:
        reasoning, answer = task.solution(one)
        assert "<<" not in reasoning
        for tagged in (True, False):
            text = format_response(reasoning, answer, tagged)
            assert task.reward_parts(one, text)["correct"] == 2.0 and task.solves(one, text), one.gold
        wrong = (
            f"7{one.gold}" if "\\text{ " in one.gold else f"{one.gold}7"
        )  # published normalisation drops what follows a unit
        other = answer.replace(one.gold, wrong)
        text = format_response("no", other, True)
        assert task.reward_parts(one, text)["correct"] == 0.0 and not task.solves(one, text), other
