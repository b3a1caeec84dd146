"""report/runs.py: a cell is filled by runs that agree, of the settings its preset names; others are told, never mixed in."""

import json

import pytest
import yaml

from stp.config import config_hash, plain, seedless_hash
from stp.report import report
from stp.report.runs import load_runs, name_methods, presets
from stp.run import ranks
from tests.integration.runs import composed
from tests.report import write
from tests.report.test_report import cells, heat, made, read_csv, section, three_seeds


def lines_of(out, start):
    return [line for line in (out / "tables.md").read_text().splitlines() if line.startswith(start)]


def test_a_cell_takes_the_settings_with_most_seeds(runs, monkeypatch):
    """Another rate under the same preset's name: neither averaged in, nor newest of its seed."""
    for seed, solved in ((0, "1100"), (1, "1110")):
        runs.add("table5_stp", seed, solved)
    runs.add("table5_stp", 0, "0000", name="rate", overrides=("optimizer.lr=3e-4",), finished="2027-01-01T00:00:00")
    out = made(monkeypatch)
    row = cells((out / "tables.md").read_text(), "Table 5")["STP (ours)"]
    assert row["Acc. (%)"] == "62.5 ± 17.7 (2, 3 of 4)"
    (line,) = lines_of(out, "- Left out")
    assert line.startswith("- Left out: table5_stp, seed 0 (") and line.endswith(
        "/rate): other settings than the cell's: optimizer.lr=0.0003 (0.0001)."
    )


def test_of_as_many_seeds_the_newest_settings_count(runs, monkeypatch):
    runs.add("table5_stp", 0, "1100", finished="2026-01-02T00:00:00")
    runs.add("table5_stp", 0, "1110", name="k", overrides=("estimator.samples=5",), finished="2026-01-03T00:00:00")
    runs.add("table5_stp", 1, "0000", name="g", overrides=("trainer.group_size=4",), finished="2026-01-01T00:00:00")
    out = made(monkeypatch)
    assert cells((out / "tables.md").read_text(), "Table 5")["STP (ours)"]["Acc. (%)"] == "75.0 (3 of 4)"
    told = " ".join(lines_of(out, "- Left out"))
    assert "estimator.samples=3 (5)" in told and "trainer.group_size=4 (8)" in told


@pytest.mark.parametrize(
    ("solved", "changes", "told"),
    [
        ("11000000", {}, "problems=8 (4)"),
        ("1100", {"updates": 1}, "trainer.updates=1 (2)"),
        ("1100", {"overrides": ("trainer.eval_size=4",)}, "trainer.eval_size=4 (512)"),
    ],
)
def test_other_sizes_are_other_runs(runs, monkeypatch, solved, changes, told):
    for seed in (0, 1):
        runs.add("table5_stp", seed, "1110")
    runs.add("table5_stp", 2, solved, **changes)
    out = made(monkeypatch)
    assert cells((out / "tables.md").read_text(), "Table 5")["STP (ours)"]["Acc. (%)"] == "75.0 ± 0.0 (3, 3 of 4)"
    assert [told in line for line in lines_of(out, "- Left out")] == [True]


