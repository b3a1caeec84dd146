"""Corrected grading finds a completion's answer and compares it with the gold answer. Pure, total, and bounded in work."""

import re
from fractions import Fraction
from functools import lru_cache

from stp.tasks import units
from stp.tasks.answers import read, same
from stp.tasks.base import ANSWER_CLOSE, ANSWER_OPEN, flooded, last_answer
from stp.tasks.expressions import exact
from stp.tasks.latex import rewritten, symbols, tokens

MAX_ANSWER = 400  # the most characters of an answer; longer ones are wrong
MAX_DEPTH = 12  # the deepest nesting of braces

_NUMBER = r"[-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|[-+]?\.[0-9]+"
_QUOTIENT = r"(?P<minus>[-+]?)(?:(?P<whole>[0-9]+) +)?(?P<over>[0-9]+) */ *(?P<under>[0-9]+)(?![0-9]|[.,][0-9]| */)"
_NUMBERS = re.compile(rf"(?<![0-9.,])(?:{_QUOTIENT}|{_NUMBER})")
_SEVERAL = re.compile(r"\b(?:or|and)\b|[;\n]")
_BESIDE = re.compile(  # if this stands beside a number, the number is not alone or means something else
    r"[0-9/^*+!_<>≤≥≈×÷±√π½¼¾]|\\(?:frac|sqrt|times|cdot|div|pm|pi|neq?|leq?|geq?|lt|gt|approx|sim)(?![a-z])"
    r"|\b(?:minus|negative|not|or|half|and an?)\b",
    re.IGNORECASE,
)
_BOUND = re.compile(  # if this stands right before a number, the number is not the answer itself
    r"(?:\b(?:than|over|under|above|below|at (?:least|most)|about|around|approximately|roughly|nearly|almost|up to"
    r"|exceed(?:s|ing)?|beyond|double|twice|triple|times|plus|within|except|without|no|neither|nor|ca\.?|circa"
    r"|(?:half|third|quarter|fourth|fifth|tenth|percent|square|cube|root|factorial|reciprocal|inverse|multiples?) of)|(?<!\S)~)"
    r"\s*(?:an?|the)?\s*\$?\s*\Z",
    re.IGNORECASE,
)
_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{\s*([0-9]+)\s*\}|([0-9]))\s*(?:\{\s*([0-9]+)\s*\}|([0-9]))")
_UNIT_SIGNS = re.compile(r"(?<=[A-Za-z])\s*(?:/\s*(?=[A-Za-z])|\^\{?[23]\}?)")  # km/h, cm^2
_LABEL = re.compile(
    r"(?:[A-Za-z](?:_\{?[A-Za-z0-9]+\}?)?(?:\((?:[A-Za-z]|[0-9]+)\))?|[A-Za-z'’,. ]*[A-Za-z]{3}[A-Za-z'’,. :]*)"
)  # what may name the number, left of `=`
_FORMAT = re.compile(
    r"<reasoning>(?:(?!</?reasoning>|</?answer>).)*</reasoning>\s*<answer>(?:(?!</?answer>).)*</answer>", re.DOTALL
)
_TAGS = ("<reasoning>", "</reasoning>", ANSWER_OPEN, ANSWER_CLOSE)
_NO_BACKSLASH, _EMPTY_BOX = re.compile(r"(?<![\\A-Za-z])boxed\s*\{"), re.compile(r"\\(?:boxed|fbox)\s*\{\s*\}")
_OPEN_BOX = re.compile(r"\\(?:boxed|fbox)\b\s*\{?")
_BRACES = re.compile(  # the opening of a box, a box without braces around a number or letter, escaped braces, other braces
    r"\\(?:boxed|fbox)\s*\{|\\boxed +(-?[0-9][0-9.,]*|[A-Za-z])(?=[\s$.,;<]|\\[)\]]|\Z)|\\[\\{}]|[{}]"
)
_WRAPPED = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_CHOICE = re.compile(r"\$?\s*(?:\\(?:text|textbf|mathrm|mathbf|textrm|mbox)\s*\{)?\s*\(?([A-Z])\)?\s*\}?\s*\.?\s*\$?")


