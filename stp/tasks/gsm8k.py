"""GSM8K: word problems with numbers as answers (Cobbe et al., 2021), and a small generator of such problems."""

import random
import re
from dataclasses import dataclass
from typing import Any

from stp.errors import fail
from stp.tasks import published
from stp.tasks.base import Hub, Problem, Task, last_answer, text_key
from stp.tasks.generator import Kind, draw, example, fragments, result
from stp.tasks.grading import final_answer, format_score, number, same_number, tag_score

NAMES = ("Anna", "Ben", "Lily", "Tom")
OBJECTS = ("apples", "books", "coins", "pens")
KINDS = {
    "gives": Kind(
        "{one} has {a} {thing}, buys {b} more and gives {c} to {two}. How many {thing} does {one} have now?", ("a+b", "A-c")
    ),
    "both": Kind("{one} has {a} {thing}. {two} has {b} more. How many {thing} do they have in all?", ("a+b", "a+A")),
    "fewer": Kind("{one} has {a} {thing}. {two} has {b} fewer. How many {thing} do they have in all?", ("a-b", "a+A")),
    "times": Kind(
        "{one} has {a} {thing}. {two} has {b} times as many. How many {thing} do they have in all?",
        ("a*b", "a+A"),
        (12, 6, 2, 2),
    ),
    "boxes": Kind(
        "{one} buys {a} boxes of {b} {thing} and has {c} more. How many {thing} does {one} have in all?",
        ("a*b", "A+c"),
        (9, 9, 12, 2),
    ),
    "loses": Kind(
        "{one} buys {a} boxes of {b} {thing} and loses {c}. How many {thing} does {one} have now?",
        ("a*b", "A-c"),
        (9, 9, 12, 2),
    ),
    "shares": Kind(
        "{one} has {a} {thing}, loses {b} and puts the rest in {c} boxes. How many {thing} are in each box?",
        ("a-b", "A/c"),
        (30, 20, 9, 2),
    ),
    "days": Kind(
        "{one} has {a} {thing} and buys {b} each day for {c} days. {one} gives {d} to {two}. "
        "How many {thing} does {one} have now?",
        ("b*c", "a+A", "B-d"),
        (12, 9, 9, 12),
    ),
    "three": Kind(
        "{one} has {a} {thing}, buys {b} more, loses {c} and gives {d} to {two}. How many {thing} does {one} have now?",
        ("a+b", "A-c", "B-d"),
    ),
}

_CALCULATOR = re.compile(r"<<[^<>]*>>")


@dataclass
class Gsm8k(Task):
    """GSM8K: word problems in two to eight steps, answered by a number."""

    hub = Hub("openai/gsm8k:main", held_out=1319, test="openai/gsm8k:main")
    phrases = (*NAMES, *OBJECTS, *fragments(KINDS))

    def reward_parts(self, problem: Problem, completion: str) -> dict[str, float]:
        """Pays 2.0 for a right answer and 0.5 for any number as the answer, and for the format up to 1.5.

        The format pays 0.5 if the whole text keeps it, 0.5 if the text begins in it, and 0.125 for each of four tags.
        """
        if self.rewards == "published":
            return published.gsm8k_rewards(completion, problem.gold)
        answer = final_answer(completion)
        return {
            "correct": 2.0 if answer is not None and same_number(answer, problem.gold) else 0.0,
            "integer": 0.5 if last_answer(completion) is not None and number(answer or "") is not None else 0.0,
            "strict": 0.5 if format_score(completion, whole=True) else 0.0,
            "soft": 0.5 if format_score(completion, whole=False) else 0.0,
            "tags": tag_score(completion),
        }

    def grade(self, problem: Problem, completion: str, grading: str) -> bool:
        """Says whether the final answer names one number and this is the gold one."""
        if grading == "published":
            return published.gsm8k_correct(completion, problem.gold)
        answer = final_answer(completion)
        return answer is not None and same_number(answer, problem.gold)

    def row(self, row: dict[str, Any], where: str) -> Problem:
        """Reads the columns question and answer. An answer is worked steps with `<<…>>` marks, then `#### 18`."""
        question, answer = row.get("question"), row.get("answer")
        steps, mark, gold = answer.partition("####") if isinstance(answer, str) else ("", "", "")
        gold = gold.strip()
        if not isinstance(question, str) or not question.strip() or not mark or number(gold) is None:
            fail(where, repr(row)[:200], "expected columns question and answer, the answer ending in '#### <number>'")
        reasoning = _CALCULATOR.sub("", steps).strip()
        return Problem(f"gsm8k-{text_key(question)}", question, gold, (reasoning, gold))

    def graded_row(self, row: dict[str, Any], where: str) -> Problem:
        given = row["ground_truth"]
        gold = f"{given:.15g}" if isinstance(given, float) else str(given).strip()
        if given is not None and number(gold) is None:
            fail(where, repr(given)[:200], "expected a number as ground_truth")
        return Problem(f"gsm8k-{text_key(row['question'])}", row["question"], None if given is None else gold)

    def draw(self, rng: random.Random) -> Problem | None:
        """Draws a word problem in two or three steps.

        Its id leaves out names and objects, so problems with the same arithmetic are all in the same split.
        """
        one, two = rng.sample(NAMES, 2)
        thing = rng.choice(OBJECTS)
        drawn = draw(KINDS, rng)
        if drawn is None:
            return None
        key, kind, numbers, lines = drawn
        question = kind.text.format(one=one, two=two, thing=thing, **numbers)
        return Problem(f"gsm8k-{key}", question, result(lines), ("\n".join(lines), result(lines)))

    def example(self, problem: Problem, style: str, rng: random.Random) -> str:
        """Makes a response. careful: the right steps. guess: a wrong answer alone. careless: a last step that is wrong."""
        return example(problem, style, rng, "{}")
