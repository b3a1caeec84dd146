"""Your own task: questions from your file or dataset, paid by a function that you name."""

import hashlib
import json
import sys
import time
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from stp.errors import UserError, fail, require, require_choice
from stp.tasks import own_code
from stp.tasks.base import Problem, Task, text_key
from stp.tasks.grading import final_answer
from stp.tasks.processes import Servant
from stp.text import tell_once, visible

_NAMES = "name a function as <file.py>:<function>, or <module>:<function> if it is installed"


@dataclass
class Custom(Task):
    """Your own questions, with a reward that is a function of yours: reward(question, answer, completion).

    It returns a number, or a dict of named numbers whose sum is the reward. `correct`, of the same arguments, says what
    accuracy counts. Without it an answer is right if it equals the row's own; if rows have none, if the reward is above 0.
    """

    reward: str | None = field(
        default=None, metadata={"help": "the function that pays: <file.py>:<function> or <module>:<function>"}
    )
    correct: str | None = field(
        default=None, metadata={"help": "the function that says whether a completion is right; null compares its answer"}
    )
    question: str = field(default="question", metadata={"help": "column of the question"})
    answer: str | None = field(default="answer", metadata={"help": "column of the answer, of any type; null: there is none"})
    working: str | None = field(
        default=None, metadata={"help": "column of the steps to the answer, for ground-truth anchors; null: there is none"}
    )
    on_error: str = field(
        default="stop", metadata={"help": "a function that raises, returns no finite number or is late: stop | zero (counted)"}
    )
    timeout: float = field(default=10.0, metadata={"help": "seconds that one call of a function may take"})
    code: str | None = field(default=None, metadata={"help": "filled in: a hash of the functions' files, kept in the record"})

    base = "countdown"  # no tiny base of its own ships; this one's tokens spell any text
    gradings = ("corrected",)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("task.on_error", self.on_error, ("stop", "zero"))
        require(0 < self.timeout <= 3600, "task.timeout", self.timeout, "seconds for one call lie in (0, 3600]")
        for option in ("rewards", "grading"):
            rule = "your own task has no published rules; leave it out, or use protocol=clean"
            require(getattr(self, option) == "corrected", f"task.{option}", getattr(self, option), rule)
        self.code = fingerprint(self.functions)
        self.places: dict[str, str] = {}

    @property
    def paid_by(self) -> str:
        return str(self.code)

    @property
    def functions(self) -> dict[str, str]:
        """The functions that are named, by the option that names them."""
        named = {"task.reward": self.reward, "task.correct": self.correct}
        return {option: name for option, name in named.items() if name is not None}

    def problems(self, split: str, at_most: int | None = None) -> list[Problem]:
        """Reads the rows, and starts the process of the functions, so that a mistake in them is told before any work."""
        self.start()
        return super().problems(split, at_most)

    def start(self) -> "Functions":
        """Starts the process of the functions, and returns it once it has imported them.

        Raises:
            UserError: no reward is named, or a function cannot be imported.
        """
        require(self.reward is not None, "task.reward", self.reward, _NAMES)
        if self.code is None:  # told here and not before, because who exports a run that was moved needs no function
            self._require_sources()
        functions = process(tuple(self.functions.items()), self.timeout, self.code)
        functions.wait()
        return functions

    def _require_sources(self) -> None:
        for option, name in self.functions.items():
            place = name.rpartition(":")[0]
            rule = f"there is no module {place}; {_NAMES}"
            if place.endswith(".py"):
                rule = f"there is no file {place} (relative to where the command runs); name it with task=custom {option}=…"
            require(source(place) is not None, option, name, rule)

    def reward_parts(self, problem: Problem, completion: str) -> dict[str, float]:
        """Asks the reward. With task.on_error=zero a call that fails gives the part `failed`, of 0, which metrics count."""
        return self._call("task.reward", problem, completion) or {"failed": 0.0}

    def grade(self, problem: Problem, completion: str, grading: str) -> bool:
        """Asks the function `correct`, or else compares the final answer with the row's as text. A failed call is a no."""
        if self.correct is not None:
            return sum(self._call("task.correct", problem, completion).values()) > 0
        if self.answer is None:
            return sum(self.reward_parts(problem, completion).values()) > 0
        answer = final_answer(completion)
        known = answer is not None and problem.gold is not None
        return known and str(answer).strip() == str(problem.gold).strip()

    def judge(self, problem: Problem, completion: str, prefill: str = "") -> tuple[dict[str, float], bool]:
        """Asks the reward once for both if nothing else says what is right: it may be slow, or differ from call to call."""
        if self.correct is not None or self.answer is not None:
            return super().judge(problem, completion, prefill)
        parts = self.reward_parts(problem, prefill + completion)
        return parts, sum(parts.values()) > 0

    def row(self, row: dict[str, Any], where: str) -> Problem:
        """Reads the columns task.question, task.answer and task.working."""
        columns = {"task.question": self.question, "task.answer": self.answer, "task.working": self.working}
        for option, column in columns.items():
            rule = f"{where} has no such column, but {', '.join(map(str, row)) or 'none'}"
            require(column is None or column in row, option, column, rule)
        question = row[self.question]
        if not isinstance(question, str) or not question.strip():
            fail(where, repr(question)[:200], f"expected a text in the column {self.question} (task.question)")
        gold = None if self.answer is None else row[self.answer]
        try:
            json.dumps(gold)
        except (TypeError, ValueError):
            rule = f"in the column {self.answer} (task.answer) stands what JSON does not hold; write it as a text or a number"
            fail(where, repr(gold)[:200], rule)
        solution = None if self.working is None else (str(row[self.working]).strip(), str(gold))
        return self._problem(question, gold, where, solution)

    def graded_row(self, row: dict[str, Any], where: str) -> Problem:
        gold = row["ground_truth"]
        return self._problem(row["question"], "" if self.answer is None and gold is None else gold, where)

    def _problem(self, question: str, gold: Any, where: str, solution: tuple[str, str] | None = None) -> Problem:
        problem = Problem(f"custom-{text_key(question)}", question, gold, solution)
        self.places[problem.key] = where
        return problem

    def _call(self, option: str, problem: Problem, completion: str) -> dict[str, float]:
        """Returns the named parts of a call, or no parts if it fails and failures count as zero.

        Raises:
            UserError: the call fails, and failures stop the work. It names the row, the function and what it did.
        """
        functions = self.start()
        parts = functions.call(option, problem.question, problem.gold if self.answer is not None else None, completion)
        if isinstance(parts, dict):
            return parts
        where = self.places.get(problem.key, problem.id)
        line = f"{where}: {option}={self.functions[option]}: {parts}, for the completion {visible(completion)[:80]!r}"
        if self.on_error == "stop":
            raise UserError(f"{line}; mend it, or count such completions as 0 with task.on_error=zero")
        if option not in functions.told:
            functions.told.add(option)
            tell_once(f"{line}; it counts as 0, and so do others of which nothing is said")
        return {}