# Reading an answer


def final_answer(completion: str) -> str | None:
    """Returns a completion's answer: the last complete `<answer>…</answer>`, or without one the last complete `\\boxed{…}`.

    If the `<answer>` holds a box, this is the text inside the box. Tags and boxes that are never closed are ignored.
    """
    if flooded(completion):
        return None
    answer = last_answer(completion)
    return last_boxed(completion) if answer is None else unboxed(answer)


def unboxed(answer: str) -> str:
    """Returns the content of an answer's last complete box. The box's backslash may be missing.

    If there is no such box, returns the answer without the mark of a box that is empty or not closed.
    """
    answer = _NO_BACKSLASH.sub(r"\\boxed{", answer)
    inside = last_boxed(answer)
    inside = (_OPEN_BOX.sub("", _EMPTY_BOX.sub("", answer), count=1) if inside is None else inside).strip()
    return inside[2:-2].strip() if re.fullmatch(r"\*\*[^*]+\*\*", inside) else inside  # Markdown's bold


def last_boxed(text: str) -> str | None:
    """Returns the content of the last complete `\\boxed{…}` with balanced braces that is not empty, or None.

    A box inside more than 12 open braces does not count. `\\boxed 5` is a box too, as in TeX. Takes linear time.
    """
    stack: list[int] = []  # where the content of each open brace begins, as `begin`, or as -1 - begin for a box
    found: tuple[int, int] | None = None
    for match in _BRACES.finditer(text):
        token = match.group()
        if match[1]:
            found = match.start(1), match.end(1) - (match[1][-1] in ".,")
        elif token.startswith(("\\boxed", "\\fbox")):
            stack.append(-1 - match.end())
        elif token == "{":
            stack.append(match.end())
        elif token == "}" and stack:
            begin = stack.pop()
            later = begin < 0 and len(stack) <= MAX_DEPTH and (found is None or -1 - begin > found[0])
            if later and not text[-1 - begin : match.start()].isspace() and match.start() > -1 - begin:
                found = -1 - begin, match.start()
    return None if found is None else text[found[0] : found[1]]


def plain(answer: str) -> bool:
    """Says whether an answer is short, has no control characters or foreign digits, and closes its few nested braces."""
    if len(answer) > MAX_ANSWER:
        return False
    answer = symbols(answer)
    if any((c.isnumeric() and not c.isascii()) or (c < " " and c not in "\t\r\n") for c in answer):
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
    """Returns the number that an answer names: `1,250`, `$18.00`, `x = 7`, `18 eggs`, `25\\%`, `2 million`, `36/2`, `18 1/2`.

    None if it names no number, or several. An equation names its right side if the left side is a name or has the same value:
    `3 + 15 = 18`, not `2x = 18`. Thousands separators must stand in the right places. `stp.tasks.units` says which words may
    stand beside a number.
    """
    if not plain(answer):
        return None
    answer = _WRAPPED.sub(r"\1", symbols(answer))
    for latex, said in (("\\$", "$"), ("\\!", ""), ("\\,", ""), ("{,}", ","), ("\\left", ""), ("\\right", "")):
        answer = answer.replace(latex, said)
    answer = re.sub(r"\^\s*\{?\s*\\circ\s*\}?", " degrees ", answer)
    before, equals, text = answer.rpartition("=")
    value = _one_number(text)
    return value if value is None or not equals or _names(before, value) else None


def _one_number(text: str) -> Fraction | None:
    """Returns the number of a text. None if the text holds another number, or a word or sign that changes its meaning."""
    text = _FRACTION.sub(lambda match: " {}/{} ".format(*filter(None, match.groups())), text)
    found = _NUMBERS.search(text)
    if found is None:
        return None
    before, after = text[: found.start()], _UNIT_SIGNS.sub(" ", text[found.end() :])
    if _BESIDE.search(before + " " + after) or _BOUND.search(before):
        return None
    value, sign = _value(found), re.search(r"-\s*\$?\s*\Z", before)
    if value is None or re.search(r"[A-Za-z]\Z", before) or (sign and found.group()[0] in "+-"):  # A18, --18
        return None
    factor = _scale(after)
    return None if factor is None else value * factor * (-1 if sign else 1)


