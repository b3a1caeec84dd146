"""Completions made to hang, break or fool a grader: bounded work, never correct, never an error."""

import os
import time

import pytest

from stp.tasks import Countdown, Gsm8k, Math, Problem, comparison, verifier
from stp.tasks.expressions import Node

GOLD = {Gsm8k: "5", Math: "x+5", Countdown: {"numbers": [9, 9, 9], "target": 5}}
MEGABYTE = 1_000_000
X = Node("variable", ("x",))

BODIES = {
    "nested braces": "{" * 10_000 + "5" + "}" * 10_000,
    "nested boxes": "\\boxed{" * 10_000 + "5" + "}" * 10_000,
    "nested roots": "\\sqrt{" * 10_000 + "5" + "}" * 10_000,
    "nested parentheses": "(" * 10_000 + "5" + ")" * 10_000,
    "open braces": "{" * MEGABYTE,
    "open boxes": "\\boxed{" * 150_000,
    "open boxes with numbers": "\\boxed{5" * 150_000,
    "boxes with a space": "\\boxed " * 150_000,
    "tower": "9**9**9",
    "latex tower": "9^{9^{9^{9}}}",
    "power of a power": "((9^{99})^{99})^{99}",
    "published trap": "44**19**35",
    "factorials": "(((9!)!)!)!",
    "binomial": "\\binom{10^9}{10^8}",
    "expansion": "(x+y+z+w)^{99}(x-y)^{99}",
    "megabyte of a digit": "7" * MEGABYTE,
    "megabyte of numbers": "7 " * (MEGABYTE // 2),
    "megabyte of signs": "-" * MEGABYTE,
    "megabyte of equals": "1=" * (MEGABYTE // 2),
    "megabyte of space": " " * MEGABYTE,
    "megabyte of fractions": "\\frac" * 200_000,
    "megabyte of reasoning": "<reasoning>" + "</reasoning> " * 80_000,
    "pairs of tags": "<reasoning></reasoning><answer>" * 30_000,
    "open answers": "<answer>" * 125_000,
    "closed answers": "</answer>" * 110_000,
    "NUL": "5\0",
    "NULs": "\0" * 10_000,
    "full-width digits": "５",
    "Arabic digits": "٥",
    "superscript": "⁵",
    "surrogate": "\ud800",
    "escape": "\x1b[31m5",
    "scientific": "5e999999999",
    "infinity": "inf",
    "not a number": "nan",
    "code": "__import__('os').system('true')",
}
FRAMES = ["{}", "<answer>{}</answer>", "<answer>{}", "\\boxed{{{}}}", "\\boxed{{{}", "<answer>\\boxed{{{}}}</answer>"]


@pytest.fixture(scope="module", autouse=True)
def started():
    """The process that compares is up before anything is timed."""
    verifier.equal(X, X)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("option", GOLD)
def test_corrected_rules_are_not_fooled(option, body, capfd):
    task, problem = option(), Problem("p", "?", GOLD[option])
    for frame in FRAMES:
        completion = frame.replace("{}", BODIES[body], 1) if frame == "{}" else frame.format(BODIES[body])
        before, own = time.perf_counter(), time.process_time()
        assert task.solves(problem, completion) is False
        parts = task.reward_parts(problem, completion)
        assert max(parts.values()) < 1.0 and sum(parts.values()) == sum(parts.values())
        spent = min(
            time.perf_counter() - before, time.process_time() - own + 2 * comparison.HARD
        )  # its own and the process's CPU
        assert spent < 2 * comparison.HARD + 1
    assert capfd.readouterr() == ("", "")


FOOLED = {"tower", "latex tower", "published trap", "power of a power", "factorials", "scientific", "escape"}  # it reads a part


@pytest.mark.parametrize("body", [body for body in BODIES if body not in FOOLED])
@pytest.mark.parametrize("option", GOLD)
def test_published_rules_stay_bounded_too(option, body):
    task, problem = option(rewards="published", grading="published"), Problem("p", "?", GOLD[option])
    for frame in FRAMES:
        completion = frame.replace("{}", BODIES[body], 1) if frame == "{}" else frame.format(BODIES[body])
        own = time.process_time()
        assert task.solves(problem, completion) is False
        assert task.reward_parts(problem, completion).get("correct", 0.0) == 0.0
        assert time.process_time() - own < 1


@pytest.mark.parametrize("option", [Gsm8k, Math])
def test_a_flood_around_a_right_answer_is_wrong(option):
    right = "<answer>\\boxed{5}</answer>"
    for grading in ("published", "corrected"):
        task, problem = option(rewards=grading, grading=grading), Problem("p", "?", "5")
        assert task.solves(problem, right)
        for flood in (right + "\0", "<answer>" * 2_000 + right, "{" * 2_000 + right, " " * 60_000 + right):
            assert not task.solves(problem, flood) and task.reward_parts(problem, flood)["correct"] == 0.0


@pytest.mark.parametrize("option", [Gsm8k, Math])
def test_512_tokens_that_repeat_themselves_are_no_flood(option):
    """The published grader counts them, so a stored set's known count does."""
    for tail in ("<answer>" * 170, "((" * 250, "\n</reasoning>\n<answer>" * 100):
        assert option(grading="published").solves(Problem("p", "?", "5"), "<answer>\\boxed{5}</answer>" + tail)


@pytest.mark.parametrize(
    "answer", ["9^{9^{9}}", "x^{9999}", "9**9", "1" * 50, "{" * 13 + "5" + "}" * 13, "5\x01", "٥+x", "x" * 500]
)
def test_what_is_refused_before_it_is_parsed(answer, monkeypatch):
    """The work is counted: the process is not asked at all."""
    monkeypatch.setattr(verifier, "equal", lambda *pair: pytest.fail(f"asked about {pair}"))
    assert not Math().solves(Problem("p", "?", "x+5"), f"<answer>{answer}</answer>")


def test_the_process_is_not_left_behind():
    judge = verifier.Judge()
    judge.equal(X, X)
    pid = judge.process.pid
    judge.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
