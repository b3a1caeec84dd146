"""Inputs at random: whatever is given, the answer is a result or one line about a mistake.

`FUZZ=<n>` multiplies the number of inputs, which then are new ones each time; without it every run tries the same.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

from stp.cli import one_line, with_causes
from stp.errors import UserError

FACTOR = int(os.environ.get("FUZZ", "0"))
tried: Counter[tuple[str, str]] = Counter()  # (kind of input, outcome) -> inputs, for the closing lines


def inputs(count: int) -> Callable[[Any], Any]:
    """Try so many inputs (times FUZZ), however long one takes."""
    return settings(
        max_examples=count * max(FACTOR, 1),
        derandomize=not FACTOR,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def plain(text: str) -> bool:
    """Whether a terminal shows the text in one line as it stands: no controls, no marks, nothing without a character."""
    return not {unicodedata.category(character) for character in text} & {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}


def outcome(kind: str, work: Callable[[], Any], *kinds: type[Exception]) -> Any:
    """What `work` returns; None where it refuses with a `UserError` (or one of `kinds`), which must fit on one line."""
    try:
        result = work()
    except (UserError, *kinds) as error:
        tried[kind, "refused"] += 1
        line = one_line(with_causes(error))
        assert line and plain(line), ascii(line)
        return None
    tried[kind, "accepted"] += 1
    return result
