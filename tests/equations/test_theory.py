"""`stp.theory`: its enumerations against the estimators, and the laws it reports."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from stp.estimators import Causal, Elbo, OneStep, Spg
from stp.models.policy import Policy
from stp.models.tiny import new_tiny, tiny_tokenizer
from stp.objectives import Grpo
from stp.samplers import Standard, Stp
from stp.tasks import Countdown
from stp.theory import enumeration, theory, yardstick
from stp.theory.enumeration import L, V
from stp.theory.theory import CLIP
from stp.types import Anchors, Draws, LogProbs, Prompts
from tests import toys

SEQUENCES = torch.cartesian_prod(*[torch.arange(V)] * L)
R = 20_000


def model(disagreement: float, seed: int = 0):
    return enumeration.toy(torch.Generator().manual_seed(seed), disagreement)


def test_theorem_4_1_counts():
    rows = theory.forwards(Draws(0, 3))
    assert all(row["theorem"] == row["scheduled"] == row["run"] for row in rows) and len(rows) == 32
    counts = {(row["N"], row["gamma"], row["t_cutoff"]): row["run"] for row in rows}
    assert counts[128, 0.0, 0.0] == 128
    assert counts[128, 0.05, 0.05] == 116  # 115.2 and the fill
    assert counts[128, 0.2, 0.0] == 102  # 102.4
    assert [counts[40, *at] for at in ((0.05, 0.0), (0.0, 0.05), (0.05, 0.05), (0.1, 0.1))] == [38, 39, 37, 33]


def test_the_forwards_that_a_trajectory_names_are_those_of_the_denoiser():
    denoise = toys.Recording(toys.context_free(20, eos=-1e9))
    done = Stp(length=20, steps=20, block_length=10, gamma=0.2, t_cutoff=0.1)(
        denoise, toys.prompts(3), Draws(0, 3), toys.anchors(3, 20, [list(range(20))] * 3)
    )
    assert done.nfe == done.nfe_run == len(denoise.calls) == 15


def test_temporal_pruning_changes_nothing_in_the_estimator():
    """The estimate is a function of the tokens and of what is fixed, not of how the tokens came about."""
    denoise = toys.in_context(8)
    pruned = Stp(length=8, steps=8, block_length=8, gamma=0.0, t_cutoff=0.5)(denoise, toys.prompts(4), Draws(0, 4))
    plain = replace(pruned, nfe=8, nfe_run=8)
    assert pruned.nfe == 5 and not pruned.fixed_BL.any()
    first, second = (Elbo()(denoise, t, Elbo().draw(t, Draws(1, 4))) for t in (pruned, plain))
    assert torch.equal(first.draw_BK, second.draw_BK) and bool(
        (first.token_BL != 0).equal(pruned.until_eos_BL & (first.token_BL != 0))
    )


@pytest.mark.parametrize("block", [L, 2])
@pytest.mark.parametrize("disagreement", [0.0, 2.0])
def test_any_order_likelihoods_of_all_sequences_add_up_to_1(disagreement, block):
    logp_BCL = enumeration.every_context(model(disagreement), SEQUENCES)
    _, exact, _ = enumeration.sandwich(enumeration.along_orders(logp_BCL, block))
    assert_close(float(exact.exp().sum()), 1.0, rtol=1e-5, atol=0)


def test_conditionals_of_one_joint_leave_no_gap():
    logp_BCL = enumeration.every_context(model(0.0), SEQUENCES)
    for block in (L, 2):
        lower, exact, _ = enumeration.sandwich(enumeration.along_orders(logp_BCL, block))
        assert_close(lower, exact, rtol=1e-5, atol=1e-5)
    lower, exact, _ = enumeration.sandwich(enumeration.along_orders(enumeration.every_context(model(2.0), SEQUENCES), L))
    assert float((exact - lower).mean()) > 0.5


@pytest.mark.parametrize("disagreement", [0.0, 0.5, 2.0])
def test_what_bounds_and_what_does_not(disagreement):
    """ELBO <= log-likelihood and <= upper; upper >= log-likelihood if beta >= the block's tokens (Hölder) or if they agree."""
    failed = 0
    for seed in range(20):
        logp_BCL = enumeration.every_context(model(disagreement, seed), SEQUENCES)
        for block in (L, 2):
            logp_BOL = enumeration.along_orders(logp_BCL, block)
            for beta in (1.0, 2.0, float(L)):
                lower, exact, upper = enumeration.sandwich(logp_BOL, beta)
                assert (lower <= exact + 1e-5).all() and (lower <= upper + 1e-5).all()
                if beta >= block or disagreement == 0:
                    assert (exact <= upper + 1e-5).all()
                else:
                    failed += int((exact > upper + 1e-3).sum())
    assert (failed > 0) == (disagreement > 0)


