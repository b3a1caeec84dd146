"""The static dataset of anchors (earlier responses), from which spatial pruning starts."""

from stp.anchors.dataset import StaticDataset

__all__ = ["StaticDataset"]
