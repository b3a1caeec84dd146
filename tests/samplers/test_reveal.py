"""Revealing by threshold, against a naive loop over one row and against the schedule."""

import math
from dataclasses import replace

import pytest
import torch

from stp.diffusion import until_eos
from stp.errors import UserError
from stp.samplers import Adaptive, Standard, Stp
from stp.samplers.generate import generate
from stp.types import Batch, Draws, Prompts
from tests.samplers.test_standard import Row
from tests.toys import EOS, MASK, PROMPT, Recording, anchors, in_context

P, L, B = len(PROMPT), 12, 6
ELIGIBLE = [list(range(12)), [0, 3, 4, 5, 10], [], [11], list(range(6)), list(range(0, 12, 2))]
EARLIER = anchors(B, L, ELIGIBLE)
PROMPTS = Prompts(torch.tensor([[a, b] for a in (2, 5) for b in (3, 4, 6)]))  # rows differ at temperature 0, too
BY_THRESHOLD = {"reveal": "threshold"}
SAMPLERS = [
    Standard(L, 12, 4, 0.0, tau=0.3, **BY_THRESHOLD),
    Standard(L, 12, 4, 1.0, tau=0.3, **BY_THRESHOLD),
    Standard(L, 7, 4, 0.7, tau=0.5, **BY_THRESHOLD),
    Standard(L, 3, 4, 1.0, **BY_THRESHOLD),
    Standard(L, 12, 12, 1.0, tau=0.2, **BY_THRESHOLD),
    Stp(L, 9, 4, 0.9, gamma=0.25, t_cutoff=0.0, tau=0.4, **BY_THRESHOLD),
    Adaptive(L, 12, 4, 0.0, t_cutoff=0.3, tau=0.35),
    Stp(L, 12, 3, 1.0, gamma=0.25, t_cutoff=0.2, tau=0.3, select="random", **BY_THRESHOLD),
]


