"""Rolls out this rank's share of a global batch, a few rows at a time."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from stp.diffusion import Denoiser
from stp.samplers.reveal import Start
from stp.samplers.standard import Standard
from stp.types import Batch, Prompts, Trajectory

ALL = slice(None)


def generate(
    denoise: Denoiser,
    sampler: Standard,
    batch: Batch,
    rows: int,
    local: slice | Tensor = ALL,
    advance: Callable[[int], None] = lambda n: None,
) -> Trajectory:
    """Rolls out the `local` rows of a global batch, `rows` at a time, and returns them on the CPU in their own order.

    Prompts of similar width share a forward, which leaves little padding. This changes no row's draws, because they do not
    depend on the other rows of a forward. advance: called after each part with its number of rows.
    """
    start, device = begin(sampler, batch), getattr(denoise, "device", "cpu")
    mine = torch.arange(len(batch.prompts))[local]
    mine = mine[batch.prompts.rows(mine).by_width()]
    parts = []
    for part in mine.split(rows):
        prompts = batch.prompts.rows(part)
        trajectory = sampler.run(denoise, prompts.trimmed().to(device), start.rows(part), batch.draws.select(part))
        parts.append(replace(trajectory.to("cpu"), prompts=prompts))
        advance(len(part))
    return concatenate(parts).rows(mine.argsort())


def begin(sampler: Standard, batch: Batch) -> Start:
    """Returns where the rows of a global batch begin: where the sampler says, or with the hinted tokens of their anchors."""
    if batch.hinted_BL is None or batch.anchors is None:
        return sampler.start(batch.anchors, batch.draws)
    return sampler.starting(batch.anchors.tokens_BL, batch.hinted_BL)


def concatenate(parts: list[Trajectory]) -> Trajectory:
    """Joins trajectory records with the same prompt width into one."""
    first = parts[0].prompts.real_BP
    real_BP = None if first is None else torch.cat([p.prompts.real_BP for p in parts])  # type: ignore[misc]
    joined = {name: torch.cat([part.tensors[name] for part in parts]) for name in parts[0].tensors}
    prompts = Prompts(torch.cat([p.prompts.ids_BP for p in parts]), real_BP)
    return replace(parts[0], prompts=prompts, nfe_run=max(p.nfe_run for p in parts), **joined)  # type: ignore[arg-type]
