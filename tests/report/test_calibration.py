"""Reliability curves, their error and what drifts, against numbers computed by hand."""

import json
import sys

import pytest
from pytest import approx

from stp.report import report
from stp.report.calibration import Part, calibration_error, curves, markdown, quarter, reliability
from tests.report import write

FIRST = {
    "update": 1,
    "bin": [40, 49],
    "count": [2.0, 3.0],
    "confidence": [1.62, 2.97],
    "correct": [0.0, 3.0],
    "reward": [0.2, 3.0],
}
SECOND = {
    "update": 2,
    "bin": [45, 49],
    "count": [2.0, 1.0],
    "confidence": [1.82, 0.99],
    "correct": [1.0, 1.0],
    "reward": [1.1, 1.0],
}


def test_a_curve_has_parts_of_equally_many_completions():
    """Bins 40 and 45 make the first half of the eight completions; bin 49, of both updates, is the second."""
    low, high = reliability([SECOND, FIRST], parts=2)
    assert low == Part(4, approx(0.86), 0.25, approx(0.325)) and high == Part(4, approx(0.99), 1.0, 1.0)
    assert calibration_error([low, high]) == approx((0.61 + 0.01) / 2)
    assert [part.completions for part in reliability([FIRST, SECOND], parts=8)] == [2, 2, 4]  # a bin is never divided
    assert calibration_error([Part(3, 0.5, 0.5, 0.0), Part(1, 0.9, 0.5, 0.0)]) == approx(0.1)


@pytest.mark.parametrize(("updates", "first", "last"), [(8, [1, 2], [7, 8]), (3, [1], [3]), (2, [1], [2]), (1, [1], [1])])
def test_quarters_are_the_beginning_and_the_end_of_a_run(updates, first, last):
    lines = [{"update": update + 1} for update in range(updates)]
    for name, wanted in (("first quarter", first), ("last quarter", last)):
        assert [line["update"] for line in quarter(lines, updates, name)] == wanted


def test_runs_of_a_method_make_one_curve_and_their_drift_is_beside_it():
    def run(method, tokens):
        metrics = [{"update": u, "confidence/mean": 0.8 + u / 10, "nfe/tokens_per_forward": tokens * u} for u in (1, 2)]
        return {"method": method, "updates": 2, "calibration": [FIRST, SECOND], "metrics": metrics}

    runs = [run("adaptive", 1.0), run("adaptive", 3.0), run("old", 1.0) | {"calibration": []}]
    found = curves(runs)
    assert set(found) == {"adaptive"} and {name: len(curve) for name, curve in found["adaptive"].items()} == {
        "first quarter": 2,
        "last quarter": 2,
    }
    lines = markdown(runs, found).splitlines()
    assert "| adaptive | 2 | first quarter | 10 | 0.918 | 0.600 | +0.318 | 0.330 | 0.900 | 2.000 | - |" in lines
    assert "| adaptive | 2 | last quarter | 6 | 0.937 | 0.667 | +0.270 | 0.277 | 1.000 | 4.000 | - |" in lines


def test_the_report_draws_what_runs_left_and_names_a_damaged_file(runs, pictures, monkeypatch, capsys):
    good, bad = runs.add("table5_stp"), runs.add("table5_stp", seed=1)
    write(good / "calibration.jsonl", [FIRST, SECOND])
    write(bad / "calibration.jsonl", [FIRST | {"count": [2.0]}])
    monkeypatch.setattr(sys, "argv", ["report", *map(str, runs.folders), "--to", str(runs.root / "report")])
    report.main()
    assert "the bins of update 1 do not fit together" in capsys.readouterr().err
    assert "| stp + elbo | 1 | first quarter | 5 |" in (runs.root / "report" / "calibration.md").read_text()
    assert len((runs.root / "report" / "calibration.csv").read_text().splitlines()) == 5
    assert (runs.root / "report" / "reliability.png").stat().st_size > 5000
    (good / "calibration.jsonl").write_text(json.dumps(FIRST | {"reward": [None, 1.0]}) + "\n")  # a reward was not finite
    report.main()


def test_runs_of_before_have_no_curve(runs, monkeypatch):
    (runs.add("table5_stp") / "calibration.jsonl").unlink()
    monkeypatch.setattr(sys, "argv", ["report", *map(str, runs.folders), "--to", str(runs.root / "report")])
    report.main()
    assert not (runs.root / "report" / "calibration.md").exists()
