"""Settings of the whole suite."""

import gc


def pytest_collection_finish():
    """Keeps garbage collection away from what was imported. Looking through it takes a quarter of the time of composing."""
    gc.collect()
    gc.freeze()
