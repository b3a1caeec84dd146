"""The adaptive sampler: STP whose prunings follow the instance, which the paper leaves to future work."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from stp.samplers.reveal import Start
from stp.samplers.stp import Pruned, check_prunings
from stp.types import Anchors


@dataclass
class Adaptive(Pruned):
    """Temporal pruning by the instance: a sure row reveals more tokens in a forward, and needs fewer forwards."""

    t_cutoff: float = field(default=0.05, metadata={"help": "temporal pruning: masked fraction that one last forward fills"})
    reveal: str = field(
        default="threshold",
        kw_only=True,
        metadata={"help": "a forward reveals: threshold (all whose confidence is tau) | schedule (a planned number of tokens)"},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_prunings("gamma_max", 0.0, self.t_cutoff)

    def wanted(self, anchors: Anchors) -> Tensor:
        """Returns how many tokens of each row's anchor are fixed: here belongs spatial pruning by difficulty."""
        return torch.zeros(len(anchors.tokens_BL), dtype=torch.long)

    def starting(self, tokens_BL: Tensor, fixed_BL: Tensor) -> Start:
        return self.planned(tokens_BL, fixed_BL, 0.0, self.t_cutoff)
