"""Keys and values kept within a block, after Fast-dLLM (Wu et al., arXiv 2505.22618): an approximation, off by default."""

from typing import Any

from torch import Tensor


class KeysValues:
    """What a block's first forward computed at every position; each later one renews positions `begin` to `end` alone.

    The part of transformers' `Cache` that a forward asks for. (FlashAttention's path takes the last columns of the padding for
    that of the block: in both there is none.)
    """

    def __init__(self, begin: int, end: int) -> None:
        self.begin, self.end = begin, end
        self.layers: list[tuple[Tensor, Tensor]] = []  # keys and values, [B, heads, S, head size] each

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any) -> tuple[Tensor, Tensor]:
        """Keys and values of all positions, for those computed now."""
        if layer == len(self.layers):
            self.layers.append((keys, values))
            return keys, values
        for kept, new in zip(self.layers[layer], (keys, values), strict=True):
            kept[:, :, self.begin : self.end] = new
        return self.layers[layer]

    def get_query_offset(self, _layer: int) -> int:
        """Where the positions computed now begin."""
        return self.begin if self.layers else 0

    def get_mask_sizes(self, computed: int, _layer: int) -> tuple[int, int]:
        """How many keys there are, and where they begin."""
        return self.layers[0][0].shape[2] if self.layers else computed, 0


class Within:
    """A policy for the forwards of one block: see `stp.diffusion.within`."""

    def __init__(self, policy: Any, begin: int, end: int) -> None:
        self.policy, self.mask_id, self.eos_id = policy, policy.mask_id, policy.eos_id
        self.kept = KeysValues(begin, end)

    def __call__(self, *args: Any) -> Tensor:
        """`Policy.forward` of positions in the block."""
        return self.policy(*args, kept=self.kept)

    def draw(self, *args: Any) -> tuple[Tensor, Tensor]:
        """`Policy.draw` of positions in the block."""
        return self.policy.draw(*args, kept=self.kept)
