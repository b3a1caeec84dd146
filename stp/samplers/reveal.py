"""Runs the forwards of a rollout and reveals tokens by one of two rules: the schedule, or a threshold on the confidence."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stp.diffusion import Denoiser, draw, log_confidence, top_per_row, until_eos, within
from stp.samplers.schedule import Window, quotas
from stp.types import Draws, Prompts, Rows, Trajectory

ENDED, FULL = -1, -2  # why a row leaves by threshold: after an EOS, or because no more masks are left than the fill takes


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


@dataclass(frozen=True)
class State(Rows):
    """Some rows in the middle of their rollout. open_BL: what is still masked. The rest is as in a `Trajectory`."""

    ids_BS: Tensor
    attend_BS: Tensor | None
    open_BL: Tensor
    step_BL: Tensor
    logp_BL: Tensor


@dataclass(frozen=True)
class Drawn:
    """What one forward drew at M positions. asked_BW: where in each row's W places. local_M, place_M: their flat places in the
    [B, W] and [B, L] grids. index_M: in the [B, S] grid."""

    asked_BW: Tensor
    local_M: Tensor
    place_M: Tensor
    index_M: Tensor
    token_M: Tensor
    confidence_M: Tensor

    @property
    def confidence_BW(self) -> Tensor:
        """The confidence of each draw, 0 where nothing was asked."""
        confidence_BW = torch.zeros_like(self.asked_BW, dtype=torch.float32)
        confidence_BW.view(-1)[self.local_M] = self.confidence_M
        return confidence_BW


class Canvas:
    """The rows of a batch while they are denoised.

    alive: the indices of the rows that go on (on the CPU), whose tensors are `live`. Rows that leave are written back to `all`.
    number_B: the forwards in which each row has taken part (on the CPU), which number its draws. So a row's draws do not depend
    on the rows beside it.
    """

    def __init__(self, denoise: Denoiser, prompts: Prompts, start: Start, draws: Draws, temperature: float) -> None:
        self.denoise, self.prompts, self.draws, self.temperature = denoise, prompts, draws, temperature
        self.device, self.width, self.length = prompts.ids_BP.device, prompts.ids_BP.shape[1], start.fixed_BL.shape[1]
        response_BL = torch.where(start.fixed_BL, start.tokens_BL, denoise.mask_id).to(self.device)
        step_BL, logp_BL = torch.full_like(response_BL, -1), torch.zeros_like(response_BL, dtype=torch.float32)
        ids_BS, open_BL = torch.cat([prompts.ids_BP, response_BL], dim=1), (~start.fixed_BL).to(self.device)
        self.all = State(ids_BS, prompts.attend(self.length), open_BL, step_BL, logp_BL)
        self.alive = torch.arange(len(prompts))
        self.live = self.all.rows(self.there(self.alive))
        self.number_B = torch.zeros(len(prompts), dtype=torch.long)
        self.forwards = 0

    def there(self, tensor: Tensor) -> Tensor:
        """Returns a small tensor of the CPU on the device. Nothing waits for the copy."""
        return tensor.to(self.device, non_blocking=True)

    def uniform(self) -> Tensor | None:
        """Draws the uniforms of the next forward for all rows, on the CPU. Temperature 0 needs none."""
        if self.temperature == 0 or not len(self.alive):
            return None
        first, *later = self.number_B[self.alive].unique().tolist()
        uniform_BL = self.draws.uniform("tokens", first, self.length)
        for number in later:  # rows that waited for others are behind these
            ahead = self.number_B == number
            uniform_BL[ahead] = self.draws.select(ahead).uniform("tokens", number, self.length)
        return uniform_BL

    def draw(self, denoise: Denoiser, place_BW: Tensor, asked_BW: Tensor, count: int, uniform_BL: Tensor | None) -> Drawn:
        """Runs one forward and draws at the `count` asked places of the response, which are given row by row."""
        local_M = torch.nonzero_static(asked_BW.flatten(), size=count).squeeze(1)
        row_M, within_M = local_M // asked_BW.shape[1], place_BW.flatten()[local_M]
        place_M = row_M * self.length + within_M
        index_M = row_M * self.live.ids_BS.shape[1] + self.width + within_M
        uniform_M = None
        if uniform_BL is not None:
            uniform_M = self.there(uniform_BL[self.alive]).flatten()[place_M]
        self.forwards += 1
        drawn = draw(denoise, self.live.ids_BS, self.live.attend_BS, index_M, self.temperature, uniform_M)
        return Drawn(asked_BW, local_M, place_M, index_M, *drawn)

    def reveal(self, drawn: Drawn, count_B: Tensor, taking: Tensor | slice = slice(None)) -> None:
        """Reveals the `count` most confident draws of each row. taking: the rows that took part in the forward."""
        chosen_M = top_per_row(drawn.confidence_BW, drawn.asked_BW, count_B).flatten()[drawn.local_M]
        number_M = self.there(self.number_B[self.alive])[drawn.place_M // self.length]
        live = self.live
        live.ids_BS.view(-1)[drawn.index_M] = torch.where(chosen_M, drawn.token_M, self.denoise.mask_id)
        live.open_BL.view(-1)[drawn.place_M] = ~chosen_M
        live.step_BL.view(-1)[drawn.place_M] = torch.where(chosen_M, number_M, -1)
        live.logp_BL.view(-1)[drawn.place_M] = torch.where(chosen_M, log_confidence(drawn.confidence_M), 0.0)
        self.number_B[self.alive[taking]] += 1

    def ended(self, end: Tensor | int) -> Tensor:
        """Says which live rows hold an EOS in front of place `end`. What follows it is never read."""
        before_BL = torch.arange(self.length, device=self.device) < end
        return ((self.live.ids_BS[:, self.width :] == self.denoise.eos_id) & before_BL).any(dim=1)

    def leave(self, gone: Tensor, ended: Tensor) -> None:
        """Takes rows out of the batch. The open places of those that have ended become EOS. Both say so of each live row."""
        if not gone.any():
            return
        out, stay = (self.there(rows.nonzero().squeeze(1)) for rows in (gone, ~gone))
        left = self.live.rows(out)
        after_BL = left.open_BL & self.there(ended[gone])[:, None]
        response_BL = left.ids_BS[:, self.width :].masked_fill(after_BL, self.denoise.eos_id)
        ids_BS = torch.cat([left.ids_BS[:, : self.width], response_BL], dim=1)
        left = replace(left, ids_BS=ids_BS, open_BL=left.open_BL & ~after_BL)
        self.all = self.all.patched(self.there(self.alive[gone]), left)
        self.alive, self.live = self.alive[~gone], self.live.rows(stay)

    def fill(self) -> None:
        """Eq. 9: one forward commits every remaining mask by argmax, in all rows that have any."""
        self.alive = self.all.open_BL.any(dim=1).nonzero().squeeze(1).cpu()
        if not len(self.alive):
            return
        self.live, self.temperature = self.all.rows(self.there(self.alive)), 0.0
        open_BL, everywhere = self.live.open_BL, torch.arange(self.length, device=self.device)
        drawn = self.draw(self.denoise, everywhere.expand_as(open_BL), open_BL, int(open_BL.sum()), None)
        self.reveal(drawn, open_BL.sum(dim=1))
        everyone = torch.ones_like(self.alive, dtype=torch.bool)
        self.leave(everyone, ~everyone)

    def trajectory(self, start: Start, scheduled: bool) -> Trajectory:
        """Returns the record of the finished rollouts."""
        response_BL = self.all.ids_BS[:, self.width :]
        return Trajectory(
            prompts=self.prompts,
            response_BL=response_BL,
            fixed_BL=start.fixed_BL.to(self.device),
            until_eos_BL=until_eos(response_BL, self.denoise.eos_id),
            step_BL=self.all.step_BL,
            logp_BL=self.all.logp_BL,
            nfe=start.nfe,
            nfe_run=self.forwards,
            scheduled=scheduled,
        )


def by_schedule(canvas: Canvas, start: Start, cache: str) -> None:
    """Reveals as many tokens as the schedule says. All rows work on the same block.

    Rows and counts stay on the CPU, so that the loop waits for the device only once per block.
    """
    quota_BW = quotas(~start.fixed_BL, [(w.begin, w.end) for w in start.windows], start.keep)
    for w, window in enumerate(start.windows):
        span = slice(window.begin, window.end)
        quota_B = quota_BW[canvas.alive, w]
        masks = int((~start.fixed_BL[canvas.alive, span]).sum())
        place_W = torch.arange(window.begin, window.end, device=canvas.device)
        block = block_of(canvas, window.begin, window.end, cache)
        for s in range(window.forwards):
            count_B = quota_B // window.forwards + (s < quota_B % window.forwards)
            asked_BW = canvas.live.open_BL[:, span]
            drawn = canvas.draw(block, place_W.expand_as(asked_BW), asked_BW, masks, canvas.uniform())
            canvas.reveal(drawn, canvas.there(count_B))
            masks -= int(count_B.sum())
        ended = (canvas.ended(window.end) & ~canvas.live.open_BL[:, : window.end].any(dim=1)).cpu()
        canvas.leave(ended, ended)
        if not len(canvas.alive):
            return
    canvas.leave(torch.ones_like(canvas.alive, dtype=torch.bool), torch.zeros_like(canvas.alive, dtype=torch.bool))


@dataclass(frozen=True)
class Threshold:
    """Commits every draw of at least confidence `tau`, and never fewer than the `floor` most confident (Fast-dLLM's rule).

    Each row goes through its blocks at its own pace. With kept keys and values (`cache`) the rows share a block, and those that
    have finished it stay in the forward until the others have.
    """

    tau: float
    floor: int
    block_length: int
    cache: str

    def __call__(self, canvas: Canvas, keep: int) -> None:
        """Denoises until every row has left: after an EOS in its finished blocks, or with at most `keep` masks.

        How many places each row asks for next is known on the device alone, so the host waits for that once per forward. In
        the meantime it draws the next uniforms, and the device computes.
        """
        W, L, cached = self.block_length, canvas.length, self.cache != "none"
        for end in range(W, L + 1, W) if cached else [L]:
            block = block_of(canvas, end - W, end, self.cache)
            while True:
                told = later(self.left(canvas, end, keep))
                uniform_BL = canvas.uniform()
                left_B = told()
                if not cached or not (left_B > 0).any():  # kept keys and values have a row for each row of the block
                    canvas.leave(left_B < 0, left_B == ENDED)
                    left_B = left_B[left_B >= 0]
                taking = left_B > 0
                if not taking.any():
                    break
                begin_B, _ = self.active(canvas, end)
                place_BW = begin_B[:, None] + torch.arange(W, device=canvas.device)
                asked_BW = canvas.live.open_BL.gather(1, place_BW) & canvas.there(taking)[:, None]
                drawn = canvas.draw(block, place_BW, asked_BW, int(left_B[taking].sum()), uniform_BL)
                sure_B = (drawn.confidence_BW >= self.tau).sum(dim=1)
                canvas.reveal(drawn, sure_B.clamp(min=self.floor).minimum(asked_BW.sum(dim=1)), taking)

    def active(self, canvas: Canvas, end: int) -> tuple[Tensor, Tensor]:
        """Returns where each row's first block with open places begins, and how many it has; (0, 0) if it has none before
        `end`."""
        open_BN = canvas.live.open_BL[:, :end].unflatten(1, (-1, self.block_length)).sum(dim=2)
        block_B = (open_BN > 0).int().argmax(dim=1)
        return block_B * self.block_length, open_BN.gather(1, block_B[:, None]).squeeze(1)

    def left(self, canvas: Canvas, end: int, keep: int) -> Tensor:
        """Returns how many places each row asks for next. 0 is a row that waits for others; ENDED or FULL, one that leaves."""
        begin_B, open_B = self.active(canvas, end)
        ended_B = canvas.ended(torch.where(open_B > 0, begin_B, end)[:, None])
        full_B = canvas.live.open_BL.sum(dim=1) <= keep
        return open_B.masked_fill(full_B, FULL).masked_fill(ended_B, ENDED)


def block_of(canvas: Canvas, begin: int, end: int, cache: str) -> Denoiser:
    """Returns the denoiser for the draws of one block, which keeps keys and values if there is a cache."""
    if cache == "none":
        return canvas.denoise
    return within(canvas.denoise, canvas.width + begin, canvas.width + (end if cache == "dual" else canvas.length))


def later(tensor: Tensor) -> Callable[[], Tensor]:
    """Starts to copy a small tensor to the host. Returns a function that waits for the copy."""
    if not tensor.is_cuda:
        return lambda: tensor
    copy, copied = tensor.to("cpu", non_blocking=True), torch.cuda.Event()
    copied.record()

    def wait() -> Tensor:
        copied.synchronize()
        return copy

    return wait
