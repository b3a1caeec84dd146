"""Corrected grading: what a completion answers, and whether that equals the gold answer. Pure, total, and bounded in work."""

import re
from fractions import Fraction
from functools import lru_cache

from stp.tasks import verifier
from stp.tasks.base import ANSWER_CLOSE, ANSWER_OPEN, flooded, last_answer
from stp.tasks.published import normalised

MAX_ANSWER = 400  # characters; longer answers are wrong
MAX_DEPTH = 12  # nested braces

_NUMBER = r"[-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|[-+]?\.[0-9]+"
_ONE_NUMBER = re.compile(rf"(?:{_NUMBER})\Z")
_NUMBERS = re.compile(rf"(?<![0-9.,])(?:{_NUMBER})")
_SEVERAL = re.compile(r"\b(?:or|and)\b|[;\n]")
_ARITHMETIC = re.compile(  # around a number: it is not alone
    r"[0-9/^*+!_]|\\(?:frac|sqrt|times|cdot|div|pm|pi|neq?)(?![a-z])"
    r"|\b(?:minus|negative|not)\b",
    re.IGNORECASE,
)
_FORMAT = re.compile(
    r"<reasoning>(?:(?!</?reasoning>|</?answer>).)*</reasoning>\s*<answer>(?:(?!</?answer>).)*</answer>", re.DOTALL
)
_TAGS = ("<reasoning>", "</reasoning>", ANSWER_OPEN, ANSWER_CLOSE)
_WRAPPED = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_UNIT = re.compile(r"(?<=[0-9)}])\s*\\(?:text|textrm|mathrm|mbox)\s*\{\s*[^{}0-9]*\}(?:\^\{?([0-9])\}?)?\s*\Z")  # at the end
_SPACES = re.compile(r"\\[,;:! ]|~|\\quad|\\qquad|\s+")
_WORD = re.compile(r"[A-Za-z]{2,}")
_CHOICE = re.compile(r"\(?([A-Z])\)?")
_WILD = re.compile(r"\*\*|\^\^|!!|[0-9]{31,}|[0-9]{3,}\)*!|\\(?:sum|prod|int|lim|uparrow|underbrace|def|input|write)")
_MISREAD = re.compile(
    r"[A-Za-z})\]]\s*[0-9]|(?<![0-9.])1(?:[a-z(]|\\(?:frac|sqrt|pi))|_\{?[0-9]|\([^()]*=|\b(?:or|and)\b|or[0-9]"
)
_BETWEEN = re.compile(r"\\(?:cdot|times|div|pm|mp|leq?|geq?|lt|gt|neq?|in|cup|cap|to)(?![A-Za-z])")
_COMMAND = re.compile(r"\\[A-Za-z]+")


# Reading an answer


def final_answer(completion: str) -> str | None:
    """What a completion answers: the last complete `<answer>…</answer>`, or without one the last complete `\\boxed{…}`.

    Where the answer holds a box, the text inside it. What is never closed is passed over; what is complete beside it counts.
    """
    if flooded(completion):
        return None
    answer = last_answer(completion)
    return last_boxed(completion) if answer is None else unboxed(answer)


def unboxed(answer: str) -> str:
    """What the last complete `\\boxed{…}` of an answer holds; where that is empty or not closed, the answer without mark."""
    inside = last_boxed(answer)
    if inside is None or not inside.strip():
        inside = answer.replace("\\boxed{}", "", 1) if inside is not None else answer.replace("\\boxed{", "", 1)
    inside = inside.strip()
    return inside[2:-2].strip() if re.fullmatch(r"\*\*[^*]+\*\*", inside) else inside  # Markdown's bold


def last_boxed(text: str) -> str | None:
    """What the last complete `\\boxed{…}` holds, braces balanced, not below 12 open ones; or None. Linear in the text."""
    stack: list[int] = []  # where each open brace's content begins; -1 - begin for a box's
    found: tuple[int, int] | None = None
    for match in re.finditer(r"\\boxed\s*\{|\\[\\{}]|[{}]", text):
        token = match.group()
        if token.startswith("\\boxed"):
            stack.append(-1 - match.end())
        elif token == "{":
            stack.append(match.end())
        elif token == "}" and stack:
            begin = stack.pop()
            if begin < 0 and len(stack) <= MAX_DEPTH and (found is None or -1 - begin > found[0]):
                found = -1 - begin, match.start()
    return None if found is None else text[found[0] : found[1]]


def plain(answer: str) -> bool:
    """Whether an answer is short, without control characters or digits beyond ASCII, its braces closed and not many deep."""
    if len(answer) > MAX_ANSWER or any((c.isnumeric() and not c.isascii()) or (c < " " and c not in "\t\r\n") for c in answer):
        return False
    depth = bracket = 0
    for c in re.sub(r"\\\\[{}]", "", answer):
        depth += (c == "{") - (c == "}")
        bracket += (c in "([") - (c in ")]")
        if not 0 <= depth <= MAX_DEPTH or bracket > MAX_DEPTH:
            return False
    return depth == 0


# Numbers (GSM8K)