@pytest.mark.parametrize("block", [L, 2])
def test_the_estimators_have_the_enumerated_values(block):
    denoise, beta = model(1.0), 1.5
    logp_CL = enumeration.every_context(denoise, SEQUENCES[5:6])[0]
    lower, _, upper = (float(x) for x in enumeration.sandwich(enumeration.along_orders(logp_CL[None], block), beta))
    row, draws = enumeration.finished(SEQUENCES[5:6]), Draws(3, 1)
    spg = Spg(samples=R, eubo_beta=beta, mixture=1.0, block_length=block)
    estimate = spg(denoise, row, spg.draw(row, draws))
    assert abs(float(estimate.token_BL.sum()) - lower) < 4 * float(estimate.draw_BK.std()) / R**0.5
    assert abs(float(estimate.upper_BL.sum()) - upper) < 0.05
    assert upper - lower > 0.2
    elbo = Elbo(samples=R)
    draw_K = elbo(denoise, row, elbo.draw(row, draws)).draw_BK[0]
    whole, _, _ = enumeration.sandwich(enumeration.along_orders(logp_CL[None], L))
    assert abs(float(draw_K.mean() - whole)) < 4 * float(draw_K.std()) / R**0.5


@pytest.mark.parametrize("fixed", [[], [2], [0, 3]])
def test_exact_variances_are_those_of_the_estimator(fixed):
    denoise = model(1.0)
    logp_CL = enumeration.every_context(denoise, SEQUENCES[40:41])[0]
    exact = enumeration.variance_of(enumeration.exact_draws(logp_CL, tuple(i for i in range(L) if i not in fixed)))
    row = enumeration.finished(SEQUENCES[40:41])
    row.fixed_BL[0, fixed] = True
    elbo = Elbo(samples=R)
    sampled = float(elbo(denoise, row, elbo.draw(row, Draws(0, 1))).draw_BK.var())
    assert_close(sampled, exact, rtol=0.08, atol=0)


def test_one_fixed_token_can_raise_the_variance():
    """Theorem 4.3's strict inequality has exact counterexamples."""
    found = {(row["disagreement"], row["fixed"]): row for row in theory.one_token_fixed(25, Draws(0, 1))}
    for disagreement in (0.0, 0.5, 2.0):
        row = found[disagreement, "any token"]
        assert 0 < row["variance_rises"] < 0.5 and row["median_ratio"] < 0.75 and row["largest_ratio"] > 1.05


def test_the_second_moment_of_eq_3_is_the_sampled_one_and_grows_like_log_t_min():
    denoise = model(0.5)
    logp_CL = enumeration.every_context(denoise, SEQUENCES[:1])[0]
    row, printed = enumeration.finished(SEQUENCES[:1]), Elbo(samples=R, masks="bernoulli", t_min=0.2)
    draw_K = printed(denoise, row, printed.draw(row, Draws(0, 1))).draw_BK[0].double()
    error = float((draw_K**2).std()) / R**0.5
    assert abs(float((draw_K**2).mean()) - enumeration.second_moment(logp_CL, 0.2)) < 4 * error
    slope = sum(float(logp_CL[2**i, i]) ** 2 for i in range(L))
    growth = enumeration.second_moment(logp_CL, 1e-9) - enumeration.second_moment(logp_CL, 1e-6)
    assert_close(growth, slope * math.log(1000), rtol=1e-4, atol=0)


