"""Rescues on a toy model: what they keep, what they teach, how often they try, on one rank and on two."""

from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from stp.config.groups import SCHEMAS
from stp.diffusion import FromLogits
from stp.errors import UserError
from stp.estimators import Elbo, OneStep
from stp.loop import rollout
from stp.metrics import rollout_stats, sample_records
from stp.objectives import Grpo
from stp.ranks import Ranks
from stp.rescue import Igpo, None_, Resample
from stp.rescue.igpo import cut
from stp.roles import Actor, Run
from stp.samplers import Standard, Stp
from stp.types import Anchors, Draws
from tests import toys
from tests.integration.runs import on_two_ranks

L, G, PROBLEMS = 24, 4, 6
DRAWS = Draws(seed=0, batch=G * PROBLEMS, update=3)
CHUNKS = {"chunk": [2, 4]}
ALONE = Ranks()


class Solutions:
    """The solution of problem p: L tokens; all but the last four may be hinted. The last problem has none."""

    def tokens(self, problem: int) -> torch.Tensor:
        return torch.randint(2, toys.VOCAB, (L,), generator=torch.Generator().manual_seed(problem))

    def anchors(self, keys, choose, draws, right=False):
        tokens_BL = torch.stack([self.tokens(key) for key in keys])
        eligible_BL = (torch.arange(L) < L - 4) & (torch.tensor(keys) < PROBLEMS - 1)[:, None]
        return Anchors(tokens_BL, eligible_BL, torch.zeros_like(tokens_BL, dtype=torch.float32))


class Matching:
    """A task and its codec: a completion is right if it agrees with the solution in `enough` places; problem 0 is easy."""

    def __init__(self, enough: int) -> None:
        self.enough = enough

    def prompts(self, problems):
        return toys.prompts(len(problems))

    def completions(self, trajectory):
        rows = zip(trajectory.response_BL.tolist(), trajectory.until_eos_BL.sum(dim=1).tolist(), strict=True)
        return [" ".join(map(str, row[:n])) for row, n in rows]

    def judge(self, problem, completion):
        pairs = zip(completion.split(), Solutions().tokens(problem.key).tolist(), strict=False)
        solved = sum(a == str(b) for a, b in pairs) >= (1 if problem.key == 0 else self.enough)
        return {"right": float(solved)}, solved


class Generating:
    """An engine that counts how often it generates."""

    def __init__(self) -> None:
        self.policy, self.times = toys.in_context(L, seed=1, eos=-3.0), 0

    @contextmanager
    def generation(self):
        self.times += 1
        yield self.policy


