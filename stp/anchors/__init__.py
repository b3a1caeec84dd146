"""The static dataset that spatial pruning starts from."""

from stp.anchors.dataset import StaticDataset

__all__ = ["StaticDataset"]
