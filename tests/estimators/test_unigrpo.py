"""UniGRPO's estimate: one random ratio for all completions, K structured fractions, no weights."""

import torch
from torch.testing import assert_close

from stp.estimators import Unigrpo
from stp.metrics import elbo_stats
from stp.ranks import Ranks
from stp.types import Draws
from tests.estimators import probed
from tests.toys import EOS, every_mask, in_context, log_probs, open_at, trajectory

# response of 8: five trainable positions (the EOS is one), two fixed (one after the EOS), one open after the EOS
FIXED, TRAINABLE = [2, 7], [0, 1, 3, 4, 5]
ROW = trajectory([2, 3, 4, 5, 6, EOS, 3, 4], fixed=FIXED)
L, N = 8, 5


def counts(trainable_BL, samples: int, update: int = 0, step: int = 0) -> torch.Tensor:
    """Masked positions m_BK."""
    draws = Draws(0, len(trainable_BL), update)
    return Unigrpo(samples=samples).draw(open_at(trainable_BL), draws, step).masked_BKL.sum(dim=2)


def of_sizes(*sizes: int) -> torch.Tensor:
    """Rows with so many trainable positions."""
    return torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]


def test_all_rows_share_the_masked_fraction():
    sizes = (1000, 7, 40, 1, 7, 40)
    for step in range(20):
        m_BK = counts(of_sizes(*sizes), samples=3, step=step)
        assert torch.equal(m_BK[1], m_BK[4]) and torch.equal(m_BK[2], m_BK[5])
        for row, n in enumerate(sizes):  # m = 1 + floor(t n), with t known to a thousandth from the longest row
            low_K, high_K = (m_BK[0] - 1) / 1000, m_BK[0] / 1000
            assert (m_BK[row] >= 1 + (low_K * n).floor()).all() and (m_BK[row] <= (high_K * n).floor() + 1).all()
    assert (counts(of_sizes(8, 8), 3)[0] == counts(of_sizes(8, 8), 3)[1]).all()


def test_the_times_stand_one_in_each_kth_at_the_same_place():
    K, n = 4, 400
    for step in range(20):
        (m_K,) = counts(of_sizes(n), K, step=step)
        place_K = m_K - 1 - n // K * torch.arange(K)
        assert (place_K == place_K[0]).all() and 0 <= int(place_K[0]) < n // K


def test_the_ratio_is_uniform_over_updates_and_mask_sets():
    n, draws = 20, 4_000
    for keys in ([(update, 0) for update in range(draws)], [(0, step) for step in range(draws)]):
        m = torch.cat([counts(of_sizes(n), 1, *key)[0] for key in keys])
        count = torch.bincount(m, minlength=n + 1)[1:].double()
        assert len(count) == n and count.sum() == draws
        statistic = float(((count - draws / n) ** 2 / (draws / n)).sum())
        assert statistic < n - 1 + 5 * (2 * (n - 1)) ** 0.5
        agree = float((m[1:] == m[:-1]).double().mean())  # each anew
        assert abs(agree - 1 / n) < 5 * (1 / n / draws) ** 0.5


def test_masks_are_uniform_given_their_size_and_differ_between_rows():
    rows = 20_000
    noise = Unigrpo(samples=1).draw(ROW.rows(torch.zeros(rows, dtype=torch.long)), Draws(0, rows))
    code_B = (noise.masked_BKL[:, 0, TRAINABLE].long() * 2 ** torch.arange(N)).sum(dim=1)
    (m,) = {code.bit_count() for code in code_B.tolist()}
    codes = [c for c in range(2**N) if c.bit_count() == m]
    count = torch.bincount(code_B, minlength=2**N)[codes].double()
    assert count.sum() == rows and len(codes) > 1
    statistic = float(((count - rows / len(codes)) ** 2 / (rows / len(codes))).sum())
    assert statistic < len(codes) - 1 + 5 * (2 * (len(codes) - 1)) ** 0.5


def test_the_estimate_is_the_plain_mean_over_draws_of_the_masked_log_probabilities():
    denoise, K = in_context(L), 4
    for step in range(5):
        noise = Unigrpo(samples=K).draw(ROW, Draws(0, 1), step)
        assert (noise.weight_BK == 1).all() and noise.hidden_BKL is None and noise.prompt_BKP is None
        token_L, draw_K = [0.0] * L, []
        for masked_L in noise.masked_BKL[0]:
            masked = masked_L.nonzero().flatten().tolist()
            assert set(masked) <= set(TRAINABLE)
            logp = log_probs(denoise, ROW, [*masked, 6])  # 6: open after the EOS
            draw_K.append(sum(logp[k] for k in masked))
            token_L = [total + (logp[k] / K if k in masked else 0.0) for k, total in enumerate(token_L)]
        estimate = Unigrpo(samples=K)(denoise, ROW, noise)
        assert_close(estimate.token_BL[0], torch.tensor(token_L), rtol=1e-5, atol=1e-6)
        assert_close(estimate.draw_BK[0], torch.tensor(draw_K), rtol=1e-5, atol=1e-6)


def test_its_draws_depend_so_the_variance_is_over_repeats_of_the_whole_estimate():
    """K = n: one mask of each size, so what is left is the choice of positions within it."""
    assert not Unigrpo().independent
    denoise = in_context(L)
    within = 0.0
    for m in range(1, N + 1):
        values = torch.stack([s.logp_L.sum() for s in every_mask(denoise, ROW) if s.count == m])
        within += float(values.var(correction=0)) / N**2
    assert_close(probed(denoise, Unigrpo(samples=N), ROW, 1_500)[0], within, rtol=0.15, atol=0)
    estimate = Unigrpo(samples=2)(denoise, ROW, Unigrpo(samples=2).draw(ROW, Draws(0, 1)))
    stats = elbo_stats(Unigrpo(samples=2), estimate, ROW.trainable_BL, [], Ranks())
    assert set(stats) == {"elbo/elbo"}  # no spread of dependent draws is called a variance
    assert_close(stats["elbo/elbo"], float(estimate.draw_BK.mean()) / N)
