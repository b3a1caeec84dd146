"""The ELBO (Eqs. 3, 4) against the enumeration of every mask."""

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from stp.errors import UserError
from stp.estimators import Elbo
from stp.types import Draws, Noise, Trajectory
from tests.estimators import probed
from tests.toys import EOS, context_free, every_mask, exact_law, in_context, open_at, trajectory

# prompt 2; response of 8: five trainable positions (the EOS is one), two fixed (one after the EOS), one open after the EOS
ROW = trajectory([2, 3, 4, 5, 6, EOS, 3, 4], fixed=[2, 7])
L, N = 8, 5
DRAWS = 30_000


def moments(values: list[Tensor], chances: list[float]) -> tuple[float, float, float]:
    """Mean, variance and fourth central moment of a discrete distribution; what is left to 1 has value 0."""
    mean = sum(p * float(x) for x, p in zip(values, chances, strict=True))
    rest = 1 - sum(chances)
    second = sum(p * (float(x) - mean) ** 2 for x, p in zip(values, chances, strict=True)) + rest * mean**2
    fourth = sum(p * (float(x) - mean) ** 4 for x, p in zip(values, chances, strict=True)) + rest * mean**4
    return mean, second, fourth


def enumerated(denoise, weight, low: int = 1) -> tuple[float, float, float]:
    """Moments of one draw w(m) * sum log p when m ~ U{low..n}, and a uniform mask of that size."""
    subsets, law = every_mask(denoise, ROW), exact_law(N, low)
    return moments([weight(s.count) * s.logp_L.sum() for s in subsets], [law(s.count) for s in subsets])


def sampled(denoise, estimator: Elbo, row: Trajectory = ROW) -> tuple[Tensor, Tensor]:
    """All single draws of one row, and the token-wise means."""
    noise = estimator.draw(row, Draws(seed=7, batch=1))
    estimate = estimator(denoise, row, noise)
    return estimate.draw_BK[0].double(), estimate.token_BL[0]


def assert_moments(draw_K: Tensor, mean: float, variance: float, fourth: float) -> None:
    """Within four standard errors, which are small against the values themselves."""
    K = len(draw_K)
    rounding = 1e-5 * abs(mean)  # float32; it counts where the variance is 0
    assert abs(float(draw_K.mean()) - mean) < 4 * (variance / K) ** 0.5 + rounding
    error = ((fourth - variance**2) / K) ** 0.5
    assert abs(float(draw_K.var()) - variance) < 4 * error + rounding < 0.2 * variance + 2 * rounding


def elbo(denoise) -> float:
    """Eq. 3 in closed form: the integral of t^(m-1) (1-t)^(n-m) over (0, 1) is (m-1)! (n-m)! / n!."""
    return sum(
        float(s.logp_L.sum()) * math.factorial(s.count - 1) * math.factorial(N - s.count) / math.factorial(N)
        for s in every_mask(denoise, ROW)
    )


def every_noise(row: Trajectory) -> tuple[Noise, Tensor]:
    """Every mask of the trainable positions as one Noise with weights n/m, and the probability of each."""
    subsets, law = every_mask(context_free(L), row), exact_law(N)
    noise = Noise(
        torch.stack([s.masked_L for s in subsets])[None], torch.tensor([[N / s.count for s in subsets]], dtype=torch.float32)
    )
    return noise, torch.tensor([law(s.count) for s in subsets])


def context_free_log_probs(denoise) -> Tensor:
    logp_LV = denoise.logits(torch.zeros(1, 2 + L, dtype=torch.long))[0, 2:].log_softmax(dim=1)
    return (logp_LV.gather(1, ROW.response_BL[0][:, None])[:, 0] * ROW.trainable_BL[0]).float()


