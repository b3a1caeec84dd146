"""How far each estimator is from the exact likelihood, at an equal number of forwards: bias, variance and gradients."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from stp.anchors.dataset import scored
from stp.estimators import Causal, Coupled, Elbo, Estimator, OneStep, Spg, Trace, Unigrpo
from stp.models.codec import Codec
from stp.models.options import Model
from stp.models.policy import Policy, load_policy
from stp.objectives import Grpo, PolicyGradient
from stp.samplers import Standard, Stp
from stp.samplers.generate import generate
from stp.tasks import Countdown, Gsm8k, Math
from stp.theory.measuring import TINY, Rows, interval, one_step
from stp.types import Anchors, Batch, Draws, LogProbs, Trajectory

BASES = {"countdown": Countdown, "gsm8k": Gsm8k, "math": Math}
GAMMA = 0.1  # the fraction of L that is fixed where tokens are fixed
GROUP = 4  # completions per prompt


def candidates(forwards: int) -> dict[str, Estimator]:
    """Returns every estimator with as many draws as `forwards` masked copies of a completion allow. One-step needs only one."""
    return {
        "elbo": Elbo(samples=forwards),
        "elbo, stratified times": Elbo(samples=forwards, times="stratified"),
        "elbo, Gauss times": Elbo(samples=forwards, times="gauss"),
        "elbo, Bernoulli masks, t_min .05": Elbo(samples=forwards, masks="bernoulli", t_min=0.05),
        "elbo, no weight": Elbo(samples=forwards, weight="none"),
        "coupled": Coupled(samples=forwards // 2),
        "coupled, as released": Coupled(samples=forwards // 3, full=True, t_range=[0.2, 0.8]),
        "unigrpo": Unigrpo(samples=forwards),
        "spg": Spg(samples=forwards, block_length=TINY["block_length"]),
        "one_step": OneStep(),
        "one_step, prompt masks": OneStep(samples=forwards, p_mask=0.15),
        "trace, groups": Trace(groups=forwards),
        "trace, surprise": Trace(groups=0, pick="surprise", samples=forwards),
        "trace, uniform = causal": Causal(samples=forwards),
    }


@dataclass(frozen=True)
class Measured:
    """Rollouts from left to right, one token a forward, with the policies whose likelihoods are compared."""

    policy: Policy
    later: Policy
    trajectory: Trajectory
    advantage_B: Tensor
    draws: Draws


def left_to_right(base: str, rows: int, seed: int) -> Iterator[tuple[float, Measured]]:
    """Yields rollouts of a tiny base with block_length=1 and steps=L at T = 1, without and with fixed tokens.

    With fixed tokens they are the same rollouts, of which each row's most confident eligible tokens count as given: the
    likelihood is then that of the others given them. theta is theta_old after one GRPO step on the rollouts.
    """
    task, grpo = BASES[base](), Grpo(beta=0.0)
    policy, tokenizer = load_policy(Model(base=base), trainable=False)
    codec = Codec(tokenizer, "", 200)
    problems = [p for p in task.problems("train", -(-rows // GROUP)) for _ in range(GROUP)]
    draws, L = Draws(seed, len(problems)), TINY["length"]
    sampler = Standard(length=L, steps=L, block_length=1, temperature=1.0)
    trajectory = generate(policy, sampler, Batch(codec.prompts(problems), draws), rows=64)
    texts = codec.completions(trajectory)
    reward_B = torch.tensor([sum(task.reward_parts(p, text).values()) for p, text in zip(problems, texts, strict=True)])
    advantage_B = grpo.advantages(reward_B, GROUP)
    later = one_step(policy, trajectory, advantage_B, grpo, draws)
    confidence_BL = scored(policy, trajectory.prompts, trajectory.response_BL, rows=64)
    anchors = Anchors(trajectory.response_BL, codec.eligible(trajectory.response_BL), confidence_BL)
    for gamma in (0.0, GAMMA):
        fixed_BL = Stp(**TINY, gamma=gamma, t_cutoff=0.0).start(anchors, draws).fixed_BL
        step_BL = trajectory.step_BL.masked_fill(fixed_BL, -1)
        record = replace(trajectory, fixed_BL=fixed_BL, step_BL=step_BL)
        yield gamma, Measured(policy, later, record, advantage_B, draws)


def estimates(measured: Measured, estimator: Estimator, update: int, policies: tuple[Policy, ...]) -> list[LogProbs]:
    """Returns the log-likelihoods of all rows under several policies, on the same masks."""
    draws = replace(measured.draws, update=update)
    noise = estimator.draw(measured.trajectory, draws, denoise=measured.policy)
    parts = torch.arange(len(measured.advantage_B)).split(16)
    found = []
    with torch.no_grad():
        for policy in policies:
            each = [estimator(policy, measured.trajectory.rows(b), noise.rows(b)) for b in parts]
            found.append(LogProbs(torch.cat([e.token_BL for e in each]), torch.cat([e.draw_BK for e in each])))
    return found


def gradient(measured: Measured, estimator: Estimator, update: int) -> Tensor:
    """Returns the policy gradient of the rollouts at theta_old, flattened: where ratios are 1, every objective has this one."""
    policy, trajectory, advantage_B = measured.policy.requires_grad_(True), measured.trajectory, measured.advantage_B
    objective = PolicyGradient(scale="std", normalize="sequence")
    weight_BL = objective.token_weights(trajectory.trainable_BL, len(advantage_B), 0)
    noise = estimator.draw(trajectory, replace(measured.draws, update=update), denoise=policy)
    policy.zero_grad()
    for part in (advantage_B != 0).nonzero().squeeze(1).split(8):
        new = estimator(policy, trajectory.rows(part), noise.rows(part))
        objective(new, None, None, advantage_B[part], weight_BL[part]).value.backward()
    found = torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None]).double()
    policy.requires_grad_(False)
    return found


def compare(measured: Measured, forwards: int, repeats: int, name: str) -> Rows:
    """Measures every estimator on the same rollouts: B and Delta B against their exact values, and the policy gradient.

    Variances are those of a whole estimate, over repeats. `cosine` is the mean over single estimates of the gradient,
    `cosine_of_mean` that of their mean, from which the noise has gone in part.
    """
    exact = Causal(samples=measured.trajectory.response_BL.shape[1])
    policies = (measured.policy, measured.later)
    truth_B, moved_B = sums(estimates(measured, exact, 0, policies))
    slope_W = gradient(measured, exact, 0)
    cosine = torch.nn.functional.cosine_similarity
    rows: Rows = []
    for kind, estimator in track(candidates(forwards).items(), f"yardstick, {name}"):
        found_RB, delta_RB = (
            torch.stack(each)
            for each in zip(*(sums(estimates(measured, estimator, 1 + r, policies)) for r in range(repeats)), strict=True)
        )
        slope_RW = torch.stack([gradient(measured, estimator, 1 + r) for r in range(repeats)])
        row: dict[str, Any] = {"estimator": kind, "forwards": copies(measured, estimator)}
        for what, value_RB, true_B in (("", found_RB, truth_B), ("_delta", delta_RB, moved_B)):
            pair_B2 = torch.stack([value_RB.mean(dim=0), true_B], dim=1)
            row |= {
                f"bias{what}": interval("difference", pair_B2, measured.draws),
                f"V{what}": float(value_RB.var(dim=0).mean()),
            }
        row |= {"cosine": float(cosine(slope_RW, slope_W[None]).mean())}
        rows.append(row | {"cosine_of_mean": float(cosine(slope_RW.mean(dim=0), slope_W, dim=0))})
    return rows


def sums(found: list[LogProbs]) -> tuple[Tensor, Tensor]:
    """Returns each row's B under theta_old, and Delta B from there to theta."""
    old_B, new_B = (each.token_BL.sum(dim=1).double() for each in found)
    return old_B, new_B - old_B


