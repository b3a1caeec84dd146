"""Countdown: combine the given numbers, each used once, into an expression that equals the target."""

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from stp.errors import UserError, fail, require
from stp.tasks import published
from stp.tasks.base import FORMAT_INSTRUCTION, PUBLISHED_FORM, Hub, Problem, Task, flooded, format_response, last_answer
from stp.tasks.grading import final_answer, unboxed
from stp.tasks.latex import symbols, undelimited

MAX_EXPRESSION_CHARS = 256
MAX_DEPTH = 32
MAX_DIGITS = 9

_TOKEN = re.compile(r"[0-9]+|[-+*/()]")
_LATEX = re.compile(r"\\(?:times|cdot|div|left|right)(?![a-zA-Z])")
_PLAIN = {"\\times": "*", "\\cdot": "*", "\\div": "/"}


@dataclass
class Countdown(Task):
    """The Countdown task (Pan et al., 2025): generator, hub and file sources, and an exact verifier."""

    numbers: int = field(
        default=3,
        metadata={"help": "numbers per problem: what the generator makes, and which rows of a file or the hub are kept"},
    )
    max_number: int = field(default=16, metadata={"help": "largest number the generator draws"})
    operators: str = field(default="+-", metadata={"help": "operators the generator uses, a part of +-*/"})

    wording = (
        "Use the given numbers, each exactly once, with + - * / and parentheses to write an expression that equals "
        "the target. " + FORMAT_INSTRUCTION
    )
    published_wording = (
        "Make an arithmetic expression of the given numbers that equals the target exactly. Each number is used once, with "
        "+, -, * and / as you like. Think in steps. Then write only the expression, without equals sign and target, "
        "into \\boxed{}, like this: \\boxed{a + b * c}" + PUBLISHED_FORM.format("\\boxed{...}")
    )
    hub = Hub("Jiayi-Pan/Countdown-Tasks-3to4", held_out=500)  # the published split leaves the last 500 shuffled rows out
    phrases = ("Numbers: [", ", ", "]\nTarget: ")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(2 <= self.numbers <= 6, "task.numbers", self.numbers, "choose 2 to 6 numbers per problem")
        require(2 <= self.max_number <= 100, "task.max_number", self.max_number, "choose a largest number in 2..100")
        require(
            bool(self.operators) and set(self.operators) <= set("+-*/"),
            "task.operators",
            repr(self.operators),
            "choose a non-empty part of +-*/",
        )

    def solution(self, problem: Problem) -> tuple[str, str] | None:
        """Returns the working and expression from which the problem was made, or else finds one by search (up to 4 numbers)."""
        numbers, target = problem.gold["numbers"], problem.gold["target"]
        if problem.solution is not None or len(numbers) > 4:
            return problem.solution
        expression = solve(numbers, target)
        return None if expression is None else (f"{expression}={target}", expression)

    def reward_parts(self, problem: Problem, completion: str) -> dict[str, float]:
        """Pays the published values, but verifies exactly: 1.0 for a right answer, 0.1 for a wrong one, 0 for no `<answer>`."""
        if self.rewards == "published":
            return published.countdown_rewards(completion, **problem.gold)
        answer = last_answer(completion)
        if answer is None:
            return {"answer": 0.0}
        return {"answer": 1.0 if _solves(problem, answer) and not flooded(completion) else 0.1}

    def grade(self, problem: Problem, completion: str, grading: str) -> bool:
        """Says whether the final answer uses each number once and equals the target exactly."""
        if grading == "published":
            return published.countdown_correct(completion, **problem.gold)
        answer = final_answer(completion)
        return answer is not None and _solves(problem, answer)

    def row(self, row: dict[str, Any], where: str) -> Problem:
        return make_problem(*_from_row(row, where))

    def graded_row(self, row: dict[str, Any], where: str) -> Problem:
        gold = row["ground_truth"]
        if isinstance(gold, list | tuple) and len(gold) == 2:
            gold = dict(zip(("numbers", "target"), gold, strict=True))
        try:
            return make_problem(_numbers(gold["numbers"]), _whole(gold["target"]))  # type: ignore[index]
        except (KeyError, TypeError, ValueError, OverflowError):
            fail(where, repr(gold)[:200], "expected as ground_truth the numbers and the target, [[3, 4, 5], 12]")

    def draw(self, rng: random.Random) -> Problem | None:
        numbers = [rng.randint(1, self.max_number) for _ in range(self.numbers)]
        expression, working, value = _random_expression(numbers, self.operators, rng)
        return None if value is None or not 1 <= value <= 100 else make_problem(numbers, int(value), (working, expression))

    def example(self, problem: Problem, style: str, rng: random.Random, lines: int | None = None) -> str:
        """Makes a response of tries, each a line of working: `lines` of them, or by chance one to four.

        careful: the last try hits the target. guess: any expression, without a try. careless: all tries miss, and the last one
        is the answer. Where a problem has too few different misses for `lines`, they come again.
        """
        target = problem.gold["target"]
        tries = attempts(problem.gold["numbers"], rng)
        if style == "guess":
            return format_response("", tries[0][0], False).lstrip()
        misses = [t for t in tries if t[2] != target] or tries
        if lines is not None:
            shown = list(itertools.islice(itertools.cycle(misses), lines))
            if style == "careful":
                shown[-1] = next(t for t in tries if t[2] == target)
        elif style == "careful":
            hit = next(i for i, (_, _, value) in enumerate(tries) if value == target)
            shown = tries[: hit + 1]
        else:
            shown = misses[: rng.randint(1, 3)]
        return format_response("\n".join(working for _, working, _ in shown), shown[-1][0], False)

    def keeps(self, row: dict[str, Any]) -> bool:
        try:
            numbers, _ = _from_row(row, "")
        except UserError:
            return True
        return len(numbers) == self.numbers

    @property
    def kept(self) -> str:
        return f"task.numbers={self.numbers}"

    def more(self) -> str:
        return (
            f"there are few with numbers up to {self.max_number} and operators {self.operators!r}: "
            "ask for fewer, or raise task.max_number"
        )