def rolled(rescue=None, ranks=ALONE, enough=11, engine=None, **chosen):
    task, problems = Matching(enough), [SimpleNamespace(key=p, id=str(p), question="") for p in range(PROBLEMS)]
    sampler = chosen.get("sampler", Standard(L, L // 2, L // 2, 1.0))
    actor = Actor(sampler, task, task, problems, rescue=rescue or None_(), solutions=Solutions())
    trainer = SimpleNamespace(group_size=G, rollout_rows=5)
    learner = SimpleNamespace(trainer=trainer, engine=engine or Generating(), objective=Grpo())
    return rollout(actor, learner, problems, chosen.get("draws", DRAWS), Run(ranks=ranks))


first = cache(rolled)


def same(a, b, rows=slice(None)):
    """Whether two rollouts have the same completions, to the bit."""
    names = [f.name for f in fields(a.trajectory) if isinstance(getattr(a.trajectory, f.name), torch.Tensor)]
    tensors = all(torch.equal(getattr(a.trajectory, n)[rows], getattr(b.trajectory, n)[rows]) for n in names)
    return tensors and torch.equal(a.reward_B[rows], b.reward_B[rows]) and a.completions[rows] == b.completions[rows]


def test_without_a_rescue_nothing_is_done():
    engine = Generating()
    plain = rolled(None_(), engine=engine)
    assert same(plain, first()) and plain.rescued is None and engine.times == 1
    assert not any(name.startswith("rescue/") for name in rollout_stats(plain, G, ALONE))


# ---- igpo


@pytest.mark.parametrize("replace", [0.25, 0.5, 0.75])
def test_igpo_keeps_right_completions_alone_and_no_more_than_its_share(replace):
    before, after = first(), rolled(Igpo(**CHUNKS, replace=replace))
    replaced_B = after.rescued.replaced_B
    right_NG, replaced_NG = before.correct_B.view(-1, G), replaced_B.view(-1, G)
    assert after.correct_B[replaced_B].all() and (after.reward_B[replaced_B] == 1).all()
    assert replaced_NG.sum(dim=1).max() == replace * G  # the share is used, and never exceeded
    assert right_NG[0].any() and not replaced_NG[right_NG.any(dim=1)].any()  # a group with a right one is left alone
    assert not replaced_NG[-1].any() and not right_NG[-1].any()  # and so is one without a solution
    assert all(same(after, before, slice(row, row + 1)) for row in (~replaced_B).nonzero().flatten().tolist())
    assert (after.advantage_B.view(-1, G)[replaced_NG.any(dim=1)] != 0).all()
    assert after.rescued.groups == int((~right_NG.any(dim=1)).sum()) - 1
    assert same(after.first, before) and before.first is before  # what solve rates and confidences are counted from


def test_igpo_changes_nothing_where_no_hinted_completion_is_right():
    after = rolled(Igpo(**CHUNKS), enough=L + 1)
    assert same(after, first(enough=L + 1)) and not after.rescued.replaced_B.any() and after.rescued.groups == PROBLEMS - 2
    stats = rollout_stats(after, G, ALONE)
    assert stats["rescue/rows_replaced"] == 0 and stats["rescue/forwards"] > 0


@pytest.mark.parametrize("sampler", [Standard(L, L // 2, L // 2, 1.0), Stp(L, 20, L // 2, 1.0, gamma=0.2, t_cutoff=0.1)])
def test_hints_are_the_solutions_own_tokens_at_their_own_places(sampler):
    after = rolled(Igpo(**CHUNKS, entropy_share=0), sampler=sampler)
    replaced_B, hinted_BL = after.rescued.replaced_B, after.rescued.hinted_BL
    solution_BL = torch.stack([Solutions().tokens(p.key) for p in after.problems])
    assert replaced_B.any() and hinted_BL[replaced_B].any(dim=1).all() and not hinted_BL[~replaced_B].any()
    assert (after.trajectory.response_BL == solution_BL)[hinted_BL].all() and not hinted_BL[:, L - 4 :].any()
    until_BL = after.trajectory.until_eos_BL
    assert torch.equal((after.trajectory.fixed_BL & until_BL)[replaced_B], hinted_BL[replaced_B])  # none is taught
    assert after.trajectory.nfe == sampler.start(None, DRAWS).nfe


def test_hints_are_whole_chunks_a_uniform_share_of_them():
    """Ten chunks of five: eta in (0.2, 0.6) gives three to six of them, equally often, and no chunk is favoured."""
    eligible_BL = (torch.arange(55) < 50).expand(800, 55)
    hinted_BL = Igpo(share=[0.2, 0.6], chunk=[5, 5]).hints(eligible_BL, Draws(0, 800))
    chunks_BC = hinted_BL[:, :50].view(800, 10, 5)
    assert not hinted_BL[:, 50:].any() and torch.equal(chunks_BC.any(dim=2), chunks_BC.all(dim=2))
    count_B = chunks_BC.all(dim=2).sum(dim=1)
    assert {3, 4, 5, 6} == set(count_B.tolist()) and all(150 < n < 250 for n in count_B.bincount()[3:].tolist())
    assert (chunks_BC.all(dim=2).float().mean(dim=0) - 0.45).abs().max() < 0.06


def test_chunks_stay_within_runs_of_eligible_tokens():
    eligible_L = torch.tensor([True] * 7 + [False] * 2 + [True] * 2 + [False] + [True] * 4)
    assert cut(eligible_L, [3, 3, 5, 3, 3], least=3) == [slice(0, 3), slice(3, 6), slice(12, 16)]
    assert cut(eligible_L, [9] * 5, least=3) == [slice(0, 7), slice(12, 16)]
    assert cut(torch.zeros(5, dtype=torch.bool), [3] * 5, least=3) == []


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_the_least_certain_hints_are_taught(share):
    """By an entropy computed here; and their step and log-probability are those of the first forward."""
    after, denoise = rolled(Igpo(**CHUNKS, entropy_share=share)), Generating().policy
    trajectory, hinted_BL = after.trajectory, after.rescued.hinted_BL
    taught_BL = hinted_BL & ~trajectory.fixed_BL
    assert torch.equal(hinted_BL & trajectory.trainable_BL, taught_BL)
    masked = torch.tensor([toys.PROMPT + [toys.MASK] * L])
    p_LV = denoise.logits(masked)[0, len(toys.PROMPT) :].softmax(dim=1)
    entropy_L = -(p_LV * p_LV.log()).sum(dim=1)
    for row in after.rescued.replaced_B.nonzero().flatten().tolist():
        hints, taught = hinted_BL[row].nonzero().flatten(), taught_BL[row].nonzero().flatten()
        assert len(taught) == max(1, int(share * len(hints) + 1e-9))
        assert set(taught.tolist()) == set(hints[entropy_L[hints].argsort(descending=True)[: len(taught)]].tolist())
        open_L = ~trajectory.fixed_BL[row]
        one = trajectory.rows(slice(row, row + 1))
        logp = toys.log_probs(denoise, one, open_L.nonzero().flatten().tolist())
        assert_close(trajectory.logp_BL[row, taught], torch.tensor(logp)[taught], rtol=1e-5, atol=1e-6, check_dtype=False)
        assert (trajectory.step_BL[row, taught] == 0).all() and (trajectory.step_BL[row, trajectory.fixed_BL[row]] == -1).all()


@pytest.mark.parametrize("estimator", [Elbo(samples=40), OneStep()])
def test_only_taught_hints_have_a_gradient(estimator):
    """Logits that depend on the position alone: a position's logits have a gradient if and only if its token is scored."""
    after = rolled(Igpo(**CHUNKS))
    hinted_BL, fixed_BL = after.rescued.hinted_BL, after.trajectory.fixed_BL
    row = int((hinted_BL & fixed_BL).sum(dim=1).argmax())
    one = after.trajectory.rows(slice(row, row + 1))
    table_SV = torch.randn(len(toys.PROMPT) + L, toys.VOCAB).requires_grad_()
    denoise = FromLogits(lambda ids_BS: table_SV.expand(len(ids_BS), -1, -1), toys.MASK, toys.EOS)
    log_probs = estimator(denoise, one, estimator.draw(one, Draws(0, 1)))
    weight_BL = Grpo().token_weights(one.trainable_BL, 1, int(one.trainable_BL.sum()))
    Grpo()(log_probs, log_probs.detach(), None, torch.ones(1), weight_BL).value.backward()
    scored_L = table_SV.grad[len(toys.PROMPT) :].abs().sum(dim=1) > 0
    assert (hinted_BL & fixed_BL)[row].any() and (hinted_BL & ~fixed_BL)[row].any()
    assert not scored_L[(hinted_BL & fixed_BL)[row]].any() and scored_L[(hinted_BL & ~fixed_BL)[row]].all()
    assert torch.equal(scored_L, one.trainable_BL[0])


def test_what_igpo_did_is_counted():
    before, after = first(), rolled(Igpo(**CHUNKS))
    stats, rescued = rollout_stats(after, G, ALONE), after.rescued
    assert stats["rescue/groups"] == PROBLEMS - 2 and stats["rescue/rows_replaced"] == rescued.replaced_B.sum()
    assert stats["rescue/all_wrong"] == pytest.approx((PROBLEMS - 1) / PROBLEMS)
    assert stats["rescue/reward_before"] == pytest.approx(float(before.reward_B.mean()))
    assert stats["reward/mean"] > stats["rescue/reward_before"]
    rows = int(rescued.replaced_B.sum())
    most = after.trajectory.nfe * G * (PROBLEMS - 2) + 2 * rows
    assert most / 2 < stats["rescue/forwards"] * len(before.reward_B) <= most
    assert stats["rescue/hinted"] > stats["rescue/taught"] >= 1
    records = sample_records(after, len(before.reward_B))
    assert [r["replaced"] for r in records] == rescued.replaced_B.tolist()
    assert [len(r["hinted"]) for r in records] == rescued.hinted_BL.sum(dim=1).tolist()


# ---- resample


def test_resample_takes_the_first_group_that_differs_and_stops():
    """Each try is what a rollout with the try's own draws is; groups that differed at first are left alone."""
    before, engine = first(enough=5), Generating()
    after = rolled(Resample(tries=4), enough=5, engine=engine)
    spread = [r.reward_B.view(-1, G).amax(1) > r.reward_B.view(-1, G).amin(1) for r in (before, after)]
    assert 0 < spread[0].sum() < PROBLEMS and spread[1].sum() > spread[0].sum()
    tries = [rolled(enough=5, draws=DRAWS.again(f"resample/{n}")) for n in range(1, 5)]
    for n in range(PROBLEMS):
        rows = slice(n * G, n * G + G)
        differs = (t for t in tries if t.reward_B[rows].max() > t.reward_B[rows].min())
        expected = before if spread[0][n] else next(differs, before)
        assert same(after, expected, rows)
    assert torch.equal(after.rescued.replaced_B.view(-1, G).any(dim=1), spread[1] & ~spread[0])
    assert torch.equal(after.draws.rows, before.draws.rows) and after.draws.seed == before.draws.seed


@pytest.mark.parametrize("tries", [1, 3])
def test_resample_tries_no_more_often_than_it_may(tries):
    engine = Generating()
    after = rolled(Resample(tries=tries), enough=L + 1, engine=engine)
    assert engine.times == 1 + tries and after.rescued.groups == PROBLEMS - 1
    assert not after.rescued.replaced_B.any() and same(after, first(enough=L + 1))
    assert rollout_stats(after, G, ALONE)["rescue/groups_rescued"] == 0


# ---- ranks


@pytest.mark.parametrize("rescue", [Igpo(**CHUNKS), Resample(tries=3)])
def test_two_ranks_make_the_rollout_of_one(rescue):
    """The ranks need not have equally many groups to roll out again, and all enter generation equally often."""
    whole, engines = rolled(rescue, enough=9), {}

    def share(ranks):
        engines[ranks.number] = Generating()
        return rolled(rescue, ranks, enough=9, engine=engines[ranks.number])

    parts = on_two_ranks(share)
    assert parts[0].completions + parts[1].completions == whole.completions
    for name in ("response_BL", "fixed_BL", "step_BL", "logp_BL"):
        together = torch.cat([getattr(part.trajectory, name) for part in parts])
        assert_close(together, getattr(whole.trajectory, name), rtol=1e-5, atol=1e-6)
    assert torch.equal(torch.cat([part.rescued.replaced_B for part in parts]), whole.rescued.replaced_B)
    assert engines[0].times == engines[1].times and whole.rescued.replaced_B.any()
    assert parts[0].rescued.groups + parts[1].rescued.groups == whole.rescued.groups


# ---- mistakes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Igpo(share=[0.6, 0.2]), r"rescue\.share=\[0\.6, 0\.2\]"),
        (lambda: Igpo(share=[0.0, 0.2]), r"rescue\.share"),
        (lambda: Igpo(chunk=[0, 3]), r"rescue\.chunk"),
        (lambda: Igpo(chunk=[5]), r"rescue\.chunk"),
        (lambda: Igpo(replace=1.0), r"rescue\.replace=1\.0: a wrong completion must stay"),
        (lambda: Igpo(entropy_share=-0.1), r"rescue\.entropy_share"),
        (lambda: Resample(tries=0), r"rescue\.tries=0: choose at least 1, or rescue=none"),
    ],
)
def test_nonsense_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_the_options_are_the_classes():
    assert SCHEMAS["rescue"] == {"none": None_, "igpo": Igpo, "resample": Resample}
    assert (None_().most, Igpo().most, Resample(tries=5).most) == (0, 1, 5)
