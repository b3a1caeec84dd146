"""The STP sampler: spatial pruning (Eqs. 5, 6, 8), temporal pruning (Eq. 9) and the schedule of Theorem 4.1."""

from abc import abstractmethod
from dataclasses import dataclass, field
from decimal import Decimal

import torch
from torch import Tensor

from stp.diffusion import top_per_row
from stp.errors import require, require_choice
from stp.samplers.reveal import Start
from stp.samplers.schedule import count_forwards, plan_windows, round_half_up
from stp.samplers.standard import Standard
from stp.types import Anchors, AnchorSource, Draws


@dataclass(kw_only=True)
class Pruned(Standard):
    """What samplers with spatial pruning share: a few tokens of each row come from an earlier response.

    A subclass says how many they are.
    """

    gamma_of: str = field(
        default="length", metadata={"help": "gamma is a fraction of: length (paper) | anchor (its eligible tokens)"}
    )
    select: str = field(
        default="low_confidence",
        metadata={"help": "low_confidence (low-confidence tokens stay open, the most confident are fixed) | random"},
    )
    anchors: str = field(
        default="model",
        metadata={"help": "static dataset: model (its own pre-generations) | correct (the right ones of these) | ground_truth"},
    )
    static: str | None = field(
        default=None, metadata={"help": "folder of a static dataset; null makes one under outputs/static, or reuses it"}
    )
    choose: str = field(
        default="first", metadata={"help": "which pre-generation of a prompt: first | random | best (uses the reward)"}
    )
    pregenerations: int = field(default=1, metadata={"help": "k, pre-generations per prompt in the static dataset"})

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("sampler.gamma_of", self.gamma_of, ("length", "anchor"))
        require_choice("sampler.select", self.select, ("low_confidence", "random"))
        require_choice("sampler.anchors", self.anchors, ("model", "correct", "ground_truth"))
        require_choice("sampler.choose", self.choose, ("first", "random", "best"))
        require(self.pregenerations >= 1, "sampler.pregenerations", self.pregenerations, "at least 1 per prompt is needed")
        require(
            self.source == "model" or self.pregenerations == 1,
            "sampler.pregenerations",
            self.pregenerations,
            "a ground-truth solution is a single one; leave it at 1",
        )

    @abstractmethod
    def wanted(self, anchors: Anchors) -> Tensor:
        """Returns for each row how many tokens should be fixed, wanted_B; there may be fewer that can be."""

    @property
    def source(self) -> str:
        """Who wrote the static dataset's responses: `model` or `ground_truth`. `anchors=correct` takes some of the model's."""
        return "ground_truth" if self.anchors == "ground_truth" else "model"

    def anchors_from(self, source: AnchorSource | None, problem_keys: list[str], draws: Draws) -> Anchors | None:
        return None if source is None else source.anchors(problem_keys, self.choose, draws, self.anchors == "correct")

    def fix(self, anchors: Anchors | None, draws: Draws) -> tuple[Tensor, Tensor]:
        """Stage 1 (Eq. 5): returns tokens_BL and fixed_BL, each row of the global batch with its own fixed positions.

        Fixes the wanted number of eligible tokens of each anchor, or all of them if there are fewer. These are the most
        confident ones, or a new uniform draw for each completion.
        """
        if anchors is None or not self.needs_anchors:
            tokens_BL = torch.zeros(draws.batch, self.length, dtype=torch.long)
            return tokens_BL, torch.zeros_like(tokens_BL, dtype=torch.bool)
        score_BL = anchors.confidence_BL if self.select == "low_confidence" else draws.uniform("select", 0, self.length)
        count_B = torch.minimum(self.wanted(anchors), anchors.eligible_BL.sum(dim=1))
        return anchors.tokens_BL, top_per_row(score_BL, anchors.eligible_BL, count_B)

    def start(self, anchors: Anchors | None, draws: Draws) -> Start:
        """Starts the whole global batch: fixes tokens, and plans the forwards that are left (Theorem 4.1)."""
        tokens_BL, fixed_BL = self.fix(anchors, draws)
        return self.starting(tokens_BL, fixed_BL)

    def planned(self, tokens_BL: Tensor, fixed_BL: Tensor, gamma: float, t_cutoff: float) -> Start:
        """Returns the start of a batch whose forwards these fractions prune. The fill takes round(t_cutoff * L) masks."""
        forwards, fill = count_forwards(self.steps, gamma, t_cutoff)
        keep = max(round_half_up(t_cutoff, self.length), 1) if fill else 0
        return Start(tokens_BL, fixed_BL, plan_windows(~fixed_BL, self.block_length, forwards, keep), fill, keep)


def check_prunings(name: str, gamma: float, t_cutoff: float) -> None:
    """Refuses fractions that leave nothing to denoise. name: the option of the fixed fraction, gamma."""
    require(0 <= gamma < 1, f"sampler.{name}", gamma, "the fixed fraction must lie in [0, 1); the paper uses 0.05")
    require(0 <= t_cutoff < 1, "sampler.t_cutoff", t_cutoff, "the cutoff time must lie in [0, 1); the paper uses 0.05")
    require(
        Decimal(str(gamma)) + Decimal(str(t_cutoff)) < 1,
        f"sampler.{name} + sampler.t_cutoff",
        f"{gamma} + {t_cutoff}",
        "something must be left to denoise; keep their sum below 1",
    )


@dataclass
class Stp(Pruned):
    """Spatio-temporal pruning: starts from a few tokens of an earlier response and fills the last ones in one forward."""

    gamma: float = field(default=0.05, metadata={"help": "spatial pruning: fraction of tokens fixed from an earlier response"})
    t_cutoff: float = field(default=0.05, metadata={"help": "temporal pruning: masked fraction that one last forward fills"})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_prunings("gamma", self.gamma, self.t_cutoff)

    @property
    def needs_anchors(self) -> bool:
        return self.gamma > 0

    def wanted(self, anchors: Anchors) -> Tensor:
        """Returns round(gamma * L), half up. With gamma_of=anchor, L is the number of the row's eligible tokens."""
        eligible_B = anchors.eligible_BL.sum(dim=1)
        if self.gamma_of == "length":
            return torch.full_like(eligible_B, round_half_up(self.gamma, self.length))
        return torch.tensor([round_half_up(self.gamma, n) for n in range(self.length + 1)])[eligible_B]

    def starting(self, tokens_BL: Tensor, fixed_BL: Tensor) -> Start:
        return self.planned(tokens_BL, fixed_BL, self.gamma, self.t_cutoff)
