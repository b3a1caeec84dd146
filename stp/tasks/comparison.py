"""The process that compares scalar expressions for `stp.tasks.verifier`. It imports nothing of the package.

Two expressions are compared at rational points (mpmath). The number of digits grows with the expressions, to tell
`\\sqrt{2} + 10^{-200}` from `\\sqrt{2}`. Points where either is not real are skipped if there are others, so `\\ln(x^2)` equals
`2 \\ln x`. A difference at one point proves inequality; agreement at all points is the identity test of Schwartz and Zippel.

The process limits its own CPU time, which does not depend on how busy the machine is. After SOFT seconds an exception ends the
comparison. After HARD seconds the kernel kills the process, and another is started. Both count as not equal.
"""

import contextlib
import json
import os
import random
import signal
import sys
from typing import Any

SOFT, HARD = 0.2, 0.4  # seconds of CPU time per question
MEMORY = 4 << 30  # bytes of address space
POINTS = 6  # the number of points at which two expressions with variables must agree
MAX_SIZE = 1_500  # the largest `size` of both expressions together

Tree = list[Any]  # [op, *arguments], which JSON can hold


class Expired(BaseException):
    """The soft limit is over. It is not an Exception, because a library's handler might catch that."""


def _expire(*_: Any) -> None:
    raise Expired


def size(tree: Tree) -> int:
    """Returns a bound on the digits that the value may have before or after the point."""
    match tree:
        case ["number", text]:
            return len(text)
        case ["power", base, ["number", exponent]]:
            return size(base) * max(abs(int(part)) for part in exponent.split("/"))
        case ["power", base, ["negative", exponent]]:
            return size(["power", base, exponent])
        case ["call", "exp" | "sinh" | "cosh" | "tanh", child]:
            return 10 + size(["power", ["constant", "e"], child])
        case ["factorial", ["number", text]]:
            return 2 * int(text)
    return sum(size(child) for child in tree[1:] if isinstance(child, list)) or 1


def names(tree: Tree) -> set[str]:
    """Returns the variables of a tree."""
    if tree[0] == "variable":
        return {tree[1]}
    return {name for child in tree[1:] if isinstance(child, list) for name in names(child)}


def value(tree: Tree, point: dict[str, Any]) -> Any:
    """Computes the value at a point in mpmath's current precision. Raises ArithmeticError or ValueError if there is none."""
    import mpmath

    op, *arguments = tree
    if op == "number":
        over, _, under = arguments[0].partition("/")
        return mpmath.mpf(over) / mpmath.mpf(under or 1)
    if op == "variable":
        return point[arguments[0]]
    if op == "constant":
        return {"pi": +mpmath.pi, "e": +mpmath.e, "i": mpmath.mpc(0, 1)}[arguments[0]]
    first, *rest = [value(child, point) for child in arguments if isinstance(child, list)]
    match op:
        case "add":
            return first + rest[0]
        case "negative":
            return -first
        case "multiply":
            return first * rest[0]
        case "divide":
            return first / rest[0]
        case "power":
            if not first and mpmath.re(rest[0]) <= 0:
                raise ValueError
            return first ** rest[0]
        case "root":
            return root(first, rest[0])
        case "factorial":
            return mpmath.factorial(first)
        case "binomial":
            return mpmath.binomial(first, rest[0])
        case "absolute":
            return abs(first)
        case "floor":
            return mpmath.floor(first)
        case "ceiling":
            return mpmath.ceil(first)
        case "log":
            return mpmath.log(rest[0]) / mpmath.log(first)
        case "call":
            name = arguments[0].replace("arc", "a")
            return getattr(mpmath, name)(first)
    raise ValueError


def root(index: Any, radicand: Any) -> Any:
    """Returns the principal root, or the real one for an odd index and a negative number."""
    import mpmath

    if mpmath.im(radicand) == 0 and mpmath.re(radicand) < 0 and index == mpmath.floor(index) and index % 2 == 1:
        return -((-radicand) ** (1 / index))
    return radicand ** (1 / index)


def samples(left: Tree, right: Tree) -> list[tuple[Any, Any]]:
    """Returns the values of both trees at rational points. Points where both are real are used alone, if there are any."""
    import mpmath

    variables = sorted(names(left) | names(right))
    rng = random.Random(0)
    real: list[tuple[Any, Any]] = []
    others: list[tuple[Any, Any]] = []
    for trial in range(4 * POINTS if variables else 1):
        signs = (1, 1, -1)[: 3 if trial % 2 else 2]
        point = {name: mpmath.mpf(rng.choice(signs) * rng.randint(20, 290)) / 97 for name in variables}
        with contextlib.suppress(ArithmeticError, ValueError):
            pair = value(left, point), value(right, point)
            if all(mpmath.isfinite(side) for side in pair):
                (real if all(mpmath.im(side) == 0 for side in pair) else others).append(pair)
        if len(real) == POINTS:
            break
    return real if real else others[:POINTS]


def compare(question: str, left: Tree, right: Tree) -> int:
    """Answers a question with a number.

    `equal`: 1 if the values agree at every point, else 0. `ratio`: the sign of their quotient if it is constant (1 if it is not
    real), else 0.
    """
    import mpmath

    digits = size(left) + size(right)
    if digits > MAX_SIZE:
        return 0
    with mpmath.workdps(60 + 4 * digits):
        small = mpmath.mpf(10) ** -(30 + 2 * digits)
        pairs = samples(left, right)
        if not pairs:
            return 0
        if question == "equal":
            return int(all(abs(a - b) <= small * max(1, abs(a)) for a, b in pairs))
        if len(pairs) < 2 or any(abs(side) <= small for pair in pairs for side in pair):
            return 0
        ratios = [a / b for a, b in pairs]
        if any(abs(ratio - ratios[0]) > small * abs(ratios[0]) for ratio in ratios):
            return 0
        return -1 if mpmath.im(ratios[0]) == 0 and mpmath.re(ratios[0]) < 0 else 1


def serve() -> None:
    """Answers questions, one JSON line each, until the input ends."""
    import logging
    import resource

    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not look like a reply
    compare("equal", ["root", ["number", "2"], ["number", "2"]], ["number", "1"])  # imports mpmath

    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller
    signal.signal(signal.SIGVTALRM, _expire)
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        question, answer, gold = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, HARD)  # kills the process
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, SOFT, 0.05)  # repeats, in case a handler swallows the first
            result = compare(question, answer, gold)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        except (Expired, Exception):
            result = 0
        while True:  # the timer may fire once more while it is turned off
            try:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
                break
            except Expired:
                pass
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(result, file=replies, flush=True)


if __name__ == "__main__":
    serve()
