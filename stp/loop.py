"""The training loop, top to bottom: generate, score, update, log."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from stp.batches import Batches, MicroBatch, Scored, assemble, micro_batches, score_rows
from stp.diffusion import Denoiser
from stp.estimators.base import score, share, together
from stp.metrics import confidence_stats, elbo_stats, rollout_stats, sample_records, spent
from stp.objectives.base import Loss, by_token
from stp.probe import probe
from stp.ranks import Ranks
from stp.roles import Actor, Learner, Policy, Run, Unlogged
from stp.samplers.generate import generate
from stp.types import Anchors, Batch, Draws, LogProbs, Noise, Prompts, Question, Rollout, Trajectory


def train(actor: Actor, learner: Learner, run: Run, seed: int | str, done: int = 0, unlogged: Unlogged | None = None) -> None:
    """Runs the updates that remain of `trainer.updates` after the first `done`: generate, score, update, log.

    unlogged: the last finished update, if a resumed run still has to evaluate and log it.
    """
    trainer, guard, problems = learner.trainer, run.guard, actor.problems
    batch = trainer.prompts_per_update * trainer.group_size
    before = spent(run.clock, run.ranks)
    with run.tracker.progress() as progress:
        bar = progress.add_task("training", total=trainer.updates, completed=done, note="")
        if unlogged is not None:
            _, before = log(unlogged, batch, run)
        for number in range(done, trainer.updates):
            draws = Draws(seed, batch, number)
            chosen = [problems[i] for i in prompt_order(len(problems), trainer.prompts_per_update, number, seed)]
            rolled = rollout(actor, learner, chosen, draws, run)
            actor.visits.add(rolled.first, run.ranks)
            stats = update(learner, rolled, run)
            sure, calibration = confidence_stats(rolled.first, actor.sampler.threshold, run.ranks)
            metrics = {"update": number + 1, **rollout_stats(rolled, trainer.group_size, run.ranks), **sure, **stats}
            metrics |= guard.watch(metrics)
            if trainer.probe_every and number % trainer.probe_every == 0:
                with run.clock.phase("probe"):
                    metrics |= probe(learner, rolled, run)
            run.tracker.append("samples", sample_records(rolled, run.tracker.samples))
            run.tracker.append("calibration", calibration)
            complete: Unlogged = {"metrics": metrics, "before": before}
            run.complete(complete)
            metrics, before = log(complete, batch, run)
            guard.stop_if_diverged()
            progress.update(bar, advance=1, note=note(metrics, guard.alarms))


def rollout(actor: Actor, learner: Learner, problems: list[Question], draws: Draws, run: Run) -> Rollout:
    """Makes and rewards this rank's share of an update's completions, G for each problem; the rescue may replace some.

    A group stays whole: a rank holds consecutive prompts, each with all its completions.
    """
    repeated = [problem for problem in problems for _ in range(learner.trainer.group_size)]
    takes = Takes(actor, learner, repeated, draws, run.ranks)
    with run.clock.phase("sample"), takes.generation() as policy:
        trajectory = takes.completed(policy, takes.mine, draws)
    with run.clock.phase("reward"):
        rolled = takes.rewarded(trajectory, takes.mine)
    with run.clock.phase("rescue"):
        rolled = actor.rescue(rolled, takes)
    log_ratio_B = None
    if learner.objective.tilts_reference:
        with run.clock.phase("score"):
            log_ratio_B = reference_log_ratio(learner, rolled, run.ranks)
    return replace(rolled, advantage_B=learner.objective.advantages(rolled.reward_B, takes.group_size, log_ratio_B))


@dataclass(frozen=True)
class Takes:
    """Rollouts of an update's prompts: the first one, and what a rescue rolls out again (see `stp.rescue.Retake`).

    repeated: the problem of each row of the global batch. draws: the draws of the first rollout.
    """

    actor: Actor
    learner: Learner
    repeated: list[Question]
    draws: Draws
    ranks: Ranks

    @property
    def group_size(self) -> int:
        return self.learner.trainer.group_size

    @cached_property
    def mine(self) -> Tensor:
        """The rows of the global batch that belong to this rank."""
        return torch.arange(len(self.repeated))[self.ranks.share(len(self.repeated))]

    @cached_property
    def prompts(self) -> Prompts:
        """The prompts of the global batch."""
        return self.actor.codec.prompts(self.repeated)

    @property
    def keys(self) -> list[str]:
        """The names of the anchors of the global batch."""
        return [problem.key for problem in self.repeated]

    def anchors(self, draws: Draws) -> Anchors | None:
        """Returns the anchors from which the sampler starts."""
        return self.actor.visits.onto(self.actor.sampler.anchors_from(self.actor.static, self.keys, draws), self.keys)

    def solutions(self) -> Anchors:
        assert self.actor.solutions is not None
        return self.actor.solutions.anchors(self.keys, "first", self.draws)

    def generation(self) -> AbstractContextManager[Policy]:
        return self.learner.engine.generation()

    def roll(self, policy: Denoiser, rows_R: Tensor, draws: Draws, hinted_BL: Tensor | None = None) -> Rollout:
        return self.rewarded(self.completed(policy, self.mine[rows_R], draws, hinted_BL), self.mine[rows_R])

    def completed(self, policy: Denoiser, rows_R: Tensor, draws: Draws, hinted_BL: Tensor | None = None) -> Trajectory:
        """Rolls out these rows of the global batch: from the sampler's start, or from hinted tokens of the solutions."""
        anchors = self.anchors(draws) if hinted_BL is None else self.solutions()
        batch = Batch(self.prompts, draws, anchors, hinted_BL)
        return generate(policy, self.actor.sampler, batch, self.learner.trainer.rollout_rows, rows_R)

    def rewarded(self, trajectory: Trajectory, rows_R: Tensor) -> Rollout:
        """Rewards the completions of these rows of the global batch. Their advantages are still to be found."""
        actor, problems = self.actor, [self.repeated[row] for row in rows_R.tolist()]
        completions = actor.codec.completions(trajectory)
        judged = [actor.task.judge(problem, text) for problem, text in zip(problems, completions, strict=True)]
        parts = [parts for parts, _ in judged]
        reward_B = torch.tensor([sum(p.values()) for p in parts])
        correct_B = torch.tensor([solved for _, solved in judged])
        anchors = self.anchors(self.draws)
        return Rollout(
            problems=problems,
            trajectory=trajectory,
            completions=completions,
            reward_parts=parts,
            reward_B=reward_B,
            advantage_B=torch.zeros_like(reward_B),
            anchored_B=torch.zeros_like(correct_B) if anchors is None else anchors.anchored_B[rows_R],
            correct_B=correct_B,
            draws=self.draws.select(rows_R),
            pruning=actor.sampler.pruning(anchors),
        )


