"""Pays and counts as the public code (d1, SPG) does, quirks included, without `eval` and in time linear in the completion.

The values are the public code's, except that three dangers are closed: only ASCII digits are numbers, a power that is too large
to compute has no value, and a text that no model writes (`stp.tasks.base.flooded`) is never correct.
"""

import ast
import math
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from stp.tasks.base import ANSWER_CLOSE, ANSWER_OPEN, flooded

MAX_EQUATION_CHARS = 256
MAX_POWER_DIGITS = 300  # digits of the result of one **

_NUMBER = re.compile(r"-?[0-9]+\.?[0-9]*")
_STRICT = re.compile(r"<reasoning>\n[^\n]*\n</reasoning>\n<answer>\n[^\n]*\n</answer>\n$")
_EQUATION = re.compile(r"[0-9+\-*/().\s]+\Z")
_BOXED, _BOXED_SPACE = "\\boxed", "\\boxed "
_FENCED = re.compile(r"```([0-9\s]+)```")
_END_OF_TURN = r"<\|eot_id\|>|<\|endoftext\|>"
_END, _END_OF_ANSWER = re.compile(_END_OF_TURN), re.compile(f"{_END_OF_TURN}|{ANSWER_CLOSE}")
_SIXTEEN_BEFORE, _SIXTEEN = re.compile(rf"([0-9]{{16}})\s*{ANSWER_CLOSE}"), re.compile(r"\b([0-9]{16})\b")


# Rewards


def gsm8k_rewards(completion: str, gold: str) -> dict[str, float]:
    """Pays 2.0 for an exact answer, 0.5 for digits, 0.5 for strict format, 0.5 for soft format, 0.125 for each of four tags.

    Quirks: the answer is what follows the last `<answer>`, even if it is not closed, or the whole text if there is no tag (a
    bare `18` is right). It is compared as a string, so `1250` is wrong if the gold is `1,250`, and thousands separators do not
    count as digits. Neither format allows a line break inside a block, so multi-line answers earn nothing there. The strict one
    also requires a line break after `</answer>`.
    """
    answer = completion.rpartition(ANSWER_OPEN)[2].partition(ANSWER_CLOSE)[0].strip()
    return {
        "correct": 2.0 if answer == gold and not flooded(completion) else 0.0,
        "integer": 0.5 if answer.isascii() and answer.isdigit() else 0.0,
        "strict": 0.5 if _STRICT.match(completion) else 0.0,
        "soft": 0.5 if _soft(completion) else 0.0,
        "tags": _tags(completion),
    }


def _tags(text: str) -> float:
    """Pays 0.125 for each tag that stands exactly once on a line of its own.

    Quirks: every character after the closing tag's line costs 0.001 twice, without a lower bound. If no line break follows
    `</answer>`, the first of the two deductions counts the whole text, and the second gives 0.001 back.
    """
    score = 0.125 * (text.count("<reasoning>\n") == 1) + 0.125 * (text.count("\n</reasoning>\n") == 1)
    if text.count("\n<answer>\n") == 1:
        score += 0.125 - 0.001 * len(text.rpartition("\n</answer>\n")[2])
    if text.count("\n</answer>") == 1:
        score += 0.125 - 0.001 * (len(text.rpartition("\n</answer>")[2]) - 1)
    return score


def _soft(text: str) -> bool:
    """Says whether the text starts with `<reasoning>…</reasoning>`, white space, `<answer>…</answer>`.

    Neither block may hold a line break.
    """
    if not text.startswith("<reasoning>"):
        return False
    first_line = text.partition("\n")[0]
    close, line_end = _next(text, ANSWER_CLOSE), _next(text, "\n")
    for match in re.finditer(r"</reasoning>\s*<answer>", text):
        if match.start() >= len(first_line):
            return False
        if close(match.end()) < line_end(match.end()):
            return True
    return False


