"""Figure 3's probes: the same rows of the global batch on any number of ranks, evenly over its prompts."""

from types import SimpleNamespace

import pytest
import torch

from stp.estimators import Elbo
from stp.metrics import spent
from stp.objectives import Grpo
from stp.probe import probe, probed_rows
from stp.ranks import Ranks
from stp.roles import Learner, Run
from stp.run.tracking import Clock
from stp.trainer import Trainer
from stp.types import Draws
from tests import toys
from tests.integration.runs import on_two_ranks


@pytest.mark.parametrize(("prompts", "group"), [(12, 8), (2, 6), (5, 3)])
@pytest.mark.parametrize("count", [1, 4, 7, 12, 24, 200])
def test_every_prompt_has_its_share_of_the_probes(prompts, group, count):
    rows = probed_rows(Draws(0, prompts * group), count)
    assert len(rows) == min(count, prompts * group) == len(set(rows.tolist()))
    per_prompt = torch.bincount(rows // group, minlength=prompts)
    assert per_prompt.max() - per_prompt.min() <= 1


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 6, 12])
def test_the_ranks_share_the_same_rows(ranks):
    whole = Draws(0, 96)
    shares = [whole.select(torch.arange(96)[Ranks(rank, ranks).share(96)]) for rank in range(ranks)]
    found = [int(share.rows[row]) for share in shares for row in probed_rows(share, 10)]
    assert found == probed_rows(whole, 10).tolist()


class Kept:
    """A tracker that remembers."""

    def __init__(self):
        self.lines = []

    def append(self, name, records):
        self.lines += records


@pytest.mark.parametrize("count", [1, 3])
def test_two_ranks_probe_what_one_does_with_as_many_forwards_each(count):
    """One row on the first rank and none on the second, or two and one: at ZeRO-3 a forward waits for all ranks."""
    trajectory = toys.joined(*(toys.trajectory([2, 3, 4, 2, i], rows=1) for i in (2, 3, 4, 2, 3, 4)))

    def work(ranks):
        denoise, tracker = toys.Recording(toys.context_free(5)), Kept()
        mine = torch.arange(6)[ranks.share(6)]
        parts = {"draws": Draws(0, 6).select(mine), "reward_B": torch.arange(6.0)[mine]}
        share = SimpleNamespace(trajectory=trajectory.rows(mine), **parts)
        trainer = Trainer(probe_rows=count, probe_draws=3, micro_batch=1)
        probe(Learner(SimpleNamespace(policy=denoise), Elbo(), Grpo(), trainer), share, Run(ranks, tracker=tracker))
        return tracker.lines, len(denoise.calls)

    alone, forwards = work(Ranks())
    (first, a), (second, b) = on_two_ranks(work)
    assert first == second == alone and forwards == 3 * count and a == b == 3 * -(-count // 2)
    assert [line["reward"] for line in alone] == ([0.0] if count == 1 else [0.0, 2.0, 4.0])


def test_processor_seconds_are_all_ranks():
    clock = Clock({"sample": 2.0, "cpu": 3.0})
    both = Ranks(count=2, gather=lambda values: [values, {"cpu": 4.5}])
    found = spent(clock, both)
    assert (found["sample"], found["cpu"]) == (2.0, 7.5)
