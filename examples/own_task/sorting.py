"""A task of one's own: write the given numbers in rising order, with any signs between them.

    python -m stp.train task=custom task.data.path=examples/own_task/questions.jsonl \\
        task.reward=examples/own_task/sorting.py:reward task.correct=examples/own_task/sorting.py:correct

The questions are in the words of the tiny base, which knows how to write the numbers with signs between them. It wants to hit
the target; the reward does not ask for that, and teaches it to choose signs with which the numbers rise.
"""

import re


def numbers(completion: str) -> list[int]:
    """Returns the numbers in the completion's <answer>."""
    found = re.search("<answer>(.*?)</answer>", completion, re.DOTALL)
    return [int(number) for number in re.findall("[0-9]{1,9}", found[1])] if found else []


def reward(question: str, answer: list[int], completion: str) -> dict[str, float]:
    """Pays for the right numbers, and for each that stands in its place."""
    written = numbers(completion)
    placed = sum(a == b for a, b in zip(written, answer, strict=False)) / len(answer)
    return {"numbers": 0.5 * (sorted(written) == answer), "places": placed if len(written) == len(answer) else 0.0}


def correct(question: str, answer: list[int], completion: str) -> bool:
    """Says whether the numbers are all there and in order: what accuracy counts."""
    return numbers(completion) == answer
