"""STP's points over the standard sampler from bases of different strength, worked out by hand."""

import pytest

from stp.report import rollouts, strength
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
    assert (weak_truth.standard, weak_truth.ours) == (pytest.approx([30, 30]), pytest.approx([40, 40]))
    (row, *_) = strength.rows([strong])
    assert (row["standard"], row["stp"], row["points"], row["seeds"]) == pytest.approx((71, 73, 2, 2))
    assert "| strong (50.0) | model | 0.05 | 2 | 71.0 ± 1.4 | 73.0 ± 2.8 | +2.0 [-10.7, +14.7] |" in strength.markdown([strong])


def test_runs_of_one_base_or_of_other_settings_have_no_place():
    assert strength.points(rollouts.variants([r for r in RUNS if r["settings"]["model.base"] == "weak"])) == []
    faster = {"optimizer.lr": 1e-3}
    others = [run("weak", 0.2, 0, 0.3, **faster), run("weak", 0.2, 0, 0.9, "stp", 0.05, "model", **faster)]
    assert strength.points(rollouts.variants(RUNS + others)) == strength.points(rollouts.variants(RUNS))
