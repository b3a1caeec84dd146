"""Corrected grading: what a completion answers, and what equals the gold answer."""

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from stp.tasks import Gsm8k, Math, Problem, format_response, verifier
from stp.tasks.answers import read
from stp.tasks.expressions import Node
from stp.tasks.grading import final_answer, last_boxed, number, same_answer, same_number


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        ("<answer>18</answer>", "18"),
        ("<answer>\n18\n</answer>", "18"),
        ("<answer>\\boxed{18}</answer>", "18"),
        ("<answer>it is \\boxed{\\frac{1}{2}} eggs</answer>", "\\frac{1}{2}"),
        ("\\boxed{17} <answer>18</answer> \\boxed{19}", "18"),
        ("<answer>17</answer><answer>18</answer>", "18"),
        ("so \\boxed{17} or \\boxed{18}", "18"),
        ("<answer>\n\\boxed{18}", "18"),  # the box is complete
        ("<answer>\\boxed{18</answer>", "18"),  # the answer is
        ("<answer>\\boxed{}18</answer>", "18"),
        ("<answer>**18**</answer>", "18"),
        ("<answer>18</answer></answer>", "18"),
        ("<answer><answer>18</answer></answer>", "18"),
        ("<answer>17 <answer>18</answer> 19</answer>", "18"),
        ("<answer></answer><answer>18</answer>", "18"),
        ("so \\boxed{18}. Then \\boxed{}", "18"),
        ("so \\boxed{18}. Then \\boxed{ }", "18"),
        ("<answer>\\boxed{18}\\boxed{}</answer>", "18"),
        ("<answer>\\boxed 18</answer>", "18"),
        ("<answer>$\\boxed 18$.</answer>", "18"),
        ("so \\boxed 18.", "18"),
        ("<answer>\\boxed x^2</answer>", "x^2"),
        ("<answer>\\boxed\\frac12</answer>", "\\frac12"),
        ("<answer>\\fbox{18}</answer>", "18"),
        ("<answer>boxed{18}</answer>", "18"),
        ("<answer>boxed{18</answer>", "18"),
        ("<answer>\\boxed{}</answer>", ""),
        ("so boxed{18}", None),
        ("<answer>18", None),
        ("18</answer>", None),
        ("\\boxed{18", None),
        ("18", None),
        ("", None),
    ],
)
def test_final_answer(completion, answer):
    assert final_answer(completion) == answer


def test_boxes_balance_and_skip_escaped_braces():
    assert last_boxed("\\boxed{\\{1, 2\\}}") == "\\{1, 2\\}"
    assert last_boxed("\\boxed{a{b}c} {") == "a{b}c"
    assert last_boxed("\\boxed{1} \\boxed{2") == "1"
    assert last_boxed("\\boxed{\\boxed{5}}") == "5"
    assert last_boxed("} \\boxed {5}") == "5"


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("18", 18),
        ("1,250", 1250),
        ("1{,}250", 1250),
        ("1,\\!250", 1250),
        ("$1,250.00", 1250),
        ("\\$18", 18),
        ("18 eggs", 18),
        ("18\\text{ eggs}", 18),
        ("x = 18", 18),
        ("3 + 15 = 18", 18),
        ("25\\%", 25),
        ("-3", -3),
        ("0.5", 0.5),
        (".5", 0.5),
        ("18.", 18),
        ("1,25", None),  # no thousands
        ("1,2500", None),
        ("3 + 15", None),
        ("17 or 18", None),
        ("\\pm 18", None),
        ("18\\pi", None),
        ("minus 18", None),
        ("x = 17 or x = 18", None),
        ("36/2", 18),
        ("\\frac{36}{2}", 18),
        ("3!", None),
        ("18^2", None),
        ("− 18", -18),
        ("１８", None),
        ("1.8.0", None),
        ("eighteen", None),
        ("", None),
    ],
)
def test_number(answer, value):
    assert number(answer) == value


def test_thousands_separators_on_either_side():
    assert same_number("1250", "1,250") and same_number("1,250", "1250") and not same_number("1,250", "1")


