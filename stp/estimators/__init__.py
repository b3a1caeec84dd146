"""Estimators of a completion's log-likelihood. Each is a plain dataclass that runs on any denoiser."""

from stp.estimators.base import Estimator
from stp.estimators.causal import Causal
from stp.estimators.coupled import Coupled
from stp.estimators.elbo import Elbo
from stp.estimators.one_step import OneStep
from stp.estimators.spg import Spg
from stp.estimators.trace import Trace
from stp.estimators.unigrpo import Unigrpo

__all__ = ["Causal", "Coupled", "Elbo", "Estimator", "OneStep", "Spg", "Trace", "Unigrpo"]