def copies(measured: Measured, estimator: Estimator) -> float:
    """Returns the mean number of masked copies of a completion that are run: those that mask something."""
    noise = estimator.draw(measured.trajectory, measured.draws, denoise=measured.policy)
    return float(noise.masked_BKL.any(dim=2).sum(dim=1).double().mean())


def yardstick(bases: list[str], rows: int, forwards: int, repeats: int, seed: int) -> Rows:
    """Measures every estimator on the rollouts of every base, without and with fixed tokens."""
    table: Rows = []
    for base in bases:
        for gamma, measured in left_to_right(base, rows, seed):
            n = float(measured.trajectory.trainable_BL.sum(dim=1).double().mean())
            for row in compare(measured, forwards, repeats, f"{base}, gamma {gamma:g}"):
                table.append({"base": base, "gamma": gamma, "tokens": n, **row})
    return table


def figure(table: Rows, path: Path) -> None:
    """Draws each estimator's bias per token, its noise in Delta B, and its gradient's cosine, for every base."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(row["estimator"] for row in table))
    bases = list(dict.fromkeys(row["base"] for row in table))
    columns = {
        "bias of B, nats per token": lambda row: row["bias"][0] / row["tokens"],
        "standard deviation of ΔB": lambda row: row["V_delta"] ** 0.5,
        "cosine with the exact gradient": lambda row: row["cosine"],
    }
    drawn, panels = plt.subplots(1, 3, figsize=(12, 4.5), layout="constrained", sharey=True)
    for axes, (label, value) in zip(panels, columns.items(), strict=True):
        for row in table:
            i, fixed = bases.index(row["base"]), row["gamma"] > 0
            place = names.index(row["estimator"]) + 0.2 * (i - (len(bases) - 1) / 2)
            kind = f"{row['base']}, γ = {row['gamma']:g}" if row["estimator"] == names[0] else None
            axes.plot(
                value(row), place, "s" if fixed else "o", color=f"C{i}", fillstyle="none" if fixed else "full", label=kind
            )
        axes.set(xlabel=label, yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].axvline(0, color="black", linewidth=0.8)
    panels[1].legend(frameon=False, fontsize="small", loc="lower right")
    drawn.savefig(path, dpi=150)
    plt.close(drawn)