SAME = [
    ("\\frac{1}{2}", "0.5"),
    ("\\frac{3}{24}", "\\frac{1}{8}"),
    ("\\dfrac{1}{2}", "1/2"),
    ("15.975", "\\frac{639}{40}"),
    ("10080", "10,\\!080"),
    ("7! \\times 2!", "10,\\!080"),
    ("\\sqrt{3}/3", "\\frac{\\sqrt{3}}{3}"),
    ("\\frac{1}{\\sqrt{3}}", "\\frac{\\sqrt{3}}{3}"),
    ("7i - 2", "-2 + 7i"),
    ("(b+2)(a+5)", "(a+5)(b+2)"),
    ("3, 7, 5", "3, 5, 7"),
    ("[-2, 7]", "x \\in [-2,7]"),
    ("(3, \\pi/2)", "\\left( 3, \\frac{\\pi}{2} \\right)"),
    ("C", "\\text{(C)}"),
    ("east", "\\text{east}"),
    ("90", "90^\\circ"),
    ("36.00", "\\$36"),
    ("15", "15\\mbox{ cm}^2"),
    ("12 cm", "12"),
    ("15\\,\\mathrm{cm}^2", "15\\mbox{ cm}^2"),
    ("50%", "50"),
    ("90°", "90^\\circ"),
    ("x \\in (2, 4)", "(2,4)"),
    ("4210_5", "4210_{5}"),
    ("$x = 5$", "5"),
    ("\\(5\\)", "5"),
    ("x^2+2x+1", "(x+1)^2"),
]
DIFFERENT = [
    ("\\frac{1}{3}", "\\frac{1}{2}"),
    ("\\frac{1}{2}1", "\\frac{1}{2}"),  # not times 1
    ("\\pi1", "\\pi"),
    ("1\\frac{1}{2}", "\\frac{1}{2}"),  # a mixed number
    ("(\\pi/2, 3)", "(3, \\frac{\\pi}{2})"),
    ("7, 7", "7"),
    ("5 or 5", "5"),
    ("5 or 6", "5"),
    ("52_81", "52_8"),
    ("-(x=5)", "x=5"),
    ("nevely", "\\text{Evelyn}"),  # letters do not commute
    ("-(\\text{east})", "\\text{east}"),
    ("B", "\\text{(C)}"),
    ("15\\mbox{ cm}^3", "15\\mbox{ cm}^2"),
    ("15\\,\\mathrm{cm}^3", "15\\mbox{ cm}^2"),
    ("(0, 1]", "(0,1)"),
    ("0, 1", "(0,1)"),
    ("\\{0, 1\\}", "(0,1)"),
    ("-\\sqrt{2}", "\\sqrt{2}"),
    ("x+2", "x+1"),
    ("", "5"),
    ("{5", "5"),
]


@pytest.mark.parametrize(("answer", "gold"), SAME)
def test_equivalent_latex(answer, gold):
    assert same_answer(answer, gold)


@pytest.mark.parametrize(("answer", "gold"), DIFFERENT)
def test_other_latex(answer, gold):
    assert not same_answer(answer, gold)


def equal(judge, answer, gold):
    return judge.equal(read(answer), read(gold))


def test_the_process_is_asked_from_any_thread():
    """As many answers as questions, none swapped."""
    questions = [(f"x^2+{i}x+{i}", f"{i}+{i}x+x^2" if i % 2 else f"{i}+{i}x-x^2") for i in range(2, 22)]
    assert threading.current_thread() is threading.main_thread()
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda pair: same_answer(*pair), questions)) == [i % 2 == 1 for i in range(2, 22)]


def test_a_process_that_dies_is_an_answer_that_is_wrong_and_the_next_is_another():
    judge = verifier.Judge()
    try:
        assert equal(judge, "\\sqrt{8}", "2\\sqrt{2}")
        first = judge.process.pid
        os.kill(first, signal.SIGKILL)
        judge.process.wait()
        assert not equal(judge, "\\sqrt{8}", "2\\sqrt{2}")
        assert equal(judge, "\\sqrt{8}", "2\\sqrt{2}") and judge.process.pid != first
    finally:
        judge.close()


def power(base, exponent):
    return Node("power", (base, exponent))


NINE, X = Node("number", ("9",)), Node("variable", ("x",))
HUGE = {
    "tower": power(NINE, power(NINE, power(NINE, NINE))),
    "tower below": power(power(power(NINE, power(NINE, NINE)), power(NINE, NINE)), X),
    "towers of a sum": power(Node("add", (X, power(NINE, power(NINE, power(NINE, X))))), power(NINE, power(NINE, X))),
    "factorials": power(Node("factorial", (power(NINE, NINE),)), Node("factorial", (power(NINE, power(NINE, NINE)),))),
}


