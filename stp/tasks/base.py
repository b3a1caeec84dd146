"""What every task shares: the problem record, the response format, where problems come from and how they are split."""

import hashlib
import json
import random
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from stp.errors import fail, require, require_choice
from stp.text import tell_once

ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"
GENERATED = 512  # problems of a generated split, unless its size is set
HELD_OUT = {0: "validation", 1: "test"}  # of five equal parts of all generated problems, the two that are never trained on
MAX_CHARS, MAX_TAGS, MAX_BRACKETS = 50_000, 1_000, 1_000
REWARDS = ("corrected", "published")

FORMAT_INSTRUCTION = (
    "Think step by step inside <reasoning> and </reasoning>, then give only the final result inside <answer> and </answer>."
)
BOXED_INSTRUCTION = " Write the final result as \\boxed{...}."
PUBLISHED_FORM = (
    "\nGive your response in this form:\n<reasoning>\nYour reasoning\n</reasoning>\n<answer>\n{}\n</answer>"  # as its lines are
)


@dataclass(frozen=True)
class Problem:
    """One question, with what is needed to grade its answer.

    id: a stable name, the same in every run. question: the text that is asked. gold: what the verifier compares with.
    solution: a worked (reasoning, answer) pair, if the source has one. The task's `solution` may find one for the others.
    """

    id: str
    question: str
    gold: Any
    solution: tuple[str, str] | None = None

    @property
    def key(self) -> str:
        """The id with a digest of everything else, because another source may word the same problem differently."""
        rest = json.dumps([self.question, self.gold, self.solution], sort_keys=True, default=str)
        return f"{self.id}#{hashlib.blake2b(rest.encode(), digest_size=8).hexdigest()}"


@dataclass
class Data:
    """Where a task's problems come from."""

    source: str = field(default="generate", metadata={"help": "generate | hub | file"})
    path: str | None = field(
        default=None,
        metadata={
            "help": "a .jsonl/.json/.csv/.parquet file, or a folder with train.* and test.* files, as on the hub or saved by "
            "datasets (implies source=file)"
        },
    )
    hub: str | None = field(
        default=None,
        metadata={
            "help": "dataset id on the hub (id:config for one of several), implies source=hub; null takes the task's own"
        },
    )
    seed: int = field(default=0, metadata={"help": "seed of the generator, and of the shuffle that splits a single file"})
    train_size: int | None = field(default=None, metadata={"help": "training problems; null: all (the generator makes 512)"})
    validation_size: int | None = field(
        default=None, metadata={"help": "problems for tuning, kept from training; null: none (the generator makes 512)"}
    )
    test_size: int | None = field(default=None, metadata={"help": "held-out problems; null: all (the generator makes 512)"})

    def __post_init__(self) -> None:
        rule = "rows come from one place; give task.data.path or task.data.hub, not both"
        require(self.path is None or self.hub is None, "task.data.hub", self.hub, rule)
        if self.path is not None:
            self.source = "file"
        elif self.hub is not None:
            self.source = "hub"
        require_choice("task.data.source", self.source, ("generate", "hub", "file"))
        require(
            self.source != "file" or self.path is not None,
            "task.data.source",
            "file",
            "reading a file needs its name; add task.data.path=<file>",
        )
        require(self.seed >= 0, "task.data.seed", self.seed, "choose a whole number from 0 on")
        for name in ("train_size", "validation_size", "test_size"):
            size = getattr(self, name)
            require(size is None or size >= 1, f"task.data.{name}", size, "at least 1 problem is needed")

    def size(self, split: str) -> int | None:
        """Returns how many problems of a split are wanted; None takes all."""
        return getattr(self, f"{split}_size", None)


@dataclass(frozen=True)
class Hub:
    """Where a task's rows lie on the hub.

    name: the dataset's id, with `:config` if it has several configs; its `train` split is read. test: the dataset whose `test`
    split is held out. Without one, the last `held_out` of the shuffled training rows are held out. Of a single file, too, at
    most `held_out` rows are held out.
    """

    name: str
    held_out: int
    test: str | None = None


