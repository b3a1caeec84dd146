"""The STP sampler: spatial pruning (Eqs. 5, 6, 8), temporal pruning (Eq. 9) and the schedule of Theorem 4.1."""

from dataclasses import dataclass, field
from decimal import Decimal

import torch

from stp.diffusion import top_per_row
from stp.errors import require, require_choice
from stp.samplers.schedule import count_forwards, plan_windows, round_half_up
from stp.samplers.standard import Standard, Start
from stp.types import Anchors, AnchorSource, Draws


@dataclass
class Stp(Standard):
    """Spatio-temporal pruning: starts from a few tokens of an earlier response and fills the last ones in one forward."""

    gamma: float = field(default=0.05, metadata={"help": "spatial pruning: fraction of tokens fixed from an earlier response"})
    t_cutoff: float = field(default=0.05, metadata={"help": "temporal pruning: masked fraction that one last forward fills"})
    gamma_of: str = field(
        default="length", metadata={"help": "gamma is a fraction of: length (paper) | anchor (its eligible tokens)"}
    )
    select: str = field(
        default="low_confidence",
        metadata={"help": "low_confidence (low-confidence tokens stay open, the most confident are fixed) | random"},
    )
    anchors: str = field(default="model", metadata={"help": "static dataset: model (its own pre-generations) | ground_truth"})
    static: str | None = field(
        default=None, metadata={"help": "folder of a static dataset; null makes one under outputs/static, or reuses it"}
    )
    choose: str = field(
        default="first", metadata={"help": "which pre-generation of a prompt: first | random | best (uses the reward)"}
    )
    pregenerations: int = field(default=1, metadata={"help": "k, pre-generations per prompt in the static dataset"})

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.gamma < 1, "sampler.gamma", self.gamma, "the fixed fraction must lie in [0, 1); the paper uses 0.05")
        require(
            0 <= self.t_cutoff < 1, "sampler.t_cutoff", self.t_cutoff, "the cutoff time must lie in [0, 1); the paper uses 0.05"
        )
        require(
            Decimal(str(self.gamma)) + Decimal(str(self.t_cutoff)) < 1,
            "sampler.gamma + sampler.t_cutoff",
            f"{self.gamma} + {self.t_cutoff}",
            "something must be left to denoise; keep their sum below 1",
        )
        require_choice("sampler.gamma_of", self.gamma_of, ("length", "anchor"))
        require_choice("sampler.select", self.select, ("low_confidence", "random"))
        require_choice("sampler.anchors", self.anchors, ("model", "ground_truth"))
        require_choice("sampler.choose", self.choose, ("first", "random", "best"))
        require(self.pregenerations >= 1, "sampler.pregenerations", self.pregenerations, "at least 1 per prompt is needed")
        require(
            self.anchors == "model" or self.pregenerations == 1,
            "sampler.pregenerations",
            self.pregenerations,
            "a ground-truth solution is a single one; leave it at 1",
        )

    @property
    def needs_anchors(self) -> bool:
        return self.gamma > 0

    def anchors_from(self, source: AnchorSource | None, problem_keys: list[str], draws: Draws) -> Anchors | None:
        return None if source is None else source.anchors(problem_keys, self.choose, draws)

    def start(self, anchors: Anchors | None, draws: Draws) -> Start:
        """Stage 1 (Eq. 5): starts the whole global batch, each row with its own fixed positions.

        Fixes round(gamma * L) eligible tokens of each anchor, or all of them if there are fewer. With gamma_of=anchor, L is the
        number of eligible tokens. It picks the most confident ones, or a new uniform draw for each completion.
        """
        tokens_BL = torch.zeros(draws.batch, self.length, dtype=torch.long)
        fixed_BL = torch.zeros_like(tokens_BL, dtype=torch.bool)
        if self.gamma > 0 and anchors is not None:
            tokens_BL = anchors.tokens_BL
            eligible_B = anchors.eligible_BL.sum(dim=1)
            if self.gamma_of == "length":
                wanted_B = torch.full_like(eligible_B, round_half_up(self.gamma, self.length))
            else:
                wanted_B = torch.tensor([round_half_up(self.gamma, n) for n in range(self.length + 1)])[eligible_B]
            score_BL = anchors.confidence_BL if self.select == "low_confidence" else draws.uniform("select", 0, self.length)
            fixed_BL = top_per_row(score_BL, anchors.eligible_BL, torch.minimum(wanted_B, eligible_B))
        forwards, fill = count_forwards(self.steps, self.gamma, self.t_cutoff)
        keep = max(round_half_up(self.t_cutoff, self.length), 1) if fill else 0
        return Start(tokens_BL, fixed_BL, plan_windows(~fixed_BL, self.block_length, forwards, keep), fill, keep)
