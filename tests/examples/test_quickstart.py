"""The notebook runs from its first cell to its last, and holds no output."""

import json
from pathlib import Path

import matplotlib

FILE = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"
NOTEBOOK = json.loads(FILE.read_text(encoding="utf-8"))


def test_its_cells_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    known = {"__name__": "__main__"}
    for cell in NOTEBOOK["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), known)
    assert len(known["metrics"]) == 5 and known["samples"] and known["summary"]["final"]["total"] == 16
    (line,) = known["axes"].get_lines()
    assert line.get_ydata().tolist() == [update["reward/mean"] for update in known["metrics"]]
    shown = [text for text in capsys.readouterr().out.splitlines() if text.startswith("after ")]
    masks = [text.count("·") for text in shown]
    assert masks[0] > masks[1] > masks[-1] == 0 and known["completion"]
    assert {file.name for file in tmp_path.iterdir()} == {"outputs"}


def test_it_is_a_notebook_without_outputs():
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids) and NOTEBOOK["cells"][0]["source"][0] == "# Quickstart\n"
    assert all(cell["outputs"] == [] for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code")
