"""`python -m stp.report` on runs with known numbers: every figure it prints, worked out by hand."""

import csv
import json
import math
import re
import shutil
import sys
from pathlib import Path

import matplotlib.image
import pytest
import yaml

from stp.report import report
from tests.commands import command
from tests.report import write

IMPROVEMENT = "Improv. (vs. best baseline)"
PICTURES = {
    "learning_curves.png",
    "figure3a.png",
    "figure3b.png",
    "heatmap.png",
    "table_curves.png",
    "phases.png",
    "accuracy.png",
    "leaderboard.png",
}


def made(monkeypatch, *arguments):
    """Run the entry point here; the folder it wrote."""
    monkeypatch.setattr(sys, "argv", ["stp.report", "--to", "out", *map(str, arguments)])
    report.main()
    return Path(sys.argv[-1] if "--to" in arguments else "out")


def section(text, heading):
    """The cells of the table under a heading of tables.md: a list of rows, the heads first."""
    body = text.split(f"## {heading}")[1].split("\n## ")[0]
    lines = [line for line in body.splitlines() if line.startswith("|") and not line.startswith("|-")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def cells(text, heading):
    """As `section`, by the first column (a table's rows in order where names repeat)."""
    return {next(iter(row.values())): row for row in section(text, heading)}


def read_csv(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def three_seeds(runs):
    """Table 7's rows with three seeds each, and its baseline: 8 problems, whose answers differ from seed to seed."""
    for seed, (base, random, ours) in enumerate(
        [
            ("11000000", "11100000", "11110000"),  # 2, 3, 4 of 8
            ("11000000", "11000000", "11111000"),  # 2, 2, 5
            ("11110000", "11110000", "11111100"),  # 4, 4, 6
        ]
    ):
        runs.add("table5_grpo_elbo", seed, base, seconds=100 + 10 * seed, forwards_per_rollout=40.0)
        runs.add("table7_random", seed, random, seconds=90.0, forwards_per_rollout=38.0)
        runs.add("table7_low_confidence", seed, ours, seconds=80 + seed, forwards_per_rollout=39.0)


def test_means_spreads_counts_and_changes(runs, monkeypatch):
    three_seeds(runs)
    out = made(monkeypatch)
    rows = cells((out / "tables.md").read_text(), "Table 7")
    ours, random = rows["Low confidence (ours)"], rows["Random"]
    # 4, 5 and 6 of 8 are 50, 62.5 and 75 %; their standard deviation (n - 1) is 12.5
    assert ours["Acc. (%)"] == "62.5 ± 12.5 (4, 5, 6 of 8)"
    assert random["Acc. (%)"] == "37.5 ± 12.5 (3, 2, 4 of 8)"
    assert (ours["Time (s)"], ours["forwards"]) == ("81 ± 1", "39")  # 80, 81, 82 s
    assert (random["Time (s)"], random["forwards"]) == ("90 ± 0", "38")
    # the baseline: 2, 2 and 4 of 8 are 33.33 % on average, 110 s
    assert (ours["Acc. change"], ours["Time change"]) == ("+87.5 %", "-26.4 %")
    assert (random["Acc. change"], random["Time change"]) == ("+12.5 %", "-18.2 %")
    assert (ours["paper Acc. (%)"], ours["paper Time (s)"]) == ("35.20", "102,553")
    assert (random["paper Acc. (%)"], random["paper Time (s)"]) == ("34.60", "98,234")


def test_the_processors_clock(runs, monkeypatch):
    """--clock cpu: the same tables with processor seconds; a run that has none is left out of the means."""
    runs.add("table5_grpo_elbo", 0, "1000", seconds=100.0, time={"cpu_s": 60.0})
    runs.add("table5_stp", 0, "1000", seconds=50.0, time={"cpu_s": 45.0})
    folder = runs.add("table5_stp", 1, "1000", seconds=50.0)
    summary = json.loads((folder / "summary.json").read_text())
    del summary["time"]["cpu_s"]
    (folder / "summary.json").write_text(json.dumps(summary))
    wall = cells((made(monkeypatch) / "tables.md").read_text(), "Table 5")
    text = (made(monkeypatch, "--clock", "cpu") / "tables.md").read_text()
    cpu = cells(text, "Table 5")
    assert (wall["STP (ours)"]["Time (s)"], wall["STP (ours)"]["Time change"]) == ("50 ± 0", "-50.0 %")
    assert (cpu["GRPO w/ ELBO"]["Time (s)"], cpu["STP (ours)"]["Time (s)"]) == ("60", "45")
    assert cpu["STP (ours)"]["Time change"] == "-25.0 %" and "of the processors" in text
    assert heat(Path("out"))[0.05, 0.05]["train_s"] == "45.0"


def test_the_interval_is_students_over_paired_seeds(runs, monkeypatch):
    three_seeds(runs)
    text = (made(monkeypatch) / "tables.md").read_text()
    # differences of the seeds: 25, 37.5, 25 points. Mean 29.1667, standard deviation 7.2169, t(2) = 4.303
    half = 4.303 * 7.2169 / math.sqrt(3)
    points = cells(text, "Table 7")["Low confidence (ours)"]["points over the baseline [95 %]"]
    assert points == "+29.2 [+11.2, +47.1]"
    row = next(row for row in read_csv(Path("out/table7.csv")) if row["preset"] == "table7_low_confidence")
    assert float(row["points"]) == pytest.approx(29.1667, abs=1e-3)
    assert float(row["points_high"]) - float(row["points"]) == pytest.approx(half, rel=1e-3)
    assert float(row["points"]) - float(row["points_low"]) == pytest.approx(half, rel=1e-3)
    # 12.5, 0, 0 points: mean 4.1667, standard deviation 7.2169
    assert cells(text, "Table 7")["Random"]["points over the baseline [95 %]"] == "+4.2 [-13.8, +22.1]"


def test_seeds_are_paired_even_where_one_side_has_more(runs, monkeypatch):
    """Seeds 7 and 8 have no partner: they count in the mean accuracies, but not in the difference."""
    three_seeds(runs)
    runs.add("table5_grpo_elbo", 8, "00000000")
    runs.add("table7_random", 7, "11111111")
    row = cells((made(monkeypatch) / "tables.md").read_text(), "Table 7")["Random"]
    assert row["Acc. (%)"].startswith("53.1 ± 32.9 (3, 2, 4, 8 of 8)")
    assert row["points over the baseline [95 %]"] == "+4.2 [-13.8, +22.1]"


@pytest.mark.parametrize("degrees", range(1, 12))
def test_students_quantiles(runs, degrees):
    """The width of the interval of degrees + 1 seeds, the differences being 0 and 25 points by turns (R: qt(.975, n))."""
    quantile = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201][degrees - 1]
    for seed in range(degrees + 1):
        runs.add("table5_grpo_elbo", seed, "1000")
        runs.add("table5_stp", seed, "1100" if seed % 2 else "1000")
    groups, _ = report.presets(report.load_runs(runs.folders)[0])
    found = report.paired_difference(groups["table5_stp"], groups["table5_grpo_elbo"])
    n = degrees + 1
    share = (n // 2) / n
    spread = 25 * math.sqrt(share * (1 - share) * n / degrees)
    assert found["points"] == pytest.approx(25 * share)
    assert found["points_high"] - found["points"] == pytest.approx(quantile * spread / math.sqrt(n), rel=5e-3)


def test_one_seed_has_no_interval(runs, monkeypatch):
    """One over its problems would look like one over seeds, and be too narrow."""
    runs.add("table5_grpo_elbo", 0, "11000000")
    runs.add("table5_stp", 0, "01111000")
    row = cells((made(monkeypatch) / "tables.md").read_text(), "Table 5")["STP (ours)"]
    assert (row["Acc. (%)"], row["Time (s)"]) == ("50.0 (4 of 8)", "100")  # no spread of a single run
    assert row["points over the baseline [95 %]"] == "+25.0 (one seed, no interval)"
    (row,) = [row for row in read_csv(Path("out/table5.csv")) if row["preset"] == "table5_stp"]
    assert (row["points"], row["points_low"], row["points_high"]) == ("25.0", "", "")


def test_only_the_answers_at_the_temperature_that_counts_make_the_curve(runs):
    folder = runs.add("table5_stp", 0, "0110")
    lines = [json.loads(line) for line in (folder / "eval.jsonl").read_text().splitlines()]
    more = [line | {"temperature": 1.0, "correct": True} for line in lines]
    write(folder / "eval.jsonl", more + lines + [line | {"update": 1, "correct": True} for line in lines[:4]])
    ((run,), _) = report.load_runs([folder])
    assert run["curve"] == {"0": 1, "1": 4, "2": 2}


def test_changes_are_against_the_better_baseline(runs, monkeypatch):
    """Table 2: the accuracy of the more accurate one, the time of the faster one, whichever they are."""
    runs.add("table2_countdown_grpo_elbo", 0, "11110000", seconds=200.0)
    runs.add("table2_countdown_diffu_grpo", 0, "11000000", seconds=100.0)
    runs.add("table2_countdown_stp", 0, "11111000", seconds=90.0)
    out = made(monkeypatch)
    (ours,) = [row for row in read_csv(out / "table2.csv") if row["preset"] == "table2_countdown_stp"]
    assert float(ours["accuracy_change"]) == pytest.approx(25.0)  # 5 against 4, not 2, of 8
    assert float(ours["seconds_change"]) == pytest.approx(-10.0)  # 90 s against 100 s, not 200 s
    assert float(ours["points"]) == pytest.approx(12.5)
    rows = cells((out / "tables.md").read_text(), "Table 2")
    last = rows[IMPROVEMENT]
    assert (last["countdown Acc. (%)"], last["countdown Time (s)"]) == ("+25.00 %", "-10.00 %")
    printed = [last[f"{task} paper {what}"] for task in ("math", "gsm8k", "countdown") for what in ("Acc. (%)", "Time (s)")]
    assert printed == ["+5.85 %", "-13.07 %", "+0.56 %", "-1.44 %", "+81.72 %", "-3.43 %"]  # the paper's last row
    assert rows["base model"]["countdown Acc. (%)"] == "12.5 (1 of 8)" and rows["base model"]["countdown Time (s)"] == "-"
    assert rows["base model"]["countdown paper Acc. (%)"] == "16.80"


def test_a_row_that_was_not_run_is_missing_and_never_0(runs, monkeypatch):
    runs.add("table5_stp", 0, "0000")  # none solved: that is 0, not missing
    out = made(monkeypatch)
    text = (out / "tables.md").read_text()
    rows = cells(text, "Table 5")
    assert rows["STP (ours)"]["Acc. (%)"] == "0.0 (0 of 4)"
    assert rows["STP (ours)"]["points over the baseline [95 %]"] == rows["STP (ours)"]["Time change"] == "-"
    spatial = rows["Spatial only"]
    measured = [value for head, value in spatial.items() if head not in ("Method", "SP", "TP") and "paper" not in head]
    assert measured == ["missing"] * 6
    assert (spatial["paper Acc. (%)"], spatial["paper Time (s)"]) == ("35.20", "102,553")
    for number in (2, 3, 4, 6, 7):  # nothing but the base model is known there
        rows = [row for row in section(text, f"Table {number}") if row.get("Method") not in ("base model", IMPROVEMENT)]
        ours = {v for row in rows for head, v in row.items() if re.search(r"%\)|\(s\)|forwards", head) and "paper" not in head}
        assert rows and ours == {"missing"}
    (row,) = [row for row in read_csv(out / "table5.csv") if row["preset"] == "table5_spatial_only"]
    assert (row["seeds"], row["accuracy"], row["seconds"], row["accuracy_change"]) == ("0", "", "", "")
    assert (row["paper_accuracy"], row["paper_seconds"]) == ("35.2", "102553")
    (row,) = [row for row in read_csv(out / "table5.csv") if row["preset"] == "table5_stp"]
    assert (row["seeds"], row["accuracy"], row["correct"], row["points"]) == ("1", "0.0", "0", "")


def test_a_baseline_that_solves_nothing_has_no_relative_change(runs, monkeypatch):
    runs.add("table5_grpo_elbo", 0, "0000")
    runs.add("table5_stp", 0, "1000")
    row = cells((made(monkeypatch) / "tables.md").read_text(), "Table 5")["STP (ours)"]
    assert row["Acc. change"] == "-" and row["points over the baseline [95 %]"].startswith("+25.0 (one")


def test_the_newest_run_of_a_seed_counts(runs, monkeypatch):
    runs.add("table5_stp", 0, "1111", name="a", finished="2026-01-02T00:00:00")
    runs.add("table5_stp", 0, "1100", name="b", finished="2026-01-03T00:00:00")
    runs.add("table5_stp", 0, "1110", name="c", finished="2026-01-01T00:00:00")
    assert cells((made(monkeypatch) / "tables.md").read_text(), "Table 5")["STP (ours)"]["Acc. (%)"] == "50.0 (2 of 4)"


def test_a_twin_brings_the_data_of_the_run_it_names(runs, monkeypatch):
    run = runs.add("table5_stp", 0, "1110", seconds=70.0, rewards=(0.3, 0.4))
    runs.add("table5_grpo_elbo", 0, "1000")
    for preset in ("table6_g005_t005", "figure3_stp", "table2_countdown_stp"):
        runs.twin(preset, run)
    runs.add("figure3_grpo_elbo", 0, probes={1: [8.0, 9.0, 10.0], 2: [8.0, 9.0, 10.0]})
    out = made(monkeypatch)
    text = (out / "tables.md").read_text()
    row = next(row for row in section(text, "Table 6") if (row["gamma"], row["t_cutoff"]) == ("0.05", "0.05"))
    assert (row["Acc. (%)"], row["Time (s)"]) == ("75.0 (3 of 4)", "70")
    assert row["points over the baseline [95 %]"].startswith("+50.0 (one")
    assert cells(text, "Table 2")["STP (ours)"]["countdown Acc. (%)"] == "75.0 (3 of 4)"
    assert cells(text, "Figure 3")["of the sequence"]["pairs"] == "2"  # its variance.jsonl
    assert len(read_csv(out / "every_run.csv")) == 3  # the run itself is listed once


def test_twins_alone_are_reported(runs, monkeypatch):
    """`python -m stp.report outputs/ablations/table6_*/seed*`: their data are elsewhere, but known."""
    run = runs.add("table5_stp", 0, "1110")
    twins = [runs.twin("table6_g005_t005", run), runs.twin("table4_model", run)]
    other = runs.add("table6_g000_t010", 0, "1100")
    for given in ([*twins], [*twins, other]):
        out = made(monkeypatch, *given)
        text = (out / "tables.md").read_text()
        row = next(row for row in section(text, "Table 6") if (row["gamma"], row["t_cutoff"]) == ("0.05", "0.05"))
        assert row["Acc. (%)"] == "75.0 (3 of 4)"
        assert len(read_csv(out / "every_run.csv")) == len(given) - 1  # the run of the two twins once


def test_figure_3_is_paired_by_seed_and_update(runs, monkeypatch):
    # medians of the probes: GRPO w/ ELBO 8, 4 (seed 0), 10, 5 (seed 1); STP 4, 2, 5, 10. Ratios 1/2, 1/2, 1/2, 2.
    runs.add("figure3_grpo_elbo", 0, probes={1: [7.0, 8.0, 99.0], 2: [4.0, 4.0], 5: [1.0, 1.0]})
    runs.add("figure3_grpo_elbo", 1, probes={1: [10.0, 10.0], 2: [5.0, 5.0]})
    runs.add("figure3_grpo_elbo", 2, probes={1: [1000.0]})  # without partner, as update 5
    runs.add("figure3_stp", 0, probes={1: [3.0, 4.0, 98.0], 2: [1.0, 3.0]})
    runs.add("figure3_stp", 1, probes={1: [5.0, 5.0], 2: [10.0, 10.0]})
    out = made(monkeypatch)
    rows = cells((out / "tables.md").read_text(), "Figure 3")
    # mean logs by seed: -ln 2 and 0, a standard deviation of ln 2 / sqrt 2; Student's t of one degree is 12.706
    middle, half = -math.log(2) / 2, 12.706 * math.log(2) / 2
    ratio = f"{math.exp(middle):.3f} [{math.exp(middle - half):.3f}, {math.exp(middle + half):.3f}]"
    assert ratio == "0.707 [0.009, 57.800]"
    for name, medians in {"of the sequence": ("6.5", "4.5"), "per scored token": ("0.0650", "0.0450")}.items():
        row = rows[name]
        assert (row["pairs"], row["STP lower in"], row["STP / GRPO w/ ELBO [95 %]"]) == ("4", "3 of 4", ratio)
        assert (row["GRPO w/ ELBO, median"], row["STP, median"]) == medians
    table = [(r["measure"], r["seed"], r["update"], r["grpo_elbo"], r["stp"]) for r in read_csv(out / "figure3.csv")]
    assert [row[1:] for row in table if row[0] == "variance"] == [
        ("0", "1", "8.0", "4.0"),
        ("0", "2", "4.0", "2.0"),
        ("1", "1", "10.0", "5.0"),
        ("1", "2", "5.0", "10.0"),
    ]
    assert sum(row[0] == "variance_per_token" for row in table) == 4


def test_figure_3_with_one_side_alone_is_missing(runs, monkeypatch):
    runs.add("figure3_stp", 0)
    out = made(monkeypatch)
    assert set(list(cells((out / "tables.md").read_text(), "Figure 3")["of the sequence"].values())[1:]) == {"missing"}
    assert not (out / "figure3a.png").exists()


@pytest.mark.parametrize("updates", [(1,), (1, 2)])
def test_figure_3_of_one_trajectory_per_probe(runs, monkeypatch, updates):
    """trainer.probe_rows=1 and one seed: a single variance per update, of which there are no quartiles."""
    runs.add("figure3_grpo_elbo", 0, probes={update: [8.0] for update in updates})
    runs.add("figure3_stp", 0, probes={update: [4.0] for update in updates})
    text = (made(monkeypatch) / "tables.md").read_text()
    pairs = cells(text, "Figure 3")["of the sequence"]["pairs"]
    assert pairs == ("missing" if len(updates) == 1 else "2")


def heat(out):
    return {(float(r["gamma"]), float(r["t_cutoff"])): r for r in read_csv(out / "heatmap.csv")}


def test_the_heat_map_has_the_measured_places(runs, monkeypatch):
    runs.add("table5_grpo_elbo", 0, "1000", seconds=100.0, forwards_per_rollout=40.0, elbo_variance={"median": 9.0})
    runs.add("table5_grpo_elbo", 1, "1100", seconds=120.0, forwards_per_rollout=40.0, elbo_variance={"median": 11.0})
    runs.add("table5_stp", 0, "1110", seconds=80.0, elbo_variance={"median": 5.0})
    runs.add("heatmap_g010_t005", 0, "1111", elbo_variance=None)
    runs.add("table7_random", 0, "0000")  # gamma 0.05, t_cutoff 0, but another selection
    runs.add("table4_ground_truth", 0, "0000")  # the place of table5_stp, from another source
    runs.add("extra_coupled_stp", 0, "0000", estimator="coupled")  # another estimator
    found = heat(made(monkeypatch))
    assert set(found) == {(0.0, 0.0), (0.05, 0.05), (0.1, 0.05)}  # missing places are not in it
    standard = found[0.0, 0.0]
    assert [float(standard[k]) for k in ("seeds", "accuracy", "train_s", "variance", "forwards")] == [2, 37.5, 110, 10, 40]
    assert [float(found[0.05, 0.05][k]) for k in ("seeds", "accuracy", "train_s", "variance")] == [1, 75, 80, 5]
    assert math.isnan(float(found[0.1, 0.05]["variance"] or "nan")) and float(found[0.1, 0.05]["accuracy"]) == 100


def test_the_heat_map_takes_a_seed_once(runs, monkeypatch):
    """A place's presets are one run and its twins; the newest of a seed counts."""
    run = runs.add("table5_stp", 0, "1110")
    runs.twin("table6_g005_t005", run)
    runs.add("table5_stp", 0, "0000", name="older", finished="2025-01-01T00:00:00")
    runs.add("table5_grpo_elbo", 0, "1000")
    found = heat(made(monkeypatch))
    assert (found[0.05, 0.05]["seeds"], float(found[0.05, 0.05]["accuracy"])) == ("1", 75.0)


def test_the_heat_map_never_mixes_settings(runs, monkeypatch):
    """Runs of another length, rate or number of updates: the map with most places is shown, from one kind of run."""
    runs.add("table5_grpo_elbo", 0, "1000")
    runs.add("table5_stp", 0, "1110")
    runs.add("table6_g000_t005", 0, "1110")
    runs.add("table6_g000_t010", 0, "1111", updates=9)
    runs.add("table6_g010_t000", 0, "1111", overrides=("optimizer.lr=3e-4",))
    runs.add("table6_g005_t000", 0, "1111", overrides=("sampler.length=72",))
    assert set(heat(made(monkeypatch))) == {(0.0, 0.0), (0.05, 0.05), (0.0, 0.05)}


def test_one_place_is_no_heat_map(runs, monkeypatch):
    runs.add("table5_stp", 0)
    out = made(monkeypatch)
    assert not (out / "heatmap.png").exists() and not (out / "heatmap.csv").exists()


FOREIGN = {
    "an evaluation": {
        "checkpoint": "base",
        "task": "countdown",
        "seed": 0,
        "T=0": {"correct": 1, "total": 4, "accuracy": 0.25},
    },
    "another program's": {"loss": 0.1},
    "a list": [1, 2],
    "not evaluated": {"base": {"temperature": 0.0}, "final": {"temperature": 0.0}},
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_summary_is_left_out(runs, monkeypatch, kind):
    """`python -m stp.evaluate` leaves a summary.json under outputs/, too."""
    runs.add("table5_stp", 0, "1110")
    folder = runs.root.parent / "countdown" / "evaluate" / "2026-01-01_00-00-00"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(FOREIGN[kind]))
    write(folder / "eval.jsonl", [{"temperature": 0.0, "problem": "p", "correct": True}])
    out = made(monkeypatch)
    assert cells((out / "tables.md").read_text(), "Table 5")["STP (ours)"]["Acc. (%)"] == "75.0 (3 of 4)"
    assert len(read_csv(out / "every_run.csv")) == 1


def test_unfinished_runs_are_left_out(runs, monkeypatch):
    runs.add("table5_stp", 0, "1110")
    (runs.add("table5_stp", 1, "1111") / "summary.json").unlink()  # interrupted
    (runs.add("table5_grpo_elbo", 0) / "metrics.jsonl").unlink()
    gone = runs.add("table5_spatial_only", 0)
    runs.twin("table6_g005_t000", gone)
    shutil.rmtree(gone)  # whose twin names a run that is no more
    (runs.root / "table5_stp" / "seed2").mkdir()
    (runs.root / "multirun.yaml").write_text("hydra: {}\n")
    (runs.root / "table5_stp" / "failed.txt").write_text("no\n")
    runs.add(None, 0, name="no-eval", base={"temperature": 0.0}, final={"temperature": 0.0})
    out = made(monkeypatch)
    assert cells((out / "tables.md").read_text(), "Table 5")["STP (ours)"]["Acc. (%)"] == "75.0 (3 of 4)"
    assert len(read_csv(out / "every_run.csv")) == 1


def cut(path, keep=0.5):
    """Leave the first part of a file, as a crash or a full disk does."""
    text = path.read_text()
    path.write_text(text[: int(keep * len(text))])


def summary_with(**changes):
    """A damage: other values in summary.json; `score` is put into `final`."""

    def damage(folder):
        summary = json.loads((folder / "summary.json").read_text())
        summary["final"] = summary["final"] | changes.get("score", {})
        summary |= {name: value for name, value in changes.items() if name != "score"}
        (folder / "summary.json").write_text(json.dumps(summary))

    return damage


def config_with(name, value):
    """A damage: another value in config.yaml."""

    def damage(folder):
        config = yaml.safe_load((folder / "config.yaml").read_text())
        group, key = name.split(".")
        config[group][key] = value
        (folder / "config.yaml").write_text(yaml.safe_dump(config))

    return damage


DAMAGE = {
    "summary.json cut short": (lambda folder: cut(folder / "summary.json"), "line"),
    "summary.json empty": (lambda folder: cut(folder / "summary.json", 0), "line 1"),
    "summary.json a list": (lambda folder: (folder / "summary.json").write_text("[1]"), "summary.json: [1]"),
    "no time": (summary_with(time=None), "summary.json: time is None"),
    "a seed in words": (summary_with(seed="zero"), "summary.json: seed is 'zero'"),
    "a number for a time": (summary_with(finished=5), "summary.json: finished is 5"),
    "no accuracy after": (summary_with(score={"accuracy": None}), "summary.json: accuracy is None"),
    "an infinite accuracy": (summary_with(score={"accuracy": math.inf}), "summary.json: accuracy is inf"),
    "a temperature in words": (summary_with(score={"temperature": "0"}), "summary.json: temperature is '0'"),
    "seconds in words": (summary_with(time={"train_s": 1.0, "eval_s": "5"}), "summary.json: eval_s is '5'"),
    "a variance in words": (summary_with(elbo_variance={"median": "x"}), "summary.json: median is 'x'"),
    "metrics.jsonl torn": (lambda folder: cut(folder / "metrics.jsonl", 0.75), "metrics.jsonl: line 2 is cut short"),
    "metrics.jsonl empty": (lambda folder: cut(folder / "metrics.jsonl", 0), "metrics.jsonl is empty"),
    "metrics.jsonl gone": (lambda folder: (folder / "metrics.jsonl").unlink(), "metrics.jsonl"),
    "no reward": (lambda folder: (folder / "metrics.jsonl").write_text("{}\n"), "metrics.jsonl, line 1: no reward/mean"),
    "eval.jsonl torn": (lambda folder: cut(folder / "eval.jsonl", 0.9), "eval.jsonl: line 8 is cut short"),
    "eval.jsonl empty": (lambda folder: cut(folder / "eval.jsonl", 0), "eval.jsonl is empty"),
    "eval.jsonl gone": (lambda folder: (folder / "eval.jsonl").unlink(), "eval.jsonl"),
    "variance.jsonl torn": (lambda folder: cut(folder / "variance.jsonl", 0.95), "variance.jsonl: line 6 is cut short"),
    "bytes": (lambda folder: (folder / "eval.jsonl").write_bytes(b"\xff\xfe\n"), "decode"),
    "config.yaml cut short": (lambda folder: (folder / "config.yaml").write_text("model: {name: t"), "flow mapping"),
    "config.yaml empty": (lambda folder: cut(folder / "config.yaml", 0), "config.yaml: None in place of named values"),
    "config.yaml of another version": (lambda folder: (folder / "config.yaml").write_text("train: {}\n"), "no trainer"),
    "gamma in words": (config_with("sampler.gamma", "high"), "config.yaml: sampler.gamma is 'high'"),
    "a folder for a file": (lambda folder: [(folder / "eval.jsonl").unlink(), (folder / "eval.jsonl").mkdir()], "directory"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_run_is_named_and_stops_no_other(runs, monkeypatch, capsys, kind):
    for seed in (0, 1):
        runs.add("table5_stp", seed, "1110")
    damaged = runs.add("table5_stp", 2, "1111")
    damage, told = DAMAGE[kind]
    damage(damaged)
    out = made(monkeypatch)
    text = (out / "tables.md").read_text()
    assert cells(text, "Table 5")["STP (ours)"]["Acc. (%)"] == "75.0 ± 0.0 (3, 3 of 4)"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("left out: outputs/ablations/table5_stp/seed2: damaged, ") and told in line
    assert f"- {line.replace('left', 'Left', 1)}." in text.splitlines()


def test_nothing_but_damaged_runs_is_a_mistake(runs, monkeypatch, capsys):
    cut(runs.add("table5_stp", 0) / "summary.json")
    with pytest.raises(SystemExit) as stopped:
        made(monkeypatch)
    first, *_, last = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2 and first.startswith("left out: ") and "error: no finished run found" in last


def test_folders_on_the_command_line(runs, monkeypatch, capsys):
    first, second = runs.add("table5_stp", 0, "1110"), runs.add("table5_stp", 1, "1111")
    out = made(monkeypatch, second, runs.root / "nowhere")
    assert capsys.readouterr().err == f"left out: {runs.root / 'nowhere'}: no finished run is there\n"
    assert cells((out / "tables.md").read_text(), "Table 5")["STP (ours)"]["Acc. (%)"] == "100.0 (4 of 4)"
    out = made(monkeypatch, first, second)
    assert cells((out / "tables.md").read_text(), "Table 5")["STP (ours)"]["Acc. (%)"].startswith("87.5 ± 17.7 (3, 4 of 4)")


def test_plain_runs_are_listed_without_any_preset(runs, monkeypatch):
    beside = {"interval": {"accuracy": [0.1, 0.7]}, "puzzles": {"correct": 0, "total": 4, "accuracy": 0.0}}
    both = {"T=1": {"correct": 1, "total": 4, "accuracy": 0.25}, **beside}  # what is no temperature has no line
    base = {"temperature": 0.0, "correct": 1, "total": 4, "accuracy": 0.25} | both
    for seed, solved, correct, more in ((0, "1100", 2, {}), (1, "1110", 3, {"elbo_variance": None})):
        final = {"temperature": 0.0, "correct": correct, "total": 4, "accuracy": correct / 4} | both
        runs.add(None, seed, solved, name=f"plain{seed}", base=base, final=final, **more)
    out = made(monkeypatch)
    lines = (out / "runs.md").read_text().splitlines()
    assert lines[2].startswith("| stp + elbo | 0 | 0 | test | 25.0% (1/4) | 50.0% (2/4) | +25.0 | 37 |")
    assert lines[2].endswith("| 100 | 105 |")  # training; with 5 s of evaluation
    assert "| 25.0% (1/4) | 75.0% (3/4) | +50.0 | 37 | missing | 100 | 105 |" in lines[4]
    assert "- stp + elbo, T=0: +37.5 ± 17.7 points over 2 seed(s)" in lines
    assert "- stp + elbo, T=1: +0.0 ± 0.0 points over 2 seed(s)" in lines
    rows = read_csv(out / "every_run.csv")
    assert [(r["seed"], r["temperature"], float(r["final"]), float(r["gain"])) for r in rows] == [
        ("0", "T=0", 0.5, 25.0),
        ("0", "T=1", 0.25, 0.0),
        ("1", "T=0", 0.75, 50.0),
        ("1", "T=1", 0.25, 0.0),
    ]
    assert "missing" in (out / "tables.md").read_text() and not (out / "phases.png").exists()


def test_a_seed_that_ran_again_is_one_seed(runs, monkeypatch, capsys):
    """Four runs of seed 0 are one seed, whose newest counts, in the means and in the pictures; all four are listed."""
    for day, solved in ((2, "1100"), (4, "1111"), (1, "0000"), (3, "1000")):  # base: 1 of 4
        runs.add(None, 0, solved, name=f"day{day}", finished=f"2026-01-0{day}T00:00:00", rewards=(day / 10, day / 10))
    drawn = {}
    monkeypatch.setattr(report.figures, "methods", lambda runs, to: drawn.update(runs=runs))
    out = made(monkeypatch)
    lines = (out / "runs.md").read_text().splitlines()
    assert "- stp + elbo, T=0: +75.0 points over 1 seed(s) (4 runs; of each seed the newest counts)" in lines
    assert len(read_csv(out / "every_run.csv")) == 4 and "over 1 seed(s)" in capsys.readouterr().out
    assert [run["folder"].name for run in drawn["runs"]] == ["day4"]
    runs.add(None, 1, "1000", name="other", finished="2026-01-01T00:00:00")
    lines = (made(monkeypatch) / "runs.md").read_text().splitlines()
    assert "- stp + elbo, T=0: +37.5 ± 53.0 points over 2 seed(s) (5 runs; of each seed the newest counts)" in lines
    assert [run["folder"].name for run in drawn["runs"]] == ["day4", "other"]


def test_the_time_of_each_phase(runs, monkeypatch):
    runs.add("table5_stp", 0, time={"sample_s": 50.0, "probe_s": 3.0})
    runs.add("table5_stp", 1, time={"sample_s": 70.0, "probe_s": 4.0})
    row = cells((made(monkeypatch) / "tables.md").read_text(), "Where the time goes (seconds)")["table5_stp"]
    phases = {name: row[name] for name in ("seeds", "sample", "update", "eval", "probe", "score")}
    assert phases == {"seeds": "2", "sample": "60.0", "update": "10.0", "eval": "5.0", "probe": "3.5", "score": "0.0"}


def test_the_base_model_is_that_of_the_tables_runs(runs, monkeypatch):
    """Runs beside the tables (a quick try on 2 problems, say) do not change what the base model scores."""
    runs.add("table2_countdown_stp", 0, "11100000")
    quick = {"temperature": 0.0, "correct": 1, "total": 2, "accuracy": 0.5}
    runs.add(None, 0, "10", name="a-quick-try", base=quick)
    base = cells((made(monkeypatch) / "tables.md").read_text(), "Table 2")["base model"]
    assert base["countdown Acc. (%)"] == "12.5 (1 of 8)"


def test_several_models_are_not_mixed(runs, monkeypatch, capsys):
    runs.add("table5_stp", 0, "1110")
    runs.add("table5_stp", 1, "1111", name="big", model="llada_8b")
    runs.add("table5_stp", 2, "1000", name="odd", model="../odd")  # a name is no path
    out = made(monkeypatch)
    found = {
        folder.name: cells((folder / "tables.md").read_text(), "Table 5")["STP (ours)"]["Acc. (%)"] for folder in out.iterdir()
    }
    assert found == {"tiny": "75.0 (3 of 4)", "llada_8b": "100.0 (4 of 4)", "_odd": "25.0 (1 of 4)"}
    out = made(monkeypatch, "--model", "llada_8b", "--to", "one")
    assert cells((out / "tables.md").read_text(), "Table 5")["STP (ours)"]["Acc. (%)"] == "100.0 (4 of 4)"
    with pytest.raises(SystemExit) as stopped:
        made(monkeypatch, "--model", "dream")
    assert (
        stopped.value.code == 2
        and "no finished run of --model dream; there are runs of ../odd, llada_8b, tiny" in capsys.readouterr().err
    )


def test_the_headings_say_what_was_measured(runs, monkeypatch, capsys):
    runs.add("table5_stp", 0, "1110")
    runs.add("table1_unigrpo", 0, "1110", estimator="unigrpo")
    runs.add("table1_unigrpo_stp", 0, "1111", estimator="unigrpo")
    text = (made(monkeypatch) / "tables.md").read_text()
    shown = capsys.readouterr().out
    assert "## Table 5. Ablation of STP's components (ours on Countdown, the paper's on MATH)" in text
    assert "## Table 2. Main results\n" in text and "2 updates, 4 test problems." in text
    last = section(text, "Other estimators")
    assert [row["Acc. (%)"] for row in last] == ["75.0 (3 of 4)", "100.0 (4 of 4)", "missing", "missing"]
    assert last[1]["Acc. change"] == "+33.3 %" and not any("paper" in head for head in last[0])
    assert "## Table 5." in shown and "## Other estimators" in shown and "## Table 3." not in shown  # what was run


@pytest.fixture
def everything(runs):
    """Runs for a part of each table and figure, three seeds for Table 7."""
    three_seeds(runs)
    runs.add("figure3_grpo_elbo", 0)
    runs.add("figure3_stp", 0, probes={1: [3.0, 4.0, 5.0], 2: [1.0, 2.0, 3.0]})
    runs.add("table3_spg", 0, estimator="spg")
    runs.add("table3_spg_stp", 0, estimator="spg", rewards=(0.1, 0.5, 0.7))


def test_the_command_writes_every_file(everything, tmp_path, monkeypatch, capsys):
    done = command("-m", "stp.report", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    out = tmp_path / "outputs" / "report"
    assert done.stdout.endswith("written to outputs/report\n") and "62.5 ± 12.5 (4, 5, 6 of 8)" in done.stdout
    tables = {f"table{n}.csv" for n in range(2, 8)} | {
        "other_estimators.csv",
        "figure3.csv",
        "heatmap.csv",
        "every_run.csv",
        "calibration.csv",
        "calibration.md",
        "leaderboard.csv",
        "leaderboard.md",
        "claims.csv",
        "claims.md",
        "rollouts.csv",
        "rollouts.md",
    }
    assert {path.name for path in out.iterdir()} == PICTURES | tables | {"reliability.png"} | {"tables.md", "runs.md"}
    for name in PICTURES:
        pixels = matplotlib.image.imread(out / name)
        assert pixels.shape[0] > 200 and pixels.shape[1] > 200
        assert len({tuple(pixel) for row in pixels[::5, ::5] for pixel in row.round(2).tolist()}) > 3, f"{name} is blank"
    text = (out / "tables.md").read_text()
    assert set(re.findall(r"\]\((\w+\.png)\)", text)) == PICTURES - {"learning_curves.png", "accuracy.png", "leaderboard.png"}
    monkeypatch.setattr(sys, "argv", ["stp.report"])
    report.main()
    assert capsys.readouterr().out == done.stdout  # what it wrote is no run


def test_without_runs_it_says_so(tmp_path):
    done = command("-m", "stp.report", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].endswith(
        "error: no finished run found; give run folders, or train one with python -m stp.train"
    )
    assert not list(tmp_path.iterdir())
