"""Coupled masks: every trainable token scored exactly once per pair, unbiased for the ELBO, by exact enumeration."""

import math

import pytest
import torch
from torch.testing import assert_close

from stp.errors import UserError
from stp.estimators import Coupled
from stp.types import Draws, Noise
from tests.estimators import probed
from tests.toys import EOS, Exact, every_mask, exact_law, in_context, log_probs, trajectory

# response of 8: five trainable positions (the EOS is one), two fixed (one after the EOS), one open after the EOS
FIXED, TRAINABLE = [2, 7], [0, 1, 3, 4, 5]
ROW = trajectory([2, 3, 4, 5, 6, EOS, 3, 4], fixed=FIXED)
L, N = 8, 5
DRAWS = 30_000


def masked_sums(denoise) -> dict[tuple[int, ...], dict[int, float]]:
    """log p at the masked positions of every mask of the trainable positions, the empty one included."""
    found = {}
    for code in range(2**N):
        masked = tuple(k for i, k in enumerate(TRAINABLE) if code >> i & 1)
        logp = log_probs(denoise, ROW, [*masked, 6])  # 6: open after the EOS
        found[masked] = {k: logp[k] for k in masked}
    return found


def pairs(denoise) -> list[tuple[float, dict[int, float]]]:
    """(probability, token values) of every pair: the mean of n/m log p on the mask and n/(n - m) log p on the others;
    where nothing is left for the second, the first counts twice."""
    sums, result = masked_sums(denoise), []
    for masked in sums:
        m = len(masked)
        if m == 0:
            continue
        others = tuple(k for k in TRAINABLE if k not in masked)
        if others:
            value = {k: N / m * x / 2 for k, x in sums[masked].items()}
            value |= {k: N / (N - m) * x / 2 for k, x in sums[others].items()}
        else:
            value = dict(sums[masked])
        result.append((exact_law(N)(m), value))
    return result


def moments(denoise) -> tuple[float, float]:
    """Mean and variance of one pair's sequence value."""
    values = [(chance, sum(value.values())) for chance, value in pairs(denoise)]
    mean = sum(chance * v for chance, v in values)
    return mean, sum(chance * (v - mean) ** 2 for chance, v in values)


def elbo(denoise) -> dict[int, float]:
    """Eq. 3 in closed form, token by token: the integral of t^(m-1) (1-t)^(n-m) over (0, 1) is (m-1)! (n-m)! / n!."""
    total = dict.fromkeys(TRAINABLE, 0.0)
    for masked, logp in masked_sums(denoise).items():
        for k, x in logp.items():
            total[k] += x * math.factorial(len(masked) - 1) * math.factorial(N - len(masked)) / math.factorial(N)
    return total


def every_pair() -> Noise:
    """Every pair as often as its probability says (in fiftieths): the mean over these draws is the expectation."""
    masks, weights = [], []
    for subset in every_mask(in_context(L), ROW):
        m, mask_L = subset.count, subset.masked_L
        for _ in range(round(50 * exact_law(N)(m))):
            masks += [mask_L, ROW.trainable_BL[0] & ~mask_L]
            weights += [N / m, N / (N - m)] if m < N else [2.0, 5.0]
    assert len(masks) == 100
    return Noise(torch.stack(masks)[None], torch.tensor([weights]))


def test_every_trainable_token_is_masked_exactly_once_per_pair():
    noise = Coupled(samples=200).draw(ROW, Draws(0, 1))
    pair_K2L = noise.masked_BKL[0].unflatten(0, (200, 2))
    assert torch.equal(pair_K2L.sum(dim=1), ROW.trainable_BL.long().expand(200, L))
    assert noise.hidden_BKL is None and noise.prompt_BKP is None