def draw(learner: Learner, rollout: Rollout, step: int, ranks: Ranks) -> Noise:
    """Makes a set of draws for these rows, as many on every rank if they are scored apart.

    All ranks need equal passes (ZeRO-3 gathers weights in each), and an estimator's number of draws may depend on its rows.
    """
    noise = learner.estimator.draw(rollout.trajectory, rollout.draws, step, learner.engine.policy)
    return noise.padded(int(ranks.largest(noise.weight_BK.shape[1]))) if learner.trainer.micro_draws else noise


def reference_log_ratio(learner: Learner, rollout: Rollout, ranks: Ranks) -> Tensor:
    """Returns log p_reference - log p_old of each whole completion, on masks of their own, which no inner update has."""
    trainer, estimator, policy = learner.trainer, learner.estimator, learner.engine.policy
    noise = draw(learner, rollout, trainer.inner_updates, ranks)
    assert learner.reference is not None
    reference, old = (
        score(denoise, estimator, rollout.trajectory, noise, trainer.micro_batch, trainer.micro_draws).token_BL.sum(dim=1)
        for denoise in (learner.reference, policy)
    )
    return reference - old


def update(learner: Learner, rollout: Rollout, run: Run) -> dict[str, float]:
    """Makes mu optimizer updates on one rollout (Eq. 1). theta, theta_old and the reference share their masks.

    If anything is NaN or infinite on any rank, all ranks skip this inner update and the rest of them, and the guard keeps
    the batch.
    """
    trainer = learner.trainer
    batches = Batches.of(rollout, learner.objective, trainer.micro_batch, run.ranks)
    with run.clock.phase("score"):
        sets = score_mask_sets(learner, rollout, batches)
    skipped = 0
    for inner in range(trainer.inner_updates):
        masks = sets[inner % len(sets)]
        with run.clock.phase("update"):
            step = inner_update(learner, rollout, batches, masks, inner)
        if not step.applied:
            skipped = trainer.inner_updates - inner
            run.guard.keep(rollout.draws.update + 1, rollout, inner, step.not_finite(run.ranks), step.tensors())
            break
    drawn = step.drawn() if inner == trainer.inner_updates - 1 else []
    variance = elbo_stats(learner.estimator, sets[-1].old, rollout.trajectory.trainable_BL, drawn, run.ranks)
    return step.metrics(run.ranks) | {"guard/skipped": skipped} | variance


