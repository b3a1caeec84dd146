"""Settings of the whole suite."""

import gc
import os
from pathlib import Path

import pytest

from tests.commands import SHARED, begin_server

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as commands have it that tests start: two threads round otherwise

LONGEST = (  # the files that take twenty seconds or more
    *("test_faults", "test_sweep", "test_combinations", "test_run", "test_resume", "test_soak", "test_ranks", "test_report"),
    *("test_presets", "test_plan", "test_evaluate", "test_guards", "test_unfinished", "test_options", "test_continuing"),
    *("test_compile", "test_mistakes"),
)


def pytest_configure(config: pytest.Config) -> None:
    """Processes that share the files share a server for their commands, too."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        os.environ[SHARED] = begin_server()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the files that take longest. The processes that share the files then end at about the same time."""
    place = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(Path(item.path).stem, len(place)))


def pytest_collection_finish():
    """Keeps garbage collection away from what was imported, and makes it rarer. It takes a quarter of the time of composing."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
