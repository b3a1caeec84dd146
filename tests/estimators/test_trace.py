"""Likelihoods along the trace: what the rollout saw, group by group, and which groups are picked."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from stp.errors import UserError
from stp.estimators import Trace
from stp.objectives import Grpo
from stp.samplers import Adaptive, Standard, Stp
from stp.types import Draws, LogProbs
from tests.toys import EOS, MASK, PROMPT, Recording, anchors, in_context, log_probs, never_masked, prompts, trajectory

L, B, P = 12, 6, len(PROMPT)
MODEL = never_masked(in_context(L, seed=1, eos=0.5, scale=0.3))
SIZE = {"length": L, "block_length": 4, "temperature": 1.3}  # log-probabilities are at temperature 1 all the same
SAMPLERS = {
    "standard": Standard(**SIZE, steps=6),
    "one token a forward": Standard(**SIZE, steps=L),
    "stp": Stp(**SIZE, steps=6, gamma=0.2, t_cutoff=0.25),
    "adaptive": Adaptive(**SIZE, steps=L, t_cutoff=0.25, tau=0.5),
}


def rolled(name: str, denoise=MODEL, rows: int = B):
    """A rollout whose rows end at different steps, most of them with tokens revealed after the EOS."""
    fixed = anchors(rows, L, [[1, 5, 10]] * rows)
    return SAMPLERS[name](denoise, prompts(rows), Draws(3, rows), fixed)


def scored(estimator: Trace, rows, denoise=MODEL, draws: Draws | None = None) -> LogProbs:
    draws = Draws(0, len(rows.response_BL)) if draws is None else draws
    return estimator(denoise, rows, estimator.draw(rows, draws, denoise=denoise))


@pytest.mark.parametrize("name", SAMPLERS)
def test_on_the_policy_that_rolled_out_every_step_gives_back_its_log_probabilities(name):
    done, estimator = rolled(name), Trace(groups=0)
    estimate = scored(estimator, done)
    assert_close(estimate.token_BL, done.logp_BL * done.trainable_BL, rtol=1e-5, atol=1e-6)
    assert_close(estimate.draw_BK.mean(dim=1), (done.logp_BL * done.trainable_BL).sum(dim=1), rtol=1e-5, atol=1e-6)
    rolled_out = replace(estimate, token_BL=done.logp_BL * done.trainable_BL)
    weight_BL = Grpo().token_weights(done.trainable_BL, B, 1)
    stats = Grpo(beta=0.0)(estimate, rolled_out, None, torch.ones(B), weight_BL).stats
    assert_close(float(stats["ratio/mean"] / stats["count"]), 1.0, rtol=1e-5, atol=0)
    assert len(set(done.step_BL.where(done.trainable_BL, -1).amax(dim=1).tolist())) > 1  # rows of different lengths
    assert bool(((done.step_BL >= 0) & ~done.until_eos_BL).any())  # tokens after an EOS were seen by later forwards


@pytest.mark.parametrize("name", SAMPLERS)
def test_its_states_are_the_inputs_of_the_rollout(name):
    sampler = Recording(MODEL)
    done = rolled(name, sampler)
    # rows leave the batch when they end, so the rollout is looked up by what it saw
    seen = Counter(tuple(row) for call in sampler.calls for row in call.ids_BS.tolist())
    update = Recording(MODEL)
    scored(Trace(groups=0), done, update)
    (call,) = [c for c in update.calls if c.target_M is not None]
    states = Counter(tuple(row) for row in call.ids_BS.tolist())
    assert not states - seen
    steps = [len(set(step_L[train_L].tolist())) for step_L, train_L in zip(done.step_BL, done.trainable_BL, strict=True)]
    assert len(call.ids_BS) == sum(steps)  # a row of fewer steps is run fewer times
    assert len(call.index_M) == int(done.trainable_BL.sum())


@pytest.mark.parametrize("groups", [1, 2, 3, 50])
def test_groups_of_neighbouring_steps_are_scored_in_their_first_state(groups):
    done = rolled("one token a forward")
    estimate = scored(Trace(groups=groups), done)
    for b in range(B):
        row = done.rows(slice(b, b + 1))
        step_L, train = row.step_BL[0].tolist(), row.trainable_BL[0].nonzero().flatten().tolist()
        steps = sorted({step_L[k] for k in train})
        G = min(groups, len(steps))
        group = {s: i * G // len(steps) for i, s in enumerate(steps)}
        first = {g: min(s for s in steps if group[s] == g) for g in range(G)}
        for k in range(L):
            if k not in train:
                assert estimate.token_BL[b, k] == 0
                continue
            start = first[group[step_L[k]]]
            unseen = [j for j in range(L) if not row.fixed_BL[0, j] and (step_L[j] < 0 or step_L[j] >= start)]
            assert_close(float(estimate.token_BL[b, k]), log_probs(MODEL, row, unseen)[k], rtol=1e-5, atol=1e-6)
    if groups == 50:
        assert_close(estimate.token_BL, done.logp_BL * done.trainable_BL, rtol=1e-5, atol=1e-6)


ROW = replace(
    trajectory([2, 3, 4, 5, 6, EOS, 3, 4, 2, 2, 2, 2], fixed=[2, 7]),
    # five trainable tokens, revealed in four steps; one after the EOS in a step of its own, and one never
    step_BL=torch.tensor([[0, 3, -1, 2, 2, 5, 4, -1, -1, -1, -1, -1]]),
    logp_BL=torch.tensor([[-0.5, -3.0, 0.0, -1.0, -2.0, -0.1, -9.0, 0.0, 0.0, 0.0, 0.0, 0.0]]),
)
STEPS = [[0], [3, 4], [1], [5]]  # the trainable tokens of each step, in order
SURPRISE = [0.5, 1.5, 3.0, 0.1]


def repeated(rows: int):
    return ROW.rows(torch.zeros(rows, dtype=torch.long))


def picked(noise) -> list[list[int]]:
    """The steps that each row's draws score, as places in STEPS."""
    return [[STEPS.index(m.nonzero().flatten().tolist()) for m in row if m.any()] for row in noise.masked_BKL]