def test_without_context_the_mean_over_every_mask_is_the_sum_of_log_probabilities():
    denoise = context_free(L, seed=1)
    noise, chance_K = every_noise(ROW)
    estimate = Elbo(samples=len(chance_K))(denoise, ROW, noise)
    assert_close(float(chance_K @ estimate.draw_BK[0]), float(context_free_log_probs(denoise).sum()), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"times": "stratified"},
        {"t_min": 0.5},
        {"masks": "bernoulli", "t_min": 0.2},
        {"masks": "bernoulli", "t_min": 0.2, "times": "stratified"},
    ],
)
def test_without_context_the_estimate_is_the_sum_of_log_probabilities_token_by_token(options):
    """1[k masked] w has mean 1 for every trainable k, whatever the masks."""
    denoise = context_free(L, seed=1)
    draw_K, token_L = sampled(denoise, Elbo(samples=DRAWS, **options))
    expected_L = context_free_log_probs(denoise)
    assert abs(float(draw_K.mean() - expected_L.sum())) < 4 * float(draw_K.std()) / DRAWS**0.5
    # 1[k masked] w is at most n/m or 1/t_min times |log p|, with variance below |log p|^2 (max w - 1)
    assert ((token_L - expected_L).abs() <= 4 * expected_L.abs() * (N / DRAWS) ** 0.5).all()


def test_context_matters_to_the_enumeration():
    """Else the tests below could not tell one mask from another."""
    values = [float(s.logp_L[0]) for s in every_mask(in_context(L), ROW) if s.masked_L[0]]
    assert max(values) - min(values) > 0.5


def test_exact_masks_have_the_enumerated_mean_and_variance():
    denoise = in_context(L)
    draw_K, token_L = sampled(denoise, Elbo(samples=DRAWS))
    assert_moments(draw_K, *enumerated(denoise, lambda m: N / m))
    assert_close(float(draw_K.mean()), float(token_L.sum()), rtol=1e-4, atol=0)
    law = exact_law(N)
    for k in ROW.trainable_BL[0].nonzero().flatten().tolist():
        subsets = every_mask(denoise, ROW)
        mean, variance, _ = moments([N / s.count * s.logp_L[k] for s in subsets], [law(s.count) for s in subsets])
        assert abs(float(token_L[k]) - mean) < 4 * (variance / DRAWS) ** 0.5
    assert not token_L[~ROW.trainable_BL[0]].any()


def test_exact_masks_are_unbiased_for_the_integral_of_eq_3():
    denoise = in_context(L)
    assert_close(enumerated(denoise, lambda m: N / m)[0], elbo(denoise), rtol=1e-9, atol=0)


