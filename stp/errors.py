"""Errors that take one line. A user's mistake is told as a value, the rule that it breaks, and the fix."""

from collections.abc import Iterable
from typing import Any, NoReturn


class UserError(ValueError):
    """A mistake in what the user gave. Entry points print it on one line and exit with code 2."""


class RunError(RuntimeError):
    """A run ended, but not by a mistake of the user. Entry points print it on one line and exit with code 1."""


def fail(name: str, value: Any, rule: str) -> NoReturn:
    """Raises a `UserError`, `name=value: rule`. The rule says what is allowed and how to mend the value."""
    raise UserError(f"{name}={value}: {rule}")


def require(ok: bool, name: str, value: Any, rule: str) -> None:
    """Raises a `UserError` about `name=value` unless `ok`."""
    if not ok:
        fail(name, value, rule)


def require_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raises a `UserError` unless `value` is one of `choices`."""
    choices = tuple(choices)
    require(value in choices, name, value, f"choose one of {', '.join(choices)}")