def _from_row(row: dict[str, Any], where: str) -> tuple[list[int], int]:
    """Reads numbers and target from the columns nums and target (hub), or input and output (the published test file)."""
    try:
        if "nums" in row:
            numbers, target = _numbers(row["nums"]), _whole(row["target"])
        else:
            numbers, target = [_whole(n) for n in str(row["input"]).split(",")], _whole(row["output"])
        if len(numbers) < 2:
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError):
        fail(
            where,
            repr(row)[:200],
            "expected integer columns nums (a list of 2 or more) and target, or input ('3,4,5') and output",
        )
    return numbers, target


def _numbers(values: Any) -> list[int]:
    """Returns the numbers of a list. Raises ValueError for anything else, also for text, whose digits would pass as a list."""
    if not isinstance(values, list | tuple):
        raise ValueError
    return [_whole(value) for value in values]


def _whole(value: Any) -> int:
    """Returns a whole number of at most 9 digits, given as a number or as text. Raises ValueError otherwise."""
    if isinstance(value, bool):
        raise ValueError
    number = int(value)
    if number != float(value) or not 0 <= number < 10**MAX_DIGITS:
        raise ValueError
    return number


def make_problem(numbers: Sequence[int], target: int, solution: tuple[str, str] | None = None) -> Problem:
    """Makes a problem, with its (working, expression) solution if there is one."""
    return Problem(
        id=problem_key(numbers, target),
        question=f"Numbers: [{', '.join(map(str, numbers))}]\nTarget: {target}",
        gold={"numbers": list(numbers), "target": target},
        solution=solution,
    )


def problem_key(numbers: Sequence[int], target: Fraction | int | None) -> str:
    """Returns the problem's id, `3,7,9=21` with the numbers sorted. Train and test never share one."""
    return f"{','.join(map(str, sorted(numbers)))}={target}"


def _solves(problem: Problem, answer: str) -> bool:
    """Says whether the answer solves the problem. It may stand in `\\boxed{}`, use LaTeX's operators and end in `= target`."""
    if len(answer) > 2 * MAX_EXPRESSION_CHARS:
        return False
    answer = _LATEX.sub(lambda match: _PLAIN.get(match.group(), ""), undelimited(symbols(unboxed(answer))))
    if len(answer) > MAX_EXPRESSION_CHARS:
        return False
    answer = re.sub(rf"=\s*{problem.gold['target']}\s*\Z", "", answer)
    used = sorted(int(n) for n in re.findall(r"[0-9]{1,9}", answer))
    return used == sorted(problem.gold["numbers"]) and evaluate_expression(answer) == problem.gold["target"]


def evaluate_expression(text: str) -> Fraction | None:
    """Returns the exact value of an expression of ASCII integers, + - * / and parentheses. None for anything else.

    It never raises and never calls `eval`. It parses a grammar of its own (sum, product, signed factor), bounded to
    256 characters, 32 nested levels and 9-digit numbers. Division by zero gives None.
    """
    if len(text) > MAX_EXPRESSION_CHARS:
        return None
    tokens = _TOKEN.findall(text)
    if "".join(tokens) != re.sub(r"[ \t\r\n]+", "", text):
        return None
    try:
        value, end = _sum(tokens, 0, 0)
    except (_ExpressionError, ZeroDivisionError):
        return None
    return value if end == len(tokens) else None


