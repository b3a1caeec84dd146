"""How hard a prompt is: what is counted of it, before a run and in its visits, and how many tokens follow from that."""

from dataclasses import replace
from types import SimpleNamespace

import torch

from stp.ranks import Ranks
from stp.samplers.difficulty import Visits
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
