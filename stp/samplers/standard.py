"""The standard sampler: LLaDA's low-confidence remasking in semi-autoregressive blocks (Nie et al., 2025)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from stp.diffusion import Denoiser
from stp.errors import require, require_choice
from stp.samplers.reveal import Canvas, Start, Threshold, by_schedule
from stp.samplers.schedule import plan_windows
from stp.types import Anchors, AnchorSource, Draws, Prompts, Trajectory

TAU = 0.9  # the threshold that is used where none is given


@dataclass
class Standard:
    """Low-confidence remasking: each forward reveals the most confident draws of the active block."""

    length: int = field(default=256, metadata={"help": "L, response length in tokens"})
    steps: int = field(default=128, metadata={"help": "N, forwards of the unpruned sampler"})
    block_length: int = field(default=32, metadata={"help": "tokens per semi-autoregressive block; divides the length"})
    temperature: float = field(default=0.9, metadata={"help": "softmax temperature of the token draws; 0 takes the argmax"})
    cache: str = field(
        default="none",
        kw_only=True,
        metadata={"help": "rollouts keep keys and values of a block: none (exact) | prefix (before it) | dual (and after it)"},
    )
    reveal: str = field(
        default="schedule",
        kw_only=True,
        metadata={"help": "a forward reveals: schedule (a planned number of tokens) | threshold (all whose confidence is tau)"},
    )
    tau: float | None = field(
        default=None,
        kw_only=True,
        metadata={"help": "with reveal=threshold: the confidence from which on every draw is revealed; null is 0.9"},
    )

    def __post_init__(self) -> None:
        require(self.length >= 1, "sampler.length", self.length, "the response needs at least 1 token")
        require(
            1 <= self.block_length <= self.length and self.length % self.block_length == 0,
            "sampler.block_length",
            self.block_length,
            f"blocks must divide the length exactly; choose a divisor of sampler.length={self.length}",
        )
        require(
            self.length // self.block_length <= self.steps <= self.length,
            "sampler.steps",
            self.steps,
            f"each block needs a forward and each forward a token; choose {self.length // self.block_length}..{self.length}",
        )
        require(0 <= self.temperature <= 10, "sampler.temperature", self.temperature, "choose a temperature in [0, 10]")
        require_choice("sampler.cache", self.cache, ("none", "prefix", "dual"))
        require_choice("sampler.reveal", self.reveal, ("schedule", "threshold"))
        if self.tau is not None:
            require(0 < self.tau <= 1, "sampler.tau", self.tau, "a confidence lies in (0, 1]; 0.9 is usual")
            rule = "a schedule has no threshold; add sampler.reveal=threshold, or sampler.tau=null"
            require(self.reveal == "threshold", "sampler.tau", self.tau, rule)

    @property
    def floor(self) -> int:
        """How many tokens a forward reveals at least, with reveal=threshold: ceil(L / N)."""
        return -(-self.length // self.steps)

    def forwards(self, start: Start) -> tuple[int, int]:
        """Returns the fewest and the most forwards of a row that starts fully masked. A schedule has but one count."""
        if self.threshold is None:
            return start.nfe, start.nfe
        most, masks = 0, self.length
        while masks > start.keep:  # a forward reveals the floor, or the rest of its block
            masks -= min(self.floor, (masks - 1) % self.block_length + 1)
            most += 1
        return 1, most + start.fill  # an EOS in the first block can end a row at once

    @property
    def needs_anchors(self) -> bool:
        """Whether rollouts start from a static dataset, which stores an earlier response (an anchor) to each prompt."""
        return False

    def anchors_from(self, source: AnchorSource | None, problem_keys: list[str], draws: Draws) -> Anchors | None:
        """Returns the anchors from which the rows of a global batch start. The standard sampler needs none and returns None."""
        return None

    @property
    def threshold(self) -> float | None:
        """The confidence from which on a draw is revealed at once, or None if a schedule decides."""
        return None if self.reveal == "schedule" else TAU if self.tau is None else self.tau

    def pruning(self, anchors: Anchors | None) -> dict[str, float]:
        """Returns metrics of how a global batch is pruned, beside those that a rollout shows by itself."""
        return {}

    def start(self, anchors: Anchors | None, draws: Draws) -> Start:
        """Returns where the whole global batch begins. The standard sampler begins fully masked."""
        tokens_BL = torch.zeros(draws.batch, self.length, dtype=torch.long)
        return self.starting(tokens_BL, torch.zeros_like(tokens_BL, dtype=torch.bool))

    def starting(self, tokens_BL: Tensor, fixed_BL: Tensor) -> Start:
        """Returns the start of a global batch that keeps these tokens, with the sampler's own count of forwards."""
        return Start(tokens_BL, fixed_BL, plan_windows(~fixed_BL, self.block_length, self.steps))

    def __call__(self, denoise: Denoiser, prompts: Prompts, draws: Draws, anchors: Anchors | None = None) -> Trajectory:
        """Rolls out one completion per prompt row. draws.batch must be len(prompts)."""
        return self.run(denoise, prompts, self.start(anchors, draws), draws)

    @torch.no_grad()
    def run(self, denoise: Denoiser, prompts: Prompts, start: Start, draws: Draws) -> Trajectory:
        """Denoises the rows of `start`. `draws` holds the draws of the same rows.

        A row is done once its finished blocks hold an EOS. What follows is never read, so the row leaves the batch and its
        open positions become EOS.
        """
        canvas = Canvas(denoise, prompts, start, draws, self.temperature)
        if self.threshold is None:
            by_schedule(canvas, start, self.cache)
        else:
            Threshold(self.threshold, self.floor, self.block_length, self.cache)(canvas, start.keep)
        if start.fill:
            canvas.fill()
        return canvas.trajectory(start, scheduled=self.threshold is None)