class _ExpressionError(Exception):
    pass


def _sum(tokens: list[str], i: int, depth: int) -> tuple[Fraction, int]:
    value, i = _product(tokens, i, depth)
    while i < len(tokens) and tokens[i] in "+-":
        right, end = _product(tokens, i + 1, depth)
        value = value + right if tokens[i] == "+" else value - right
        i = end
    return value, i


def _product(tokens: list[str], i: int, depth: int) -> tuple[Fraction, int]:
    value, i = _factor(tokens, i, depth)
    while i < len(tokens) and tokens[i] in "*/":
        right, end = _factor(tokens, i + 1, depth)
        value = value * right if tokens[i] == "*" else value / right
        i = end
    return value, i


def _factor(tokens: list[str], i: int, depth: int) -> tuple[Fraction, int]:
    if i >= len(tokens) or depth > MAX_DEPTH:
        raise _ExpressionError
    token = tokens[i]
    if token in "+-":
        value, end = _factor(tokens, i + 1, depth + 1)
        return (value if token == "+" else -value), end
    if token == "(":
        value, end = _sum(tokens, i + 1, depth + 1)
        if end >= len(tokens) or tokens[end] != ")":
            raise _ExpressionError
        return value, end + 1
    if not token.isdigit() or len(token) > MAX_DIGITS:
        raise _ExpressionError
    return Fraction(int(token)), i + 1


def expressions(numbers: Sequence[int], operators: str = "+-*/") -> Iterator[tuple[str, Fraction]]:
    """Yields every (expression, exact value) that uses each number once, fully parenthesised below the top level."""
    items = [(str(n), Fraction(n)) for n in numbers]
    yield from _combine(items, operators)


def _combine(items: list[tuple[str, Fraction]], operators: str) -> Iterator[tuple[str, Fraction]]:
    if len(items) == 1:
        yield items[0]
        return
    for i in range(len(items)):
        for j in range(len(items)):
            if i == j:
                continue
            rest = [items[k] for k in range(len(items)) if k not in (i, j)]
            for op in operators:
                if (op in "+*" and i > j) or (op == "/" and items[j][1] == 0):
                    continue
                text, value = _apply(op, items[i], items[j])
                yield from _combine([(f"({text})" if rest else text, value), *rest], operators)


def _apply(op: str, left: tuple[str, Fraction], right: tuple[str, Fraction]) -> tuple[str, Fraction]:
    a, b = left[1], right[1]
    value = a + b if op == "+" else a - b if op == "-" else a * b if op == "*" else a / b
    return f"{left[0]}{op}{right[0]}", value


def solve(numbers: Sequence[int], target: int, operators: str = "+-*/") -> str | None:
    """Searches all expressions for one that uses each number once and equals the target. Returns None if there is none."""
    return next((text for text, value in expressions(numbers, operators) if value == target), None)


def _random_expression(numbers: Sequence[int], operators: str, rng: random.Random) -> tuple[str, str, Fraction | None]:
    """Combines the numbers from left to right in random order. Returns (expression, working, value).

    The value is None if it is not whole. The working shows the value after every number: `13+7=20-4=16`.
    """
    order = list(numbers)
    rng.shuffle(order)
    text = working = str(order[0])
    value = Fraction(order[0])
    loose = False  # whether the text so far is a sum, which needs parentheses before * and /
    for number in order[1:]:
        op = rng.choice(operators)
        if op in "*/" and loose:
            text = f"({text})"
        loose = op in "+-"
        text, value = _apply(op, (text, value), (str(number), Fraction(number)))
        working += f"{op}{number}={value}"
    return text, working, value if value.denominator == 1 else None


def attempts(numbers: Sequence[int], rng: random.Random) -> list[tuple[str, str, int]]:
    """Adds or subtracts all the numbers in every way. Returns (expression, working, value) for each value >= 0, shuffled.

    Added numbers stand before subtracted ones. The working shows the value after every number: `13+7=20-4=16`.
    """
    found = {}
    for signs in itertools.product((1, -1), repeat=len(numbers)):
        terms = sorted(zip(signs, numbers, strict=True), key=lambda term: -term[0])
        value = sum(sign * number for sign, number in terms)
        if value < 0 or value in found:
            continue
        texts = [f"{'+' if sign == 1 else '-'}{number}" for sign, number in terms]
        sums = itertools.accumulate(sign * number for sign, number in terms)
        steps = "".join(f"{text}={total}" for text, total in list(zip(texts, sums, strict=True))[1:])
        found[value] = ("".join(texts)[1:], f"{texts[0][1:]}{steps}", value)
    shuffled = list(found.values())
    rng.shuffle(shuffled)
    return shuffled
