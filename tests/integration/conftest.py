import pytest


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Static datasets and outputs of a test go to its own folder."""
    monkeypatch.chdir(tmp_path)