def inner_update(learner: Learner, rollout: Rollout, batches: Batches, masks: "MaskSet", inner: int) -> "Step":
    """Runs forward, loss and backward for each micro-batch, or each part of its draws, then one step of the optimizer."""
    engine, trajectory, step = learner.engine, rollout.trajectory, Step(rollout, masks)
    advantage = rollout.advantage_B
    if learner.objective.weighs_rows and inner:  # before the first, theta is theta_old and every weight is 1
        advantage = weighed(learner, rollout, batches.ranks, masks)
    engine.policy.train()
    for j, part in enumerate(batches.parts):
        rows, found = part.rows, []
        noises = masks.noise.rows(rows).split(learner.trainer.micro_draws * learner.estimator.copies_per_draw)
        for d, noise in enumerate(noises):
            with keyed_dropout(engine.policy, rollout.draws, f"dropout/{inner}" + f"/{d}" * (d > 0), rows):
                found.append(learner.estimator(engine, trajectory.rows(rows), noise))
            new, found[d] = share(found[d], noise, noises), found[d].detach()
            device = new.token_BL.device
            old, reference = masks.against(part, new)
            weight_BL = batches.weight_BL[rows] * part.live
            loss = learner.objective(new, old, reference, advantage[rows].to(device), weight_BL.to(device))
            last = j == len(batches.parts) - 1 and d == len(noises) - 1
            engine.backward(step.checked(new, loss, 1 / len(noises)) * batches.ranks.count, last=last)
        step.keep(part, together(found, noises))
    step.norm, step.lr = engine.step()
    engine.policy.eval()
    masks.settle(step.new)
    return step


def weighed(learner: Learner, rollout: Rollout, ranks: Ranks, masks: "MaskSet") -> Tensor:
    """Returns the advantages times the weights that the objective gives to rows now that theta has moved."""
    trainer, trajectory = learner.trainer, rollout.trajectory
    at_once = (trainer.micro_batch, trainer.micro_draws)
    assert masks.old is not None
    new = score(learner.engine.policy, learner.estimator, trajectory, masks.noise, *at_once)
    n_B = trajectory.trainable_BL.sum(dim=1).clamp(min=1)
    log_ratio_B = (new.token_BL - masks.old.token_BL).sum(dim=1) / n_B
    weight_B = learner.objective.row_weights(log_ratio_B, trainer.group_size, ranks)
    return by_token(rollout.advantage_B) * weight_B[:, None]