def test_uniform_picks_each_step_equally_often_and_undoes_its_share():
    rows, estimator = 4, Trace(groups=0, pick="uniform", samples=3)

    class Grid(Draws):
        def uniform(self, purpose, step, *shape):
            return (torch.arange(rows)[:, None] + 0.5) / rows

    estimate = scored(estimator, repeated(rows), draws=Grid(0, rows))
    every = scored(Trace(groups=0), ROW)
    assert_close(estimate.token_BL.mean(dim=0), every.token_BL[0], rtol=1e-5, atol=1e-6)
    assert estimator.draw(repeated(rows), Grid(0, rows)).masked_BKL.shape == (rows, 3, L)
    assert estimator.varies and not estimator.independent
    more = scored(replace(estimator, samples=9), ROW)  # fewer steps than draws: all of them, exactly
    assert_close(more.token_BL, every.token_BL, rtol=1e-5, atol=1e-6)


def test_surprise_draws_steps_by_the_softmax_of_their_mean_surprise_without_replacement():
    rows = 4000
    first = picked(Trace(groups=0, pick="surprise", samples=1).draw(repeated(rows), Draws(0, rows)))
    chance = [math.exp(s) / sum(map(math.exp, SURPRISE)) for s in SURPRISE]
    for i, p in enumerate(chance):
        assert abs(sum(row == [i] for row in first) / rows - p) < 4 * (p * (1 - p) / rows) ** 0.5
    noise = Trace(groups=0, pick="surprise", samples=2).draw(repeated(rows), Draws(0, rows))
    two = picked(noise)
    assert all(len(set(row)) == 2 for row in two) and (noise.weight_BK == 2).all()
    both = sum(chance[a] * chance[b] / (1 - chance[a]) for a, b in ((1, 2), (2, 1)))  # multinomial without replacement
    assert abs(sum(set(row) == {1, 2} for row in two) / rows - both) < 4 * (both * (1 - both) / rows) ** 0.5


