"""SPG's bounds (PEERS: "SPG, in formulas") against plain loops over every block-wise mask."""

import math
from fractions import Fraction
from itertools import combinations, pairwise

import pytest
import torch
from torch.testing import assert_close

from stp.estimators import Spg
from stp.estimators.base import score
from stp.types import Draws, Noise
from tests.estimators import probed
from tests.toys import EOS, MASK, PROMPT, Exact, Recording, context_free, in_context, joined, log_probs, trajectory

# Blocks of three: one wholly fixed, one with a fixed token, a whole one, one that ends with the EOS, and one after it.
FIXED, L, BLOCK, LAST = [0, 1, 2, 4, 13], 14, 3, 10
ROW = trajectory([2, 3, 4, 5, 6, 2, 3, 4, 5, 6, EOS, 2, 3, 4], fixed=FIXED)
BLOCKS = {1: [3, 5], 2: [6, 7, 8], 3: [9, 10]}
TRAINABLE = [k for block in BLOCKS.values() for k in block]
N = 7

# (block, masked positions): the block in proportion to its n_b trainable tokens, m ~ U{1..n_b}, a uniform mask of that size
LAW = {
    (b, masked): Fraction(len(ks), N) / len(ks) / math.comb(len(ks), m)
    for b, ks in BLOCKS.items()
    for m in range(1, len(ks) + 1)
    for masked in combinations(ks, m)
}


def unseen(block: int, masked) -> list[int]:
    """What the model does not see: the masked, what follows the block, what follows the EOS; never a fixed token."""
    return [k for k in range(L) if (k in masked or k >= BLOCK * (block + 1) or k > LAST) and k not in FIXED]


