"""Reuses keys and values within a block, after Fast-dLLM (Wu et al., arXiv 2505.22618): an approximation, off by default."""

from typing import Any

from torch import Tensor


class KeysValues:
    """Keys and values of every position. A block's first forward computes them all, later ones only positions `begin` to `end`.

    The class has the part of transformers' `Cache` that a forward calls. FlashAttention takes the last columns of the padding
    mask for the block's; this is right because padding is on the left only, so neither has any.
    """

    def __init__(self, begin: int, end: int) -> None:
        self.begin, self.end = begin, end
        self.layers: list[tuple[Tensor, Tensor]] = []  # (keys, values) of each layer, each [B, heads, S, head size]

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Stores the keys and values that were computed now. Returns those of all positions."""
        if layer == len(self.layers):
            self.layers.append((keys, values))
            return keys, values
        for kept, new in zip(self.layers[layer], (keys, values), strict=True):
            kept[:, :, self.begin : self.end] = new
        return self.layers[layer]

    def get_query_offset(self, _layer: int) -> int:
        """Returns the first of the positions that are computed now."""
        return self.begin if self.layers else 0

    def get_mask_sizes(self, computed: int, _layer: int) -> tuple[int, int]:
        """Returns how many keys there are, and where they begin."""
        return self.layers[0][0].shape[2] if self.layers else computed, 0


class Within:
    """A policy for the forwards of one block: see `stp.diffusion.within`."""

    def __init__(self, policy: Any, begin: int, end: int) -> None:
        self.policy, self.mask_id, self.eos_id = policy, policy.mask_id, policy.eos_id
        self.kept = KeysValues(begin, end)

    def __call__(self, *args: Any) -> Tensor:
        """Calls `Policy.forward` for positions in the block."""
        return self.policy(*args, kept=self.kept)

    def draw(self, *args: Any) -> tuple[Tensor, Tensor]:
        """Calls `Policy.draw` for positions in the block."""
        return self.policy.draw(*args, kept=self.kept)
