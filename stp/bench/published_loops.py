"""The baseline of `stp.bench`: the published loops as their papers describe them, written plainly. Nothing else runs them.

They waste work on purpose. Every denoising forward takes logits, noise and a softmax over the whole vocabulary at every
position, although only the active block can change, and picks tokens row by row. Every inner update scores theta_old and the
reference on masks of its own, and all groups are trained. The results equal those of the package: tests compare them.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from stp.diffusion import Denoiser, until_eos
from stp.estimators.base import score
from stp.roles import Learner
from stp.samplers import Standard
from stp.types import Prompts, Rollout, Trajectory


@torch.no_grad()
def sample(policy: Denoiser, prompts: Prompts, sampler: Standard, generator: torch.Generator | None = None) -> Trajectory:
    """Samples by low-confidence remasking in semi-autoregressive blocks: one completion per prompt row, with the lengths, steps
    and temperature of `sampler`.

    The number of blocks must divide the steps. Noise comes from `generator`, on the policy's device.
    """
    rows, start = prompts.ids_BP.shape
    length, steps, block_length, temperature = sampler.length, sampler.steps, sampler.block_length, sampler.temperature
    mask_BL = prompts.ids_BP.new_full((rows, length), policy.mask_id)
    ids_BS, attend_BS = torch.cat([prompts.ids_BP, mask_BL], dim=1), prompts.attend(length)
    everywhere = torch.arange(ids_BS.numel(), device=ids_BS.device)
    forwards = steps // (length // block_length)
    for end in range(start + block_length, start + length + 1, block_length):
        for s in range(forwards):
            logits_BSV = policy(ids_BS, attend_BS, everywhere).float().view(*ids_BS.shape, -1)
            logits_BSV[..., policy.mask_id] = -torch.inf
            noisy_BSV = logits_BSV
            if temperature > 0:
                noise_BSV = torch.rand(logits_BSV.shape, generator=generator, device=logits_BSV.device)
                noisy_BSV = logits_BSV.exp() / (-noise_BSV.log()) ** temperature
            token_BS = noisy_BSV.argmax(dim=-1)
            confidence_BS = logits_BSV.softmax(dim=-1).gather(-1, token_BS[..., None]).squeeze(-1)
            masked_BS = ids_BS == policy.mask_id
            confidence_BS = torch.where(masked_BS, confidence_BS, -torch.inf)
            confidence_BS[:, end:] = -torch.inf
            count = block_length // forwards + (s < block_length % forwards)
            for b in range(rows):
                chosen = confidence_BS[b].topk(count).indices
                ids_BS[b, chosen] = token_BS[b, chosen]
            if ids_BS.is_cuda:
                torch.cuda.empty_cache()
    response_BL = ids_BS[:, start:]
    fixed_BL = torch.zeros_like(response_BL, dtype=torch.bool)
    done = Trajectory.given(prompts, response_BL, fixed_BL, until_eos(response_BL, policy.eos_id))
    return replace(done, nfe=steps, nfe_run=steps)  # the loop keeps no record of what it revealed when


class Everywhere:
    """A denoiser that computes the whole vocabulary's log-probabilities at every position, and then picks those asked for."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.mask_id, self.eos_id = inner, inner.mask_id, inner.eos_id

    def __call__(self, ids_BS: Tensor, attend_BS: Tensor | None, index_M: Tensor, target_M: Tensor | None = None) -> Tensor:
        assert target_M is not None
        logits_XV = self.inner(ids_BS, attend_BS, torch.arange(ids_BS.numel()))
        return logits_XV.float().log_softmax(dim=1)[index_M.to(logits_XV.device), target_M.to(logits_XV.device)]


def update(learner: Learner, rollout: Rollout) -> list[float]:
    """Makes mu optimizer updates on one rollout, each on masks of its own. Returns the loss of each inner update."""
    engine, estimator, objective, reference = learner.engine, learner.estimator, learner.objective, learner.reference
    inner_updates, micro_batch = learner.trainer.inner_updates, learner.trainer.micro_batch
    trajectory, draws = rollout.trajectory, rollout.draws
    trainable_BL = trajectory.trainable_BL
    weight_BL = objective.token_weights(trainable_BL, draws.batch, int(trainable_BL.sum()))
    noises = [estimator.draw(trajectory, draws, step=i) for i in range(inner_updates)]
    olds = [score(Everywhere(engine.policy), estimator, trajectory, noise, micro_batch) for noise in noises]
    references = [
        None if reference is None else score(Everywhere(reference), estimator, trajectory, n, micro_batch) for n in noises
    ]
    losses = []
    for noise, old, base in zip(noises, olds, references, strict=True):
        parts = torch.arange(len(trainable_BL)).split(micro_batch)
        losses.append(0.0)
        for part in parts:
            new = estimator(Everywhere(engine), trajectory.rows(part), noise.rows(part))
            device = new.token_BL.device
            kept = None if base is None else base.rows(part).to(device)
            advantage_B, weight = rollout.advantage_B[part].to(device), weight_BL[part].to(device)
            loss = objective(new, old.rows(part).to(device), kept, advantage_B, weight)
            engine.backward(loss.value, last=part is parts[-1])
            losses[-1] += float(loss.value)
        engine.step()
    return losses