def math_rewards(completion: str, gold: str) -> dict[str, float]:
    """Pays 2.0 for an equivalent answer, and for the format 0.75 with an `<answer>`, else 0.25.

    Quirks: only the last `\\boxed{}` is compared (without one, the whole text), so an answer in `<answer>` alone is wrong. An
    `<answer>` earns the format even if nothing closes it. `\\boxed` itself never earns anything, because the public pattern for
    it begins with a backspace. A text without any format still earns 0.25.
    """
    right = False
    if not flooded(completion):
        boxed = _last_boxed(completion)
        right = equivalent(completion if boxed is None else boxed, gold)
    return {"correct": 2.0 if right else 0.0, "format": 0.75 if ANSWER_OPEN in completion else 0.25}


def countdown_rewards(completion: str, numbers: Sequence[int], target: int) -> dict[str, float]:
    """Pays 1.0 for a right `<answer>`, 0.1 for a wrong one, 0 without a complete one.

    Quirks: tags pair from the left, so a second `<answer>` inside the first belongs to its text. Floats within 1e-5 are right.
    `**` and `//` are accepted; beyond a bound they pay 0.1 here, where the public code hangs. Leading zeros are wrong.
    """
    answers = list(_answers(completion))
    if not answers:
        return {"answer": 0.0}
    right = _reaches(answers[-1].strip(), numbers, target) and not flooded(completion)
    return {"answer": 1.0 if right else 0.1}


def sudoku_rewards(completion: str, puzzle: str, solution: str) -> dict[str, float]:
    """Pays the share of the empty cells that are right in the digits of the last `<answer>`, cut or filled with 0 to 16.

    Quirks: digits of any text in the answer count (`Row 1: 3142` begins with a 1). The puzzle's own cells may change.
    """
    answers = list(_answers(completion))
    digits = re.sub(r"[^0-9]", "", answers[-1]) if answers and not flooded(completion) else ""
    right, empty = _cells_right(digits, puzzle, solution)
    return {"cells": right / empty}


# Grading of completions, as the published evaluation counts them


def gsm8k_correct(completion: str, gold: str) -> bool:
    """Compares the first number in the first `\\boxed{…}` (up to its first `}`) that holds one.

    Without such a box it compares the last number in the first `<answer>`. Quirks: `\\boxed{1,250}` and
    `\\boxed{\\frac{1}{2}}` are 1, and boxes in the reasoning come before the answer's.
    """
    if flooded(completion):
        return False
    found = next((value for box in _boxes(completion) if (value := _number(box.strip(), 0)) is not None), None)
    if found is None:
        found = _number(next(_answers(completion), "").strip(), -1)
    wanted = _number(gold.replace(",", ""), 0)
    return found is not None and found == wanted


def math_correct(completion: str, gold: str) -> bool:
    """Compares the last `\\boxed{…}` with balanced braces, as a string after normalisation (`equivalent`).

    If that box is broken or empty, the first `<answer>` counts. Without any box it is the whole text, which normally fails.
    """
    if flooded(completion):
        return False
    answer = _last_boxed(completion) or next((a.strip() for a in _answers(completion)), None)
    return answer is not None and equivalent(answer, gold)


def countdown_correct(completion: str, numbers: Sequence[int], target: int) -> bool:
    """Takes the last `\\boxed{…}`, or without one the whole text; the first `<answer>` if the box is broken.

    If that holds `expression = number`, the first left side counts. Its numbers must match exactly, its value within 1e-5.
    """
    if flooded(completion):
        return False
    boxed = _last_boxed(completion)
    equation = next((a.strip() for a in _answers(completion)), completion) if boxed is None else boxed
    equation = equation.replace("\\div", "/").replace("\\times", "*").replace("\\cdot", "*")
    for match in re.finditer(r"(?<=[0-9+\-*/() ])=[0-9. ]", equation):
        before = equation[: match.start()]
        equation = before[len(before.rstrip("0123456789+-*/() ")) :].strip()
        break
    return _reaches(equation, numbers, target)


