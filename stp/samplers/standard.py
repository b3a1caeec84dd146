"""The standard sampler: LLaDA's low-confidence remasking in semi-autoregressive blocks (Nie et al., 2025)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from stp.diffusion import Denoiser, draw, log_confidence, top_per_row, until_eos, within
from stp.errors import require, require_choice
from stp.samplers.schedule import Window, plan_windows, quotas
from stp.types import Anchors, AnchorSource, Draws, Prompts, Rows, Trajectory


@dataclass(frozen=True)
class Start(Rows):
    """Where rollouts begin: the fixed tokens (on the CPU), and the schedule, which the whole batch shares.

    windows: the forwards, block by block. fill: whether a last forward fills every remaining mask. keep: how many masks per row
    are left for it.
    """

    tokens_BL: Tensor
    fixed_BL: Tensor
    windows: list[Window]
    fill: bool = False
    keep: int = 0

    @property
    def nfe(self) -> int:
        """The number of forwards in the schedule."""
        return sum(w.forwards for w in self.windows) + self.fill


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

    @property
    def needs_anchors(self) -> bool:
        """Whether rollouts start from a static dataset, which stores an earlier response (an anchor) to each prompt."""
        return False

    def anchors_from(self, source: AnchorSource | None, problem_keys: list[str], draws: Draws) -> Anchors | None:
        """Returns the anchors from which the rows of a global batch start. The standard sampler needs none and returns None."""
        return None

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
        device = prompts.ids_BP.device
        P = prompts.ids_BP.shape[1]
        response_BL = torch.where(start.fixed_BL, start.tokens_BL, denoise.mask_id).to(device)
        step_BL, logp_BL = torch.full_like(response_BL, -1), torch.zeros_like(response_BL, dtype=torch.float32)
        done_BL, done_step_BL, done_logp_BL = response_BL.clone(), step_BL.clone(), logp_BL.clone()
        ids_BS = torch.cat([prompts.ids_BP, response_BL], dim=1)
        attend_BS = prompts.attend(self.length)
        open_BL = (~start.fixed_BL).to(device)
        quota_BW = quotas(~start.fixed_BL, [(w.begin, w.end) for w in start.windows], start.keep)
        # rows and counts stay on the CPU: the loop itself never waits for the device
        alive = torch.arange(len(prompts))
        step = nfe_run = 0

        for w, window in enumerate(start.windows):
            span = slice(window.begin, window.end)
            quota_B = quota_BW[alive, w]
            masks = int((~start.fixed_BL[alive, span]).sum())
            block = denoise
            if self.cache != "none":
                block = within(denoise, P + window.begin, P + (window.end if self.cache == "dual" else self.length))
            for s in range(window.forwards):
                count_B = quota_B // window.forwards + (s < quota_B % window.forwards)
                local_M = torch.nonzero_static(open_BL[:, span].flatten(), size=masks).squeeze(1)
                width = window.end - window.begin
                index_M = local_M // width * ids_BS.shape[1] + P + window.begin + local_M % width
                uniform_M = None
                if self.temperature > 0:
                    uniform_BL = draws.uniform("tokens", step + s, self.length)
                    uniform_M = uniform_BL[alive, span].to(device, non_blocking=True).flatten()[local_M]
                token_M, confidence_M = draw(block, ids_BS, attend_BS, index_M, self.temperature, uniform_M)
                active_BW = open_BL[:, span]
                confidence_BW = torch.zeros_like(active_BW, dtype=torch.float32)
                confidence_BW.view(-1)[local_M] = confidence_M
                revealed_BW = top_per_row(confidence_BW, active_BW, count_B.to(device, non_blocking=True))
                response_BW = ids_BS[:, P + window.begin : P + window.end]
                drawn_BW = response_BW.flatten().scatter(0, local_M, token_M).view_as(response_BW)
                ids_BS[:, P + window.begin : P + window.end] = torch.where(revealed_BW, drawn_BW, response_BW)
                open_BL[:, span] &= ~revealed_BW
                step_BL[:, span].masked_fill_(revealed_BW, step + s)
                logp_BL[:, span] = torch.where(revealed_BW, log_confidence(confidence_BW), logp_BL[:, span])
                masks -= int(count_B.sum())
                nfe_run += 1
            step += window.forwards

            over = slice(P, P + window.end)
            ended = (ids_BS[:, over] == denoise.eos_id).any(dim=1) & ~open_BL[:, : window.end].any(dim=1)
            ended = ended.cpu()  # the only wait for the device, once per block
            if ended.any():
                done_BL[alive[ended]] = ids_BS[ended, P:].masked_fill(open_BL[ended], denoise.eos_id)
                done_step_BL[alive[ended]], done_logp_BL[alive[ended]] = step_BL[ended], logp_BL[ended]
                alive, ids_BS, open_BL = alive[~ended], ids_BS[~ended], open_BL[~ended]
                step_BL, logp_BL = step_BL[~ended], logp_BL[~ended]
                attend_BS = None if attend_BS is None else attend_BS[~ended]
                if not len(alive):
                    break

        if start.fill and len(alive):
            # Eq. 9: one forward commits every remaining mask by argmax
            open_BS = torch.cat([torch.zeros_like(ids_BS[:, :P], dtype=torch.bool), open_BL], dim=1)
            index_M = open_BS.flatten().nonzero().squeeze(1)
            token_M, confidence_M = draw(denoise, ids_BS, attend_BS, index_M)
            ids_BS = ids_BS.flatten().scatter(0, index_M, token_M).view_as(ids_BS)
            step_BL = step_BL.masked_fill(open_BL, step)
            logp_BL = logp_BL.masked_scatter(open_BL, log_confidence(confidence_M))
            nfe_run += 1
        done_BL[alive], done_step_BL[alive], done_logp_BL[alive] = ids_BS[:, P:], step_BL, logp_BL
        return Trajectory(
            prompts=prompts,
            response_BL=done_BL,
            fixed_BL=start.fixed_BL.to(device),
            until_eos_BL=until_eos(done_BL, denoise.eos_id),
            step_BL=done_step_BL,
            logp_BL=done_logp_BL,
            nfe=start.nfe,
            nfe_run=nfe_run,
        )
