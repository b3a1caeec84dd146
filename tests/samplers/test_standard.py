"""The standard sampler against a naive reference, row by row."""

import math
from dataclasses import dataclass

import pytest
import torch

from stp.diffusion import token_log_probs, until_eos
from stp.estimators import OneStep
from stp.samplers import Standard, Stp
from stp.samplers.generate import generate
from stp.samplers.schedule import quotas
from stp.types import Batch, Draws, Prompts
from tests.toys import EOS, MASK, PROMPT, VOCAB, Recording, anchors, context_free, in_context, prompts


@dataclass
class Row:
    """One denoised row: its tokens, and for each the forward that revealed it, with its log-probability there."""

    tokens: list[int]
    steps: list[int]
    logps: list[float]


def reference(denoise, start, row: int, draws: Draws, temperature: float) -> Row:
    """One row, never ended early, with plain lists: low-confidence remasking as the paper tells it."""
    response = [int(t) if f else MASK for t, f in zip(start.tokens_BL[row], start.fixed_BL[row], strict=True)]
    done = Row(response, [-1] * len(response), [0.0] * len(response))
    step = 0

    def predict(position):
        logits_V = denoise.logits(torch.tensor([PROMPT + response]))[0, len(PROMPT) + position].clone()
        logits_V[MASK] = -torch.inf
        p_V = logits_V.softmax(dim=0)
        if temperature == 0:
            token = int(p_V.argmax())
        else:
            uniform = float(draws.uniform("tokens", step, len(response))[row, position])
            token = int((((logits_V / temperature).softmax(dim=0)).cumsum(dim=0) <= uniform).sum())
        return token, float(p_V[token])

    for window in start.windows:
        inside = [i for i in range(window.begin, window.end) if response[i] == MASK]
        quota = min(len(inside), max(0, response.count(MASK) - start.keep))
        for s in range(window.forwards):
            count = quota // window.forwards + (s < quota % window.forwards)
            guesses = {i: predict(i) for i in inside if response[i] == MASK}
            for i in sorted(guesses, key=lambda i: -guesses[i][1])[:count]:
                response[i], done.steps[i], done.logps[i] = guesses[i][0], step, math.log(guesses[i][1])
            step += 1
    if start.fill:
        temperature = 0
        guesses = {i: predict(i) for i, token in enumerate(response) if token == MASK}
        for i, (token, p) in guesses.items():
            response[i], done.steps[i], done.logps[i] = token, step, math.log(p)
    return done


