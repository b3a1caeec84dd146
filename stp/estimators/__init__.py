"""Estimators of a completion's log-likelihood. Each is a plain dataclass that runs on any denoiser."""

from stp.estimators.base import Estimator
from stp.estimators.coupled import Coupled
from stp.estimators.elbo import Elbo
from stp.estimators.one_step import OneStep
from stp.estimators.spg import Spg
from stp.estimators.unigrpo import Unigrpo

__all__ = ["Coupled", "Elbo", "Estimator", "OneStep", "Spg", "Unigrpo"]
