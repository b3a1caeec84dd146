"""The training loop, top to bottom: generate, score, update, log."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypedDict

import torch
from torch import Tensor

from stp.anchors import StaticDataset
from stp.diffusion import Denoiser
from stp.errors import require, require_choice
from stp.estimators.base import Estimator, score
from stp.objectives import Objective
from stp.samplers import Standard, Stp
from stp.statistics import Totals, elbo_stats, peak_memory_mb, probe, rollout_stats, sample_records, spent
from stp.types import Draws, LogProbs, Noise, Prompts, Trajectory


@dataclass
class Trainer:
    """The loop's numbers. One update is one rollout of the global batch, followed by inner_updates optimizer updates."""

    updates: int = field(default=1000, metadata={"help": "rollouts, each followed by inner_updates optimizer updates"})
    inner_updates: int = field(default=4, metadata={"help": "mu, optimizer updates per rollout"})
    prompts_per_update: int = field(default=2, metadata={"help": "prompts per rollout, over all ranks"})
    group_size: int = field(default=6, metadata={"help": "G, completions per prompt"})
    fresh_masks: bool = field(
        default=False, metadata={"help": "draw new masks for each inner update (the paper) or share one set"}
    )
    rollout_rows: int = field(default=64, metadata={"help": "completions denoised at once per rank: bounds rollout memory"})
    micro_batch: int = field(
        default=8, metadata={"help": "completions per backward pass and rank (each with its K draws): bounds memory"}
    )
    eval_every: int = field(
        default=0, metadata={"help": "updates between evaluations; 0 evaluates at the start and the end only"}
    )
    eval_size: int = field(default=512, metadata={"help": "held-out problems per evaluation; 0 turns evaluation off"})
    eval_split: str = field(
        default="test", metadata={"help": "test | validation (for tuning, so that the test problems stay unseen)"}
    )
    eval_temperatures: list[float] = field(
        default_factory=lambda: [0.0],
        metadata={"help": "the first one gives summary.json's accuracy; others are reported beside it"},
    )
    checkpoint_every: int = field(default=0, metadata={"help": "updates between checkpoints; 0: only on a signal"})
    keep_checkpoints: int = field(default=2, metadata={"help": "newest checkpoints kept"})
    resume: str | None = field(
        default=None, metadata={"help": "a run folder to continue, or auto for the newest one of this run name"}
    )
    probe_every: int = field(default=0, metadata={"help": "updates between ELBO variance probes; 0 makes none"})
    probe_draws: int = field(default=16, metadata={"help": "Monte Carlo estimates per probed trajectory"})
    probe_rows: int = field(default=24, metadata={"help": "trajectories per probe, over all ranks and spread over the prompts"})

    def __post_init__(self) -> None:
        for name in (
            "updates",
            "inner_updates",
            "prompts_per_update",
            "rollout_rows",
            "micro_batch",
            "keep_checkpoints",
            "probe_rows",
        ):
            value = getattr(self, name)
            require(value >= 1, f"trainer.{name}", value, "choose at least 1")
        require(
            self.group_size >= 2, "trainer.group_size", self.group_size, "an advantage compares completions; choose at least 2"
        )
        require(self.probe_draws >= 2, "trainer.probe_draws", self.probe_draws, "a variance needs at least 2 estimates")
        for name in ("eval_every", "eval_size", "checkpoint_every", "probe_every"):
            value = getattr(self, name)
            require(value >= 0, f"trainer.{name}", value, "choose 0 (off) or more")
        require_choice("trainer.eval_split", self.eval_split, ("test", "validation"))
        require(
            bool(self.eval_temperatures), "trainer.eval_temperatures", self.eval_temperatures, "give at least one, say [0.0]"
        )
        for value in self.eval_temperatures:
            require(0 <= value <= 10, "trainer.eval_temperatures", value, "a temperature lies in [0, 10]")


class Unlogged(TypedDict):
    """An update that is complete but for its evaluation and its line in metrics.jsonl: what a checkpoint is written of.

    before: the clock's seconds by phase when it began.
    """

    metrics: dict[str, Any]
    before: dict[str, float]


