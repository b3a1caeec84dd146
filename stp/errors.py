"""Errors that are said in one line. A user's mistake: a value, the rule it breaks and the fix."""

from collections.abc import Iterable
from typing import Any, NoReturn


class UserError(ValueError):
    """A mistake in what the user gave. Entry points print it on one line and exit with code 2."""


class RunError(RuntimeError):
    """What ends a run through no mistake of the user's. Entry points print it on one line and exit with code 1."""


def fail(name: str, value: Any, rule: str) -> NoReturn:
    """Raise `name=value: rule`; the rule says what is allowed and how to mend it."""
    raise UserError(f"{name}={value}: {rule}")


def require(ok: bool, name: str, value: Any, rule: str) -> None:
    """Raise a `UserError` about `name=value` unless `ok`."""
    if not ok:
        fail(name, value, rule)


def require_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raise a `UserError` unless `value` is one of `choices`."""
    choices = tuple(choices)
    require(value in choices, name, value, f"choose one of {', '.join(choices)}")
