"""Settings of the whole suite."""

import gc


def pytest_collection_finish():
    """Leaves what was imported to no garbage collection: it stays, and looking through it takes a quarter of composing's time."""
    gc.collect()
    gc.freeze()