@pytest.mark.parametrize("tree", HUGE)
def test_the_process_bounds_its_own_cpu_time(tree):
    """Past every check in front of it: what the soft bound cannot stop, the kernel does."""
    before = os.times()
    judge = verifier.Judge()
    try:
        assert not judge.equal(HUGE[tree], Node("number", ("5",)))
        assert equal(judge, "\\sqrt{8}", "2\\sqrt{2}")
    finally:
        judge.close()
    after = os.times()  # of this process's children that ended: start-up and question
    assert after.children_user - before.children_user < 3


def test_a_question_cut_short_does_not_answer_the_next():
    judge = verifier.Judge()
    try:
        equal(judge, "x", "y")
        read = judge._line

        def alarm(seconds):
            judge._line = read
            raise KeyboardInterrupt

        judge._line = alarm
        with pytest.raises(KeyboardInterrupt):
            equal(judge, "\\sqrt{8}", "2\\sqrt{2}")
        assert not equal(judge, "\\sqrt{8}", "3\\sqrt{2}")
        assert equal(judge, "\\sqrt{18}", "3\\sqrt{2}")
    finally:
        judge.close()


def test_a_forked_process_starts_its_own():
    """Also while a thread of the parent asks: the lock that it holds is not inherited."""
    equal(verifier, "x", "y")
    with verifier._JUDGE.lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if verifier._JUDGE.lock.acquire(timeout=5) and verifier._JUDGE.process is None else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert equal(verifier, "\\sqrt{8}", "2\\sqrt{2}")


def test_what_a_library_prints_is_no_reply(tmp_path, monkeypatch):
    code = "import mpmath, functools\nprint = functools.partial(print, 'noise', flush=True)\n"
    code += "old = mpmath.workdps\nmpmath.workdps = lambda *a, **k: print() or old(*a, **k)\n"
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nif 'comparison.py' in sys.orig_argv[-1]:\n    exec({code!r})\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    judge = verifier.Judge()
    try:
        assert [equal(judge, "\\sqrt{8}", f"{n}\\sqrt{{2}}") for n in (2, 3, 2)] == [True, False, True]
    finally:
        judge.close()


def test_a_process_that_cannot_start_is_an_error(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match=r"mpmath does not start: is it installed\?"):
        verifier.Judge().equal(NINE, NINE)


def test_what_may_never_end_is_not_read():
    texts = ("x^2+2x+1", "2\\cdot3", "\\frac{x^{10}}{3}", "e^{2x}", "5!")
    assert all(read(text) is not None for text in texts)
    texts = ("9^{9^9}", "9^9^9", "{9^{99}}^{99}", "9**9", "x^{9999}", "1000!", "5!!", "\\sum_i i")
    assert [text for text in texts if read(text) is not None] == []


def gsm8k(completion, gold="18"):
    return Gsm8k().reward_parts(Problem("p", "?", gold), completion)


def test_gsm8k_rewards():
    full = {"correct": 2.0, "integer": 0.5, "strict": 0.5, "soft": 0.5, "tags": 0.5}
    assert gsm8k(format_response("six\nand twelve\n\nmake", "18", True)) == full  # several lines
    assert gsm8k(format_response("six", "1,250", True), "1250") == full
    assert gsm8k(format_response("six", "\\boxed{18}", True)) == full
    assert gsm8k(format_response("six", "18", True) + "\n") == full
    assert gsm8k(format_response("six", "17", True)) == full | {"correct": 0.0}
    assert gsm8k(format_response("six", "17 or 18", True)) == full | {"correct": 0.0, "integer": 0.0}
    assert gsm8k(format_response("six", "18", True) + " so " + "x" * 57) == full | {"strict": 0.0, "tags": pytest.approx(0.44)}
    assert gsm8k(format_response("six", "18", True) + "x" * 900)["tags"] == 0.0  # the cost has a floor
    assert gsm8k(format_response("6+12=18", "18", False)) == full | {"strict": 0.0, "soft": 0.0, "tags": 0.25}
    assert sum(gsm8k("").values()) == sum(gsm8k("18").values()) == 0.0


@pytest.mark.parametrize(
    ("completion", "correct", "format"),
    [
        ("<answer>\\boxed{1/2}</answer>", 2.0, 0.75),
        ("<answer>0.5</answer>", 2.0, 0.5),
        ("\\boxed{\\frac{2}{4}}", 2.0, 0.25),
        ("\\boxed{1/2} <answer>1/3</answer>", 0.0, 0.5),
        ("1/2", 0.0, 0.0),
        ("<answer>1/2", 0.0, 0.0),
    ],
)
def test_math_rewards(completion, correct, format):
    assert Math().reward_parts(Problem("p", "?", "\\frac{1}{2}"), completion) == {"correct": correct, "format": format}
