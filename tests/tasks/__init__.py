"""Tests of the tasks, and the way to data and fixtures that lie beside the repository."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("STP_SHARED", Path(__file__).parents[2].parent / "shared"))


def shared(name: str) -> Path:
    """A file or folder under STP_SHARED (default: the folder `shared` beside the repository); skips the test without it."""
    if not (SHARED / name).exists():
        pytest.skip(f"{name} is not here; set STP_SHARED to the folder that holds it")
    return SHARED / name