def test_validation_problems_are_reported_alone(runs, monkeypatch, capsys):
    on_validation = ("trainer.eval_split=validation",)
    runs.add("table5_stp", 0, "1100")
    for seed in (1, 2, 3):
        runs.add("table5_stp", seed, "1110", overrides=on_validation)
        runs.add("table5_grpo_elbo", seed, "1000", overrides=on_validation)
    out = made(monkeypatch)
    text = (out / "tables.md").read_text()
    assert cells(text, "Table 5")["STP (ours)"]["Acc. (%)"] == "50.0 (2 of 4)"
    assert cells(text, "Table 5")["GRPO w/ ELBO"]["Acc. (%)"] == "missing" and "- 2 updates, 4 test problems." in text
    told = lines_of(out, "- Left out")
    assert [line.split(" (")[0] for line in told] == [
        f"- Left out: {preset}, seeds 1, 2, 3" for preset in ("table5_grpo_elbo", "table5_stp")
    ]
    assert all(
        line.endswith(" and 2 others): evaluated on validation problems; --split validation reports them.") for line in told
    )
    assert len(read_csv(out / "every_run.csv")) == 1
    out = made(monkeypatch, "--split", "validation")
    text = (out / "tables.md").read_text()
    assert cells(text, "Table 5")["STP (ours)"]["Acc. (%)"] == "75.0 ± 0.0 (3, 3, 3 of 4)"
    assert "- 2 updates, 4 validation problems." in text and len(lines_of(out, "- Left out")) == 1
    assert {row["split"] for row in read_csv(out / "every_run.csv")} == {"validation"}
    made(monkeypatch, *runs.root.glob("table5_grpo_elbo/*"))  # none but these: no need to ask for them
    capsys.readouterr()
    with pytest.raises(SystemExit):
        made(monkeypatch, runs.root / "table5_stp" / "seed0", "--split", "validation")
    assert "no finished run was evaluated on --split validation; there are runs on test" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("preset", "override", "told"),
    [
        ("table5_stp", "sampler.gamma=0.5", "sampler.gamma=0.5 (0.05)"),
        ("table2_countdown_stp", "sampler.t_cutoff=0.1", "sampler.t_cutoff=0.1 (0.05)"),
        ("table7_low_confidence", "sampler.select=random", "sampler.select=random (low_confidence)"),
        ("table5_grpo_elbo", "estimator=one_step", "estimator=one_step (elbo)"),
        ("table5_stp", "task=gsm8k", "task=gsm8k (countdown)"),
    ],
)
def test_what_is_not_the_presets_row_fills_no_cell(runs, preset, override, told):
    """However many seeds it has: a sweep over gamma under one preset is not that preset."""
    for seed in (0, 1):
        runs.add(preset, seed, "1110", overrides=(override,))
    runs.add(preset, 5, "1000", name="right")
    chosen, left_out = presets(load_runs(runs.folders)[0])
    assert [run["seed"] for run in chosen[preset]] == [5]
    (line,) = left_out
    assert line.startswith(f"{preset}, seeds 0, 1 (") and line.endswith(f" and 1 other): not what its preset says: {told}")


def test_a_preset_that_conf_does_not_have_is_reported(runs):
    folder = runs.add("table5_stp", 0, "1110")
    summary = json.loads((folder / "summary.json").read_text()) | {"experiment": "my_own"}
    (folder / "summary.json").write_text(json.dumps(summary))
    assert list(presets(load_runs([folder])[0])[0]) == ["my_own"]


def test_a_baseline_of_another_size_is_not_compared(runs, monkeypatch):
    """Seeds of 4 problems against seeds of 8: their ids overlap, which made a difference of it."""
    runs.add("table5_grpo_elbo", 0, "11000000")
    runs.add("table5_stp", 0, "1110")
    out = made(monkeypatch)
    row = cells((out / "tables.md").read_text(), "Table 5")["STP (ours)"]
    assert row["Acc. (%)"] == "75.0 (3 of 4)"
    assert {row[name] for name in ("points over the baseline [95 %]", "Acc. change", "Time change")} == {"-"}
    (line,) = lines_of(out, "- table5_stp")
    assert line == "- table5_stp is not run as its baseline table5_grpo_elbo, not compared: problems=4 (8)."


def test_other_conditions_than_the_baselines_are_told(runs, monkeypatch):
    runs.add("table5_grpo_elbo", 0, "1100", overrides=("trainer.prompts_per_update=6", "estimator.samples=5"))
    runs.add("table5_stp", 0, "1110")
    out = made(monkeypatch)
    row = cells((out / "tables.md").read_text(), "Table 5")["STP (ours)"]
    assert row["points over the baseline [95 %]"].startswith("+25.0")
    (line,) = lines_of(out, "- table5_stp")
    assert line.endswith("compared all the same: trainer.prompts_per_update=12 (6).")  # the estimator is the method's own


def test_methods_are_named_by_all_they_differ_in(runs, monkeypatch):
    """Trainer settings too, and the number of updates; a run that an older version recorded lacks some of them."""
    for i, override in enumerate(("seed=0", "trainer.inner_updates=4", "optimizer.lr=3e-4", "trainer.probe_every=0")):
        runs.add(None, 0, "1100", name=f"run{i}", overrides=(override,))
    runs.add(None, 1, "1110", name="longer", updates=9)
    old = runs.add(None, 1, "1110", name="old")
    config = yaml.safe_load((old / "config.yaml").read_text())
    del config["classes"], config["trainer"]["fresh_masks"]
    (old / "config.yaml").write_text(yaml.safe_dump(config))
    named = {run["folder"].name: run["method"] for run in name_methods(load_runs(runs.folders)[0])}
    assert named["run0"] == named["run3"]  # probes decide nothing
    assert named["run0"].split() == [
        *("stp", "+", "elbo", "optimizer.lr=0.0001", "trainer.fresh_masks=False"),
        *("trainer.inner_updates=2", "trainer.updates=2"),
    ]
    assert "trainer.inner_updates=4" in named["run1"] and "optimizer.lr=0.0003" in named["run2"]
    assert "trainer.updates=9" in named["longer"] and "fresh_masks" not in named["old"]
    assert len(set(named.values())) == 5
    out = made(monkeypatch)
    assert len([line for line in (out / "runs.md").read_text().splitlines() if line.startswith("- stp + elbo")]) == 5