def test_running_variances_settle_with_exact_masks_only():
    rows, series = theory.infinite_variance(Draws(0, 1), count=200_000, runs=4)
    limit = float(series["limit"])
    assert_close(series["exact"][:, -1], torch.full((4,), limit).double(), rtol=0.02, atol=0)
    assert (series["printed"][:, -1] > 2 * limit).all()
    ends = series["printed"][:, -1]
    assert float(ends.max() / ends.min()) > 1.2
    assert_close(rows[-1]["growth_per_log"], rows[-1]["sum_of_squared_log_p"], rtol=1e-3, atol=0)


def test_paired_noise_splits_the_variance_as_eq_14():
    """Exact variance, and the mean over sizes of the variance within a size, by enumeration."""
    denoise, B = model(1.0), 400
    logp_CL = enumeration.every_context(denoise, SEQUENCES[40:41])[0]
    row = enumeration.finished(SEQUENCES[40:41].expand(B, -1))
    noise = theory.paired_noise(row, 64, Draws(0, B))
    m_BK = noise.masked_BKL.sum(dim=2)
    assert torch.equal(m_BK[:, :32], m_BK[:, 32:]) and not torch.equal(noise.masked_BKL[:, :32], noise.masked_BKL[:, 32:])
    assert_close(noise.weight_BK, L / m_BK)
    total_B, within_B = theory.variances(theory.token_draws(denoise, row, noise).sum(dim=2))
    by_size = {m: [L / m * float(logp_CL[c].sum()) for c in range(2**L) if c.bit_count() == m] for m in range(1, L + 1)}
    within = sum(float(torch.tensor(values).var(correction=0)) for values in by_size.values()) / L
    exact = enumeration.variance_of(enumeration.exact_draws(logp_CL, tuple(range(L))))
    assert_close(float(total_B.mean()), exact, rtol=0.05, atol=0)
    assert_close(float(within_B.mean()), within, rtol=0.05, atol=0)
    assert 0.1 * exact < within < 0.9 * exact


def test_variance_shares_add_up_to_1_and_find_the_tokens_that_matter():
    B, K, length = 4, 50, 10
    row = toys.trajectory([2] * length, rows=B)
    anchors = Anchors(
        row.response_BL, torch.arange(length).expand(B, -1) < length - 2, -torch.arange(length).expand(B, -1).float()
    )
    generator = torch.Generator().manual_seed(0)
    token_BKL = torch.randn(B, K, length, generator=generator).double() * torch.tensor([0.0] * 7 + [1.0] + [0.0] * 2)
    shares = theory.variance_shares(token_BKL, row, anchors)
    assert_close(sum(r["share_of_variance"] for r in shares), 1.0)
    assert_close(sum(r["share_of_tokens"] for r in shares), 1.0)
    assert_close([r["share_of_variance"] for r in shares], [0.0, 0.0, 0.0, 0.0, 1.0, 0.0])


def test_intervals_are_of_the_named_statistic():
    pair_B2 = torch.tensor([[1.0, 2.0], [3.0, 4.0], [10.0, 5.0]]).double()
    for kind, value in (("difference", 1.0), ("ratio", 14 / 11), ("median", 0.75)):
        middle, low, high = theory.interval(kind, pair_B2, Draws(0, 3))
        assert_close(middle, value)
        assert low <= middle <= high and low < high


def test_the_surrogate_is_the_objective():
    log_ratio_B = torch.linspace(-0.8, 0.8, 33)
    for advantage in (1.0, -2.0):
        for log_ratio, value in zip(log_ratio_B, theory.surrogate(log_ratio_B, advantage), strict=True):
            new, old = (LogProbs(x.view(1, 1), x.view(1, 1)) for x in (log_ratio, torch.tensor(0.0)))
            loss = Grpo(clip=CLIP, beta=0.0)(new, old, None, torch.tensor([advantage]), torch.ones(1, 1)).value
            assert_close(float(loss), -float(value))