class Functions(Servant):
    """Asks the process of a user's functions (own_code.py). It has one per rank, however many copies a task has."""

    def __init__(self, named: dict[str, str], timeout: float, code: str | None) -> None:
        broken = f"its process ended or was silent while it imported {', '.join(named.values())}"
        super().__init__([own_code.__file__, str(timeout), *named.values()], broken, errors=None)
        self.named, self.timeout, self.code = named, timeout, code
        self.told: set[str] = set()  # the options of which a failure was told

    def call(self, option: str, question: str, answer: Any, completion: str) -> dict[str, float] | str:
        """Returns the parts that the function gives, or what went wrong."""
        began = time.monotonic()
        try:
            reply = self.ask([list(self.named).index(option), question, answer, completion], self.timeout)
        except RuntimeError as error:
            return str(error)
        if reply:
            answered = json.loads(reply)
            return answered["value"] if "value" in answered else str(answered["error"])
        late = time.monotonic() - began >= self.timeout
        return f"it took more than {self.timeout:g} s (task.timeout)" if late else "it ended its process"

    def wait(self) -> None:
        try:
            super().wait()
        except RuntimeError as error:
            raise UserError(f"{next(iter(self.named))}={error}; {_NAMES}") from None

    def _launch(self) -> None:
        rule = "its file has changed since the work began; start again"
        require(fingerprint(self.named) == self.code, "task.reward", self.named.get("task.reward"), rule)
        super()._launch()


@cache
def process(named: tuple[tuple[str, str], ...], timeout: float, code: str | None) -> Functions:
    """Returns the process of these functions, of which this rank needs one."""
    return Functions(dict(named), timeout, code)


def fingerprint(named: dict[str, str]) -> str | None:
    """Returns a short hash of the files in which functions are, and of the functions' names. None if none is named or there.

    Raises:
        UserError: a name is malformed.
    """
    digest = hashlib.sha256()
    for option, name in named.items():
        place, _, function = name.rpartition(":")
        require(bool(place) and function.isidentifier(), option, name, _NAMES)
        file = source(place)
        if file is None:
            return None
        digest.update(f"{option}:{function}:".encode() + file.read_bytes())
    return digest.hexdigest()[:12] if named else None


def source(place: str) -> Path | None:
    """Returns the file that a function's place names. Imports nothing, not even the packages above a module."""
    if place.endswith(".py"):
        return Path(place) if Path(place).is_file() else None
    path: list[str] | None = [*sys.path, "."]
    found = None
    for end in range(1, place.count(".") + 2):
        found = PathFinder.find_spec(".".join(place.split(".")[:end]), path)
        path = list(found.submodule_search_locations or []) if found is not None else []
    origin = Path(found.origin) if found is not None and found.origin is not None else None
    return origin if origin is not None and origin.is_file() else None