@dataclass
class Task:
    """What a task's options have in common, and what a task can do. A subclass says what its rows, texts and answers are."""

    data: Data = field(default_factory=Data)
    rewards: str = field(
        default="corrected", metadata={"help": "corrected | published (what the public code pays, its quirks included)"}
    )
    grading: str = field(
        default="corrected", metadata={"help": "what accuracy counts: corrected | published (the public code's parser)"}
    )
    instruction: str | None = field(
        default=None,
        metadata={
            "help": "text before each question, or a .txt file that holds it, for models that get one; null: the task's own"
        },
    )

    wording: ClassVar[str] = FORMAT_INSTRUCTION  # the task's own instruction
    published_wording: ClassVar[str] = (
        "You know mathematics well. You get a question: solve it step by step, and put the final result into \\boxed{}."
        + PUBLISHED_FORM.format("\\boxed{...}")
    )
    gradings: ClassVar[tuple[str, ...]] = REWARDS  # the rules by which a stored completion can be graded
    hub = Hub("", held_out=500)  # no dataset of its own; one must be named
    phrases: ClassVar[tuple[str, ...]] = ()  # pieces of generated problems; the tiny model has a token for each
    largest_token: ClassVar[int] = 100  # the largest number for which the tiny model has a token of its own

    def __post_init__(self) -> None:
        require_choice("task.rewards", self.rewards, REWARDS)
        require_choice("task.grading", self.grading, REWARDS)
        if self.instruction is None:
            self.instruction = self.wording
        elif self.instruction.endswith(".txt") and "\n" not in self.instruction:
            self.instruction = _text_of(self.instruction)

    @property
    def name(self) -> str:
        """The name under which the option `task` selects this class."""
        return type(self).__name__.lower()

    @property
    def base(self) -> str:
        """The tiny base that trains on this task by default."""
        return self.name

    @property
    def paid_by(self) -> str:
        """What decides the rewards, for the records of what was rewarded."""
        return self.rewards

    def problems(self, split: str, at_most: int | None = None) -> list[Problem]:
        """Returns the problems of a split: `train`, `validation`, `test`, or `all` (a whole file).

        The first three never share a problem. A hash decides on a generated problem's split, whatever the seed.
        at_most: how many are wanted, the first ones.
        """
        return self._problems(split, at_most)[:at_most]

    def _problems(self, split: str, at_most: int | None) -> list[Problem]:
        size = self.data.size(split)
        if self.data.source == "generate":
            rule = "name your rows: task.data.path=<file or folder>"
            require(type(self).draw is not Task.draw, "task.data.source", "generate", rule)
            size = GENERATED if size is None else size
            return self._generate(split, size if at_most is None else min(size, at_most))
        from stp.tasks.sources import keeps_validation

        problems, place = self._read(split), self.data.path or self.data.hub or self.hub.name
        if split in ("train", "validation"):  # the same problem may stand in several rows
            later = ["validation", "test"] if split == "train" and keeps_validation(self.data, self.hub) else ["test"]
            held = {problem.id for name in later for problem in self._read(name)}
            kept = [problem for problem in problems if problem.id not in held]
            require(bool(kept), "task.data.path", place, f"every {split} problem is also held out; give other files")
            if len(kept) < len(problems):
                tell_once(f"{place}: {len(problems) - len(kept)} {split} problems are held out too, and left out of {split}")
            problems = kept
        if size is not None and len(problems) < size:
            tell_once(f"task.data.{split}_size={size}: {place} has {len(problems)} {split} problems, all of them are taken")
        return problems if split == "all" else problems[:size]

    def solution(self, problem: Problem) -> tuple[str, str] | None:
        """Returns a worked (reasoning, answer) pair, from which a ground-truth anchor is made, or None if there is none."""
        return problem.solution

    def reward_parts(self, problem: Problem, completion: str) -> dict[str, float]:
        """Returns the named parts of the reward; the objective sees their sum. Pure and total."""
        raise NotImplementedError

    def grade(self, problem: Problem, completion: str, grading: str) -> bool:
        """Says whether the completion solves the problem, by the `corrected` or the `published` rules. Pure and total."""
        raise NotImplementedError

    def counts(self, problem: Problem, completion: str, grading: str) -> dict[str, tuple[int, int]]:
        """Returns what a grading counts in a completion, as (right, all) by name. The first is the accuracy.

        Empty for tasks that count nothing but completions, each right or wrong.
        """
        return {}

    def gradable(self, problem: Problem) -> bool:
        """Says whether any answer can be graded right. If the gold answer itself is not, the problem is left out."""
        return True

    def solves(self, problem: Problem, completion: str) -> bool:
        """Says whether the completion solves the problem, as accuracy counts it."""
        return self.grade(problem, completion, self.grading)

    def judge(self, problem: Problem, completion: str, prefill: str = "") -> tuple[dict[str, float], bool]:
        """Returns the parts of the reward, and whether the completion solves the problem.

        A prefill counts for the reward alone, which pays for the format.
        """
        return self.reward_parts(problem, prefill + completion), self.solves(problem, completion)

    def row(self, row: dict[str, Any], where: str) -> Problem:
        """Makes a problem from a row of a file or the hub. Raises a UserError that names `where` if it is malformed."""
        raise NotImplementedError

    def graded_row(self, row: dict[str, Any], where: str) -> Problem:
        """Makes a problem from the row of a stored completion: its `question` and `ground_truth`. Null gives a gold of None."""
        return Problem(row["question"], row["question"], row["ground_truth"])

    def draw(self, rng: random.Random) -> Problem | None:
        """Draws a problem, or None if the draw is no valid problem. Tasks without a generator leave it as it is."""
        raise NotImplementedError

    def split_key(self, problem: Problem) -> str:
        """Returns the text whose hash decides on a generated problem's split: problems that share it are not told apart."""
        return problem.id

    def keeps(self, row: dict[str, Any]) -> bool:
        """Says whether a row of a file or the hub fits the task's options. A malformed row fits: `row` refuses it later."""
        return True

    @property
    def kept(self) -> str:
        """The options that `keeps` looks at, for messages."""
        return "the task's options"

    def example(self, problem: Problem, style: str, rng: random.Random) -> str:
        """Makes a response from which the tiny base learns, in one of three styles.

        careful: the working is right. guess: an answer without any working. careless: the working and its answer are wrong.
        """
        raise NotImplementedError

    def more(self) -> str:
        """Says what to do if the generator runs out of problems."""
        return "ask for fewer"

    def _generate(self, split: str, size: int) -> list[Problem]:
        rng = random.Random(f"{self.name}/{self.data.seed}/{split}")
        problems: dict[str, Problem] = {}
        misses = 0
        while len(problems) < size:
            problem = self.draw(rng)
            fits = problem is not None and split_of(self.split_key(problem)) == split and problem.id not in problems
            misses = 0 if fits else misses + 1
            if misses > 20_000:
                fail(f"task.data.{split}_size", size, f"only {len(problems)} distinct problems were found; {self.more()}")
            if fits and problem is not None:
                problems[problem.id] = problem
        return list(problems.values())

    def _read(self, split: str) -> list[Problem]:
        from stp.tasks.sources import Fit, load_rows

        rows = load_rows(self.data, self.hub, split, Fit(self.keeps, self.kept))
        read = [(where, self._row(row, where)) for where, row in rows]
        lost = [where for where, problem in read if not self.gradable(problem)]
        if lost:
            why = "no answer can be graded right: over 400 characters, braces that do not match, or foreign digits"
            option, place = ("path", self.data.path) if self.data.path else ("hub", self.data.hub or self.hub.name)
            require(len(lost) < len(read), f"task.data.{option}", place, f"of all its {len(read)} rows {why}")
            tell_once(f"{', '.join(lost[:10])}{f' and {len(lost) - 10} more' if len(lost) > 10 else ''}: left out, {why}")
        return [problem for where, problem in read if where not in set(lost)]

    def _row(self, row: dict[str, Any], where: str) -> Problem:
        try:
            return self.row(row, where)
        except KeyError as error:
            fail(where, repr(row)[:200], f"task={self.name} looks for a column {error}")