def sudoku_cells(completion: str, puzzle: str, solution: str) -> tuple[int, int]:
    """Counts (right, all) empty cells. The published accuracy is the share of cells over all puzzles.

    The answer is the first of these that holds anything but white space: digits before the end of a code block in an
    `<answer>`; the first `<answer>` up to a closing tag or special token; what follows the first `</answer>`; 16 digits before
    an `</answer>`; 16 digits that stand alone. Quirks: only white space is taken out of it, so any other character is a cell,
    and a missing digit moves all later ones.
    """
    found = ("" if flooded(completion) else text.strip() for text in _sudoku_answers(completion))
    return _cells_right(re.sub(r"\s", "", next(filter(None, found), "")), puzzle, solution)


# Parts


def _cells_right(answer: str, puzzle: str, solution: str) -> tuple[int, int]:
    """Counts (right, all) empty cells of an answer that is cut or filled with 0 to 16 characters."""
    empty = [i for i, digit in enumerate(puzzle) if digit == "0"]
    return sum(answer[i : i + 1] == solution[i] for i in empty), len(empty)


def _sudoku_answers(text: str) -> Iterator[str]:
    """Yields the texts that may be the answer, in the order in which the published evaluation tries them."""
    _, opened, inside = text.partition(ANSWER_OPEN)
    _, closed, after = text.partition(ANSWER_CLOSE)
    yield _first(_FENCED, inside)
    if opened and (end := _END_OF_ANSWER.search(inside)):
        yield inside[: end.start()]
    if closed:
        yield _END.split(after, maxsplit=1)[0]
    yield _first(_SIXTEEN_BEFORE, text)
    yield _first(_SIXTEEN, text)


def _first(pattern: re.Pattern[str], text: str) -> str:
    """Returns the group of a pattern's first match, or nothing."""
    match = pattern.search(text)
    return match[1] if match else ""


def _next(text: str, needle: str) -> Callable[[int], int]:
    """Returns a function that finds the needle's first place from an index on. For rising indices its total time is linear."""
    place = -1

    def find(start: int) -> int:
        nonlocal place
        if place < start:
            place = text.find(needle, start)
            place = len(text) + 1 if place < 0 else place
        return place

    return find


def _answers(text: str) -> Iterator[str]:
    """Yields the text of each `<answer>…</answer>`, paired from the left."""
    end = 0
    while (start := text.find(ANSWER_OPEN, end)) >= 0 and (close := text.find(ANSWER_CLOSE, start)) >= 0:
        yield text[start + len(ANSWER_OPEN) : close]
        end = close + len(ANSWER_CLOSE)


def _boxes(text: str) -> Iterator[str]:
    """Yields the text of each `\\boxed{…}` up to its first closing brace on the same line."""
    brace, line_end = _next(text, "}"), _next(text, "\n")
    start = 0
    while (place := text.find("\\boxed{", start)) >= 0:
        start = place + len("\\boxed{")
        if (close := brace(start)) < min(line_end(start), len(text)):
            yield text[start:close]
            start = close + 1


def _number(text: str, which: int) -> float | None:
    """Returns the text as a number, else the first (0) or last (-1) number in it, or None."""
    try:
        return float(text) if text.isascii() else float("x")
    except ValueError:
        found = _NUMBER.findall(text)
        return float(found[which]) if found else None


def _last_boxed(text: str) -> str | None:
    """Returns what the last `\\boxed{…}` (or `\\fbox`) holds: all the text if there is no box, None if its braces are open.

    Quirk: `\\boxed ` with a space comes before any other box, and its content reaches to the next `$`.
    """
    if _BOXED_SPACE in text:
        return text.rpartition(_BOXED_SPACE)[2].partition("$")[0]
    start = text.rfind(_BOXED)
    start = text.rfind("\\fbox") if start < 0 else start
    if start < 0:
        return text
    depth = 0
    for brace in re.finditer("[{}]", text[start:]):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0 and brace.group() == "}":
            whole = text[start : start + brace.end()]
            return whole[len("\\boxed{") : -1] if whole.startswith("\\boxed{") else whole
    return None


