"""Rescues: what becomes of groups from which nothing can be learned, because their completions are all worth the same."""

from stp.rescue.base import Rescue, Retake
from stp.rescue.igpo import Igpo
from stp.rescue.none import None_
from stp.rescue.resample import Resample

__all__ = ["Igpo", "None_", "Resample", "Rescue", "Retake"]