def _text_of(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        fail("task.instruction", file, f"a name ending in .txt is a file of text, which cannot be read ({error})")


def fingerprint(problems: list[Problem]) -> str:
    """Returns a short hash of the problems: their ids, questions and golds, in order."""
    asked = json.dumps([(p.id, p.question, p.gold) for p in problems])
    return hashlib.sha256(asked.encode()).hexdigest()[:12]


def split_of(key: str) -> str:
    """Returns the split of a generated problem. A hash of its id decides, so no seed or size can move it."""
    return HELD_OUT.get(int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % 5, "train")


def text_key(text: str) -> str:
    """Returns a short, stable name for a problem from its text, whatever its white space."""
    return hashlib.blake2b(" ".join(text.split()).encode("utf-8", "replace"), digest_size=8).hexdigest()


def format_response(reasoning: str, answer: str, tagged_reasoning: bool) -> str:
    """Returns the text that a model should write: with `<reasoning>` tags for instructed models, without for the tiny one."""
    if tagged_reasoning:
        return f"<reasoning>\n{reasoning}\n</reasoning>\n{ANSWER_OPEN}\n{answer}\n{ANSWER_CLOSE}"
    return f"{reasoning}\n{ANSWER_OPEN}{answer}{ANSWER_CLOSE}"


def flooded(text: str) -> bool:
    """Says whether no model writes such a completion: 50,000 characters, NULs, or 1,000 `<answer>`s or open brackets.

    No reward set and no grading counts one as correct. Even 512 tokens that repeat themselves stay below these bounds.
    """
    if len(text) > MAX_CHARS or "\0" in text or text.count(ANSWER_OPEN) > MAX_TAGS:
        return True
    depth = 0
    for bracket in re.findall(r"[][{}()]", text):
        depth += 1 if bracket in "[{(" else -1
        if depth > MAX_BRACKETS:
            return True
    return False


def last_answer(completion: str) -> str | None:
    """Returns the text inside the last complete `<answer>…</answer>`, or None. Takes time linear in the completion's length."""
    start = completion.rfind(ANSWER_OPEN, 0, max(0, completion.rfind(ANSWER_CLOSE)))
    return None if start < 0 else completion[start + len(ANSWER_OPEN) :].partition(ANSWER_CLOSE)[0]
