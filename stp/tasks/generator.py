"""What the generators of word problems and algebra share: kinds of problems as texts and short programs of whole numbers."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stp.tasks.base import Problem, format_response

MAX_RESULT = 30  # of every step: few enough sums and products for the tiny model to learn


@dataclass(frozen=True)
class Kind:
    """A kind of problem. text: the question, with `{a}` to `{d}` for numbers.

    steps: `a+b`, then `A-c`, where A is the first step's result. largest: of the numbers drawn (a to d).
    """

    text: str
    steps: tuple[str, ...]
    largest: tuple[int, int, int, int] = (12, 12, 12, 12)


def draw(kinds: Mapping[str, Kind], rng: random.Random) -> tuple[str, Kind, dict[str, int], list[str]] | None:
    """(id, kind, numbers, worked steps) of a random problem; None where a step is not whole or leaves 1 to 30.

    The id names the kind and the numbers that its text shows.
    """
    name = rng.choice(sorted(kinds))
    kind = kinds[name]
    numbers = {letter: rng.randint(2, most) for letter, most in zip("abcd", kind.largest, strict=True)}
    worked = work(kind.steps, numbers)
    shown = [str(n) for letter, n in numbers.items() if f"{{{letter}}}" in kind.text]
    return None if worked is None else ("-".join([name, *shown]), kind, numbers, worked)


def work(steps: tuple[str, ...], numbers: Mapping[str, int]) -> list[str] | None:
    """`12+5=17` for each step; None where a result is not whole or leaves 1 to 30."""
    values = dict(numbers)
    lines = []
    for name, step in zip("ABC", steps, strict=False):
        left, op, right = tuple(step)
        x, y = (int(term) if term.isdigit() else values[term] for term in (left, right))
        if op == "/" and x % y:
            return None
        value = {"+": x + y, "-": x - y, "*": x * y, "/": x // y}[op]
        if not 1 <= value <= MAX_RESULT:
            return None
        values[name] = value
        lines.append(f"{x}{op}{y}={value}")
    return lines


def result(lines: Sequence[str]) -> str:
    """What the last step gives."""
    return lines[-1].rpartition("=")[2]


def slip(lines: Sequence[str], rng: random.Random) -> list[str]:
    """The steps with another operation in the last one, or where no other gives 0 to 30, with a result that is 1 too low."""
    left, op, right = re.split(r"([-+*/])", lines[-1].partition("=")[0])
    x, y, value = int(left), int(right), int(result(lines))
    others = [
        (other, got) for other, got in (("+", x + y), ("-", x - y), ("*", x * y)) if got != value and 0 <= got <= MAX_RESULT
    ]
    op, value = rng.choice(others or [(op, value - 1)])
    return [*lines[:-1], f"{x}{op}{y}={value}"]


def fragments(kinds: Mapping[str, Kind]) -> tuple[str, ...]:
    """What the texts say between their numbers and names."""
    return tuple(dict.fromkeys(part for kind in kinds.values() for part in re.split(r"\{\w+\}", kind.text) if part))


def example(problem: Problem, style: str, rng: random.Random, answer: str) -> str:
    """A response for the tiny base to learn from, in a style of `Task.example`; answer: how a result is written."""
    reasoning, _ = problem.solution or ("", "")
    lines = reasoning.split("\n")
    if style != "careful":
        lines = slip(lines, rng)
    shown = "" if style == "guess" else "\n".join(lines)
    return format_response(shown, answer.format(result(lines)), False).lstrip()
