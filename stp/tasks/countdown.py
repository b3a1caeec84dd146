"""Countdown: combine the given numbers, each used once, into an expression that equals the target."""

import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from stp.errors import fail, require
from stp.tasks.base import FORMAT_INSTRUCTION, Data, Problem, last_answer

MAX_EXPRESSION_CHARS = 256
MAX_DEPTH = 32
MAX_DIGITS = 9
GENERATED = 512  # problems of a split, unless its size is set
HELD_OUT = {0: "validation", 1: "test"}  # fifths of all pairs that are kept from training
HUB_HELD_OUT = 500  # the published split leaves the last 500 shuffled rows out of training

_TOKEN = re.compile(r"[0-9]+|[-+*/()]")


@dataclass
class Countdown:
    """The Countdown task (Pan et al., 2025): generator, hub and file sources, verifier and published rewards."""

    data: Data = field(default_factory=Data)
    numbers: int = field(default=3, metadata={"help": "numbers per problem (generator), or rows to keep (hub)"})
    max_number: int = field(default=16, metadata={"help": "largest number the generator draws"})
    operators: str = field(default="+-", metadata={"help": "operators the generator uses, a part of +-*/"})

    def __post_init__(self) -> None:
        require(2 <= self.numbers <= 6, "task.numbers", self.numbers, "choose 2 to 6 numbers per problem")
        require(2 <= self.max_number <= 100, "task.max_number", self.max_number, "choose a largest number in 2..100")
        require(
            bool(self.operators) and set(self.operators) <= set("+-*/"),
            "task.operators",
            repr(self.operators),
            "choose a non-empty part of +-*/",
        )

    instruction = (
        "Use the given numbers, each exactly once, with + - * / and parentheses to write an expression that equals "
        "the target. " + FORMAT_INSTRUCTION
    )

    def problems(self, split: str) -> list[Problem]:
        """Problems of a split. Generated ones are split by a hash of (sorted numbers, target), whatever the seed."""
        size = self.data.size(split)
        if self.data.source == "generate":
            return self._generate(split, GENERATED if size is None else size)
        rows = self._rows(split)
        if split in ("train", "validation"):  # a problem may stand in several rows
            later = ["validation", "test"] if split == "train" and self.data.keeps_validation else ["test"]
            held = {problem_key(*row) for name in later for row in self._rows(name)}
            rows = [row for row in rows if problem_key(*row) not in held]
            rule = f"every {split} problem is also held out; give other files"
            require(bool(rows), "task.data.path", self.data.path or self.data.hub, rule)
        return [make_problem(numbers, target) for numbers, target in rows[:size]]

    def solution(self, problem: Problem) -> tuple[str, str] | None:
        """The working and the expression the problem was made from, or else found by search (up to 4 numbers)."""
        numbers, target = problem.gold["numbers"], problem.gold["target"]
        if problem.solution is not None or len(numbers) > 4:
            return problem.solution
        expression = solve(numbers, target)
        return None if expression is None else (f"{expression}={target}", expression)

    def rewards(self, problem: Problem, completion: str) -> dict[str, float]:
        """1.0 right, 0.1 answered but wrong, 0 without an `<answer>` (the published values)."""
        answer = last_answer(completion)
        if answer is None:
            return {"answer": 0.0}
        return {"answer": 1.0 if _solves(problem, answer) else 0.1}

    def correct(self, problem: Problem, completion: str) -> bool:
        """Whether the last `<answer>` uses each number once and equals the target exactly."""
        answer = last_answer(completion)
        return answer is not None and _solves(problem, answer)

    def _generate(self, split: str, size: int) -> list[Problem]:
        rng = random.Random(f"countdown/{self.data.seed}/{split}")
        seen: set[str] = set()
        problems: list[Problem] = []
        misses = 0
        while len(problems) < size:
            numbers = [rng.randint(1, self.max_number) for _ in range(self.numbers)]
            expression, working, value = _random_expression(numbers, self.operators, rng)
            key = problem_key(numbers, value) if value is not None else ""
            fits = value is not None and 1 <= value <= 100 and split_of(key) == split and key not in seen
            misses = 0 if fits else misses + 1
            if misses > 20_000:
                fail(
                    f"task.data.{split}_size",
                    size,
                    f"only {len(problems)} distinct problems were found with numbers up to {self.max_number} and operators "
                    f"{self.operators!r}; ask for fewer, or raise task.max_number",
                )
            if fits and value is not None:
                seen.add(key)
                problems.append(make_problem(numbers, int(value), (working, expression)))
        return problems

    def _rows(self, split: str) -> list[tuple[list[int], int]]:
        """(numbers, target) of each row of a file or the hub."""
        from stp.tasks.sources import load_rows

        def wanted(row: dict[str, Any]) -> bool:
            return "nums" not in row or len(row["nums"]) == self.numbers

        rows = load_rows(self.data, "Jiayi-Pan/Countdown-Tasks-3to4", split, HUB_HELD_OUT, wanted)
        return [_from_row(row, where) for where, row in rows]