def test_theorem_4_4_holds_for_one_sample():
    rows, (two,) = theory.gaussian_noise()
    for row in rows:
        assert abs(row["bias"]) <= row["bias_bound"] and row["variance"] <= row["variance_bound"], row
        assert row["V"] > 0
    unclipped = theory.noisy_loss(-1.0, 0.5, 0.05, bound=2.0)  # a negative advantage leaves large ratios alone
    assert_close(unclipped["bias"], -math.exp(0.5) * (math.exp(0.05**2 / 2) - 1), rtol=1e-3, atol=0)
    # less noise is not always less bias: it changes sign on the way
    bias = [theory.noisy_loss(1.0, -0.1, sd, bound=2.0)["bias"] for sd in (0.05, 0.2, 0.3)]
    assert bias[0] > 0 and bias[1] > abs(bias[2])
    # the variance bound needs the data variance of the EXPECTED loss; with the exact loss in its place it is false
    assert two["V_loss"] <= two["V_data_of_expected_loss"] + two["C3_V"]
    assert two["V_loss"] > two["V_data_of_exact_loss"] + 2 * two["C3_V"]


def test_the_command_writes_tables_and_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "sys.argv", ["theory", "--to", str(tmp_path), "--rows", "4", "--draws", "16", "--models", "2", "--yardstick-rows", "0"]
    )
    theory.main()
    text = (tmp_path / "theory.md").read_text()
    assert text.split("\n\n")[0] in capsys.readouterr().out
    names = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert {"theorem_4_1", "bounds", "eq3_second_moment", "theorem_4_3", "theorem_4_4"} <= set(names)
    assert all((tmp_path / f"{name}.csv").stat().st_size for name in names)
    assert sorted(p.name for p in tmp_path.glob("*.png")) == ["theory_eq3.png", "theory_fixed.png"]


def test_the_bounds_have_the_proofs_constants():
    """C1 V + C2 sqrt(V) with C1 = |A| e^K / 2, C2 = |A| e^K, and C3 V with C3 = A^2 e^(2K): A = -2, K = 1, V = 1/4 and 1."""
    found = theory.limits(-2.0, 1.0, torch.tensor([0.25, 1.0], dtype=torch.float64))
    assert found["bias_bound"] == pytest.approx(math.e * (0.25 + 1) / 2 + 2 * math.e * (0.5 + 1) / 2)
    assert found["variance_bound"] == pytest.approx(4 * math.e**2 * (0.25 + 1) / 2)


def test_the_yardstick_finds_the_exact_estimators_and_the_biased_ones(tmp_path):
    """On a small random model with six tokens, six forwards are all that `causal` and `trace` need."""
    tokenizer, B, length = tiny_tokenizer(Countdown.phrases), 4, 6
    policy = Policy(new_tiny(tokenizer, 0, width=32, layers=1), tokenizer.mask_token_id, tokenizer.eos_token_id).eval()
    later = copy.deepcopy(policy)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in (*policy.parameters(), *later.parameters()):
            weight += 0.2 * torch.randn(weight.shape, generator=generator)
    draws, prompts = Draws(0, B), Prompts(torch.full((B, 3), 7))
    done = Standard(length=length, steps=length, block_length=1, temperature=1.0)(policy, prompts, draws)
    measured = yardstick.Measured(policy, later, done, torch.tensor([1.0, -1.0, 2.0, 0.0]), draws)
    rows = {row["estimator"]: row for row in yardstick.compare(measured, 6, 2, "toy")}
    for name in ("trace, groups", "trace, surprise", "trace, uniform = causal"):
        row = rows[name]
        assert_close([row["bias"][0], row["bias_delta"][0]], [0.0, 0.0], rtol=0, atol=1e-4)
        assert max(row["V"], row["V_delta"]) < 1e-8 and row["cosine"] == pytest.approx(1, abs=1e-5)
        assert row["forwards"] == float(done.trainable_BL.sum(dim=1).double().mean())
    one_step, exact = (
        estimator(policy, done, estimator.draw(done, draws)).token_BL.sum(dim=1).detach()
        for estimator in (OneStep(), Causal(samples=length))
    )
    assert_close(rows["one_step"]["bias"][0], float((one_step - exact).mean()), rtol=1e-3, atol=1e-3)
    assert rows["one_step"]["V"] == 0 and rows["elbo"]["V"] > 0.01 and rows["one_step"]["cosine"] < 0.999
    assert rows["elbo"]["cosine"] < 0.999
    table = [{"base": "toy", "gamma": 0.0, "tokens": 6.0, **row} for row in rows.values()]
    yardstick.figure(table, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
