"""The ELBO (Eq. 3), token by token (Eq. 4), with the forward process of Eq. 7."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from stp.errors import require, require_choice
from stp.estimators.base import Estimator, count_masked, mask_exactly
from stp.types import Draws, Noise, Trajectory


@dataclass
class Elbo(Estimator):
    """B^k = (1/K) sum_j 1[k masked in draw j] w_j log p(x_k | x_tj) over the trainable positions.

    `exact` masks m ~ U{1..n} of the n trainable positions, w = n/m: unbiased for the ELBO with finite variance.
    `bernoulli` is Eq. 3 as printed, t ~ U(t_min, 1) and w = 1/t. At t_min = 0 its variance is infinite, so it needs t_min > 0,
    and then estimates the ELBO's integral over [t_min, 1], rescaled: late, nearly clean states are left out. That is its bias,
    and the same holds for `exact` with t_min > 0.

    `times=gauss` (GDPO, arXiv 2510.08554) takes the K nodes t_k of Gauss-Legendre quadrature as times, so that chance is left
    to the masks alone, and multiplies the weights by K times those of the quadrature. It integrates polynomials in t up to
    degree 2K - 1 exactly. The ELBO's integrand has degree n - 1: with Bernoulli masks the estimate is unbiased if n <= 2K.
    `exact` masks 1 + floor(t_k n) positions, as it does at random times: a rounding, and hence a small bias.
    """

    masks: str = field(default="exact", metadata={"help": "exact (a count of positions) | bernoulli (Eq. 3 as printed)"})
    times: str = field(
        default="uniform", metadata={"help": "uniform | stratified (one draw in each K-th of the times) | gauss (nodes)"}
    )
    weight: str = field(default="elbo", metadata={"help": "elbo (1/t) | none (as the authors' code)"})
    t_min: float = field(default=0.0, metadata={"help": "smallest masked fraction that is drawn"})

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("estimator.masks", self.masks, ("exact", "bernoulli"))
        require_choice("estimator.times", self.times, ("uniform", "stratified", "gauss"))
        require_choice("estimator.weight", self.weight, ("elbo", "none"))
        require(0 <= self.t_min < 1, "estimator.t_min", self.t_min, "the smallest masked fraction must lie in [0, 1)")
        require(
            self.masks == "exact" or self.times == "gauss" or self.t_min > 0,
            "estimator.t_min",
            self.t_min,
            "with masks=bernoulli and times down to 0 the variance is infinite; set estimator.t_min, say to 0.05",
        )

    @property
    def independent(self) -> bool:
        return self.times == "uniform"

    def noise(self, trajectory: Trajectory, draws: Draws, step: int) -> Noise:
        """Returns K masks over each row's trainable positions, and their weights."""
        K, (B, L) = self.samples, trajectory.response_BL.shape
        share_K = torch.ones(K)
        if self.times == "gauss":
            node_K, share_K = gauss_legendre(K)
            time_BK = node_K.expand(B, K)
        else:
            time_BK = draws.uniform("times", step, K)
        if self.times == "stratified":
            time_BK = (torch.arange(K) + time_BK) / K
        key_BKL = draws.uniform("masks", step, K, L)
        trainable_B1L = trajectory.trainable_BL[:, None]
        if self.masks == "exact":
            n_B1 = trajectory.trainable_BL.sum(dim=1, keepdim=True)
            low_B1 = torch.minimum((self.t_min * n_B1.double() - 1e-9).ceil().long().clamp(min=1), n_B1)
            m_BK = count_masked(time_BK, n_B1, low_B1)
            masked_BKL = mask_exactly(trainable_B1L, m_BK, key_BKL)
            weight_BK = n_B1 / m_BK.clamp(min=1)
        else:
            time_BK = self.t_min + (1 - self.t_min) * time_BK
            masked_BKL = (key_BKL < time_BK[..., None]) & trainable_B1L
            weight_BK = 1 / time_BK
        return Noise(masked_BKL, share_K * (torch.ones_like(weight_BK) if self.weight == "none" else weight_BK))


def gauss_legendre(K: int) -> tuple[Tensor, Tensor]:
    """Returns the K nodes of Gauss-Legendre quadrature on (0, 1), and K times their weights: their mean is 1.

    They are the eigenvalues of the Legendre polynomials' recurrence matrix, and the first entries of its eigenvectors
    (Golub and Welsch, 1969).
    """
    k = torch.arange(1, K, dtype=torch.float64)
    beside = k / (4 * k**2 - 1).sqrt()
    node_K, vector_KK = torch.linalg.eigh(beside.diag(1) + beside.diag(-1))
    return ((1 + node_K) / 2).float(), (K * vector_KK[0] ** 2).float()