def drawn(noise: Noise) -> list[tuple[int, tuple[int, ...]]]:
    """(block, masked positions) of each draw of the one row; the block is what stands before the hidden tail."""
    tails = [row.nonzero().flatten().tolist() for row in noise.hidden_BKL[0]]
    assert all(tail == list(range(tail[0], L)) and tail[0] % BLOCK == 0 for tail in tails)
    masks = [tuple(row.nonzero().flatten().tolist()) for row in noise.masked_BKL[0]]
    return [(tail[0] // BLOCK - 1, mask) for tail, mask in zip(tails, masks, strict=True)]


def noise_of(draws: list[tuple[int, tuple[int, ...]]]) -> Noise:
    """The Noise record of some draws."""
    masked_BKL = torch.zeros(1, len(draws), L, dtype=torch.bool)
    for j, (_, masked) in enumerate(draws):
        masked_BKL[0, j, list(masked)] = True
    hidden_BKL = torch.tensor([[[k >= BLOCK * (block + 1) for k in range(L)] for block, _ in draws]])
    return Noise(masked_BKL, torch.tensor([[N / len(masked) for _, masked in draws]]), hidden_BKL)


def every_draw() -> Noise:
    """Every mask as often as its probability says: the mean over these draws is the expectation."""
    return noise_of([draw for draw, chance in LAW.items() for _ in range(int(chance * 6 * N))])


def log_probs_of(denoise, draws, prompts=None) -> list[dict[int, float]]:
    """log p at the masked positions of each draw."""
    prompts = prompts or [()] * len(draws)
    found = [log_probs(denoise, ROW, unseen(b, masked), p) for (b, masked), p in zip(draws, prompts, strict=True)]
    return [{k: logp[k] for k in masked} for logp, (_, masked) in zip(found, draws, strict=True)]


def lower_bound(logps: list[dict[int, float]]) -> float:
    """mean_j of the mean over the masked positions."""
    return sum(sum(logp.values()) / len(logp) for logp in logps) / len(logps)


def upper_terms(logps: list[dict[int, float]], beta: float) -> dict[int, float]:
    """1/beta log( mean_j 1[i masked in j] p_ij^beta / t_j ) of the positions masked in some draw, as printed: no logsumexp."""
    inner: dict[int, float] = {}
    for logp in logps:
        for i, value in logp.items():
            inner[i] = inner.get(i, 0.0) + math.exp(value) ** beta / (len(logp) / N) / len(logps)
    return {i: math.log(value) / beta for i, value in inner.items()}


def upper_bound(logps: list[dict[int, float]], beta: float) -> float:
    terms = upper_terms(logps, beta)
    return sum(terms.values()) / len(terms)


def test_the_law_of_the_masks():
    draws = 30_000
    noise = Spg(samples=draws, block_length=BLOCK).draw(ROW, Draws(0, 1))
    found = drawn(noise)
    assert set(found) == set(LAW)  # nothing fixed, nothing after the EOS, no block without trainable tokens
    assert sum(LAW.values()) == 1
    statistic = sum((found.count(key) - draws * p) ** 2 / (draws * p) for key, p in LAW.items())
    freedom = len(LAW) - 1
    assert statistic < freedom + 5 * (2 * freedom) ** 0.5
    assert_close(noise.weight_BK[0], torch.tensor([N / len(masked) for _, masked in found]))
    assert noise.prompt_BKP is None


def test_the_model_sees_what_precedes_the_block_and_the_fixed_tokens_and_not_what_follows():
    denoise = Recording(in_context(L))
    noise = Spg(samples=50, block_length=BLOCK).draw(ROW, Draws(0, 1))
    estimate = Spg(block_length=BLOCK)(denoise, ROW, noise)
    (call,) = denoise.calls
    for ids, (block, masked) in zip(call.ids_BS.tolist(), drawn(noise), strict=True):
        shown = [MASK if k in unseen(block, masked) else x for k, x in enumerate(ROW.response_BL[0].tolist())]
        assert ids == PROMPT + shown
    assert len(call.index_M) == int(noise.masked_BKL.sum())  # the tail is hidden without being scored
    untrained = [k for k in range(L) if k not in TRAINABLE]
    assert not estimate.token_BL[0, untrained].any() and not estimate.upper_BL[0, untrained].any()


@pytest.mark.parametrize("samples", [1, 2, 7])
@pytest.mark.parametrize("p_mask", [0.0, 0.4])
def test_the_lower_bound_is_the_mean_over_draws_of_the_mean_over_masked_log_probabilities(samples, p_mask):
    for seed in range(5):
        denoise, estimator = in_context(L, seed), Spg(samples=samples, block_length=BLOCK, p_mask=p_mask)
        noise = estimator.draw(ROW, Draws(seed, 1))
        prompts = [row.nonzero().flatten().tolist() for row in noise.prompt_BKP[0]] if p_mask else None
        logps = log_probs_of(denoise, drawn(noise), prompts)
        estimate = estimator(denoise, ROW, noise)
        assert_close(float(estimate.token_BL.sum()) / N, lower_bound(logps), rtol=1e-5, atol=0)
        assert_close(estimate.draw_BK[0] / N, torch.tensor([lower_bound([logp]) for logp in logps]), rtol=1e-5, atol=0)
        by_token = [sum(N / len(logp) * logp.get(k, 0.0) for logp in logps) / samples for k in range(L)]
        assert_close(estimate.token_BL[0], torch.tensor(by_token), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("beta", [1.0, 1.5, 2.0, 4.0])
@pytest.mark.parametrize("samples", [1, 2, 9])
def test_the_upper_bound_is_the_printed_formula(beta, samples):
    for seed, p_mask in enumerate((0.0, 0.0, 0.4, 0.4)):
        estimator = Spg(samples=samples, block_length=BLOCK, eubo_beta=beta, mixture=1.0, p_mask=p_mask)
        denoise, noise = in_context(L, seed), estimator.draw(ROW, Draws(seed, 1))
        prompts = [row.nonzero().flatten().tolist() for row in noise.prompt_BKP[0]] if p_mask else None
        logps = log_probs_of(denoise, drawn(noise), prompts)
        upper_L = estimator(denoise, ROW, noise).upper_BL[0]
        assert_close(float(upper_L.sum()) / N, upper_bound(logps, beta), rtol=1e-5, atol=1e-6)
        terms = upper_terms(logps, beta)
        by_token = [N / len(terms) * terms.get(k, 0.0) for k in range(L)]  # a mean over those masked, whatever their number
        assert_close(upper_L, torch.tensor(by_token), rtol=1e-5, atol=1e-6)


def test_a_single_draw_of_one_masked_token_by_hand():
    """p = 1/7 (no logits at all), m = 1, t = 1/7: lower log(1/7), upper 1/beta log((1/7)^beta * 7)."""
    denoise = context_free(L)
    denoise.logits = lambda ids_BS: torch.zeros(*ids_BS.shape, 7)
    estimate = Spg(eubo_beta=2.0, mixture=1.0, block_length=BLOCK)(denoise, ROW, noise_of([(2, (7,))]))
    assert_close(float(estimate.token_BL[0, 7]) / N, -math.log(7))
    assert_close(float(estimate.upper_BL[0, 7]) / N, -math.log(7) / 2)


def test_the_mixture_weighs_the_upper_against_the_lower_bound():
    denoise, noise = in_context(L), Spg(samples=4, block_length=BLOCK).draw(ROW, Draws(0, 1))
    upper, lower, half, third = (
        Spg(samples=4, block_length=BLOCK, mixture=w)(denoise, ROW, noise).upper_BL for w in (1.0, 0.0, 0.5, 1 / 3)
    )
    assert torch.equal(lower, Spg(samples=4, block_length=BLOCK)(denoise, ROW, noise).token_BL)
    assert_close(half, (upper + lower) / 2)
    assert_close(third, upper / 3 + lower * 2 / 3)
    assert not torch.allclose(upper, lower)
    assert (Spg().mixture, Spg().eubo_beta) == (0.5, 1.5)  # as published


def test_over_all_masks_the_upper_bound_is_above_the_lower_and_grows_with_beta():
    """Token by token: 1[i masked] / t has mean 1, so this is Jensen's inequality."""
    noise = every_draw()
    for seed in range(3):
        denoise = Exact(L, seed)
        bounds = [Spg(eubo_beta=b, mixture=1.0, block_length=BLOCK)(denoise, ROW, noise) for b in (1.0, 1.5, 2.0, 8.0)]
        chain = [bounds[0].token_BL, *(bound.upper_BL for bound in bounds)]
        for below, above in pairwise(chain):
            assert (above[0, TRAINABLE] - below[0, TRAINABLE] >= -1e-9).all()
            assert float((above - below).sum()) > 0.01


def block_wise_elbo(denoise) -> dict[int, float]:
    """Sum over blocks of Eq. 3 given what precedes them: the integral of t^(m-1) (1-t)^(n-m) is (m-1)! (n-m)! / n!."""
    total = dict.fromkeys(TRAINABLE, 0.0)
    for block, masked in LAW:
        n, m = len(BLOCKS[block]), len(masked)
        for k, value in log_probs_of(denoise, [(block, masked)])[0].items():
            total[k] += value * math.factorial(m - 1) * math.factorial(n - m) / math.factorial(n)
    return total


def test_the_lower_bound_is_unbiased_for_the_block_wise_elbo():
    denoise = in_context(L)
    elbo, noise = block_wise_elbo(denoise), every_draw()
    estimate = Spg(block_length=BLOCK)(denoise, ROW, noise)
    assert_close(estimate.token_BL[0, TRAINABLE], torch.tensor([elbo[k] for k in TRAINABLE]), rtol=1e-5, atol=0)
    mean, variance = float(estimate.draw_BK.mean()), float(estimate.draw_BK.var(correction=0))
    assert_close(mean, sum(elbo.values()), rtol=1e-5, atol=0)
    draws = 20_000
    estimator = Spg(samples=draws, block_length=BLOCK)
    found_K = estimator(denoise, ROW, estimator.draw(ROW, Draws(3, 1))).draw_BK[0].double()
    assert abs(float(found_K.mean()) - mean) < 4 * (variance / draws) ** 0.5
    assert_close(float(found_K.var()), variance, rtol=0.05, atol=0)
    assert_close(probed(denoise, estimator, ROW, 1_500)[0], variance, rtol=0.15, atol=0)


def test_blocks_of_one_token_give_the_likelihood_from_left_to_right():
    denoise, draws = in_context(L), 600
    estimator = Spg(samples=draws, block_length=1)
    noise = estimator.draw(ROW, Draws(0, 1))
    assert (noise.masked_BKL.sum(dim=2) == 1).all() and (noise.weight_BK == N).all()
    token_L = estimator(denoise, ROW, noise).token_BL[0]
    count_L = noise.masked_BKL[0].sum(dim=0)
    for k in TRAINABLE:
        later = [i for i in range(k, L) if i not in FIXED]
        assert_close(float(token_L[k]), int(count_L[k]) * N / draws * log_probs(denoise, ROW, later)[k], rtol=1e-5, atol=0)


def test_prompt_masks_reach_the_earlier_blocks_which_are_then_scored():
    draws, p = 20_000, 0.3
    noise = Spg(samples=draws, block_length=BLOCK, p_mask=p).draw(ROW, Draws(0, 1))
    plain = Spg(samples=draws, block_length=BLOCK).draw(ROW, Draws(0, 1))
    assert torch.equal(noise.hidden_BKL, plain.hidden_BKL)
    extra_KL = noise.masked_BKL[0] & ~plain.masked_BKL[0]
    assert (noise.masked_BKL | ~plain.masked_BKL).all()  # those of the block stay
    block_K = torch.tensor([block for block, _ in drawn(plain)])
    for b in BLOCKS:
        earlier = [k for k in TRAINABLE if k < BLOCK * b]
        share_L = extra_KL[block_K == b].float().mean(dim=0)
        trials = int((block_K == b).sum())
        assert all(abs(float(share_L[k]) - p) < 5 * (p * (1 - p) / trials) ** 0.5 for k in earlier)
        assert not share_L[[k for k in range(L) if k not in earlier]].any()
    first_K2 = extra_KL[block_K == 3][:, [3, 5]].float()
    assert abs(float(first_K2.T.cov()[0, 1])) < 5 * p * (1 - p) / len(first_K2) ** 0.5  # each on its own
    assert_close(noise.weight_BK[0], N / noise.masked_BKL[0].sum(dim=1))
    assert abs(float(noise.prompt_BKP.float().mean()) - p) < 5 * (p * (1 - p) / (draws * len(PROMPT))) ** 0.5


def test_the_gradient_is_that_of_finite_differences():
    denoise, estimator = Exact(L), Spg(samples=5, block_length=BLOCK, p_mask=0.3)
    noise = estimator.draw(ROW, Draws(1, 1))
    assert 1 < int(noise.masked_BKL.any(dim=1).sum()) < N  # some are masked in no draw
    generator = torch.Generator().manual_seed(0)
    weight_2L = torch.randn(2, L, generator=generator, dtype=torch.float64)

    def value() -> torch.Tensor:
        estimate = estimator(denoise, ROW, noise)
        return (weight_2L[0] * estimate.token_BL[0]).sum() + (weight_2L[1] * estimate.upper_BL[0]).sum()

    (grad,) = torch.autograd.grad(value(), denoise.mix)
    start, step = denoise.mix.detach().clone(), 1e-5
    for _ in range(4):
        away = torch.randn(start.shape, generator=generator, dtype=torch.float64)
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                denoise.mix.copy_(start + sign * step * away)
                ends.append(float(value()))
        assert_close(float((grad * away).sum()), (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-7)


def test_scoring_some_rows_at_a_time_gives_both_bounds_of_all():
    rows, denoise, estimator = joined(*[ROW] * 5), in_context(L), Spg(block_length=BLOCK, p_mask=0.3)
    noise = estimator.draw(rows, Draws(0, 5))
    whole, parts = estimator(denoise, rows, noise), score(denoise, estimator, rows, noise, rows=2)
    for name in ("token_BL", "draw_BK", "upper_BL"):
        assert_close(getattr(parts, name), getattr(whole, name))


class Given:
    """A denoiser whose log-probabilities are given, draw by draw: a leaf to differentiate by."""

    mask_id, eos_id = MASK, EOS

    def __init__(self, logp_KL) -> None:
        self.logp_KL = torch.as_tensor(logp_KL, dtype=torch.float32).requires_grad_()

    def __call__(self, ids_BS, attend_BS, index_M, target_M=None):
        width = len(PROMPT) + L
        return self.logp_KL[index_M // width, index_M % width - len(PROMPT)]


@pytest.mark.parametrize("level", [-1.0, -100.0, -1e3, -1e5])
def test_the_upper_bound_neither_underflows_nor_has_a_nan_gradient(level):
    """The same draws, shifted: each bound moves by the shift, its gradient not at all. p^beta itself is 0 from -72 on."""
    draws = [(2, (6, 7)), (2, (7,)), (1, (3, 5)), (2, (6, 7, 8))]
    offsets = [[0.1 * k * (j + 1) % 1 for k in range(L)] for j in range(len(draws))]
    estimator = Spg(samples=4, block_length=BLOCK, mixture=1.0)
    found = []
    for shift in (0.0, level):
        denoise = Given([[shift + x for x in row] for row in offsets])
        upper_L = estimator(denoise, ROW, noise_of(draws)).upper_BL[0]
        upper_L.sum().backward()
        found.append((upper_L.detach(), denoise.logp_KL.grad))
    seen = [3, 5, 6, 7, 8]
    (base_L, slope_KL), (upper_L, grad_KL) = found
    scale = N / len(seen)
    assert_close(upper_L[seen] - base_L[seen], torch.full((5,), scale * level), rtol=1e-5, atol=1e-2)
    rounding = 2e-7 * abs(level)  # of the log-probabilities themselves, in float32
    assert grad_KL.isfinite().all()
    assert_close(grad_KL, slope_KL, rtol=0, atol=1e-5 + rounding)
    # weights over the draws, which add up to 1
    assert_close(grad_KL.sum(dim=0)[seen], torch.full((5,), scale), rtol=0, atol=1e-5 + rounding)
    others = [k for k in range(L) if k not in seen]
    assert not upper_L[others].any() and not grad_KL[:, others].any()  # masked in no draw: no value and no gradient
    assert not grad_KL[~noise_of(draws).masked_BKL[0]].any()


def test_one_unlikely_draw_does_not_drown_the_others():
    denoise = Given([[-1e3] * L, [-1.0] * L])
    upper_L = Spg(samples=2, block_length=BLOCK, mixture=1.0)(denoise, ROW, noise_of([(2, (7,)), (2, (7,))])).upper_BL[0]
    upper_L.sum().backward()
    assert_close(float(upper_L[7].detach()) / N, math.log(math.exp(-1.5) * N / 2) / 1.5)
    assert denoise.logp_KL.grad[0, 7] == 0 and float(denoise.logp_KL.grad[1, 7]) == pytest.approx(N)


def test_nothing_trainable_is_worth_exactly_0_with_a_gradient_of_0():
    for row in (trajectory([2] * L, fixed=list(range(L))), trajectory([EOS] + [2] * (L - 1), fixed=[0])):
        for p_mask in (0.0, 0.5):
            denoise, estimator = Exact(L), Spg(block_length=BLOCK, p_mask=p_mask)
            estimate = estimator(denoise, row, estimator.draw(row, Draws(0, 1)))
            assert not estimate.token_BL.any() and not estimate.upper_BL.any() and not estimate.draw_BK.any()
            if estimate.upper_BL.requires_grad:
                (estimate.upper_BL.sum() + estimate.token_BL.sum()).backward()
                assert denoise.mix.grad is None or not denoise.mix.grad.any()
