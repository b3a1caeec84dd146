"""Settings that were tried: what is compared, what is favoured, and that test problems are for no choice."""

from stp.report import search
from tests.report.test_report import made, read_csv


def run(lr, seed=20, correct=100, preset="method_spg", task="countdown", **settings):
    return {
        **{"task": task, "experiment": preset, "seed": seed, "finished": f"2026-{correct:03}"},
        "settings": {"optimizer.lr": lr, "sampler": "standard", "estimator.p_mask": 0.15, **settings},
        "final": {"correct": correct, "total": 512},
    }


def only(found):
    (trial,) = found
    return trial


def test_the_highest_mean_is_favoured():
    runs = [run(1e-4, 20, 100), run(1e-4, 21, 130), run(2e-4, 20, 120), run(2e-4, 21, 104)]
    trial = only(search.trials(runs))
    assert (trial.method, trial.setting, trial.held) == ("spg", "optimizer.lr", {})
    assert trial.right == {1e-4: {20: 100, 21: 130}, 2e-4: {20: 120, 21: 104}} and trial.best == [1e-4]
    assert "| spg | optimizer.lr |  | **0.0001: 100, 130**; 0.0002: 120, 104 |" in search.markdown([trial], 512)
    assert [(row["value"], row["correct"], row["mean"], row["best"]) for row in search.rows([trial])] == [
        (1e-4, "100 130", 115, True),
        (2e-4, "120 104", 112, False),
    ]


def test_means_are_compared_over_common_seeds_alone():
    """A value of one seed gives way to those of two. A third seed of one value counts as little."""
    runs = [run(1e-4, 20, 100), run(1e-4, 21, 200), run(2e-4, 20, 300)]
    one = only(search.trials(runs))
    assert one.best == [1e-4] and "**0.0001: 100, 200**; 0.0002: 300, -" in search.markdown([one], 512)
    assert only(search.trials([runs[0], runs[2]])).best == [2e-4]  # each has seed 20
    assert only(search.trials(runs[1:])).best == []  # seeds 21 and 20
    more = [run(3e-4, 20, 110), run(3e-4, 21, 210), run(3e-4, 22, 10)]  # better on both, though its mean is lower
    assert only(search.trials([*runs, *more])).best == [3e-4]
    tie = [run(4e-4, 20, 210), run(4e-4, 21, 110)]
    assert only(search.trials([*more, *tie])).best == [3e-4, 4e-4]


def test_all_else_is_equal():
    """A rate under other masks is another line, and one under no other rate is none."""
    runs = [run(1e-4), run(2e-4), run(4e-4, **{"estimator.p_mask": 0.0})]
    trial = only(search.trials(runs))
    assert list(trial.right) == [1e-4, 2e-4] and trial.held == {"estimator.p_mask": 0.15}
    both = search.trials([*runs, run(2e-4, **{"estimator.p_mask": 0.0})])
    lines = {(trial.setting, *trial.held.values()): list(trial.right) for trial in both}
    assert lines == {
        ("optimizer.lr", 0.15): [1e-4, 2e-4],
        ("optimizer.lr", 0.0): [2e-4, 4e-4],
        ("estimator.p_mask", 2e-4): [0.0, 0.15],
    }
    assert search.trials([run(1e-4), run(2e-4, task="math")]) == search.trials([run(1e-4), run(2e-4, preset="method_d1")]) == []


def test_what_a_group_gives_is_not_told():
    adaptive = {"sampler": "adaptive", "sampler.reveal": "threshold"}
    runs = [run(1e-4, **adaptive), run(2e-4, **adaptive), run(1e-4)]
    assert only(search.trials(runs)).held == {"sampler": "adaptive"}
    other = run(1e-4, **adaptive | {"sampler.reveal": "budget"})  # now it says more than the group
    assert {"sampler": "adaptive", "sampler.reveal": "threshold"} in [t.held for t in search.trials([*runs, other])]


def test_the_newest_run_of_a_seed_counts_and_lists_are_values():
    runs = [run(1e-4, correct=200), run(1e-4, correct=100), run(2e-4)]
    assert only(search.trials(runs)).right[1e-4] == {20: 200}
    ranges = [run(1e-4, **{"estimator.t_range": value}) for value in ([0.0, 1.0], [0.2, 0.8])]
    assert list(only(search.trials(ranges)).right) == ["[0.0, 1.0]", "[0.2, 0.8]"]
    masks = [run(1e-4, **{"estimator.p_mask": value}) for value in (0.15, 0, 2.0)]
    assert list(only(search.trials(masks)).right) == [0, 0.15, 2.0]


def test_a_method_is_one_whichever_table_it_stands_in():
    assert only(search.trials([run(1e-4, preset="table5_stp"), run(2e-4, preset="table2_countdown_stp")])).method == "stp"
    assert search.trials([run(1e-4, preset=None), run(2e-4, preset=None)]) == []


def test_the_report_searches_validation_problems_alone(runs, monkeypatch):
    for rate, solved in (("1e-4", "1000"), ("3e-4", "1110")):
        for split in ("validation", "test"):
            overrides = (f"optimizer.lr={rate}", f"trainer.eval_split={split}")
            runs.add("table2_countdown_stp", 0, solved, name=f"{rate}{split}", overrides=overrides)
    assert not (made(monkeypatch) / "search.md").exists()
    out = made(monkeypatch, "--split", "validation")
    found = read_csv(out / "search.csv")
    assert [(row["setting"], row["value"], row["correct"], row["best"]) for row in found] == [
        ("optimizer.lr", "0.0001", "1", "False"),
        ("optimizer.lr", "0.0003", "3", "True"),
    ]
    assert "| stp | optimizer.lr |  | 0.0001: 1; **0.0003: 3** |" in (out / "search.md").read_text()
