"""Counts the bytes that are alive and the operations while a model runs, on any device."""

import itertools
import weakref
from collections import Counter
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import flop_registry
from torch.utils.weak import WeakIdKeyDictionary


class Live(TorchDispatchMode):
    """Adds up the bytes of live tensors that were made under it, and the operations of matrix products.

    peak: bytes by part at the moment when their sum was largest. most: each part's own maximum. Tensors as wide as the
    vocabulary count as `logits`, the others as `activations`. What a kernel allocates inside is not seen.
    """

    def __init__(self, module: nn.Module, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.now: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.operations = 0
        self.known = WeakIdKeyDictionary()
        for tensor in itertools.chain(module.parameters(), module.buffers()):
            self.known[tensor.untyped_storage()] = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._add, made)
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.operations += count(*args, **(kwargs or {}), out_val=made)
        return made

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self.known:
            return
        self.known[storage] = True
        part = "logits" if tensor.dim() > 1 and tensor.shape[-1] == self.vocabulary else "activations"
        size = storage.nbytes()
        self.now[part] += size
        self.most |= self.now
        weakref.finalize(storage, self.now.subtract, {part: size}).atexit = False
        if self.now.total() > self.peak.total():
            self.peak = self.now.copy()
