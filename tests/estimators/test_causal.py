"""The left-to-right likelihood: exact with all positions, unbiased with some, and what a left-to-right sampler drew."""

from itertools import product

import pytest
import torch
from torch.testing import assert_close

from stp.estimators import Causal
from stp.estimators.base import evenly
from stp.samplers import Standard, Stp
from stp.types import Draws
from tests.toys import EOS, Exact, Recording, anchors, in_context, joined, log_probs, never_masked, prompts, trajectory

# five trainable positions (the EOS is one), two fixed (one after the EOS), one open after the EOS
FIXED, TRAINABLE = [2, 7], [0, 1, 3, 4, 5]
ROW = trajectory([2, 3, 4, 5, 6, EOS, 3, 4], fixed=FIXED)
L, N = 8, 5


def terms(denoise) -> dict[int, float]:
    """log p of each trainable token given those before it and the fixed ones."""
    return {k: log_probs(denoise, ROW, [j for j in range(k, L) if j not in FIXED])[k] for k in TRAINABLE}


def test_all_positions_give_the_exact_likelihood_token_by_token():
    denoise, estimator = Recording(in_context(L)), Causal(samples=20)
    estimate = estimator(denoise, ROW, estimator.draw(ROW, Draws(0, 1)))
    exact = terms(denoise.inner)
    assert_close(estimate.token_BL[0], torch.tensor([exact.get(k, 0.0) for k in range(L)]), rtol=1e-5, atol=1e-6)
    assert_close(float(estimate.draw_BK.mean()), sum(exact.values()), rtol=1e-5, atol=0)
    (call,) = denoise.calls
    assert len(call.ids_BS) == N  # the empty draws of the 20 are not run


def test_the_probabilities_of_all_sequences_add_up_to_1():
    """The responses of three tokens, each once: what stands after an EOS is no part of one. The mask is a token like others."""
    responses = [list(r) for r in product(range(7), repeat=3)]
    rows = [trajectory(r) for r in responses if EOS not in r or set(r[r.index(EOS) + 1 :]) <= {2}]
    batch, estimator = joined(*rows), Causal(samples=3)
    logp_B = estimator(Exact(3), batch, estimator.draw(batch, Draws(0, len(rows)))).token_BL.sum(dim=1)
    assert_close(float(logp_B.exp().sum()), 1.0, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("n", "K"), [(5, 1), (5, 3), (5, 5), (7, 4), (3, 8)])
def test_positions_are_drawn_without_replacement_each_equally_often(n, K):
    """Over a grid of starts that falls between the jumps, each place is drawn equally often, and the weights undo its share."""
    start_B1 = (torch.arange(n)[:, None] + 0.5) / n
    place_BK, weight_B1 = evenly(torch.full((n, 1), n), K, start_B1)
    used = [[p for p in row if p >= 0] for row in place_BK.tolist()]
    assert all(len(set(row)) == len(row) == min(n, K) for row in used)
    assert [sum(row.count(p) for row in used) for p in range(n)] == [min(n, K)] * n
    assert (weight_B1 == K * n / min(n, K)).all()


def test_some_positions_are_unbiased():
    B, denoise, estimator = 5, in_context(L), Causal(samples=2)
    row = trajectory([2, 3, 4, 5, 6, EOS, 3, 4], fixed=FIXED, rows=B)

    class Grid(Draws):
        def uniform(self, purpose, step, *shape):
            return (torch.arange(B)[:, None] + 0.5) / B

    estimate = estimator(denoise, row, estimator.draw(row, Grid(0, B)))
    exact = terms(denoise)
    assert_close(estimate.token_BL.mean(dim=0), torch.tensor([exact.get(k, 0.0) for k in range(L)]), rtol=1e-5, atol=1e-6)
    assert (estimate.draw_BK[0, 0] != estimate.draw_BK[0, 1]) and not estimator.independent and estimator.varies


def test_it_is_what_a_left_to_right_sampler_drew():
    length, B = 6, 8
    denoise = never_masked(in_context(length, eos=1.0))
    sampler = Standard(length=length, steps=length, block_length=1, temperature=1.0)
    done = sampler(denoise, prompts(B), Draws(0, B))
    assert not done.until_eos_BL.all()  # some end early
    pruned = Stp(length=length, steps=length, block_length=1, temperature=1.0, gamma=1 / 3, t_cutoff=0.0)
    fixed = [pruned(denoise, prompts(1), Draws(b, 1), anchors(1, length, [[1, 4]])) for b in range(4)]
    assert all(row.fixed_BL.sum() == 2 for row in fixed)
    for rows in (done, *fixed):
        estimator = Causal(samples=length)
        token_BL = estimator(denoise, rows, estimator.draw(rows, Draws(0, len(rows.response_BL)))).token_BL
        assert_close(token_BL, rows.logp_BL * rows.trainable_BL, rtol=1e-5, atol=1e-6)


def test_nothing_to_score_is_worth_0():
    row = trajectory([2, EOS, 3], fixed=[0, 1])
    estimate = Causal()(in_context(3), row, Causal().draw(row, Draws(0, 1)))
    assert not estimate.token_BL.any() and not estimate.draw_BK.any()
