"""Estimators of a completion's log-likelihood. Each is a plain dataclass that runs on any denoiser."""

from stp.estimators.base import Estimator
from stp.estimators.elbo import Elbo

__all__ = ["Elbo", "Estimator"]
