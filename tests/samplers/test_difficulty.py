"""How hard a prompt is: what is counted of it, before a run and in its visits, and how many tokens follow from that."""

import math
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch
from pytest import approx

from stp.errors import UserError
from stp.ranks import Ranks
from stp.samplers import Adaptive, Standard, Stp
from stp.samplers.difficulty import Visits
from stp.types import Anchors, Draws
from tests import toys


def visited(keys: str, correct: list[bool]) -> SimpleNamespace:
    """What is read of a rank's share of a rollout: a letter for each completion's problem, and whether it is right."""
    return SimpleNamespace(problems=[SimpleNamespace(key=key) for key in keys], correct_B=torch.tensor(correct))


def test_visits_count_right_completions_and_all_completions_of_each_prompt():
    visits = Visits()
    visits.add(visited("aabb", [True, False, False, False]), Ranks())
    visits.add(visited("ccaa", [True, True, True, True]), Ranks())
    assert visits.counts == {"a": [3, 4], "b": [0, 2], "c": [2, 2]}
    again = Visits(visits.counts)
    again.add(visited("b", [True]), Ranks())
    assert again.counts["b"] == [1, 3] and visits.counts["b"] == [0, 2]  # a checkpoint's record is not changed by what follows


def test_every_rank_counts_the_completions_of_all_ranks():
    shares = [visited("aa", [True, False]), visited("bb", [False, False])]
    sent = [{"key": list(keys), "correct": share.correct_B.tolist()} for keys, share in zip(("aa", "bb"), shares, strict=True)]
    for rank, share in enumerate(shares):
        visits = Visits()
        visits.add(share, Ranks(rank, 2, lambda value: sent))
        assert visits.counts == {"a": [1, 2], "b": [0, 2]}


def test_visits_come_on_top_of_pregenerations_and_count_alike():
    """Two of three pre-generations of `a` and one of four completions of its visits were right: three of seven."""
    anchors = toys.anchors(3, 6, [[0], [1], [2]])
    stored = replace(anchors, solved_B=torch.tensor([2, 2, 0]), tries_B=torch.tensor([3, 3, 0]))
    visits = Visits({"a": [1, 4], "c": [5, 5]})
    counted = visits.onto(stored, ["a", "b", "c"])
    assert (counted.solved_B.tolist(), counted.tries_B.tolist()) == ([3, 2, 5], [7, 3, 5])
    alone = visits.onto(anchors, ["a", "b", "c"])  # nobody counted before
    assert (alone.solved_B.tolist(), alone.tries_B.tolist()) == ([1, 0, 5], [4, 0, 5])
    assert visits.onto(None, ["a"]) is None


def rated(solved: list[int], tries: list[int], length: int = 10, eligible: int | None = None) -> Anchors:
    """Anchors of prompts that were solved so often, whose first `eligible` tokens may be fixed; all of them if None."""
    anchors = toys.anchors(len(solved), length, [list(range(length if eligible is None else eligible))] * len(solved))
    return replace(anchors, solved_B=torch.tensor(solved), tries_B=torch.tensor(tries))


def fixed(sampler: Adaptive, anchors: Anchors) -> list[int]:
    return sampler.start(anchors, Draws(0, len(anchors.tokens_BL))).fixed_BL.sum(dim=1).tolist()


def test_a_prompt_that_is_solved_more_often_gets_fewer_fixed_tokens():
    """0.3 of ten tokens for a prompt that is never solved: 3, 0.3 * 1/2 * 10 = 1.5 -> 2, 0.3 * 1/3 * 10 = 1, and 0."""
    sampler = Adaptive(10, 10, 5, 1.0, gamma_max=0.3, t_cutoff=0.0)
    anchors = rated([0, 0, 1, 4, 3], [4, 0, 2, 6, 3])
    assert fixed(sampler, anchors) == [3, 3, 2, 1, 0]  # a prompt that was never tried counts as unsolved
    assert sampler.pruning(anchors) == {
        "pruning/solve_rate": approx((0 + 0 + 1 / 2 + 2 / 3 + 1) / 5),
        "pruning/gamma": approx(0.3 * (1 + 1 + 1 / 2 + 1 / 3 + 0) / 5),
    }
    assert sampler.pruning(None) == {}