def test_tasks_are_told_apart(runs):
    runs.add(None, 0, name="a")
    runs.add(None, 0, name="b", overrides=("task=math",))
    named = sorted(run["method"] for run in name_methods(load_runs(runs.folders)[0]))
    assert named == ["countdown: stp + elbo", "math: stp + elbo"]


def test_table_2_is_filled_by_task(runs, monkeypatch):
    """A column of its own for each task, its base model's score too."""
    for task, solved, base in (("gsm8k", "1100", 0), ("math", "1110", 1), ("countdown", "1111", 2)):
        score = {"temperature": 0.0, "correct": base, "total": 4, "accuracy": base / 4}
        for preset in (f"table2_{task}_grpo_elbo", f"table2_{task}_stp"):
            overrides = (f"task={task}", "sampler=stp" if preset.endswith("stp") else "sampler=standard")
            folder = runs.add(None, 0, solved, name=preset, overrides=overrides, base=score)
            summary = json.loads((folder / "summary.json").read_text()) | {"experiment": preset}
            (folder / "summary.json").write_text(json.dumps(summary))
    rows = cells((made(monkeypatch) / "tables.md").read_text(), "Table 2")
    wanted = {"gsm8k": "50.0 (2 of 4)", "math": "75.0 (3 of 4)", "countdown": "100.0 (4 of 4)"}
    assert {task: rows["STP (ours)"][f"{task} Acc. (%)"] for task in wanted} == wanted
    bases = {"gsm8k": "0.0 (0 of 4)", "math": "25.0 (1 of 4)", "countdown": "50.0 (2 of 4)"}
    assert {task: rows["base model"][f"{task} Acc. (%)"] for task in bases} == bases
    assert rows["Improv. (vs. best baseline)"]["math Acc. (%)"] == "+0.00 %"


def test_base_scores_that_disagree_are_told(runs, monkeypatch):
    for seed in (0, 1):
        runs.add("table2_countdown_stp", seed, "1100")
    other = {"temperature": 0.0, "correct": 2, "total": 4, "accuracy": 0.5}
    runs.add("table2_countdown_grpo_elbo", 0, "1100", base=other)
    out = made(monkeypatch)
    assert cells((out / "tables.md").read_text(), "Table 2")["base model"]["countdown Acc. (%)"] == "25.0 (1 of 4)"
    assert lines_of(out, "- base") == [
        "- base model, countdown: 25.0% (1/4); 50.0% (2/4) in different runs; the first is shown."
    ]


def test_the_seedless_hash_and_the_code_are_reported(runs, monkeypatch):
    runs.add("table5_stp", 0, "1110", code="abc dirty", device="cpu AVX2")
    runs.add("table5_stp", 1, "1110", code="abc dirty", device="cpu AVX512")
    old = runs.add("table5_grpo_elbo", 0, "1110")
    summary = json.loads((old / "summary.json").read_text())
    for name in ("code", "device", "seedless_hash", "eval"):
        del summary[name]
    (old / "summary.json").write_text(json.dumps(summary))  # as before these were recorded
    out = made(monkeypatch)
    assert lines_of(out, "- Code") == ["- Code: abc dirty (2 runs), not recorded (1 run)."]
    assert lines_of(out, "- Device") == ["- Device: not recorded (1 run), cpu AVX2 (1 run), cpu AVX512 (1 run)."]
    hashes = {
        row["preset"]: (row["split"], row["seedless_hash"]) for row in read_csv(out / "table5.csv") if row["seeds"] != "0"
    }
    assert set(hashes) == {"table5_stp", "table5_grpo_elbo"} and len(set(hashes.values())) == 2
    for preset, found in hashes.items():
        config = yaml.safe_load((runs.root / preset / "seed0" / "config.yaml").read_text())
        assert found == ("test", seedless_hash(config))


