"""What every page of the report writes in Markdown: tables, and intervals in words."""

from collections.abc import Collection, Iterable, Sequence
from statistics import mean, stdev

from stp.report.intervals import Interval

ONE_SEED = "one seed, no interval"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table, without a line break at its end."""
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, *rows)]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]])


def interval(found: Interval, form: str, unit: str = "") -> str:
    """Returns the middle in its format and unit, and the ends in brackets: +4.9 points [-3.1, +13.0]."""
    middle, low, high = found
    return format(middle, form) + unit + (f" ({ONE_SEED})" if low is None else f" [{low:{form}}, {high:{form}}]")


def spread(values: Collection[float], form: str) -> str:
    """Returns the mean ± the standard deviation, which a single value does not have: +4.9 ± 1.2."""
    deviation = f" ± {stdev(values):{form.lstrip('+')}}" if len(values) > 1 else ""
    return format(mean(values), form) + deviation