@dataclass(frozen=True)
class Rollout:
    """This rank's share of a global batch (on the CPU). advantage_B is 0 throughout a group of equal rewards."""

    problems: list[Any]
    trajectory: Trajectory
    completions: list[str]
    reward_parts: list[dict[str, float]]
    reward_B: Tensor
    advantage_B: Tensor
    anchored_B: Tensor
    draws: Draws


def rank_share(rows: int, rank: int, ranks: int) -> slice:
    """The consecutive rows of a global batch that are this rank's; the shares cover it without overlap."""
    return slice(rank * rows // ranks, (rank + 1) * rows // ranks)


def prompt_order(problems: int, count: int, update: int, seed: int | str) -> list[int]:
    """Indices of an update's prompts: each epoch is a shuffle of its own, a function of (seed, epoch) alone."""
    places = [divmod(place, problems) for place in range(update * count, (update + 1) * count)]
    shuffled = {
        epoch: torch.randperm(problems, generator=Draws(seed, 0).generator("prompts", epoch))
        for epoch in {epoch for epoch, _ in places}
    }
    return [int(shuffled[epoch][i]) for epoch, i in places]


def generate(
    denoise: Denoiser,
    sampler: Standard,
    prompts: Prompts,
    draws: Draws,
    rows: int,
    anchors: Any = None,
    local: slice = slice(None),
    advance: Callable[[int], None] = lambda n: None,
    device: torch.device | str = "cpu",
) -> Trajectory:
    """Roll out `local` rows of a global batch, `rows` at a time; `prompts`, `draws` and `anchors` are the whole batch's.

    Prompts of like width share a forward, so that there is little padding: a row's draws do not depend on its company.
    """
    start = sampler.start(anchors, draws)
    mine = torch.arange(len(prompts))[local]
    mine = mine[prompts.rows(mine).by_width()]
    parts = []
    for part in mine.split(rows):
        trimmed = prompts.rows(part).trimmed().to(device)
        trajectory = sampler.run(denoise, trimmed, start.rows(part), draws.select(part)).to("cpu")
        parts.append(replace(trajectory, prompts=prompts.rows(part)))
        advance(len(part))
    return concatenate(parts).rows(mine.argsort())


def concatenate(parts: list[Trajectory]) -> Trajectory:
    """One trajectory record of several with the same prompt width."""
    first = parts[0].prompts.real_BP
    real_BP = None if first is None else torch.cat([p.prompts.real_BP for p in parts])  # type: ignore[misc]
    return Trajectory(
        prompts=Prompts(torch.cat([p.prompts.ids_BP for p in parts]), real_BP),
        response_BL=torch.cat([p.response_BL for p in parts]),
        fixed_BL=torch.cat([p.fixed_BL for p in parts]),
        until_eos_BL=torch.cat([p.until_eos_BL for p in parts]),
        nfe=parts[0].nfe,
        nfe_run=max(p.nfe_run for p in parts),
    )


def rollout(
    engine: Any,
    sampler: Standard,
    task: Any,
    codec: Any,
    problems: list[Any],
    static: StaticDataset | None,
    objective: Objective,
    trainer: Trainer,
    draws: Draws,
    shares: tuple[int, int],
    clock: Any,
) -> Rollout:
    """G completions for each problem of the update: this rank's share (`shares` is rank, ranks), rewarded.

    Groups stay whole: a rank holds consecutive prompts with all their completions.
    """
    G = trainer.group_size
    repeated = [problem for problem in problems for _ in range(G)]
    local = rank_share(len(repeated), *shares)
    with clock.phase("sample"):
        prompts = codec.prompts(repeated)
        anchors = None
        if static is not None and isinstance(sampler, Stp):
            anchors = static.anchors([p.key for p in repeated], sampler.choose, draws)
        with engine.generation() as policy:
            trajectory = generate(
                policy, sampler, prompts, draws, trainer.rollout_rows, anchors, local, device=engine.policy.device
            )
    with clock.phase("reward"):
        completions = codec.completions(trajectory)
        parts = [task.reward_parts(problem, text) for problem, text in zip(repeated[local], completions, strict=True)]
        reward_B = torch.tensor([sum(p.values()) for p in parts])
        return Rollout(
            problems=repeated[local],
            trajectory=trajectory,
            completions=completions,
            reward_parts=parts,
            reward_B=reward_B,
            advantage_B=objective.advantages(reward_B, G),
            anchored_B=torch.tensor([static is not None and problem.key in static.row_of for problem in repeated[local]]),
            draws=draws.select(torch.arange(len(repeated))[local]),
        )


def update(
    engine: Any,
    rollout: Rollout,
    estimator: Estimator,
    objective: Objective,
    trainer: Trainer,
    reference: Any,
    totals: Totals,
    clock: Any,
    keep: Callable[[int, dict[str, float], dict[str, Tensor]], None] = lambda inner, bad, tensors: None,
) -> dict[str, float]:
    """mu optimizer updates on one rollout (Eq. 1). theta, theta_old and the reference share their masks.

    theta_old on the first mask set is what the first inner update computes anyway, unless dropout is on there.
    `totals` sums over ranks. `reference` is a denoiser, or None when the objective reads none. Where a reward, a
    log-probability, the loss or the gradient is not finite, on any rank, none applies this inner update or those after it, and
    `keep` is called with its number, what was not finite (micro-batches, over all ranks) and this rank's tensors.
    """
    trajectory, draws = rollout.trajectory, rollout.draws
    trainable_BL = trajectory.trainable_BL
    rows, tokens = draws.batch, int(totals({"tokens": int(trainable_BL.sum())})["tokens"])
    weight_BL = objective.token_weights(trainable_BL, rows, tokens)
    learns_B = rollout.advantage_B != 0
    if objective.trains_equal:
        learns_B = torch.ones_like(learns_B)
    by_width = trajectory.prompts.by_width()
    learning, idle = by_width[learns_B[by_width]], by_width[~learns_B[by_width]]
    batches = micro_batches(learning, trainer.micro_batch, totals) or [IDLE]
    sets = trainer.inner_updates if trainer.fresh_masks and estimator.varies else 1
    first_is_old = objective.needs_old and not getattr(engine.policy, "dropout", 0.0)
    known: list[tuple[Tensor, LogProbs]] = []  # theta_old on the first mask set, some rows at a time

    def some(denoise: Denoiser, chosen: Tensor, noise: Noise) -> list[tuple[Tensor, LogProbs]]:
        """Log-likelihoods of the chosen rows without gradients: as many forwards on every rank."""
        parts = micro_batches(chosen, trainer.micro_batch, totals)
        found = [score(denoise, estimator, trajectory.rows(p), noise.rows(p), trainer.micro_batch) for p, _ in parts]
        return [(part, values) for (part, live), values in zip(parts, found, strict=True) if live]

    with clock.phase("score"):
        noises = [estimator.draw(trajectory, draws, step=i) for i in range(sets)]
        olds: list[LogProbs | None] = [None] * sets
        references: list[LogProbs] | list[None] = [None] * sets
        for i in range(1 if first_is_old else 0, sets if objective.needs_old else 0):
            olds[i] = score(engine.policy, estimator, trajectory, noises[i], trainer.micro_batch)
        if first_is_old and sets == 1:  # rows that are not trained, for the ELBO's statistics
            known += some(engine.policy, idle, noises[0])
        if reference is not None:
            references = [whole(some(reference, learning, noise), noise) for noise in noises]

    stats: dict[str, float] = {}
    skipped = 0
    draw_parts: list[tuple[Tensor, Tensor]] = []  # of the last inner update
    for inner in range(trainer.inner_updates):
        with clock.phase("update"):
            i = inner % sets
            sums: dict[str, Any] = {}
            new_parts: list[tuple[Tensor, Tensor]] = []
            bad: dict[str, Any] = {
                "reward": _bad(rollout.reward_B),
                "old": 0.0 if (kept := olds[i]) is None else _bad(kept.token_BL),
                "reference": 0.0 if (kept := references[i]) is None else _bad(kept.token_BL),
                "new": 0.0,
                "loss": 0.0,
            }
            engine.policy.train()
            for j, (part, live) in enumerate(batches):
                with keyed_dropout(engine.policy, draws, f"dropout/{inner}/{_first_row(draws, part)}"):
                    new = estimator(engine, trajectory.rows(part), noises[i].rows(part))
                device = new.token_BL.device
                old, base = (None if kept is None else kept.rows(part).to(device) for kept in (olds[i], references[i]))
                if first_is_old and inner == 0:
                    old = new.detach()
                    known += [(part, old)] if live else []
                loss = objective(
                    new, old, base, rollout.advantage_B[part].to(device), (weight_BL[part] * (1 if live else 0)).to(device)
                )
                bad["new"] = bad["new"] + _bad(new.token_BL)
                bad["loss"] = bad["loss"] + _bad(loss.value)
                # one bad value makes every gradient NaN, on every rank, and the engine applies none: no rank has to ask
                sound = torch.ones_like(loss.value).masked_fill(sum(bad.values()) > 0, torch.nan)
                engine.backward(loss.value * sound * totals.ranks, last=j == len(batches) - 1)
                new_parts.append((part, new.token_BL.detach()))
                sums = {name: sums.get(name, 0.0) + value for name, value in loss.stats.items()}
                if inner == trainer.inner_updates - 1 and live:
                    draw_parts.append((part, new.draw_BK.detach().cpu()))
            norm, lr = engine.step()
            engine.policy.eval()
            if first_is_old and sets == 1 and inner == 0:
                olds[0] = whole(known, noises[0])
            if math.isnan(norm):
                skipped = trainer.inner_updates - inner
                tensors = {"masked_BKL": noises[i].masked_BKL}
                tensors |= {
                    f"{name}_BL": kept.token_BL for name, kept in (("old", olds[i]), ("reference", references[i])) if kept
                }
                tensors |= {"new_rows": torch.cat([p for p, _ in new_parts]), "new_BL": torch.cat([t for _, t in new_parts])}
                keep(inner, totals({name: float(value) for name, value in bad.items()}), tensors)
            sums = totals({name: float(value) for name, value in sums.items()})
            scored = max(sums.pop("tokens"), 1.0)
            stats = {"loss": sums.pop("loss"), "grad_norm": norm, "lr": lr, **{k: v / scored for k, v in sums.items()}}
            if skipped:
                break

    return stats | {"guard/skipped": skipped} | elbo_stats(estimator, olds[-1], trainable_BL, draw_parts, totals)


def whole(found: list[tuple[Tensor, LogProbs]], noise: Noise) -> LogProbs:
    """One record (on the CPU) of the rows found, 0 in the others."""
    B, K, L = noise.masked_BKL.shape
    like = found[0][1] if found else LogProbs(torch.zeros(B, L), torch.zeros(B, K))
    kinds = (like.token_BL, like.draw_BK, like.upper_BL)
    record = LogProbs(*(None if t is None else torch.zeros(B, t.shape[1]) for t in kinds))  # type: ignore[arg-type]
    for part, values in found:
        for name, into in vars(record).items():
            if into is not None:
                into[part] = getattr(values, name).to("cpu")
    return record


def _bad(value: Tensor) -> Tensor:
    """1.0 if a value is not finite, on its device: nothing waits for it."""
    return (~value.isfinite()).any().float()


IDLE = (torch.zeros(1, dtype=torch.long), False)  # a micro-batch that counts nothing


def micro_batches(rows: Tensor, size: int, totals: Totals) -> list[tuple[Tensor, bool]]:
    """These rows in parts, with whether each counts: as many parts as on the rank that has the most (ZeRO-3 needs that)."""
    parts = [(part, True) for part in rows.split(size) if len(part)]
    return parts + [IDLE] * int(totals.largest(len(parts)) - len(parts))


def _first_row(draws: Draws, part: Tensor) -> int:
    """Global index of a micro-batch's first row."""
    return int(part[0] if draws.rows is None else draws.rows[part[0]])


@contextmanager
def keyed_dropout(policy: Any, draws: Draws, purpose: str) -> Iterator[None]:
    """Run a forward whose dropout (LoRA's) depends on the key alone, leaving the global generator as it was."""
    if not getattr(policy, "dropout", 0.0):
        yield
        return
    with torch.random.fork_rng(devices=[policy.device] if policy.device.type == "cuda" else []):
        torch.manual_seed(draws.generator(purpose).initial_seed())
        yield


def train(
    engine: Any,
    config: Any,
    task: Any,
    codec: Any,
    problems: list[Any],
    static: StaticDataset | None,
    reference: Any,
    tracker: Any,
    clock: Any,
    totals: Totals,
    rank: int,
    guard: Any,
    first_update: int = 0,
    unlogged: Unlogged | None = None,
    evaluate: Callable[[int], dict[str, float]] = lambda done: {},
    checkpoint: Callable[[Unlogged], None] = lambda done: None,
) -> None:
    """Updates `first_update` … `trainer.updates`: generate, score, update, log.

    `checkpoint` is called after each update, `evaluate` (with the number of updates done) thereafter, and they decide
    themselves whether it is their turn. unlogged: the last update, where a resumed run has yet to evaluate and log it.
    """
    trainer, sampler, estimator, objective = config.trainer, config.sampler, config.estimator, config.objective
    batch = trainer.prompts_per_update * trainer.group_size
    before = spent(clock, totals)

    def log(unlogged: Unlogged) -> dict[str, Any]:
        nonlocal before
        metrics = unlogged["metrics"] | evaluate(unlogged["metrics"]["update"])
        before = spent(clock, totals)
        metrics |= {f"time/{name}": seconds - unlogged["before"].get(name, 0.0) for name, seconds in before.items()}
        metrics["time/tokens_per_s"] = metrics["completion/length"] * batch / max(metrics["time/sample"], 1e-9)
        metrics["memory/peak_mb"] = peak_memory_mb()
        tracker.log(metrics)
        return metrics

    with tracker.progress() as progress:
        bar = progress.add_task("training", total=trainer.updates, completed=first_update, note="")
        if unlogged is not None:
            log(unlogged)
        for number in range(first_update, trainer.updates):
            draws = Draws(config.seed, batch, number)
            chosen = [problems[i] for i in prompt_order(len(problems), trainer.prompts_per_update, number, config.seed)]
            done = rollout(engine, sampler, task, codec, chosen, static, objective, trainer, draws, (rank, totals.ranks), clock)
            stats = update(
                engine, done, estimator, objective, trainer, reference, totals, clock, partial(guard.keep, number + 1, done)
            )
            metrics = {"update": number + 1, **rollout_stats(done, trainer.group_size, totals), **stats}
            metrics |= guard.watch(metrics)

            if trainer.probe_every and number % trainer.probe_every == 0:
                with clock.phase("probe"):
                    metrics |= probe(engine, estimator, done, trainer, number, tracker, totals)
            tracker.append("samples", sample_records(done, number + 1, config.logging.samples))
            complete: Unlogged = {"metrics": metrics, "before": before}
            checkpoint(complete)
            metrics = log(complete)
            guard.stop_if_diverged()
            shown = {"reward": metrics["reward/mean"], "kl": metrics.get("kl"), "loss": metrics["loss"]}
            note = "  ".join(f"{name} {value:.3f}" for name, value in shown.items() if value is not None)
            note += f"  {metrics['nfe']:.0f} forwards  {metrics['time/tokens_per_s']:.0f} tok/s" + "".join(
                f"  {alarm}" for alarm in guard.alarms.values()
            )
            progress.update(bar, advance=1, note=note)
