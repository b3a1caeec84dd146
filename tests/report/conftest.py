import shutil

import pytest

from stp.report import figures
from tests.integration.runs import composed
from tests.report import Runs


@pytest.fixture(autouse=True)
def unrendered(request, monkeypatch):
    """Figures are composed from the runs and closed. Rendering them takes most of a report's time: `pictures` asks for it."""
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr(figures, "_save", lambda figure, *_: figures.plt.close(figure))


@pytest.fixture
def pictures():
    """Figures are rendered and saved, too."""


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """A real run, without its weights."""
    from stp.train.job import execute

    folder = tmp_path_factory.mktemp("real")
    choices = {"task": "countdown", "model": "tiny", "sampler": "stp", "estimator": "elbo", "objective": "grpo"}
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)  # its static dataset goes there
        execute(composed("trainer.eval_temperatures=[0.0]"), folder / "run", choices)
    shutil.rmtree(folder / "run" / "weights")
    return folder / "run"


@pytest.fixture
def runs(tmp_path, template, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Runs(tmp_path / "outputs" / "ablations", template)


@pytest.fixture
def drawn(pictures, monkeypatch):
    """The figures as they are saved, which stay open to be looked at."""
    kept, save = [], figures._save

    def keep(figure, path, framed):
        kept.append(figure)
        save(figure, path, framed)

    monkeypatch.setattr(figures, "_save", keep)
    return kept