def _value(found: re.Match[str]) -> Fraction | None:
    """Returns the value of a number, quotient or mixed number. None for `1/0` and for `2 3/2`, which has two readings."""
    minus, whole, over, under = found.group("minus", "whole", "over", "under")
    if under is None:
        return Fraction(found.group().replace(",", ""))
    if not int(under) or (whole is not None and int(over) >= int(under)):
        return None
    value = int(whole or 0) + Fraction(int(over), int(under))
    return -value if minus == "-" else value


def _scale(after: str) -> int | None:
    """Returns the factor by which the words after a number multiply it.

    None if they change its meaning or are not words, as in `18x`.
    """
    first = re.match(r"(\s*)([A-Za-z]+)", after)
    if first is not None:
        apart, word = first.groups()
        if word in ("k", "K"):
            return 1_000
        short = len(word) == 1 or (len(word) == 2 and word.lower() not in units.KNOWN and not apart)
        if short and word not in units.KNOWN and not (apart and word in "aCF"):
            return None
    words = re.findall(r"[A-Za-z]+", after)
    measured = units.measured(" ".join(words))
    return None if measured is None else measured[0]


def _names(before: str, value: Fraction) -> bool:
    """Says whether the text before `=` is a letter (with an index or as `f(x)`), words, or arithmetic with the same value."""
    before = before.replace("\\(", " ").replace("\\[", " ").strip(" $*\n")
    if not before or _LABEL.fullmatch(before):
        return _SEVERAL.search(before) is None
    member = before.rpartition("=")[2].rpartition(":")[2].replace("$", "")
    member = re.sub(r"(?<=[0-9])\s*[xX]\s*(?=[0-9])", "*", member)  # 3 x 6
    worked = read(re.sub(r"(?<=[0-9])\s*[A-Za-z]{3,}", "", member))
    return worked is not None and exact(worked) == value


def same_number(answer: str, gold: str) -> bool:
    """Says whether an answer names one number and this is the gold one."""
    value = number(answer)
    return value is not None and value == number(gold)


# LaTeX (MATH)


def same_answer(answer: str, gold: str) -> bool:
    """Says whether two LaTeX answers are the same: in writing, or in structure with equal parts (`stp.tasks.answers`)."""
    if not plain(answer) or not plain(gold) or not answer.strip():
        return False
    return answer == gold or _same_answer(answer, gold)


@lru_cache(maxsize=4096)
def _same_answer(answer: str, gold: str) -> bool:
    if written(answer) == written(gold):
        return True
    choices = _CHOICE.fullmatch(answer), _CHOICE.fullmatch(gold)
    if choices[0] is not None and choices[1] is not None:
        return choices[0][1] == choices[1][1]
    wanted = read(gold)
    given = None if wanted is None else read(answer, wanted)
    return given is not None and wanted is not None and same(given, wanted)


def written(answer: str) -> tuple[tuple[str, str], ...]:
    """Returns the tokens of a rewritten answer, whether in text or not. White space counts only between words and numbers."""
    return tuple((token.kind, token.text) for token in tokens(rewritten(_WRAPPED.sub(r" \1 ", answer))))


# The format


def format_score(completion: str, whole: bool) -> bool:
    """Says whether a completion begins with a reasoning block and then an answer block, each of any number of lines.

    whole: nothing may follow them.
    """
    text = completion.strip() if whole else completion.lstrip()
    match = _FORMAT.match(text)
    return match is not None and (not whole or match.end() == len(text))


def tag_score(completion: str) -> float:
    """Pays 0.125 for each of the four tags that stands exactly once, minus 0.001 per character after the answer, at least 0."""
    score = 0.125 * sum(completion.count(tag) == 1 for tag in _TAGS)
    return (
        max(0.0, score - 0.001 * len(completion.rpartition(ANSWER_CLOSE)[2].strip())) if ANSWER_CLOSE in completion else score
    )
