"""`times=gauss` (GDPO): the nodes are exact for polynomials, and the ELBO's integrand is one."""

import math

import pytest
import torch
from torch.testing import assert_close

from stp.errors import UserError
from stp.estimators import Elbo
from stp.estimators.elbo import gauss_legendre
from stp.types import Draws
from tests.toys import EOS, every_mask, in_context, trajectory

ROW = trajectory([2, 3, 4, 5, 6, EOS, 3, 4], fixed=[2, 7])  # five trainable tokens
L, N = 8, 5


@pytest.mark.parametrize("K", [1, 2, 3, 8])
def test_the_nodes_integrate_polynomials_of_degree_2K_minus_1_exactly_and_no_further(K):
    node_K, weight_K = (x.double() for x in gauss_legendre(K))
    for degree in range(2 * K):
        assert_close(float((weight_K * node_K**degree).mean()), 1 / (degree + 1), rtol=1e-6, atol=0)
    error = 1 / (2 * K + 1) - float((weight_K * node_K ** (2 * K)).mean())  # the first power that is not exact
    assert_close(error, math.factorial(K) ** 4 / (math.factorial(2 * K) ** 2 * (2 * K + 1)), rtol=1e-3, atol=1e-7)


def test_the_published_nodes_of_three():
    node_K, weight_K = gauss_legendre(3)
    assert_close(node_K, torch.tensor([0.1127017, 0.5, 0.8872983]))
    assert_close(weight_K, 3 * torch.tensor([5 / 18, 8 / 18, 5 / 18]))


def test_exact_masks_have_a_count_for_each_node_and_its_weight():
    """m = 1 + floor(t n) of n = 5 positions: 1, 3 and 5."""
    noise = Elbo(samples=3, times="gauss").draw(ROW, Draws(0, 1))
    assert noise.masked_BKL.sum(dim=2).tolist() == [[1, 3, 5]]
    assert_close(noise.weight_BK, 3 * torch.tensor([[5 / 18 * N / 1, 8 / 18 * N / 3, 5 / 18 * N / 5]]))
    assert not torch.equal(noise.masked_BKL, Elbo(samples=3, times="gauss").draw(ROW, Draws(1, 1)).masked_BKL)
    plain = Elbo(samples=3, times="gauss", weight="none").draw(ROW, Draws(0, 1))
    assert_close(plain.weight_BK, 3 * torch.tensor([[5 / 18, 8 / 18, 5 / 18]]))


@pytest.mark.parametrize(("K", "exact"), [(2, False), (3, True), (4, True)])
def test_bernoulli_masks_are_unbiased_where_n_is_at_most_2K(K, exact):
    """By enumeration: each node's expectation over its Bernoulli masks, added with the weights of the draws."""
    denoise = in_context(L, scale=1.0)
    row = trajectory([2, 3, 4, 5, 6, EOS, 3, 4], fixed=[2, 7], rows=4000)
    noise = Elbo(samples=K, masks="bernoulli", times="gauss").draw(row, Draws(0, 4000))
    node_K = gauss_legendre(K)[0].double()
    assert_close(noise.masked_BKL.sum(dim=2).double().mean(dim=0), N * node_K, rtol=0, atol=4 * (N / 4 / 4000) ** 0.5)
    mean, truth = 0.0, 0.0
    for subset in every_mask(denoise, ROW):
        m, value = subset.count, float(subset.logp_L.sum())
        mean += float((noise.weight_BK[0].double() * node_K**m * (1 - node_K) ** (N - m)).mean()) * value
        truth += math.factorial(m - 1) * math.factorial(N - m) / math.factorial(N) * value
    assert (abs(mean / truth - 1) < 1e-6) == exact, mean / truth


def test_its_draws_depend_on_each_other_and_need_no_smallest_time():
    assert not Elbo(times="gauss").independent and Elbo(times="gauss").varies
    assert Elbo(times="gauss", masks="bernoulli").t_min == 0  # the smallest node bounds the weights
    with pytest.raises(UserError, match=r"^estimator\.t_min=0\.0: "):
        Elbo(masks="bernoulli")
