"""Writes files that a crash leaves whole, and reads lines of JSON and settings."""

import itertools
import json
import os
from pathlib import Path
from typing import Any

try:
    from yaml import CSafeLoader as SafeLoader  # six times as fast
except ImportError:  # a PyYAML without its parser in C
    from yaml import SafeLoader


def write_atomically(path: Path, text: str) -> None:
    """Replaces a file's content. A crash leaves the old content or the new, never a part."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.writing")  # another job may write the same file
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Returns the records of a JSONL file, or none if there is no file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def read_yaml(path: Path) -> Any:
    """Returns the content of a YAML file."""
    return SafeLoader(path.read_text(encoding="utf-8")).get_single_data()


def whole_lines(path: Path) -> list[str]:
    """Returns the lines of a JSONL file before the first that a crash cut short, or none if there is no file."""
    return (
        list(itertools.takewhile(_parses, path.read_text(errors="replace", encoding="utf-8").splitlines()))
        if path.exists()
        else []
    )


def _parses(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except json.JSONDecodeError:
        return False
