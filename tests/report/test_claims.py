"""Verdicts on the paper's claims, worked out by hand."""

import math

import pytest

from stp.report import claims
from stp.report.tables import FIGURE_3, TASKS
from tests.config.test_options import FILES
from tests.report.test_report import cells, made, read_csv

TEXTS = {claim.text: claim for claim in claims.CLAIMS}


def run(seed, accuracy=0.5, seconds=100.0):
    return {"seed": seed, "final": {"accuracy": accuracy}, "seconds": seconds, "settings": {"task": "countdown"}}


def judged(ours, theirs, variances=None):
    by_preset = {"table5_stp": ours, "table5_grpo_elbo": theirs, "figure3_stp": ours, "figure3_grpo_elbo": theirs}
    by_preset |= {"table2_countdown_stp": ours, "table2_countdown_grpo_elbo": theirs}
    return {(v.claim.text, v.claim.measure): v for v in claims.judge(by_preset, variances or {})}


def test_accuracy_is_compared_by_seed():
    """Differences of 4 and 6 points of the common seeds: 5 ± 12.706, of which zero is a part."""
    ours, theirs = [run(0, 0.54), run(1, 0.66), run(2, 0.99)], [run(1, 0.60), run(0, 0.50)]
    found = judged(ours, theirs)["Both prunings are better than none", "accuracy"]
    assert (found.seeds, found.word) == (2, "undecided")
    assert (found.found, found.half) == (pytest.approx(5), pytest.approx(12.706))


@pytest.mark.parametrize(("gain", "word"), [((0.04, 0.05, 0.06), "supported"), ((-0.04, -0.05, -0.06), "refuted")])
def test_an_interval_on_one_side_decides(gain, word):
    found = judged([run(i, 0.5 + g) for i, g in enumerate(gain)], [run(i) for i in range(3)])
    assert found["Both prunings are better than none", "accuracy"].word == word


@pytest.mark.parametrize(("seconds", "word"), [(90.0, "supported"), (110.0, "refuted")])
def test_less_time_is_what_is_claimed(seconds, word):
    found = judged([run(i, seconds=seconds + i / 10) for i in range(3)], [run(i) for i in range(3)])
    (verdict,) = (v for (text, _), v in found.items() if text == "STP is faster than GRPO w/ ELBO")
    assert verdict.word == word and verdict.found == pytest.approx(seconds - 100, abs=0.2)


def test_one_seed_decides_nothing():
    found = judged([run(0, 0.9)], [run(0, 0.1)])["Both prunings are better than none", "accuracy"]
    assert (found.word, found.half, found.seeds) == ("undecided", None, 1)


def test_variances_are_ratios_of_the_seeds_means():
    logs = {"figure3_grpo_elbo": {0: 0.0, 1: 1.0}, "figure3_stp": {0: math.log(0.8), 1: 1 + math.log(0.8)}}
    found = judged([run(0), run(1)], [run(0), run(1)], {"V[ΔB]": logs})
    verdict = found["STP lowers the variance of the ELBO's difference", "V[ΔB]"]
    assert verdict.found == pytest.approx(-20) and verdict.low == pytest.approx(-20) and verdict.word == "supported"
    assert ("STP lowers the ELBO's variance", "V[B]") not in found


def test_other_problems_are_not_compared():
    other = [{**run(i), "settings": {"task": "gsm8k"}} for i in range(2)]
    assert not judged([run(0), run(1)], other)


def test_claims_name_presets_of_their_task():
    tasks = TASKS | dict.fromkeys(FIGURE_3.values(), "countdown")
    named = {(preset, claim.task) for claim in claims.CLAIMS for preset in (claim.ours, claim.theirs)}
    assert named <= tasks.items() and {preset for preset, _ in named} <= set(FILES["experiment"])


def test_the_report_has_claims_and_the_variance_of_the_difference(runs, monkeypatch):
    """Each update of a run has 2.0 without STP and 1.0 with it, so the ratio is one half in every seed."""
    for seed in range(2):
        runs.add("figure3_grpo_elbo", seed, probes={1: [4.0]}, deltas=(2.0, 2.0))
        runs.add("figure3_stp", seed, probes={1: [2.0]}, deltas=(1.0, 1.0))
    out = made(monkeypatch)
    row = cells((out / "tables.md").read_text(), "Figure 3")["of the difference"]
    assert (row["pairs"], row["STP / GRPO w/ ELBO [95 %]"]) == ("4", "0.500 [0.500, 0.500]")
    verdicts = {row["measure"]: (row["seeds"], row["found"], row["verdict"]) for row in read_csv(out / "claims.csv")}
    assert verdicts == {"V[B]": ("2", "-50.0", "supported"), "V[ΔB]": ("2", "-50.0", "supported")}
    assert "| 2 | -50.0 % [-50.0, -50.0] | 0.0 | **supported** |" in (out / "claims.md").read_text()