class MaskSet:
    """One set of Monte Carlo masks, with the log-likelihoods that theta_old and the reference have on it (on the CPU).

    If `old` is left to the first inner update, which computes it anyway, `found` holds the rows that do not learn.
    """

    def __init__(self, noise: Noise, old: LogProbs | None, reference: LogProbs | None, found: Scored | None = None) -> None:
        self.noise, self.old, self.reference, self.found = noise, old, reference, found

    def against(self, part: MicroBatch, new: LogProbs) -> tuple[LogProbs | None, LogProbs | None]:
        """Returns theta_old's and the reference's log-likelihoods of these rows, with which theta's are compared."""
        device = new.token_BL.device
        old, reference = (None if k is None else k.rows(part.rows).to(device) for k in (self.old, self.reference))
        if self.found is not None:  # nothing has moved yet: theta_old is theta itself
            old = new.detach()
        return old, reference

    def settle(self, learnt: Scored) -> None:
        """Completes theta_old's log-likelihoods by those of the first inner update, after which theta has moved."""
        if self.found is not None:
            self.old, self.found = assemble(self.found + learnt, self.noise), None


def score_mask_sets(learner: Learner, rollout: Rollout, batches: Batches) -> list[MaskSet]:
    """Draws the masks of the update and scores them under theta_old and the reference: one set, or one per inner update.

    The first inner update computes theta_old's log-likelihoods on the first set, so they are not computed twice (unless
    dropout is on). Rows that do not learn are then scored here, for the ELBO's statistics alone.
    """
    engine, estimator, objective, trainer = learner.engine, learner.estimator, learner.objective, learner.trainer
    trajectory, size, draws = rollout.trajectory, trainer.micro_batch, trainer.micro_draws
    count = trainer.inner_updates if trainer.fresh_masks and estimator.varies else 1
    sets = []
    for i in range(count):
        noise = draw(learner, rollout, i, batches.ranks)
        old = reference = found = None
        if objective.needs_old and i == 0 and not engine.policy.dropout:
            idle = micro_batches(batches.idle_R, size, batches.ranks) if count == 1 else []
            found = score_rows(engine.policy, estimator, trajectory, noise, idle, draws)
        elif objective.needs_old:
            old = score(engine.policy, estimator, trajectory, noise, size, draws)
        if objective.needs_reference and learner.reference is not None:
            learning = micro_batches(batches.learning_R, size, batches.ranks)
            reference = assemble(score_rows(learner.reference, estimator, trajectory, noise, learning, draws), noise)
        sets.append(MaskSet(noise, old, reference, found))
    return sets


class Step:
    """Collects what an inner update tells: the sums of its statistics, theta's log-likelihoods, and what is not finite."""

    def __init__(self, rollout: Rollout, masks: MaskSet) -> None:
        self.masks, self.norm, self.lr = masks, math.nan, math.nan
        self.sums: dict[str, Tensor] = {}
        self.new: Scored = []  # of the micro-batches that are not idle
        self.bad = {"reward": _bad(rollout.reward_B)}
        for name, known in (("old", masks.old), ("reference", masks.reference)):
            self.bad[name] = torch.zeros(()) if known is None else _bad(known.token_BL)

    def checked(self, new: LogProbs, loss: Loss, fraction: float) -> Tensor:
        """Returns the loss of a micro-batch, or of this fraction of the passes over its draws; NaN if any value is not finite.

        A NaN loss makes every gradient NaN on every rank, and the engine then applies none: no rank has to ask the others.
        """
        for name, value in (("new", new.token_BL), ("loss", loss.value)):
            self.bad[name] = self.bad.get(name, 0.0) + _bad(value)
        stats = loss.stats | {"count": loss.stats["count"] * fraction}  # each pass counts the same tokens
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in stats.items()}
        wrong = torch.stack([value.to(loss.value.device) for value in self.bad.values()]).sum() > 0
        return loss.value * torch.ones_like(loss.value).masked_fill(wrong, torch.nan)

    def keep(self, part: MicroBatch, new: LogProbs) -> None:
        """Keeps theta's log-likelihoods of a micro-batch, unless it is idle."""
        self.new += [(part.rows, new)] if part.live else []

    @property
    def applied(self) -> bool:
        """Whether the optimizer took the step."""
        return not math.isnan(self.norm)

    def drawn(self) -> list[tuple[Tensor, Tensor]]:
        """Returns (rows, draw_BK) of theta for each live micro-batch, on the CPU."""
        return [(rows, new.draw_BK.cpu()) for rows, new in self.new]

    def metrics(self, ranks: Ranks) -> dict[str, float]:
        """Returns the loss, the gradient's norm, the learning rate, and means over the tokens (or completions) of all ranks."""
        sums = ranks.sum({name: float(value) for name, value in self.sums.items()})
        scored = max(sums.pop("count"), 1.0)
        return {"loss": sums.pop("loss"), "grad_norm": self.norm, "lr": self.lr, **{k: v / scored for k, v in sums.items()}}

    def not_finite(self, ranks: Ranks) -> dict[str, float]:
        """Counts, for each value, in how many micro-batches of all ranks it was not finite."""
        return ranks.sum({name: float(value) for name, value in self.bad.items()})

    def tensors(self) -> dict[str, Tensor]:
        """Returns this rank's tensors of a step that was not applied."""
        known = {"old_BL": self.masks.old, "reference_BL": self.masks.reference}
        tensors = {name: kept.token_BL for name, kept in known.items() if kept is not None}
        rows_R = torch.cat([torch.zeros(0, dtype=torch.long), *(rows for rows, _ in self.new)])
        new_BL = assemble(self.new, self.masks.noise).token_BL[rows_R]
        return tensors | {"masked_BKL": self.masks.noise.masked_BKL, "new_rows": rows_R, "new_BL": new_BL}