def test_the_law_of_the_masks_and_their_weights():
    noise = Coupled(samples=DRAWS).draw(ROW, Draws(0, 1))
    first_KL, m_K2 = noise.masked_BKL[0, ::2], noise.masked_BKL[0].sum(dim=1).view(-1, 2)
    code_K = (first_KL[:, TRAINABLE].long() * 2 ** torch.arange(N)).sum(dim=1)
    count = torch.bincount(code_K, minlength=2**N).double()
    expected = torch.tensor([DRAWS * exact_law(N)(c.bit_count()) if c else 0.0 for c in range(2**N)])
    assert count[0] == 0
    freedom = 2**N - 2
    assert float(((count - expected)[1:] ** 2 / expected[1:]).sum()) < freedom + 5 * (2 * freedom) ** 0.5
    for (m, left), (first, second) in zip(m_K2[:200].tolist(), noise.weight_BK[0].view(-1, 2)[:200].tolist(), strict=True):
        assert m + left == N
        assert first == pytest.approx(N / m if left else 2.0)  # where all are masked at once they count twice
        assert not left or second == pytest.approx(N / left)


def test_a_draw_is_the_mean_of_its_pair_and_a_token_the_mean_over_pairs():
    denoise, K = in_context(L), 30
    noise = Coupled(samples=K).draw(ROW, Draws(0, 1))
    estimate = Coupled(samples=K)(denoise, ROW, noise)
    sums = masked_sums(denoise)
    by_mask = {masked: value for masked, (_, value) in zip([m for m in sums if m], pairs(denoise), strict=True)}
    drawn = [by_mask[tuple(row.nonzero().flatten().tolist())] for row in noise.masked_BKL[0, ::2]]
    assert any(len(set(v)) == N and sum(v.values()) == sum(sums[tuple(TRAINABLE)].values()) for v in drawn)  # some m = n
    assert estimate.draw_BK.shape == (1, K)
    assert_close(estimate.draw_BK[0], torch.tensor([sum(v.values()) for v in drawn]), rtol=1e-5, atol=0)
    tokens = [sum(v.get(k, 0.0) for v in drawn) / K for k in range(L)]
    assert_close(estimate.token_BL[0], torch.tensor(tokens), rtol=1e-5, atol=1e-6)


def test_it_is_unbiased_for_the_elbo_token_by_token():
    for seed in range(3):
        denoise = Exact(L, seed)
        estimate = Coupled(samples=50)(denoise, ROW, every_pair())
        truth = elbo(denoise)
        assert_close(estimate.token_BL[0, TRAINABLE].tolist(), list(truth.values()), rtol=1e-6, atol=0)
        assert_close(float(estimate.draw_BK.mean()), sum(truth.values()), rtol=1e-6, atol=0)
        assert_close(moments(denoise)[0], sum(truth.values()), rtol=1e-9, atol=0)


def test_many_draws_have_the_enumerated_mean_and_variance():
    denoise = in_context(L)
    mean, variance = moments(denoise)
    noise = Coupled(samples=DRAWS).draw(ROW, Draws(7, 1))
    draw_K = Coupled(samples=DRAWS)(denoise, ROW, noise).draw_BK[0].double()
    assert abs(float(draw_K.mean()) - mean) < 4 * (variance / DRAWS) ** 0.5
    assert_close(float(draw_K.var()), variance, rtol=0.1, atol=0)
    assert Coupled().independent  # pairs are, so their spread is a variance, and the probe takes them one by one
    assert_close(probed(denoise, Coupled(samples=3), ROW, 2_000)[0], variance, rtol=0.15, atol=0)


def test_a_pair_varies_less_than_two_independent_draws():
    for seed in range(8):
        for scale in (0.1, 0.5, 1.0):
            denoise = in_context(L, seed, scale=scale)
            single = [(exact_law(N)(s.count), N / s.count * float(s.logp_L.sum())) for s in every_mask(denoise, ROW)]
            mean = sum(chance * v for chance, v in single)
            spread = sum(chance * (v - mean) ** 2 for chance, v in single)
            assert moments(denoise)[1] < spread / 2, (seed, scale, moments(denoise)[1] / spread)


