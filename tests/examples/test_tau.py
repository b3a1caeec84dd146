"""`scripts/tau.py` on two problems: each setting's row, and the figure."""

import importlib.util
from pathlib import Path

FILE = Path(__file__).parents[2] / "scripts" / "tau.py"


def test_each_setting_gives_a_row_and_the_rows_a_figure(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("tau", FILE)
    tau = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tau)
    monkeypatch.setattr(tau, "TAUS", (1e-6, 1.0))
    monkeypatch.setattr(tau, "STEPS", (6,))
    rows = list(tau.measure("countdown", 2, seed=0))
    assert [row["rule"] for row in rows] == ["schedule", *["threshold, floor 2"] * 2, "threshold, floor 1"] * 2
    for schedule, lowest, highest, finest in (rows[:4], rows[4:]):
        assert schedule["max"] <= 6 and lowest["max"] <= 2 and highest["max"] <= 24
        assert lowest["forwards"] <= highest["forwards"] and finest["max"] <= 2  # the least tau reveals a block in a forward
        assert {row["problems"] for row in rows} == {2}
    tau.draw(rows, tmp_path)
    assert (tmp_path / "tau.png").stat().st_size > 0
