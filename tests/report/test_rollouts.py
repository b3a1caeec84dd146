"""Samplers side by side, worked out by hand."""

import math

import pytest

from stp.report import rollouts
from tests.report.test_report import made, read_csv


def run(sampler="standard", seed=0, accuracy=0.5, seconds=100.0, estimator="elbo", experiment=None, updates=40, **settings):
    of_sampler = {"sampler": sampler, "sampler.steps": 40} | {f"sampler.{name}": v for name, v in settings.items()}
    experiment = experiment or f"method_{estimator}"
    chosen = {"task": "countdown", "estimator": estimator, "objective": "grpo", "rescue": "none", "sampler": sampler}
    return chosen | {
        "seed": seed,
        "experiment": experiment,
        "finished": "2026",
        "settings": {"optimizer.lr": 1e-4, "trainer.updates": updates, "estimator": estimator, **of_sampler},
        "final": {"accuracy": accuracy},
        "forwards_per_rollout": 40.0,
        "time": {"cpu_s": seconds},
    }


def test_a_sampler_is_compared_by_seed():
    """Differences 2 and 4 points; times a half and an eighth, so that the geometric mean is a quarter."""
    runs = [run(seed=0), run(seed=1), run("adaptive", 0, 0.52, 50.0), run("adaptive", 1, 0.54, 12.5), run("adaptive", 2, 0.9)]
    standard, adaptive = rollouts.variants(runs)
    assert (standard.sampler, standard.points, standard.ratio) == ("standard", None, None)
    assert adaptive.points == pytest.approx((3, 3 - 12.706, 3 + 12.706))
    assert adaptive.ratio[0] == pytest.approx(0.25) and adaptive.ratio[2] == pytest.approx(
        0.25 * math.exp(12.706 * math.log(2))
    )
    (_, row) = rollouts.rows([standard, adaptive])
    assert (row["seeds"], row["points"], row["seconds"]) == ("3", "+3.0 [-9.7, +15.7]", "54 ± 44")


def test_only_the_sampler_may_differ():
    assert rollouts.variants([run(), run("stp", estimator="one_step"), run(seed=1)]) == []
    assert rollouts.variants([run("stp"), run("adaptive")]) == []  # nothing to compare with


def test_settings_of_one_sampler_are_named_apart():
    found = rollouts.variants([run(), run("stp", gamma=0.05), run("stp", gamma=0.1), run(steps=24)])
    assert [v.sampler for v in found] == ["standard, steps=40", "standard, steps=24", "stp, gamma=0.05", "stp, gamma=0.1"]


def test_ways_of_one_name_are_told_apart():
    ways = [run(sampler, updates=updates) for updates in (9, 3) for sampler in ("standard", "stp")]
    names = [v.method for v in rollouts.variants(ways)]
    assert names == ["elbo, grpo, updates=3"] * 2 + ["elbo, grpo, updates=9"] * 2


def test_what_methods_have_in_common_is_a_mean_over_seeds():
    """Differences 2 and 4 points with one method, 6 and 12 with another: 4 and 8 by seed. Seed 2 lacks the second method."""
    gains = {"elbo": (0.02, 0.04, 0.3), "one_step": (0.06, 0.12)}
    seconds = {
        "elbo": 50.0,
        "one_step": 12.5,
    }  # a half and an eighth of the standard sampler's: on (geometric) average a quarter
    every = [(name, seed, gain) for name, each in gains.items() for seed, gain in enumerate(each)]
    runs = [run("standard", seed, 0.5, estimator=name) for name, seed, _ in every]
    runs += [run("adaptive", seed, 0.5 + gain, seconds[name], estimator=name) for name, seed, gain in every]
    runs += [run("stp", 0, 0.9)]  # with one method alone
    found = rollouts.variants(runs)
    (total,) = rollouts.overall(found, "countdown")
    assert (total.sampler, total.methods, total.seeds) == ("adaptive", ["elbo", "one_step"], 2)
    assert total.points == pytest.approx((6, 6 - 25.412, 6 + 25.412)) and total.ratio == pytest.approx((0.25, 0.25, 0.25))
    changes = "+6.0 points [-19.4, +31.4], time ratio 0.25 [0.25, 0.25]"
    said = f"- adaptive against standard: {changes}, means over 2 methods in each of 2 seeds (elbo, one_step)."
    assert said in rollouts.markdown(found).splitlines()
    assert rollouts.overall(found, "math") == []


def gains(*runs):
    return {
        (t.sampler, *t.methods): (t.seeds, round(t.points[0], 6))
        for t in rollouts.overall(rollouts.variants(list(runs)), "countdown")
    }


def test_only_equal_settings_are_averaged():
    """Two gammas are two samplers, other updates another training, two rates of a method one: the one with more seeds."""
    both = [run(estimator=name) for name in ("elbo", "one_step")]
    assert gains(*both, run("stp", 0, 0.6, gamma=0.05), run("stp", 0, 0.7, estimator="one_step", gamma=0.5)) == {}
    longer = [run(sampler, estimator="one_step", updates=80) for sampler in ("standard", "stp")]
    assert gains(both[0], run("stp", 0, 0.6), *longer) == {}
    rates = [run(sampler, seed, 0.5 + 0.2 * (sampler == "stp")) for sampler in ("standard", "stp") for seed in (0, 1)]
    for one in rates:
        one["settings"]["optimizer.lr"] = 2e-4
    first = [both[0], run("stp", 0, 0.6)]  # the first rate has one seed
    others = [run(sampler, seed, 0.5, estimator="one_step") for sampler in ("standard", "stp") for seed in (0, 1)]
    assert gains(*first, *rates) == {} and gains(*first, *rates, *others) == {("stp", "elbo", "one_step"): (2, 10)}


def test_a_method_of_one_seed_does_not_cut_the_others_to_it():
    three = {"elbo": 2, "one_step": 2, "trace": 1}
    runs = [run(sampler, s, 0.5, estimator=e) for e, n in three.items() for s in range(n) for sampler in ("standard", "stp")]
    assert gains(*runs) == {("stp", "elbo", "one_step"): (2, 0)}
    alone = [one for one in runs if one["seed"] == 0]
    assert gains(*alone) == {("stp", "elbo", "one_step", "trace"): (1, 0)}


def test_a_run_of_several_presets_goes_by_the_one_on_the_leaderboard():
    presets = ("table2_countdown_stp", "table6_g005_t005")
    runs = [
        run(),
        run(estimator="one_step"),
        run("stp", estimator="one_step"),
        *(run("stp", experiment=name) for name in presets),
    ]
    assert list(gains(*runs)) == [("stp", "one_step", "stp")]


def test_the_report_compares_rollouts(runs, monkeypatch):
    runs.add("table5_grpo_elbo", 0, "1000")
    runs.add("table5_stp", 0, "1110", seconds=50.0)
    out = made(monkeypatch)
    standard, stp = read_csv(out / "rollouts.csv")
    points, ratio = "+50.0 (one seed, no interval)", "0.50 (one seed, no interval)"
    assert (standard["sampler"], stp["sampler"], stp["points"], stp["ratio"]) == ("standard", "stp", points, ratio)
    assert f"| elbo, grpo | stp | 1 | 75.0 | {points} | 37.0 | 25 | {ratio} |" in (out / "rollouts.md").read_text()
