"""STP's points over the standard sampler from bases of different strength, worked out by hand."""

from dataclasses import replace

import pytest

from stp.report import rollouts, strength
from stp.report.strength import Point
from tests.report.test_rollouts import run as rollouts_run


def run(base, start, seed, accuracy, sampler="standard", gamma=None, anchors=None, **others):
    settings = {} if gamma is None else {"gamma": gamma, "anchors": anchors, "static": f"outputs/{base}"}
    made = rollouts_run(sampler, seed, accuracy, **settings)
    made["settings"] |= {"model.base": base} | others
    return made | {"base": {"accuracy": start}}


RUNS = [
    *(run("strong", 0.5, seed, 0.7 + 0.02 * seed) for seed in (0, 1)),
    *(run("weak", 0.2, seed, 0.3) for seed in (0, 1)),
    *(run("strong", 0.5, seed, 0.71 + 0.04 * seed, "stp", 0.05, "model") for seed in (0, 1)),
    *(run("weak", 0.2, seed, 0.4, "stp", 0.1, "ground_truth") for seed in (0, 1)),
    run("weak", 0.2, 0, 0.35, "stp", 0.05, "model"),
]


def test_stp_is_compared_with_the_standard_sampler_of_its_own_base():
    """Weakest base first; from the strong one +1 and +3 points, so +2 with a half-width of 12.7."""
    weak_truth, weak, strong = strength.points(rollouts.variants(RUNS))
    places = [(p.base, p.anchors, p.gamma) for p in (weak_truth, weak)]
    assert places == [("weak", "ground_truth", 0.1), ("weak", "model", 0.05)]
    assert (strong.base, strong.start, strong.points) == ("strong", 50, pytest.approx((2, 2 - 12.706, 2 + 12.706)))
    assert (weak_truth.points, weak.points[0], weak.points[1]) == (pytest.approx((10, 10, 10)), pytest.approx(5), None)
    assert (weak_truth.standard, weak_truth.ours) == (pytest.approx({0: 30, 1: 30}), pytest.approx({0: 40, 1: 40}))
    (row, *_) = strength.rows([strong])
    assert (row["standard"], row["stp"], row["points"], row["seeds"]) == pytest.approx((71, 73, 2, 2))
    assert "| strong (50.0) | model | 0.05 | 2 | 71.0 ± 1.4 | 73.0 ± 2.8 | +2.0 [-10.7, +14.7] |" in strength.markdown([strong])


def test_runs_of_one_base_or_of_other_settings_have_no_place():
    assert strength.points(rollouts.variants([r for r in RUNS if r["settings"]["model.base"] == "weak"])) == []
    faster = {"optimizer.lr": 1e-3}
    others = [run("weak", 0.2, 0, 0.3, **faster), run("weak", 0.2, 0, 0.9, "stp", 0.05, "model", **faster)]
    assert strength.points(rollouts.variants(RUNS + others)) == strength.points(rollouts.variants(RUNS))


def test_averages_are_over_the_pairs_and_seeds_that_all_have():
    """A seed of a base is one value: the weak one's are 3 and 2, the strong one's -1 and 1."""
    cells = {
        ("weak", 0.05): {0: 31.0, 1: 33.0, 2: 99.0},
        ("weak", 0.1): {0: 35.0, 1: 31.0},
        ("strong", 0.05): {0: 70.0, 1: 72.0},
        ("strong", 0.1): {0: 68.0, 1: 70.0},
    }
    standard = {"weak": dict.fromkeys((0, 1, 2), 30.0), "strong": dict.fromkeys((0, 1), 70.0)}
    points = [
        Point(base, 0.0, gamma, "model", standard[base], ours, (0.0, None, None)) for (base, gamma), ours in cells.items()
    ]
    alone = Point("weak", 0.0, 0.1, "correct", standard["weak"], {0: 99.0, 1: 99.0}, (0.0, None, None))
    averaged = {(a.factor, a.level): (a.values, a.points[0]) for a in strength.averages([*points, alone])}
    assert averaged == {
        ("base", "weak"): (2, 2.5),
        ("base", "strong"): (2, 0.0),
        ("anchors", "model"): (4, 1.25),
        ("gamma", "0.05"): (4, 1.5),
        ("gamma", "0.1"): (4, 1.0),
    }
    by_hand = next(a for a in strength.averages(points) if a.level == "weak")
    assert by_hand.points == pytest.approx((2.5, 2.5 - 12.706 / 2, 2.5 + 12.706 / 2))
    assert "| base | weak | 2 | +2.5 [-3.9, +8.9] |" in strength.markdown([*points, alone])
    assert strength.averages([points[0], replace(points[3], anchors="correct")]) == []  # the bases share no pair