def _from_row(row: dict[str, Any], where: str) -> tuple[list[int], int]:
    """Rows have columns nums + target (hub) or input + output (the published test file)."""
    try:
        if "nums" in row:
            numbers, target = [_whole(n) for n in row["nums"]], _whole(row["target"])
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


def _whole(value: Any) -> int:
    """A whole number of at most 9 digits, given as a number or as text; ValueError otherwise."""
    number = int(value)
    if number != float(value) or not 0 <= number < 10**MAX_DIGITS:
        raise ValueError
    return number


def make_problem(numbers: Sequence[int], target: int, solution: tuple[str, str] | None = None) -> Problem:
    """The problem as asked, with a (working, expression) solution where there is one."""
    return Problem(
        id=problem_key(numbers, target),
        question=f"Numbers: [{', '.join(map(str, numbers))}]\nTarget: {target}",
        gold={"numbers": list(numbers), "target": target},
        solution=solution,
    )


def problem_key(numbers: Sequence[int], target: Fraction | int | None) -> str:
    """`3,7,9=21` with the numbers sorted: what train and test never share."""
    return f"{','.join(map(str, sorted(numbers)))}={target}"


def split_of(key: str) -> str:
    """The split of a (sorted numbers, target) pair: a hash decides, so no seed or size can move it."""
    return HELD_OUT.get(int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % 5, "train")


def _solves(problem: Problem, answer: str) -> bool:
    if len(answer) > MAX_EXPRESSION_CHARS:
        return False
    used = sorted(int(n) for n in re.findall(r"[0-9]{1,9}", answer))
    return used == sorted(problem.gold["numbers"]) and evaluate_expression(answer) == problem.gold["target"]


def evaluate_expression(text: str) -> Fraction | None:
    """Exact value of an expression of ASCII integers, + - * / and parentheses; None for anything else.

    Never raises and never calls `eval`: a grammar of its own (sum, product, signed factor), bounded to
    256 characters, 32 nested levels and 9-digit numbers. Division by zero is None.
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
    """Every (expression, exact value) that uses each number once; fully parenthesised below the top level."""
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
    """An expression that reaches the target with each number used once, by exhaustive search; None if there is none."""
    return next((text for text, value in expressions(numbers, operators) if value == target), None)


def _random_expression(numbers: Sequence[int], operators: str, rng: random.Random) -> tuple[str, str, Fraction | None]:
    """(expression, working, value) over the numbers in random order, folded from the left; value None when it is not whole.

    The working shows the value after every number: `13+7=20-4=16`.
    """
    order = list(numbers)
    rng.shuffle(order)
    text = working = str(order[0])
    value = Fraction(order[0])
    loose = False  # whether the text so far ends in a sum, which * and / would capture
    for number in order[1:]:
        op = rng.choice(operators)
        if op in "*/" and loose:
            text = f"({text})"
        loose = op in "+-"
        text, value = _apply(op, (text, value), (str(number), Fraction(number)))
        working += f"{op}{number}={value}"
    return text, working, value if value.denominator == 1 else None
