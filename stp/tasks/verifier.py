"""Equality of scalar expressions, in a process of its own: no answer can hold up, break or kill the caller.

Two expressions are compared at rational points (mpmath), with so many digits that values which are not equal differ. Points
where either is not real are passed over while there are others, so that `\\ln(x^2)` is `2 \\ln x`. A difference is proof;
agreement at every point is the identity test of Schwartz and Zippel. The digits grow with the expressions, so that
`\\sqrt{2} + 10^{-200}` is not `\\sqrt{2}`.

The process bounds itself in CPU time, which a busy machine does not stretch: after SOFT seconds an exception ends the
comparison; after HARD seconds the kernel ends the process, and another is started. Both count as not equal. Run as a script,
this file is that process. Any thread may ask.
"""

import atexit
import contextlib
import json
import os
import random
import selectors
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stp.tasks.expressions import Node

SOFT, HARD = 0.2, 0.4  # seconds of CPU time per question
START = 120  # seconds until a process that does not say it is ready counts as broken
MEMORY = 4 << 30  # bytes of address space
POINTS = 6  # at which two expressions with variables must agree
MAX_SIZE = 1_500  # of both expressions together; see `size`

Tree = list[Any]  # [op, *arguments], as JSON has it


class Judge:
    """A process that compares LaTeX answers, started when first asked. Questions from several threads take turns."""

    def __init__(self) -> None:
        self.ready = False
        self.forget()
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """After a fork the process is the parent's, and the lock may be held by a thread that only the parent has."""
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None

    def equal(self, answer: "Node", gold: "Node") -> bool:
        """Whether two expressions have the same value, within the bound."""
        return self._ask("equal", answer, gold) == 1

    def ratio_sign(self, answer: "Node", gold: "Node") -> int:
        """1 or -1: the sign of the number that one expression is the other times; 0 where there is none but zero."""
        return self._ask("ratio", answer, gold)

    def _ask(self, question: str, answer: "Node", gold: "Node") -> int:
        line = json.dumps([question, packed(answer), packed(gold)]).encode() + b"\n"
        with self.lock:
            self._start()
            assert self.process is not None and self.process.stdin is not None
            try:
                self.process.stdin.write(line)
                self.process.stdin.flush()
                reply = self._line(START)
            except OSError:
                reply = b""
            except BaseException:  # Ctrl-C, or a caller's alarm: the reply still to come is not the next question's
                self.close()
                raise
            if not reply:
                self.close()
                self._launch()  # ready by the time it is asked
            return int(reply or 0)

    def start(self) -> None:
        """Start the process without waiting for it: it takes a moment to import its library."""
        with self.lock:
            if self.process is None:
                self._launch()

    def close(self) -> None:
        """End the process."""
        process, self.process = self.process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]

    def _launch(self) -> None:
        # -P: this file's folder holds math.py, which must not hide the standard library's
        command = [sys.executable, "-P", os.path.abspath(__file__)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.ready = False

    def _start(self) -> None:
        if self.process is None:
            self._launch()
        if not self.ready:
            if self._line(START) != b"ready\n":
                self.close()
                raise RuntimeError("mpmath does not start: is it installed? (pip install 'mpmath>=1.3,<1.5')")
            self.ready = True

    def _line(self, seconds: float) -> bytes:
        """The process's next line; empty when it ends, or says nothing for so long."""
        assert self.process is not None and self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            return self.process.stdout.readline() if selector.select(seconds) else b""


_JUDGE = Judge()
atexit.register(_JUDGE.close)
equal, ratio_sign, start = _JUDGE.equal, _JUDGE.ratio_sign, _JUDGE.start


def packed(node: "Node") -> Tree:
    """A tree as JSON has it."""
    return [node.op, *(arg if isinstance(arg, str) else packed(arg) for arg in node.args)]


# The process


class Expired(BaseException):
    """The soft bound. Not an Exception, so that no library's handler takes it for one of its own."""


def _expire(*_: Any) -> None:
    raise Expired


def size(tree: Tree) -> int:
    """A bound on the digits that the value may have, before or behind the point."""
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
    """The variables of a tree."""
    if tree[0] == "variable":
        return {tree[1]}
    return {name for child in tree[1:] if isinstance(child, list) for name in names(child)}


def value(tree: Tree, point: dict[str, Any]) -> Any:
    """The value at a point, to mpmath's current precision; ArithmeticError or ValueError where there is none."""
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
    """The principal root; of a negative number to an odd index the real one."""
    import mpmath

    if mpmath.im(radicand) == 0 and mpmath.re(radicand) < 0 and index == mpmath.floor(index) and index % 2 == 1:
        return -((-radicand) ** (1 / index))
    return radicand ** (1 / index)


def samples(left: Tree, right: Tree) -> list[tuple[Any, Any]]:
    """The values of both at rational points: where both are real, if they are anywhere."""
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
    """`equal`: 1 where the values agree at every point. `ratio`: the sign of their constant quotient (1 for one not real)."""
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
    """Answer questions, one JSON line each, until the input ends."""
    import logging
    import resource

    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no reply
    compare("equal", ["root", ["number", "2"], ["number", "2"]], ["number", "1"])  # imports

    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's
    signal.signal(signal.SIGVTALRM, _expire)
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        question, answer, gold = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, HARD)  # ends the process
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, SOFT, 0.05)  # again, in case a handler swallows it
            result = compare(question, answer, gold)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        except (Expired, Exception):
            result = 0
        while True:  # the timer may strike once more while it is being turned off
            try:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
                break
            except Expired:
                pass
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(result, file=replies, flush=True)


if __name__ == "__main__":
    serve()
