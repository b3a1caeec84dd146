"""The estimators against enumerations."""

import torch
from torch import Tensor

from stp.diffusion import Denoiser
from stp.estimators.base import Estimator
from stp.probe import probe_variance
from stp.types import Draws, Trajectory


def probed(denoise: Denoiser, estimator: Estimator, row: Trajectory, repeats: int) -> tuple[float, Tensor]:
    """The probe's variance of a completion's estimate, and `repeats` estimates: 50 copies of it, whose draws are their own."""
    copies = 50
    rows = row.rows(torch.zeros(copies, dtype=torch.long))
    variance_B, estimates_BR = probe_variance(denoise, estimator, rows, Draws(0, copies), repeats // copies, rows=copies)
    assert variance_B.shape == (copies,) and estimates_BR.shape == (copies, repeats // copies)
    return float(variance_B.mean()), estimates_BR.flatten()