def equivalent(a: str, b: str) -> bool:
    """Says whether two texts are equal after the normalisation of Hendrycks et al. (2021), or unchanged if that fails."""
    try:
        return normalised(a) == normalised(b)
    except (ValueError, IndexError):
        return a == b


def normalised(text: str) -> str:
    """Removes line breaks, sizes, degrees, dollars, units, per cent, a short `x =` and spaces from a LaTeX answer.

    `\\frac` and `\\sqrt` get braces, and `a/b` becomes `\\frac{a}{b}`. Some malformed answers raise ValueError or IndexError.
    """
    for old, new in [
        ("\n", ""),
        ("\\!", ""),
        ("\\\\", "\\"),
        ("tfrac", "frac"),
        ("dfrac", "frac"),
        ("\\left", ""),
        ("\\right", ""),
    ]:
        text = text.replace(old, new)
    for old in ("^{\\circ}", "^\\circ", "\\$"):
        text = text.replace(old, "")
    if "\\text{ " in text:
        text, _ = text.split("\\text{ ")  # drops units; raises ValueError if there are two
    text = text.replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.")
    if text.startswith("."):
        text = "0" + text
    sides = text.split("=", 2)
    if len(sides) == 2 and len(sides[0]) <= 2:
        text = sides[1]
    first, *roots = text.split("\\sqrt")
    text = "".join([first, *("\\sqrt" + (r if r[0] == "{" else f"{{{r[0]}}}{r[1:]}") for r in roots)]).replace(" ", "")
    text = _braced_fractions(text)
    if text == "0.5":
        return "\\frac{1}{2}"
    ratio = text.split("/", 2)
    if len(ratio) == 2:
        over, under = (int(side) if len(side) <= 1000 else int("x") for side in ratio)  # ValueError unless both are whole
        text = f"\\frac{{{over}}}{{{under}}}" if text == f"{over}/{under}" else text
    return text


def _braced_fractions(text: str) -> str:
    """Writes `\\frac12` and `\\frac1{2}` as `\\frac{1}{2}`. If one is cut short, the whole text stays unchanged."""
    first, *parts = text.split("\\frac")
    done = [first]
    for part in parts:
        if part[0] != "{":
            if len(part) < 2:
                return text
            part = f"{{{part[0]}}}" + (part[1:] if part[1] == "{" else f"{{{part[1]}}}{part[2:]}")
        done.append("\\frac" + part)
    return "".join(done)


def _reaches(equation: str, numbers: Sequence[int], target: int) -> bool:
    """Says whether the equation uses exactly these numbers and its value is within 1e-5 of the target."""
    if len(equation) > MAX_EQUATION_CHARS or sorted(map(int, re.findall("[0-9]+", equation))) != sorted(numbers):
        return False
    value = python_value(equation)
    return value is not None and abs(value - target) < 1e-5


def python_value(text: str) -> float | None:
    """Returns the value that Python gives an expression of digits and `+ - * / ( ) .`, including `**` and `//`.

    It walks the parsed expression without running it. Other nodes, errors, complex values and huge powers give None.
    """
    if len(text) > MAX_EQUATION_CHARS or not _EQUATION.match(text) or not text.isascii():
        return None
    try:
        value = _value(ast.parse(text.strip(), mode="eval").body)
        return value if math.isfinite(value) else None
    except (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError):
        return None


_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: lambda a, b: _power(a, b),
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}


def _value(node: ast.AST) -> Any:
    match node:
        case ast.Constant(int() | float() as number):
            return number
        case ast.BinOp(left, op, right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left), _value(right))
        case ast.UnaryOp(op, operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(operand))
    raise ValueError


def _power(base: float, exponent: float) -> float:
    if base and abs(exponent) * abs(math.log10(abs(base))) > MAX_POWER_DIGITS:
        raise OverflowError
    return base**exponent
