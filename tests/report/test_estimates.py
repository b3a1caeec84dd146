"""Methods averaged by their estimate, worked out by hand."""

import pytest

from stp.report import estimates, leaderboard
from tests.report.test_leaderboard import run
from tests.report.test_report import made, read_csv


def families(*runs):
    return {(f.sampler, f.estimator): f for f in estimates.families(leaderboard.places(list(runs)))}


def test_methods_of_an_estimate_are_averaged_in_each_seed():
    """elbo: 40 and 50; one_step: 50 and 64, the means of two methods, whose third seeds only one has. Differences 10 and 14."""
    found = families(
        *(run("table2_countdown_grpo_elbo", i, f) for i, f in enumerate((0.40, 0.50, 0.90))),
        *(run("method_d1", i, f, estimator="one_step") for i, f in enumerate((0.44, 0.60))),
        *(run("method_wd1", i, f, estimator="one_step") for i, f in enumerate((0.56, 0.68, 0.10))),
    )
    one_step, elbo = found["standard", "one_step"], found["standard", "elbo"]
    assert (one_step.methods, one_step.seeds, one_step.accuracy) == (["d1", "wd1"], 2, pytest.approx(57))
    assert one_step.points == pytest.approx((12, 12 - 25.412, 12 + 25.412))
    assert (elbo.methods, elbo.seeds, elbo.accuracy, elbo.points) == (["grpo_elbo"], 3, pytest.approx(60), None)
    assert list(found) == [("standard", "elbo"), ("standard", "one_step")]  # the most accurate first
    text = estimates.markdown(list(found.values()))
    assert "| one_step | standard | d1, wd1 | 2 | 57.0 | +12.0 [-13.4, +37.4] |" in text
    assert "| elbo | standard | grpo_elbo | 3 | 60.0 |  |" in text


def test_samplers_and_rescues_are_kept_apart():
    """Other rollouts have a baseline of their own, and what a rescue adds is no estimate's."""
    elbo, d1 = run("table2_countdown_grpo_elbo", 0, 0.4), run("method_d1", 0, 0.5, estimator="one_step")
    found = families(
        elbo,
        d1,
        run("table2_countdown_grpo_elbo", 0, 0.7, sampler="adaptive"),
        run("method_d1", 0, 0.6, sampler="adaptive", estimator="one_step"),
        run("method_igpo", 0, 0.9, estimator="one_step", rescue="igpo"),
    )
    points = {names: family.points and round(family.points[0]) for names, family in found.items()}
    assert points == {
        ("standard", "one_step"): 10,
        ("standard", "elbo"): None,
        ("adaptive", "elbo"): None,
        ("adaptive", "one_step"): -10,
    }
    assert families(elbo, run("method_gdpo", 0, 0.5)) == {}  # one estimate alone


def test_equal_methods_count_once_and_one_seed_gives_way():
    """trace: 40 and 60 under two names, 70 and 90 under a third: 55 and 75. The fourth method has one seed."""
    trace = {"method_tracerl": (0.4, 0.6), "method_cj_grpo": (0.4, 0.6), "method_rldf": (0.7, 0.9), "method_agrpo": (0.1,)}
    runs = [run(name, i, f, estimator="trace") for name, finals in trace.items() for i, f in enumerate(finals)]
    found = families(*runs, *(run("table2_countdown_grpo_elbo", i, 0.5) for i in range(2)))["standard", "trace"]
    assert (found.methods, found.seeds, found.accuracy) == (["cj_grpo = tracerl", "rldf"], 2, pytest.approx(65))
    assert families(run("method_agrpo", 0, 0.1, estimator="trace"), run("method_gdpo"))["standard", "trace"].seeds == 1


def test_without_a_common_seed_nothing_is_said():
    seeds = families(
        run("method_gdpo", 0), run("method_d1", 1, estimator="one_step"), run("method_wd1", 2, estimator="one_step")
    )
    assert seeds == {}
    apart = families(run("method_gdpo", 0), run("method_d1", 1, estimator="one_step"))
    assert apart["standard", "one_step"].points is None


def test_the_report_has_the_table(runs, monkeypatch):
    runs.add("table2_countdown_grpo_elbo", 0, "1000", time={"train_s": 100.0, "cpu_s": 90.0})
    runs.add("table2_countdown_diffu_grpo", 0, "1110", time={"train_s": 100.0, "cpu_s": 90.0})
    out = made(monkeypatch)
    text, points = (out / "leaderboard.md").read_text(), "+50.0 (one seed, no interval)"
    assert [(row["estimator"], row["accuracy"]) for row in read_csv(out / "estimates.csv")] == [
        ("one_step", "75.0"),
        ("elbo", "25.0"),
    ]
    assert "by_seed" not in read_csv(out / "leaderboard.csv")[0]
    assert f"| one_step | standard | diffu_grpo | 1 | 75.0 | {points} |" in text.split("# By estimate")[1]
