"""Protocols: how an evaluation asks, samples and counts."""

from stp.protocols.clean import Clean
from stp.protocols.published import Published

__all__ = ["Clean", "Published"]