def test_a_saved_config_has_the_hash_of_the_run(template):
    """YAML gives every value back as it was."""
    config = composed("trainer.eval_temperatures=[0.0]")
    saved, summary = (template / "config.yaml").read_text(), json.loads((template / "summary.json").read_text())
    assert summary["seedless_hash"] == seedless_hash(yaml.safe_load(saved)) == seedless_hash(plain(config))
    other = composed("trainer.eval_temperatures=[0.0]", "seed=7", "trainer.probe_every=9")
    assert seedless_hash(plain(other)) == summary["seedless_hash"] and config_hash(other) != summary["config_hash"]
    for override in ("trainer.eval_size=3", "trainer.eval_split=validation", "estimator=coupled"):
        changed = composed("trainer.eval_temperatures=[0.0]", override)
        assert seedless_hash(plain(changed)) != summary["seedless_hash"]
    measured = {"split": "test", "size": 4, "problems": 4, "source": "generated", "grading": "corrected"}
    assert summary["eval"] == measured and summary["code"]
    assert summary["device"] == ranks.device_name()


def test_the_heat_map_mixes_no_trainer_settings(runs, monkeypatch):
    runs.add("table5_grpo_elbo", 0, "1000")
    runs.add("table5_stp", 0, "1110")
    runs.add("table5_stp", 1, "0000", name="groups", overrides=("trainer.group_size=4",))
    runs.add("table6_g010_t000", 0, "1111", overrides=("trainer.eval_size=4",))
    found = heat(made(monkeypatch))
    assert set(found) == {(0.0, 0.0), (0.05, 0.05)} and found[0.05, 0.05]["seeds"] == "1"


def test_a_variance_says_whose_it_is(runs, monkeypatch):
    known = {"mean": 1.0, "iqr": 1.0, "trajectories": 3}
    runs.add(None, 0, name="a", elbo_variance={"median": 4.0, "draws": 1} | known)
    runs.add(None, 0, name="b", overrides=("estimator=unigrpo",), elbo_variance={"median": 2.0, "draws": 3} | known)
    runs.add(None, 0, name="c", overrides=("estimator=spg",), elbo_variance={"median": 7.0} | known)  # an older one
    out = made(monkeypatch)
    lines = [line for line in (out / "runs.md").read_text().splitlines() if line.startswith("| stp")]
    assert [line.split(" | ")[8] for line in lines] == ["4.0 (elbo, 1 draw)", "7.0 (spg)", "2.0 (unigrpo, 3 draws)"]
    assert [row["variance_of"] for row in read_csv(out / "every_run.csv")] == ["elbo, 1 draw", "spg", "unigrpo, 3 draws"]


def test_pairs_without_a_ratio_are_counted_and_left_out(runs, monkeypatch):
    """A variance of 0 (say, a completion with one trainable token) has no ratio; null stands for one that overflowed."""
    for seed in (0, 1):
        runs.add("figure3_grpo_elbo", seed, probes={1: [4.0], 2: [8.0], 3: [0.0], 4: [5.0]})
        folder = runs.add("figure3_stp", seed, probes={1: [2.0], 2: [4.0, 4.0], 3: [1.0], 4: [0.0]})
        lines = [json.loads(line) for line in (folder / "variance.jsonl").read_text().splitlines()]
        write(folder / "variance.jsonl", [*lines, lines[0] | {"variance": None, "variance_per_token": None}])
    out = made(monkeypatch)
    row = section((out / "tables.md").read_text(), "Figure 3")[0]
    assert (row["pairs"], row["STP lower in"]) == ("4", "4 of 4") and row["STP / GRPO w/ ELBO [95 %]"] == "0.500 [0.500, 0.500]"
    assert (row["GRPO w/ ELBO, median"], row["STP, median"]) == ("6.0", "3.0")
    said = "4 pair(s) with a variance of 0, which have no ratio, and 2 trajectories whose variance is not finite are left out"
    assert all(said in line for line in lines_of(out, "- of the sequence") + lines_of(out, "- per scored token"))
    assert len(lines_of(out, "- of the sequence")) == 1
    probed = [row for row in read_csv(out / "figure3.csv") if row["measure"] != "delta_variance"]
    assert len(probed) == 8


def test_figure_3_of_one_seed_has_no_interval(runs, monkeypatch):
    """Its updates follow one another: an interval over them is none over runs."""
    runs.add("figure3_grpo_elbo", 0, probes={1: [4.0], 2: [8.0]})
    runs.add("figure3_stp", 0, probes={1: [1.0], 2: [2.0]})
    row = section((made(monkeypatch) / "tables.md").read_text(), "Figure 3")[0]
    assert row["STP / GRPO w/ ELBO [95 %]"] == "0.250 (one seed, no interval)"


def test_three_agreeing_seeds_leave_nothing_out(runs, monkeypatch):
    three_seeds(runs)
    assert lines_of(made(monkeypatch), "- Left out") == []
    assert report.presets(load_runs(runs.folders)[0])[1] == []
