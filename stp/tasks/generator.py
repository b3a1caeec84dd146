"""What the generators of word problems and algebra share: kinds of problems, each a text and a short program of steps."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stp.tasks.base import Problem, format_response

MAX_RESULT = 30  # the largest result of a step: it leaves few enough sums and products for the tiny model to learn


@dataclass(frozen=True)
class Kind:
    """A kind of problem. text: the question, with `{a}` to `{d}` for numbers.

    steps: for instance `a+b`, then `A-c`, where A is the first step's result. largest: the largest values of a to d.
    """

    text: str
    steps: tuple[str, ...]
    largest: tuple[int, int, int, int] = (12, 12, 12, 12)


def draw(kinds: Mapping[str, Kind], rng: random.Random) -> tuple[str, Kind, dict[str, int], list[str]] | None:
    """Draws a random problem. Returns (id, kind, numbers, worked steps), or None if a step's result is not in 1 to 30.

    The id names the kind and the numbers that its text shows.
    """
    name = rng.choice(sorted(kinds))
    kind = kinds[name]
    numbers = {letter: rng.randint(2, most) for letter, most in zip("abcd", kind.largest, strict=True)}
    worked = work(kind.steps, numbers)
    shown = [str(n) for letter, n in numbers.items() if f"{{{letter}}}" in kind.text]
    return None if worked is None else ("-".join([name, *shown]), kind, numbers, worked)


def work(steps: tuple[str, ...], numbers: Mapping[str, int]) -> list[str] | None:
    """Works out the steps, each as `12+5=17`. Returns None if a result is not a whole number from 1 to 30."""
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
    """Returns the result of the last step."""
    return lines[-1].rpartition("=")[2]


def slip(lines: Sequence[str], rng: random.Random) -> list[str]:
    """Changes the operation of the last step. If no other operation gives 0 to 30, lowers the result by 1 instead."""
    left, op, right = re.split(r"([-+*/])", lines[-1].partition("=")[0])
    x, y, value = int(left), int(right), int(result(lines))
    others = [
        (other, got) for other, got in (("+", x + y), ("-", x - y), ("*", x * y)) if got != value and 0 <= got <= MAX_RESULT
    ]
    op, value = rng.choice(others or [(op, value - 1)])
    return [*lines[:-1], f"{x}{op}{y}={value}"]


def fragments(kinds: Mapping[str, Kind]) -> tuple[str, ...]:
    """Returns the pieces of the kinds' texts between their numbers and names, each once."""
    return tuple(dict.fromkeys(part for kind in kinds.values() for part in re.split(r"\{\w+\}", kind.text) if part))


def example(problem: Problem, style: str, rng: random.Random, answer: str) -> str:
    """Makes a response from which the tiny base learns, in a style of `Task.example`. answer: how to write the result."""
    reasoning, _ = problem.solution or ("", "")
    lines = reasoning.split("\n")
    if style != "careful":
        lines = slip(lines, rng)
    shown = "" if style == "guess" else "\n".join(lines)
    return format_response(shown, answer.format(result(lines)), False).lstrip()