def test_every_mask_through_the_estimator_gives_the_enumerated_values_one_by_one():
    denoise = in_context(L)
    noise, _ = every_noise(ROW)
    estimate = Elbo(samples=noise.masked_BKL.shape[1])(denoise, ROW, noise)
    expected = [N / s.count * float(s.logp_L.sum()) for s in every_mask(denoise, ROW)]
    assert_close(estimate.draw_BK[0], torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_exact_masks_are_uniform_in_size_and_within_a_size():
    noise = Elbo(samples=DRAWS).draw(ROW, Draws(seed=0, batch=1))
    code_K = (noise.masked_BKL[0][:, ROW.trainable_BL[0]].long() * 2 ** torch.arange(N)).sum(dim=1)
    count = torch.bincount(code_K, minlength=2**N).double()
    expected = torch.tensor([DRAWS * exact_law(N)(c.bit_count()) if c else 0.0 for c in range(2**N)])
    assert count[0] == 0
    statistic = float(((count - expected)[1:] ** 2 / expected[1:]).sum())
    freedom = 2**N - 2
    assert statistic < freedom + 5 * (2 * freedom) ** 0.5
    m_K = noise.masked_BKL[0].sum(dim=1)
    assert_close(noise.weight_BK[0], N / m_K.float())


@pytest.mark.parametrize(("t_min", "low"), [(0.2, 1), (0.21, 2), (0.5, 3), (0.95, 5)])
def test_t_min_restricts_exact_masks_to_at_least_that_fraction(t_min, low):
    denoise = in_context(L)
    draw_K, _ = sampled(denoise, Elbo(samples=DRAWS, t_min=t_min))
    assert_moments(draw_K, *enumerated(denoise, lambda m: N / m, low))
    m_K = Elbo(samples=2_000, t_min=t_min).draw(ROW, Draws(seed=0, batch=1)).masked_BKL[0].sum(dim=1)
    assert m_K.unique().tolist() == list(range(low, N + 1))


def test_t_min_counts_on_exact_decimals():
    """0.15 of 100 is 15 masked positions at least; float32 makes 15.000001 of it."""
    for t_min, n in ((0.05, 20), (0.1, 30), (0.15, 100), (0.3, 50), (0.6, 25)):
        trainable_BL = torch.ones(1, n, dtype=torch.bool)
        m_K = Elbo(samples=4_000, t_min=t_min).draw(open_at(trainable_BL), Draws(seed=0, batch=1)).masked_BKL[0].sum(dim=1)
        assert int(m_K.min()) == math.ceil(Fraction(str(t_min)) * n), (t_min, n)


def bernoulli_moment(m: int, t_min: float, power: int) -> float:
    """E over t ~ U(t_min, 1) of t^-power times the probability of one given mask of m of N positions."""
    t = torch.linspace(t_min, 1, 20_001, dtype=torch.float64)
    return float(torch.trapezoid(t ** (m - power) * (1 - t) ** (N - m), t)) / (1 - t_min)


def bernoulli_mean(denoise, t_min: float) -> float:
    return sum(float(s.logp_L.sum()) * bernoulli_moment(s.count, t_min, 1) for s in every_mask(denoise, ROW))


@pytest.mark.parametrize("t_min", [0.05, 0.4])
def test_bernoulli_masks_have_the_integral_over_the_times_above_t_min(t_min):
    denoise = in_context(L)
    draw_K, _ = sampled(denoise, Elbo(samples=DRAWS, masks="bernoulli", t_min=t_min))
    mean = bernoulli_mean(denoise, t_min)
    second = sum(float(s.logp_L.sum()) ** 2 * bernoulli_moment(s.count, t_min, 2) for s in every_mask(denoise, ROW))
    variance = second - mean**2
    assert abs(float(draw_K.mean()) - mean) < 4 * (variance / DRAWS) ** 0.5
    assert abs(float(draw_K.var()) / variance - 1) < 0.1


def test_the_bias_of_bernoulli_masks_is_real_and_vanishes_with_t_min():
    denoise = in_context(L, seed=1)
    truth = elbo(denoise)
    bias = [abs(bernoulli_mean(denoise, t_min) - truth) for t_min in (0.4, 0.1, 0.01, 0.001)]
    assert bias == sorted(bias, reverse=True)
    assert bias[0] > 0.02 * abs(truth) and bias[-1] < 1e-3 * abs(truth)
    draw_K, _ = sampled(denoise, Elbo(samples=DRAWS, masks="bernoulli", t_min=0.4))
    assert abs(float(draw_K.mean()) - truth) > 4 * float(draw_K.std()) / DRAWS**0.5, "the estimate shows the bias"


def test_bernoulli_masks_down_to_0_are_refused():
    """Their variance is infinite: the second moment's integrand is 1/t near 0."""
    with pytest.raises(UserError, match=r"estimator.t_min"):
        Elbo(masks="bernoulli", t_min=0.0)
    row = every_mask(in_context(L), ROW)
    second = [sum(float(s.logp_L.sum()) ** 2 * bernoulli_moment(s.count, t, 2) for s in row) for t in (1e-1, 1e-2, 1e-3)]
    assert second[2] - second[1] > 0.8 * (second[1] - second[0])  # grows like log(1 / t_min), without end


def test_bernoulli_weights_are_one_over_the_time_of_the_mask():
    trainable_BL = torch.ones(1, 5_000, dtype=torch.bool)
    noise = Elbo(samples=8, masks="bernoulli", t_min=0.1).draw(open_at(trainable_BL), Draws(seed=0, batch=1))
    time_K = 1 / noise.weight_BK[0]
    assert (time_K >= 0.1).all() and (time_K <= 1).all()
    fraction_K = noise.masked_BKL[0].float().mean(dim=1)
    assert ((fraction_K - time_K).abs() < 4 * (time_K * (1 - time_K) / 5_000) ** 0.5 + 1e-6).all()


def test_stratified_times_give_one_draw_in_each_stratum():
    B, K = 500, 4
    trainable_BL = torch.ones(B, 8, dtype=torch.bool)
    m_BK = Elbo(samples=K, times="stratified").draw(open_at(trainable_BL), Draws(seed=0, batch=B)).masked_BKL.sum(dim=2)
    for k in range(K):
        assert m_BK[:, k].unique().tolist() == [2 * k + 1, 2 * k + 2]  # m ~ U{1..8} in four strata
    noise = Elbo(samples=K, times="stratified", masks="bernoulli", t_min=0.2).draw(
        open_at(trainable_BL), Draws(seed=0, batch=B)
    )
    place_BK = (1 / noise.weight_BK - 0.2) / 0.8 * K - torch.arange(K)
    assert float(place_BK.min()) > -1e-4 and float(place_BK.max()) < 1 + 1e-4
    assert abs(float(place_BK.mean()) - 0.5) < 4 / (12 * B * K) ** 0.5


def within_sizes(denoise) -> float:
    """Variance of the mean of n draws, one for each of the sizes 1..n: what is left is the choice of positions."""
    total = 0.0
    for m in range(1, N + 1):
        values = torch.stack([N / m * s.logp_L.sum() for s in every_mask(denoise, ROW) if s.count == m])
        total += float(values.var(correction=0)) / N**2
    return total


def test_stratified_times_keep_the_mean_and_lower_the_variance_of_the_estimate():
    denoise, B = in_context(L), 4_000
    rows = ROW.rows(torch.zeros(B, dtype=torch.long))
    spread = {}
    for times in ("uniform", "stratified"):
        estimator = Elbo(samples=N, times=times)
        estimate_B = estimator(denoise, rows, estimator.draw(rows, Draws(0, B))).draw_BK.mean(dim=1)
        assert abs(float(estimate_B.mean()) - elbo(denoise)) < 4 * float(estimate_B.std()) / B**0.5
        spread[times] = float(estimate_B.var())
    assert_close(spread["uniform"], enumerated(denoise, lambda m: N / m)[1] / N, rtol=0.1, atol=0)
    assert_close(spread["stratified"], within_sizes(denoise), rtol=0.1, atol=0)
    assert spread["stratified"] < spread["uniform"]
    assert Elbo(times="uniform").independent and not Elbo(times="stratified").independent


def test_the_probe_measures_the_variance_of_one_draw_and_of_the_whole_estimate_where_draws_depend():
    """Theorem 4.3's quantity. With K = n stratified draws, what is left is the choice of positions within each size."""
    denoise, repeats = in_context(L), 1_500
    within = within_sizes(denoise)
    for times, expected in (("uniform", enumerated(denoise, lambda m: N / m)[1]), ("stratified", within)):
        estimator = Elbo(samples=N, times=times)
        variance, estimates = probed(denoise, estimator, ROW, repeats)
        assert_close(variance, expected, rtol=0.15, atol=0)
        assert abs(float(estimates.mean()) - elbo(denoise)) < 4 * (expected / repeats) ** 0.5


@pytest.mark.parametrize("options", [{}, {"masks": "bernoulli", "t_min": 0.1}])
def test_weight_none_sums_the_masked_log_probabilities_as_they_are(options):
    denoise = in_context(L)
    plain, weighted = Elbo(samples=50, weight="none", **options), Elbo(samples=50, **options)
    draws = Draws(seed=0, batch=1)
    noise, with_weights = plain.draw(ROW, draws), weighted.draw(ROW, draws)
    assert torch.equal(noise.masked_BKL, with_weights.masked_BKL)
    assert (noise.weight_BK == 1).all() and (with_weights.weight_BK > 1).any()
    by_mask = {tuple(s.masked_L.tolist()): float(s.logp_L.sum()) for s in every_mask(denoise, ROW)}
    expected = [by_mask.get(tuple(mask), 0.0) for mask in noise.masked_BKL[0].tolist()]
    assert_close(plain(denoise, ROW, noise).draw_BK[0], torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_weight_none_has_the_enumerated_moments():
    denoise = in_context(L)
    draw_K, _ = sampled(denoise, Elbo(samples=DRAWS, weight="none"))
    assert_moments(draw_K, *enumerated(denoise, lambda m: 1.0))


def test_nothing_trainable_is_worth_exactly_0():
    row = trajectory([2, 3, EOS, 4], fixed=[0, 1, 2])
    for estimator in (Elbo(), Elbo(t_min=0.5), Elbo(masks="bernoulli", t_min=0.1)):
        estimate = estimator(in_context(4), row, estimator.draw(row, Draws(0, 1)))
        assert not estimate.draw_BK.any() and not estimate.token_BL.any()


def test_one_trainable_position_is_always_masked_with_weight_1():
    row = trajectory([2, 3, EOS, 4], fixed=[0, 1])
    noise = Elbo(samples=20).draw(row, Draws(0, 1))
    assert noise.masked_BKL[0].tolist() == [[False, False, True, False]] * 20
    assert (noise.weight_BK == 1).all()