def test_entropy_picks_the_steps_where_the_policy_is_least_certain():
    def mean_entropy(step: list[int]) -> float:
        start = int(ROW.step_BL[0, step[0]])
        unseen = [j for j in range(L) if not ROW.fixed_BL[0, j] and (ROW.step_BL[0, j] < 0 or ROW.step_BL[0, j] >= start)]
        ids_S = torch.tensor(PROMPT + [MASK if j in unseen else int(ROW.response_BL[0, j]) for j in range(L)])
        logp_LV = MODEL.logits(ids_S[None])[0, P:].log_softmax(dim=1)
        return sum(-float((logp_LV[k].exp() * logp_LV[k]).sum()) for k in step) / len(step)

    order = sorted(range(4), key=lambda i: -mean_entropy(STEPS[i]))
    for K in (1, 2, 3):
        estimator = Trace(groups=0, pick="entropy", samples=K)
        noise = estimator.draw(repeated(2), Draws(0, 2), denoise=MODEL)
        assert [sorted(row) for row in picked(noise)] == [sorted(order[:K])] * 2 and (noise.weight_BK == K).all()
    estimate, every = scored(estimator, ROW), scored(Trace(groups=0), ROW)
    chosen = [k for i in order[:3] for k in STEPS[i]]
    assert_close(estimate.token_BL[0, chosen], every.token_BL[0, chosen], rtol=1e-5, atol=1e-6)
    assert not estimator.varies


@pytest.mark.parametrize("pick", ["all", "surprise", "entropy"])
def test_confident_tokens_of_the_picked_states_are_scored_too(pick):
    threshold, K = 0.25, 4
    estimator = Trace(groups=0, pick=pick, samples=K, score="confident", threshold=threshold)
    noise = estimator.draw(ROW, Draws(0, 1), denoise=MODEL)
    token, more = dict.fromkeys(range(L), 0.0), 0
    for i in range(4):
        start = int(ROW.step_BL[0, STEPS[i][0]])
        unseen = [j for j in range(L) if not ROW.fixed_BL[0, j] and (ROW.step_BL[0, j] < 0 or ROW.step_BL[0, j] >= start)]
        logp = log_probs(MODEL, ROW, unseen)
        trainable = [k for step in STEPS for k in step if k in unseen]
        chosen = [k for k in trainable if k in STEPS[i] or logp[k] >= math.log(threshold)]
        more += len(chosen) - len(STEPS[i])
        for k in chosen:
            token[k] += 5 / len(chosen) * logp[k] / 4  # five trainable tokens, four states
    assert 0 < more < 8  # some, and not all that are masked
    estimate = estimator(MODEL, ROW, noise)
    assert_close(estimate.token_BL[0], torch.tensor(list(token.values())), rtol=1e-5, atol=1e-6)


def test_rows_of_fewer_steps_are_padded_with_draws_that_are_not_run():
    short = replace(ROW, step_BL=ROW.step_BL.where(ROW.step_BL < 0, 0))
    rows = replace(repeated(2), step_BL=torch.cat([ROW.step_BL, short.step_BL]))
    together = scored(Trace(groups=0), rows)
    for b, row in enumerate((ROW, short)):
        assert_close(together.token_BL[b], scored(Trace(groups=0), row).token_BL[0], rtol=1e-6, atol=1e-6)
    recording = Recording(MODEL)
    scored(Trace(groups=0), rows, recording)
    assert len(recording.calls[0].ids_BS) == 4 + 1


def test_a_rows_prompt_masks_do_not_depend_on_the_steps_of_others():
    estimator, draws = Trace(groups=0, p_mask=0.5), Draws(0, 2)
    long = replace(ROW, step_BL=torch.tensor([[0, 1, -1, 2, 3, 4, -1, -1, -1, -1, -1, -1]]))
    both = replace(repeated(2), step_BL=torch.cat([ROW.step_BL, long.step_BL]))
    together, alone = estimator.draw(both, draws), estimator.draw(ROW, draws.select(torch.tensor([0])))
    assert torch.equal(together.prompt_BKP[:1, :4], alone.prompt_BKP) and estimator.varies


def test_nothing_to_score_is_worth_0_and_a_response_from_elsewhere_is_refused():
    nothing = replace(ROW, fixed_BL=torch.ones_like(ROW.fixed_BL), step_BL=torch.full_like(ROW.step_BL, -1))
    for estimator in (Trace(), Trace(pick="surprise"), Trace(pick="entropy", score="confident")):
        assert not scored(estimator, nothing).token_BL.any()
    with pytest.raises(UserError, match="a trace belongs to a rollout"):
        Trace().draw(replace(ROW, step_BL=torch.full_like(ROW.step_BL, -1)), Draws(0, 1))


@pytest.mark.parametrize("options", [{"groups": -1}, {"pick": "some"}, {"score": "all"}, {"threshold": 0.0}])
def test_wrong_options_are_refused(options):
    with pytest.raises(UserError, match=rf"^estimator\.{next(iter(options))}="):
        Trace(**options)