SAMPLERS = [
    Standard(12, 12, 4, 0.0),
    Standard(12, 12, 4, 1.0),
    Standard(12, 7, 4, 0.7),
    Standard(12, 3, 4, 1.0),
    Standard(12, 12, 12, 1.0),
    Stp(12, 9, 4, 0.9, gamma=0.25, t_cutoff=0.0),
    Stp(12, 12, 4, 0.9, gamma=0.25, t_cutoff=0.2),
    Stp(12, 4, 3, 0.0, gamma=0.4, t_cutoff=0.3),
    Stp(12, 12, 4, 1.0, gamma=0.25, t_cutoff=0.1, select="random", gamma_of="anchor"),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_completions_up_to_eos_are_those_of_a_naive_sampler(sampler):
    """Rows that end early leave the batch; up to their EOS that changes nothing, for them and for the others."""
    earlier = anchors(6, 12, [list(range(12)), [0, 3, 4, 5, 10], [], [11], list(range(6)), list(range(0, 12, 2))])
    draws, ended = Draws(seed=4, batch=6), 0
    for eos in (-torch.inf, 1.0):
        denoise = in_context(12, seed=2, eos=eos)
        result = sampler(denoise, prompts(6), draws, earlier)
        start = sampler.start(earlier, draws)
        for row in range(6):
            expected = reference(denoise, start, row, draws, sampler.temperature)
            expected_L, steps_L, logp_L = (torch.tensor(v) for v in (expected.tokens, expected.steps, expected.logps))
            until_L = until_eos(expected_L[None], EOS)[0]
            assert torch.equal(result.until_eos_BL[row], until_L)
            assert torch.equal(result.response_BL[row, until_L], expected_L[until_L])
            assert torch.equal(result.step_BL[row, until_L], steps_L[until_L])
            torch.testing.assert_close(result.logp_BL[row, until_L], logp_L[until_L], rtol=1e-5, atol=1e-6)
            ended += not bool(until_L.all())
    assert ended >= 2, "no row ended early: the test shows nothing about leaving the batch"


@pytest.mark.parametrize("sampler", SAMPLERS[:7], ids=str)
def test_rows_run_alone_give_the_same_tokens(sampler):
    """Token for token, the tail included: compaction moves no draw to another row."""
    denoise = in_context(12, seed=2, eos=1.0)
    earlier = anchors(6, 12, [list(range(12)), [0, 3, 4, 5, 10], [], [11], list(range(6)), list(range(0, 12, 2))])
    draws = Draws(seed=5, batch=6)
    start = sampler.start(earlier, draws)
    together = sampler.run(denoise, prompts(6), start, draws)
    for row in range(6):
        i = torch.tensor([row])
        alone = sampler.run(denoise, prompts(1), start.rows(i), draws.select(i))
        for name in ("response_BL", "step_BL", "logp_BL", "nfe_B"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[row]), name
        assert alone.nfe_run <= together.nfe_run <= together.nfe == alone.nfe


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
@pytest.mark.parametrize("eos", [-torch.inf, 1.0])
def test_every_forward_reveals_its_share_and_the_record_says_which(sampler, eos):
    """In each forward a row reveals as many tokens as its schedule asks for, the fill the rest. A row that ends leaves -1."""
    denoise, draws = Recording(in_context(12, seed=2, eos=eos)), Draws(seed=4, batch=6)
    earlier = anchors(6, 12, [list(range(12)), [0, 3, 4, 5, 10], [], [11], list(range(6)), list(range(0, 12, 2))])
    start = sampler.start(earlier, draws)
    result = generate(denoise, sampler, Batch(prompts(6), draws, earlier), rows=4)
    assert ((result.step_BL == -1) == (result.logp_BL == 0)).all() and (result.logp_BL <= 0).all()
    assert (result.step_BL[result.fixed_BL] == -1).all() and (result.step_BL[result.trainable_BL] >= 0).all()
    assert (result.response_BL[(result.step_BL == -1) & ~result.fixed_BL] == EOS).all()
    quota_BW = quotas(~start.fixed_BL, [(w.begin, w.end) for w in start.windows], start.keep)
    for row in range(6):
        due = [
            q // w.forwards + (s < q % w.forwards)
            for q, w in zip(quota_BW[row].tolist(), start.windows, strict=True)
            for s in range(w.forwards)
        ]
        due += [start.keep] * start.fill
        found = torch.bincount(result.step_BL[row][result.step_BL[row] >= 0], minlength=len(due)).tolist()
        ran = int(result.nfe_B[row])
        assert found[:ran] == due[:ran] and not any(found[ran:])


def test_ended_rows_leave_the_batch_and_are_filled_with_eos():
    """EOS certain from block 2 on: every row is over after two of three blocks, a third of the forwards never runs."""
    table_SV = torch.zeros(len(PROMPT) + 12, VOCAB, dtype=torch.float64)
    table_SV[:, EOS] = -torch.inf
    table_SV[len(PROMPT) + 4 :, EOS] = 50.0
    denoise = Recording(context_free(12))
    denoise.inner.logits = lambda ids_BS: table_SV.expand(len(ids_BS), -1, -1)
    result = Standard(12, 12, 4, 1.0)(denoise, prompts(3), Draws(0, 3))
    assert (result.nfe, result.nfe_run, len(denoise.calls)) == (12, 8, 8)
    assert (result.response_BL[:, 4:] == EOS).all() and not (result.response_BL[:, :4] == EOS).any()
    assert result.until_eos_BL.sum(dim=1).tolist() == [5, 5, 5]


def test_an_eos_with_open_positions_before_it_does_not_end_a_row():
    """One block of four, EOS most confident at its end: the positions before it are still decoded."""
    table_SV = torch.zeros(len(PROMPT) + 4, VOCAB, dtype=torch.float64)
    table_SV[:, EOS] = -torch.inf
    table_SV[-1, EOS] = 50.0
    denoise = Recording(context_free(4))
    denoise.inner.logits = lambda ids_BS: table_SV.expand(len(ids_BS), -1, -1)
    result = Standard(4, 4, 4, 1.0)(denoise, prompts(1), Draws(0, 1))
    assert len(denoise.calls) == 4 and int(result.response_BL[0, -1]) == EOS
    assert (denoise.calls[1].ids_BS[0, 2:] == MASK).tolist() == [True, True, True, False]
    assert not (result.response_BL == MASK).any() and bool(result.until_eos_BL.all())


def test_the_most_confident_draws_are_revealed_first():
    """Eq. 6 the right way round: with an argmax and no context, positions appear in the order of their best probability."""
    denoise = Recording(context_free(6, seed=3, eos=-torch.inf))
    Standard(6, 6, 6, 0.0)(denoise, prompts(1), Draws(0, 1))
    logits_LV = denoise.inner.logits(torch.zeros(1, 8, dtype=torch.long))[0, 2:].clone()
    logits_LV[:, MASK] = -torch.inf
    order = logits_LV.softmax(dim=1).max(dim=1).values.argsort(descending=True).tolist()
    open_at = [(c.ids_BS[0, 2:] == MASK).tolist() for c in denoise.calls]
    for step, state in enumerate(open_at):
        assert [i for i in range(6) if not state[i]] == sorted(order[:step])


def test_only_open_positions_of_the_active_block_are_predicted():
    denoise = Recording(context_free(12, eos=-torch.inf))
    Standard(12, 12, 4, 1.0)(denoise, prompts(2), Draws(0, 2))
    for step, call in enumerate(denoise.calls):
        place_M = call.index_M % (len(PROMPT) + 12) - len(PROMPT)
        assert set((place_M // 4).tolist()) == {step // 4}
        assert (call.ids_BS.flatten()[call.index_M] == MASK).all()
        assert len(call.index_M) == 2 * (4 - step % 4)


def test_draws_differ_between_completions_steps_and_updates():
    """The same prompt in every row: completions differ, and another update's differ from these."""
    denoise = context_free(12)
    first = Standard(12, 12, 4, 1.0)(denoise, prompts(8), Draws(0, 8, update=0)).response_BL
    second = Standard(12, 12, 4, 1.0)(denoise, prompts(8), Draws(0, 8, update=1)).response_BL
    assert len(first.unique(dim=0)) == 8 and not torch.equal(first, second)


def test_samples_follow_the_model_where_order_cannot_matter():
    """One position per block and no context: each token is a plain draw from softmax(logits / T)."""
    denoise, B = context_free(2, seed=6), 20_000
    response_BL = Standard(2, 2, 1, 0.8)(denoise, prompts(B), Draws(0, B)).response_BL
    logits_V = denoise.logits(torch.zeros(1, 4, dtype=torch.long))[0, 2].clone()
    logits_V[MASK] = -torch.inf
    p_V = (logits_V / 0.8).softmax(dim=0)[1:]
    count_V = torch.bincount(response_BL[:, 0], minlength=VOCAB)[1:].double()
    statistic = float(((count_V - B * p_V) ** 2 / (B * p_V)).sum())
    assert statistic < 5 + 5 * 10**0.5


class Bare:
    """All that a denoiser must have, and logits of a table that it keeps."""

    mask_id, eos_id = 0, 1

    def __init__(self):
        self.table_SV = torch.randn(20, 7, generator=torch.Generator().manual_seed(0))

    def __call__(self, ids_BS, attend_BS, index_M, target_M=None):
        logits_MV = self.table_SV if len(index_M) == len(self.table_SV) else self.table_SV[index_M % ids_BS.shape[1]]
        return logits_MV if target_M is None else token_log_probs(logits_MV, target_M)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_any_object_with_a_call_and_two_ids_is_a_denoiser_and_its_logits_stay_its_own(temperature):
    bare = Bare()
    before_SV = bare.table_SV.clone()
    prompts = Prompts(torch.full((1, 0), 2))
    trajectory = Standard(20, 10, 20, temperature)(bare, prompts, Draws(0, 1))
    noise = OneStep().draw(trajectory, Draws(0, 1))
    OneStep()(bare, trajectory, noise)
    assert not (trajectory.response_BL == bare.mask_id).any() and torch.equal(bare.table_SV, before_SV)
