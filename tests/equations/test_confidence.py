"""How sure a rollout was of what it committed, against numbers computed by hand."""

from types import SimpleNamespace

import torch
from pytest import approx

from stp.metrics import confidence_stats
from stp.ranks import Ranks
from stp.types import Draws, Prompts, Trajectory
from tests.integration.runs import on_two_ranks

STEPS = [[-1, 0, 1, 2], [0, 0, 0, 1], [-1, -1, -1, -1]]
PROBABILITIES = [[1.0, 0.9, 0.52, 0.8], [0.95, 0.9, 0.99, 0.25], [1.0, 1.0, 1.0, 1.0]]
UNTIL_EOS = [[True, True, True, False], [True] * 4, [True] * 4]


def a_rollout(rows: slice = slice(None)) -> SimpleNamespace:
    """Three completions. The first starts from a fixed token and ends after three; the third is fixed throughout."""
    step_BL, until_eos_BL = torch.tensor(STEPS)[rows], torch.tensor(UNTIL_EOS)[rows]
    prompts = Prompts(torch.zeros(len(step_BL), 1, dtype=torch.long))
    logp_BL = torch.tensor(PROBABILITIES)[rows].log()
    tensors = torch.ones_like(step_BL), step_BL < 0, until_eos_BL, step_BL, logp_BL
    trajectory = Trajectory(prompts, *tensors, nfe=4, nfe_run=4)
    correct_B, reward_B = torch.tensor([True, False, True])[rows], torch.tensor([1.0, 0.25, 1.0])[rows]
    return SimpleNamespace(trajectory=trajectory, correct_B=correct_B, reward_B=reward_B, draws=Draws(0, 3, update=6))


EXPECTED = {
    "confidence/mean": approx((0.9 + 0.52 + 0.95 + 0.9 + 0.99 + 0.25) / 6),
    "confidence/below_tau": approx(2 / 6),  # 0.52 and 0.25
    "confidence/gap": approx(((0.71 - 1) + 0.7725) / 2),
    "nfe/tokens_per_forward": approx(6 / (3 + 2)),
}


def test_confidence_is_of_the_tokens_that_the_policy_chose():
    metrics, (record,) = confidence_stats(a_rollout(), 0.9, Ranks())
    assert metrics == EXPECTED
    assert record == {
        "update": 7,
        "bin": [35, 38],  # 0.71 and 0.7725 of fifty
        "count": [1.0, 1.0],
        "confidence": [approx(0.71), approx(0.7725)],
        "correct": [1.0, 0.0],
        "reward": [1.0, 0.25],
    }


def test_a_schedule_has_no_threshold_to_be_below():
    metrics, _ = confidence_stats(a_rollout(), None, Ranks())
    assert metrics == {name: value for name, value in EXPECTED.items() if name != "confidence/below_tau"}


def test_completions_that_chose_nothing_are_no_part_of_it():
    metrics, records = confidence_stats(a_rollout(slice(2, 3)), 0.9, Ranks())
    assert records == [] and metrics["confidence/mean"] == 0


def test_two_ranks_say_the_same_as_one():
    shares = (slice(0, 1), slice(1, 3))
    alone = confidence_stats(a_rollout(), 0.9, Ranks())
    assert on_two_ranks(lambda ranks: confidence_stats(a_rollout(shares[ranks.number]), 0.9, ranks)) == [alone, alone]