def reference(denoise, sampler, start, row: int, draws: Draws) -> Row:
    """One row with plain lists: a forward commits the active block's draws of at least tau, or the floor's most confident."""
    response = [int(t) if f else MASK for t, f in zip(start.tokens_BL[row], start.fixed_BL[row], strict=True)]
    done = Row(response, [-1] * L, [0.0] * L)
    W, tau, step = sampler.block_length, sampler.tau or 0.9, 0

    def predict(position, temperature):
        logits_V = denoise.logits(torch.tensor([PROMPTS.ids_BP[row].tolist() + response]))[0, P + position].clone()
        logits_V[MASK] = -torch.inf
        p_V = logits_V.softmax(dim=0)
        token = int(p_V.argmax())
        if temperature > 0:
            uniform = float(draws.uniform("tokens", step, L)[row, position])
            token = int((((logits_V / temperature).softmax(dim=0)).cumsum(dim=0) <= uniform).sum())
        return token, float(p_V[token])

    def commit(guesses):
        for i, (token, p) in guesses.items():
            response[i], done.steps[i], done.logps[i] = token, step, math.log(p)

    while response.count(MASK) > start.keep:
        block = response.index(MASK) // W * W
        if EOS in response[:block]:
            break
        guesses = {i: predict(i, sampler.temperature) for i in range(block, block + W) if response[i] == MASK}
        sure = sum(p >= tau for _, p in guesses.values())
        order = sorted(guesses, key=lambda i: -guesses[i][1])
        commit({i: guesses[i] for i in order[: max(sure, math.ceil(L / sampler.steps))]})
        step += 1
    finished = response.index(MASK) // W * W if MASK in response else L
    if MASK in response and EOS not in response[:finished]:
        commit({i: predict(i, 0) for i, token in enumerate(response) if token == MASK})
    done.tokens = [EOS if token == MASK else token for token in response]
    return done


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_rollouts_are_those_of_a_naive_loop_over_one_row(sampler):
    """Tokens, the forwards that revealed them and their log-probabilities, also where rows leave after an EOS or are filled."""
    draws, ended, several = Draws(seed=4, batch=B), 0, 0
    for eos in (-torch.inf, 1.0):
        denoise = in_context(L, seed=2, eos=eos)
        start, result = sampler.start(EARLIER, draws), sampler(denoise, PROMPTS, draws, EARLIER)
        for row in range(B):
            expected = reference(denoise, sampler, start, row, draws)
            assert result.response_BL[row].tolist() == expected.tokens
            assert result.step_BL[row].tolist() == expected.steps
            torch.testing.assert_close(result.logp_BL[row], torch.tensor(expected.logps), rtol=1e-5, atol=1e-6)
            assert int(result.nfe_B[row]) == max(expected.steps) + 1
            ended += -1 in [s for s, fixed in zip(expected.steps, start.fixed_BL[row], strict=True) if not fixed]
        assert torch.equal(result.until_eos_BL, until_eos(result.response_BL, EOS)) and not result.scheduled
        several += len(set(result.nfe_B.tolist()))
        floor = math.ceil(L / sampler.steps)
        assert result.nfe_run >= int(result.nfe_B.max()) and (result.nfe_B <= L // floor + L // sampler.block_length).all()
    assert (ended >= 1 or sampler.block_length == L) and several >= 3, (
        "no row left early, or all rows had the same pace: the test shows little"
    )


SAME = anchors(B, L, [[0, 5, 10]] * B)  # all three are fixed, one in each block


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    "sampler",
    [
        *(Standard(L, steps, block) for steps, block in ((12, 4), (6, 4), (4, 12))),
        *(Stp(L, 12, 4, gamma=gamma, t_cutoff=cutoff) for gamma, cutoff in ((0.0, 0.2), (0.25, 0.0))),
    ],
    ids=str,
)
def test_a_threshold_that_no_draw_reaches_gives_the_tokens_of_the_schedule(sampler, temperature):
    """Bit for bit, with the same forwards: the floor is what the schedule reveals."""
    sampler = replace(sampler, temperature=temperature)
    for eos in (-torch.inf, 1.0):
        denoise, draws = in_context(L, seed=3, eos=eos), Draws(seed=1, batch=B)
        expected = sampler(denoise, PROMPTS, draws, SAME)
        found = replace(sampler, reveal="threshold", tau=1.0)(denoise, PROMPTS, draws, SAME)
        for name in ("response_BL", "fixed_BL", "until_eos_BL", "step_BL", "logp_BL", "nfe_B"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), name
        assert found.nfe_run == expected.nfe_run


class Blockwise(Recording):
    """A denoiser whose kept keys and values change nothing. It notes the blocks that it was asked for."""

    def within(self, begin: int, end: int):
        self.blocks = [*getattr(self, "blocks", []), (begin - P, end - P)]
        return self


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_a_row_does_not_depend_on_the_rows_beside_it(sampler):
    """Neither on micro-batches, nor on ranks, nor on rows with which it shares a block for kept keys and values."""
    denoise, draws = in_context(L, seed=2, eos=0.5), Draws(seed=5, batch=B)
    batch = Batch(PROMPTS, draws, EARLIER)
    together = generate(denoise, sampler, batch, rows=B)
    parts = generate(denoise, sampler, batch, rows=2)
    ranks = [generate(denoise, sampler, batch, 4, part) for part in (slice(0, 1), slice(1, 4), slice(4, B))]
    blockwise = Blockwise(denoise)
    cached = generate(blockwise, replace(sampler, cache="dual"), batch, rows=B)
    for name in ("response_BL", "fixed_BL", "until_eos_BL", "step_BL", "logp_BL", "nfe_B"):
        expected = getattr(together, name)
        assert torch.equal(getattr(parts, name), expected), name
        assert torch.equal(torch.cat([getattr(part, name) for part in ranks]), expected), name
        assert torch.equal(getattr(cached, name), expected), name
    assert (
        blockwise.blocks == [(b, b + sampler.block_length) for b in range(0, L, sampler.block_length)][: len(blockwise.blocks)]
    )
    assert cached.nfe_run == len(blockwise.calls) >= together.nfe_run >= int(together.nfe_B.max())