def _bad(value: Tensor) -> Tensor:
    """Returns 1.0 if anything in a value is not finite. The result stays on the device, so nothing waits for it."""
    return (~value.isfinite()).any().float()


@contextmanager
def keyed_dropout(policy: Policy, draws: Draws, purpose: str, rows: Tensor) -> Iterator[None]:
    """Makes LoRA's dropout in a forward depend only on the key and the first row. The global generator stays as it was."""
    if not policy.dropout:
        yield
        return
    first = int(rows[0] if draws.rows is None else draws.rows[rows[0]])
    with torch.random.fork_rng(devices=[policy.device] if policy.device.type == "cuda" else []):
        torch.manual_seed(draws.generator(f"{purpose}/{first}").initial_seed())
        yield


def prompt_order(problems: int, count: int, update: int, seed: int | str) -> list[int]:
    """Returns the indices of an update's prompts. Each epoch has its own shuffle, which depends on (seed, epoch) alone."""
    places = [divmod(place, problems) for place in range(update * count, (update + 1) * count)]
    shuffled = {
        epoch: torch.randperm(problems, generator=Draws(seed, 0).generator("prompts", epoch))
        for epoch in {epoch for epoch, _ in places}
    }
    return [int(shuffled[epoch][i]) for epoch, i in places]


def log(unlogged: Unlogged, batch: int, run: Run) -> tuple[dict[str, Any], dict[str, float]]:
    """Evaluates if it is due, adds the update's seconds, and records the update. Returns its metrics and the seconds so far."""
    metrics = unlogged["metrics"] | run.evaluate(unlogged["metrics"]["update"])
    seconds = spent(run.clock, run.ranks)
    metrics |= {f"time/{name}": total - unlogged["before"].get(name, 0.0) for name, total in seconds.items()}
    metrics["time/tokens_per_s"] = metrics["completion/length"] * batch / max(metrics.get("time/sample", 0.0), 1e-9)
    run.tracker.log(metrics)
    return metrics, seconds


def note(metrics: dict[str, Any], alarms: dict[str, str]) -> str:
    """Returns what the progress display shows of an update."""
    shown = {"reward": metrics["reward/mean"], "kl": metrics.get("kl"), "loss": metrics["loss"]}
    parts = [f"{name} {value:.3f}" for name, value in shown.items() if value is not None]
    speed = [f"{metrics['nfe']:.0f} forwards", f"{metrics['time/tokens_per_s']:.0f} tok/s"]
    return "  ".join([*parts, *speed, *alarms.values()])