def number(answer: str) -> Fraction | None:
    """The one number that an answer names: `1,250`, `$18.00`, `x = 7`, `18 eggs`, `25\\%`; None for none or several.

    Of an equation it is the right side's. Thousands separators must stand where they belong.
    """
    if not plain(answer):
        return None
    before, equals, text = answer.rpartition("=")
    if equals and _SEVERAL.search(before):
        return None
    for latex, said in (("\\$", ""), ("$", ""), ("\\!", ""), ("\\,", ""), ("{,}", ",")):
        text = text.replace(latex, said)
    found = _NUMBERS.search(text)
    if found is None:
        return None
    before, after = text[: found.start()], text[found.end() :]
    if _ARITHMETIC.search(before + " " + after) or before.rstrip().endswith(("-", "−", "–")):
        return None
    return Fraction(found.group().replace(",", ""))


def same_number(answer: str, gold: str) -> bool:
    """Whether an answer names one number, and that is the gold one."""
    value = number(answer)
    return value is not None and value == number(gold)


# LaTeX (MATH)


def same_answer(answer: str, gold: str) -> bool:
    """Whether two LaTeX answers are equivalent: as strings, as numbers, as words, or else by math-verify within a bounded time.

    The bound is on the work done in a process of its own (`stp.tasks.verifier`), so it holds in any thread.
    """
    return plain(answer) and bool(answer.strip()) and _same_answer(answer, gold)


@lru_cache(maxsize=4096)
def _same_answer(answer: str, gold: str) -> bool:
    answer, gold = _SPACES.sub(" ", answer), _SPACES.sub(" ", gold)
    powers = {match[1] for match in map(_UNIT.search, (answer, gold)) if match is not None and match[1]}
    if len(powers) > 1:  # cm^2 and cm^3
        return False
    a, b = tidy(answer), tidy(gold)
    if a == b:
        return True
    if not a or not b:
        return False
    x, y = _value(a), _value(b)
    if x is not None and y is not None:
        return x == y
    a, b = a if x is None else str(x), b if y is None else str(y)  # without thousands separators
    if _is_text(b) or _is_text(a):
        return _words(a) == _words(b)
    if a.count(",") != b.count(","):  # math-verify takes lists that repeat an element for equal sets
        return False
    if "," in b and (a.rstrip("$.")[-1:] in (")", "]")) != (b[-1] in ")]"):  # and `2,4` or `{2,4}` for (2,4)
        return False
    return tame(a) and tame(b) and verifier.equal(a, b)


def tidy(answer: str) -> str:
    """A LaTeX answer in the form in which answers are compared as strings."""
    text = _SPACES.sub(" ", answer).strip().strip("$").strip().rstrip(".").strip()
    text = text.replace("{,}", ",").replace("\\displaystyle", "").replace("\\dots", "\\ldots")
    for left, right in (("\\(", "\\)"), ("\\[", "\\]")):
        text = text.removeprefix(left).removesuffix(right) if text.startswith(left) and text.endswith(right) else text
    text = re.sub(r"\\?%|°", "", text)
    text = _UNIT.sub("", text)
    text = _WRAPPED.sub(r"\1", text)
    try:
        text = normalised(text)
    except (ValueError, IndexError):
        text = text.replace(" ", "")
    return re.sub(r"([_^])\{([A-Za-z0-9])\}", r"\1\2", text)


def _value(text: str) -> Fraction | None:
    """A plain number, or a fraction of two whole ones."""
    if _ONE_NUMBER.match(text):
        return Fraction(text.replace(",", ""))
    ratio = re.fullmatch(r"(-?)\\frac\{(-?[0-9]+)\}\{([0-9]+)\}", text)
    if ratio is None or not int(ratio[3]):
        return None
    return Fraction(int(ratio[2]), int(ratio[3])) * (-1 if ratio[1] else 1)


def _is_text(text: str) -> bool:
    """Whether an answer is words or a choice's letter: as algebra its letters would commute."""
    if _CHOICE.fullmatch(text):
        return True
    return _WORD.search(_COMMAND.sub("", text)) is not None and not re.search(r"[0-9=^_+*/\\]", text)


def _words(text: str) -> str:
    choice = _CHOICE.fullmatch(text)
    return choice[1] if choice is not None else re.sub(r"[\s\"'.]+", "", text).casefold()


def tame(text: str) -> bool:
    """Whether an answer may be given to a computer algebra system.

    Not with towers of powers, large powers, factorials or series, which may never end; not with what it reads otherwise than a
    reader would: a number right behind a letter or a bracket and a 1 before one (factors, to it), subscripts, several values.
    """
    if text.count("^") > 12 or _WILD.search(text) or _MISREAD.search(_BETWEEN.sub("&", text)):
        return False
    for power in re.finditer(r"\^\s*([{(]?)", text):
        rest = text[power.end() :]
        exponent = re.match(r"[^{}()]*", rest).group() if power[1] else rest[:1]  # type: ignore[union-attr]
        if "^" in exponent or len(re.findall("[0-9]", exponent)) > 3 or re.match(r"[})]*\s*\^", rest[len(exponent) :]):
            return False
    return True


# The format


def format_score(completion: str, whole: bool) -> bool:
    """Whether a completion is (`whole`) or begins with a reasoning block, then an answer block; both may have several lines."""
    text = completion.strip() if whole else completion.lstrip()
    match = _FORMAT.match(text)
    return match is not None and (not whole or match.end() == len(text))


def tag_score(completion: str) -> float:
    """0.125 for each of the four tags that stands exactly once, less 0.001 per character after the answer, but not below 0."""
    score = 0.125 * sum(completion.count(tag) == 1 for tag in _TAGS)
    return (
        max(0.0, score - 0.001 * len(completion.rpartition(ANSWER_CLOSE)[2].strip())) if ANSWER_CLOSE in completion else score
    )