@pytest.mark.parametrize("cache", ["none", "prefix"])
def test_the_head_is_asked_at_the_open_places_of_each_rows_active_block_alone(cache):
    """And revealed or fixed tokens never change. The fill asks for all that is left."""
    denoise = Blockwise(in_context(L, seed=2, eos=0.5))
    result = Stp(L, 12, 4, 1.0, gamma=0.25, t_cutoff=0.1, tau=0.3, cache=cache, **BY_THRESHOLD)(
        denoise, PROMPTS, Draws(5, B), EARLIER
    )
    apart = 0
    for call in denoise.calls[:-1]:
        open_BL = call.ids_BS[:, P:] == MASK
        asked_BL = (
            torch.zeros_like(call.ids_BS, dtype=torch.bool).flatten().index_fill(0, call.index_M, True).view_as(call.ids_BS)
        )
        assert len(call.index_M.unique()) == len(call.index_M) and not asked_BL[:, :P].any()
        blocks = set()
        for open_L, asked_L in zip(open_BL, asked_BL[:, P:], strict=True):
            if not asked_L.any():
                assert cache != "none"  # it waits for the others
                continue
            block = int(open_L.nonzero()[0]) // 4 * 4
            blocks.add(block)
            assert asked_L.nonzero().flatten().tolist() == [i for i in range(block, block + 4) if open_L[i]]
        apart += len(blocks) > 1
    assert (apart == 0) == (cache != "none")
    last = denoise.calls[-1]
    assert (last.ids_BS.flatten()[last.index_M] == MASK).all() and len(last.index_M) == int((last.ids_BS == MASK).sum())
    assert torch.equal(result.response_BL[result.fixed_BL], EARLIER.tokens_BL[result.fixed_BL])


def test_a_lower_threshold_needs_fewer_forwards_and_a_row_leaves_after_its_eos():
    denoise, means = in_context(L, seed=2, eos=-torch.inf), []
    for tau in (1.0, 0.5, 0.3, 1e-6):
        means.append(
            float(Standard(L, 12, 4, 1.0, reveal="threshold", tau=tau)(denoise, PROMPTS, Draws(0, B)).nfe_B.float().mean())
        )
    assert means == sorted(means, reverse=True) and (means[0], means[-1]) == (12, 3)
    sure = in_context(L, seed=2, eos=50.0)
    result = Adaptive(L, 12, 4, 1.0)(sure, PROMPTS, Draws(0, B))
    assert (result.response_BL == EOS).all() and result.nfe_B.tolist() == [1] * B and result.nfe_run == 1


@pytest.mark.parametrize("block", [4, 6, 12])
@pytest.mark.parametrize(("steps", "t_cutoff"), [(12, 0.0), (7, 0.0), (12, 0.2), (4, 0.4)])
def test_the_most_forwards_of_a_row_are_those_of_a_threshold_that_no_draw_reaches(steps, t_cutoff, block):
    sampler = Stp(L, steps, block, 1.0, gamma=0.0, t_cutoff=t_cutoff, reveal="threshold", tau=1.0)
    draws = Draws(0, B)
    result = sampler(in_context(L, seed=2, eos=-torch.inf), PROMPTS, draws)
    assert sampler.forwards(sampler.start(None, draws)) == (1, int(result.nfe_B.max()))
    scheduled = replace(sampler, reveal="schedule", tau=None)
    assert scheduled.forwards(scheduled.start(None, draws)) == (result.nfe, result.nfe)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"reveal": "often"}, "sampler.reveal=often"),
        ({"tau": 0.0, "reveal": "threshold"}, "sampler.tau=0.0"),
        ({"tau": 1.5, "reveal": "threshold"}, "sampler.tau=1.5"),
        ({"tau": 0.9}, "sampler.tau=0.9: a schedule has no threshold"),
    ],
)
def test_impossible_options_are_refused_by_name(options, named):
    with pytest.raises(UserError, match=named):
        Standard(**options)