def test_one_trainable_token_is_scored_once_and_none_is_worth_0():
    denoise = in_context(4)
    row = trajectory([2, 3, EOS, 4], fixed=[0, 1])
    estimate = Coupled(samples=3)(denoise, row, Coupled(samples=3).draw(row, Draws(0, 1)))
    logp = log_probs(denoise, row, [2, 3])[2]
    assert_close(estimate.draw_BK, torch.full((1, 3), logp))
    assert_close(estimate.token_BL, torch.tensor([[0.0, 0.0, logp, 0.0]]))
    row = trajectory([2, 3, EOS, 4], fixed=[0, 1, 2])
    estimate = Coupled()(denoise, row, Coupled().draw(row, Draws(0, 1)))
    assert not estimate.draw_BK.any() and not estimate.token_BL.any()


def released(K: int, rows: int = 1):
    row = trajectory([2, 3, 4, 5, 6, EOS, 3, 4], fixed=FIXED, rows=rows)
    estimator = Coupled(samples=K, full=True, t_range=[0.2, 0.8])
    return estimator, row, estimator.draw(row, Draws(0, rows))


def test_the_released_variant_masks_everything_then_a_shared_share_of_it_then_the_rest():
    _, row, noise = released(K=20, rows=300)
    mask_BK3L = noise.masked_BKL.unflatten(1, (20, 3))
    assert torch.equal(mask_BK3L[:, :, 0] | mask_BK3L[:, :, 1], mask_BK3L[:, :, 2])
    assert not (mask_BK3L[:, :, 0] & mask_BK3L[:, :, 1]).any()
    assert (mask_BK3L[:, :, 2] == row.trainable_BL[:, None]).all()
    weight_BK3 = noise.weight_BK.view(300, 20, 3)
    assert (weight_BK3 == weight_BK3[:1]).all()  # one time for all completions
    time_K = 1.5 / weight_BK3[0, :, 0]
    assert_close(weight_BK3[0, :, 1], 1.5 / (1 - time_K))
    assert (weight_BK3[0, :, 2] == 1.5).all()
    assert 0.2 <= float(time_K.min()) < 0.35 and 0.65 < float(time_K.max()) < 0.8
    share_K = mask_BK3L[:, :, 0].sum(dim=(0, 2)) / (300 * N)
    assert ((share_K - time_K).abs() < 4 * (time_K * (1 - time_K) / (300 * N)).sqrt()).all()


def test_the_released_estimate_is_half_the_full_copy_and_half_the_weighted_pair():
    estimator, row, noise = released(K=1)
    denoise = in_context(L)
    estimate = estimator(denoise, row, noise)
    first = noise.masked_BKL[0, 0].nonzero().flatten().tolist()
    time = 1.5 / float(noise.weight_BK[0, 0])
    full, part, rest = (
        log_probs(denoise, ROW, [*unseen, 6]) for unseen in (TRAINABLE, first, [k for k in TRAINABLE if k not in first])
    )
    expected = [0.0] * L
    for k in TRAINABLE:
        expected[k] = (full[k] + (part[k] / time if k in first else rest[k] / (1 - time))) / 2
    assert_close(estimate.token_BL[0], torch.tensor(expected), rtol=1e-5, atol=1e-6)
    assert_close(estimate.draw_BK, torch.tensor([[sum(expected)]]), rtol=1e-5, atol=0)
    assert estimator.independent  # its pairs are, given the rollout


@pytest.mark.parametrize(("full", "total"), [(False, 1.0), (True, 1.5)])
def test_the_weights_of_the_released_variant_add_up_to_three_halves(full, total):
    """Without context a token's estimate is its log-probability times the sum of its weights, which is 1 on average without the
    full copy."""
    K, row = 20_000, ROW
    noise = Coupled(samples=K, full=full, t_range=[0.2, 0.8]).draw(row, Draws(0, 1))
    weight_KL = (noise.weight_BK[..., None] * noise.masked_BKL)[0, :, TRAINABLE].unflatten(0, (K, -1)).mean(dim=1)
    assert ((weight_KL.mean(dim=0) - total).abs() < 4 * weight_KL.std(dim=0) / K**0.5).all()
    assert float(weight_KL.std()) > 0.1


@pytest.mark.parametrize("wrong", [[0.8, 0.2], [0.0, 0.5], [0.5], [0.5, 1.0]])
def test_a_wrong_range_of_times_is_refused(wrong):
    with pytest.raises(UserError, match=r"^estimator\.t_range="):
        Coupled(t_range=wrong)