def test_the_count_is_rounded_half_up_exactly():
    """0.29 * 1/2 * 100 is 14.5, of which floating-point numbers make 14.499999999999998."""
    assert 0.29 * 100 * 0.5 < 14.5
    assert fixed(Adaptive(100, 100, 100, gamma_max=0.29, t_cutoff=0.0), rated([1], [2], 100)) == [15]
    for solved in range(7):
        exact = Fraction(3, 10) * Fraction(7 - solved, 7) * 10
        assert fixed(Adaptive(10, 10, 10, gamma_max=0.3), rated([solved], [7])) == [math.floor(exact + Fraction(1, 2))]


def test_no_more_than_the_eligible_tokens_are_fixed_and_gamma_may_be_of_these():
    sampler = Adaptive(10, 10, 10, gamma_max=0.5, t_cutoff=0.0)
    assert fixed(sampler, rated([0, 1], [2, 2], eligible=4)) == [4, 3]
    assert fixed(replace(sampler, gamma_of="anchor"), rated([0, 1], [2, 2], eligible=4)) == [2, 1]


def test_the_most_confident_tokens_are_fixed_and_a_group_shares_its_gamma():
    anchors = rated([1, 1, 0], [2, 2, 2]).rows(torch.tensor([0, 0, 0, 2]))
    start = Adaptive(10, 10, 10, gamma_max=0.4, t_cutoff=0.0).start(anchors, Draws(0, 4))
    best = anchors.confidence_BL.argsort(dim=1, descending=True)
    for row, count in enumerate([2, 2, 2, 4]):
        assert set(start.fixed_BL[row].nonzero().flatten().tolist()) == set(best[row, :count].tolist())


@pytest.mark.parametrize("t_cutoff", [0.0, 0.2])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_without_gamma_max_it_is_plain_threshold_decoding_bit_for_bit(temperature, t_cutoff):
    denoise, prompts, anchors, draws = toys.in_context(12, eos=0.5), toys.prompts(6), rated([0] * 6, [1] * 6, 12), Draws(3, 6)
    found = Adaptive(12, 12, 4, temperature, gamma_max=0.0, t_cutoff=t_cutoff, tau=0.3)(denoise, prompts, draws, anchors)
    options = {"reveal": "threshold", "tau": 0.3}
    plain = Stp(12, 12, 4, temperature, 0.0, t_cutoff, **options)(denoise, prompts, draws)
    others = [plain] if t_cutoff else [plain, Standard(12, 12, 4, temperature, **options)(denoise, prompts, draws)]
    for other in others:
        for name in ("response_BL", "step_BL", "logp_BL", "until_eos_BL"):
            assert torch.equal(getattr(found, name), getattr(other, name)), name
    assert not Adaptive(gamma_max=0.0).needs_anchors and Adaptive(gamma_max=0.01).needs_anchors


def test_fixed_tokens_of_every_row_stay_as_they_are():
    denoise, anchors, draws = toys.in_context(12, eos=0.5), rated([0, 1, 2, 0, 2, 1], [2] * 6, 12), Draws(3, 6)
    sampler = Adaptive(12, 12, 4, 1.0, gamma_max=0.5, t_cutoff=0.2, tau=0.3)
    result = sampler(denoise, toys.prompts(6), draws, anchors)
    assert result.fixed_BL.sum(dim=1).tolist() == [6, 3, 0, 6, 0, 3]
    assert torch.equal(result.response_BL[result.fixed_BL], anchors.tokens_BL[result.fixed_BL])
    assert (result.step_BL[result.fixed_BL] == -1).all()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"gamma_max": 1.0}, r"sampler.gamma_max=1.0"),
        ({"gamma_max": 0.7, "t_cutoff": 0.3}, r"sampler.gamma_max \+ sampler.t_cutoff=0.7 \+ 0.3"),
        ({"reveal": "schedule"}, r"sampler.reveal=schedule: a schedule has one gamma for the whole batch"),
        ({"anchors": "ground_truth", "pregenerations": 2}, r"sampler.pregenerations=2"),
        ({"anchors": "right"}, r"sampler.anchors=right: choose one of model, correct, ground_truth"),
    ],
)
def test_impossible_options_are_refused_by_name(options, named):
    with pytest.raises(UserError, match=named):
        Adaptive(**options)


def test_there_is_one_gamma_only():
    with pytest.raises(TypeError, match="gamma"):
        Adaptive(gamma=0.1)
