"""Samplers: how a completion is denoised. Each is a plain dataclass that runs on any denoiser."""

from stp.samplers.adaptive import Adaptive
from stp.samplers.standard import Standard
from stp.samplers.stp import Pruned, Stp

__all__ = ["Adaptive", "Pruned", "Standard", "Stp"]
