"""The training loop, top to bottom: generate, score, update, log."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from stp.anchors import StaticDataset
from stp.diffusion import Denoiser
from stp.errors import require
from stp.estimators.base import Estimator
from stp.objectives.grpo import Grpo
from stp.samplers import Standard, Stp
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
    eval_temperatures: list[float] = field(
        default_factory=lambda: [0.0],
        metadata={"help": "the first one gives summary.json's accuracy; others are reported beside it"},
    )
    checkpoint_every: int = field(default=0, metadata={"help": "updates between checkpoints; 0 writes none"})
    keep_checkpoints: int = field(default=2, metadata={"help": "newest checkpoints kept"})
    resume: str | None = field(
        default=None, metadata={"help": "a run folder to continue, or auto for the newest one of this run name"}
    )
    probe_every: int = field(default=0, metadata={"help": "updates between ELBO variance probes; 0 makes none"})
    probe_draws: int = field(default=16, metadata={"help": "Monte Carlo estimates per probed trajectory"})
    probe_rows: int = field(default=24, metadata={"help": "trajectories per probe and rank"})

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
        require(
            bool(self.eval_temperatures), "trainer.eval_temperatures", self.eval_temperatures, "give at least one, say [0.0]"
        )
        for value in self.eval_temperatures:
            require(0 <= value <= 10, "trainer.eval_temperatures", value, "a temperature lies in [0, 10]")


@dataclass(frozen=True)
class Rollout:
    """This rank's share of a global batch (on the CPU). advantage_B is 0 throughout a group of equal rewards."""

    trajectory: Trajectory
    completions: list[str]
    reward_parts: list[dict[str, float]]
    reward_B: Tensor
    advantage_B: Tensor
    draws: Draws


def prompt_order(problems: int, count: int, update: int, seed: int | str) -> list[int]:
    """Indices of an update's prompts: each epoch is a shuffle of its own, a function of (seed, epoch) alone."""
    order = []
    for place in range(update * count, (update + 1) * count):
        epoch, i = divmod(place, problems)
        shuffled = torch.randperm(problems, generator=Draws(seed, 0).generator("prompts", epoch))
        order.append(int(shuffled[i]))
    return order


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
    """Roll out `local` rows of a global batch, `rows` at a time; `prompts`, `draws` and `anchors` are the whole batch's."""
    start = sampler.start(anchors, draws)
    mine = torch.arange(len(prompts))[local]
    parts = []
    for part in mine.split(rows):
        trajectory = sampler.run(denoise, prompts.rows(part).to(device), start.rows(part), draws.select(part))
        parts.append(trajectory.to("cpu"))
        advance(len(part))
    return concatenate(parts)


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
    objective: Grpo,
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
    rank, ranks = shares
    local = slice(rank * len(repeated) // ranks, (rank + 1) * len(repeated) // ranks)
    with clock.phase("sample"):
        prompts = codec.prompts(repeated)
        anchors = None
        if static is not None and isinstance(sampler, Stp):
            anchors = static.anchors([p.id for p in repeated], sampler.choose, draws)
        with engine.generation() as policy:
            trajectory = generate(
                policy, sampler, prompts, draws, trainer.rollout_rows, anchors, local, device=engine.policy.device
            )
    with clock.phase("reward"):
        completions = codec.completions(trajectory)
        parts = [task.rewards(problem, text) for problem, text in zip(repeated[local], completions, strict=True)]
        reward_B = torch.tensor([sum(p.values()) for p in parts])
        return Rollout(
            trajectory=trajectory,
            completions=completions,
            reward_parts=parts,
            reward_B=reward_B,
            advantage_B=objective.advantages(reward_B, G),
            draws=draws.select(torch.arange(len(repeated))[local]),
        )


def score(denoise: Denoiser, estimator: Estimator, trajectory: Trajectory, noise: Noise, rows: int) -> LogProbs:
    """Log-likelihoods without gradients, `rows` completions at a time, on the CPU."""
    parts = []
    with torch.no_grad():
        for part in torch.arange(len(trajectory.response_BL)).split(rows):
            parts.append(estimator(denoise, trajectory.rows(part), noise.rows(part)))
    return LogProbs(torch.cat([p.token_BL for p in parts]).cpu(), torch.cat([p.draw_BK for p in parts]).cpu())


def update(
    engine: Any,
    rollout: Rollout,
    estimator: Estimator,
    objective: Grpo,
    trainer: Trainer,
    reference: Any,
    totals: "Totals",
    clock: Any,
) -> dict[str, float]:
    """mu optimizer updates on one rollout (Eq. 1). theta, theta_old and the reference share their masks.

    `totals` sums over ranks. `reference` is a denoiser, or None when the objective reads none.
    """
    trajectory, draws = rollout.trajectory, rollout.draws
    trainable_BL = trajectory.trainable_BL
    rows, tokens = draws.batch, int(totals({"tokens": int(trainable_BL.sum())})["tokens"])
    weight_BL = objective.token_weights(trainable_BL, rows, tokens)
    learns_B = rollout.advantage_B != 0
    if objective.needs_reference:
        learns_B = torch.ones_like(learns_B)
    batches = learns_B.nonzero().squeeze(1).split(trainer.micro_batch)
    passes = int(totals.largest(len(batches) if len(batches[0]) else 0)) or 1

    with clock.phase("score"):
        sets = trainer.inner_updates if trainer.fresh_masks else 1
        noises = [estimator.draw(trainable_BL, draws, step=i) for i in range(sets)]
        olds = [score(engine.policy, estimator, trajectory, noise, trainer.micro_batch) for noise in noises]
        references = None
        if reference is not None:
            references = [score(reference, estimator, trajectory, noise, trainer.micro_batch) for noise in noises]

    stats: dict[str, float] = {}
    delta_parts: list[tuple[Tensor, Tensor]] = []
    for inner in range(trainer.inner_updates):
        with clock.phase("update"):
            i = inner % sets
            loss_sum = 0.0
            sums: dict[str, float] = {}
            engine.policy.train()
            for j in range(passes):
                idle = j >= len(batches) or not len(batches[j])
                part = torch.zeros(1, dtype=torch.long) if idle else batches[j]
                with keyed_dropout(engine.policy, draws, f"dropout/{inner}/{int(part[0])}"):
                    new = estimator(engine, trajectory.rows(part), noises[i].rows(part))
                device = new.token_BL.device
                loss = objective(
                    new,
                    olds[i].rows(part).to(device),
                    references[i].rows(part).to(device) if references else None,
                    rollout.advantage_B[part].to(device),
                    (weight_BL[part] * (0 if idle else 1)).to(device),
                )
                engine.backward(loss.value * totals.ranks, last=j == passes - 1)
                loss_sum += float(loss.value.detach())
                sums = {name: sums.get(name, 0.0) + float(value) for name, value in loss.stats.items()}
                if inner == trainer.inner_updates - 1 and not idle:
                    delta_parts.append((part, new.draw_BK.detach().cpu()))
            norm, lr = engine.step()
            engine.policy.eval()
            sums = totals({"loss": loss_sum, **sums})
            scored = max(sums.pop("tokens"), 1.0)
            stats = {"loss": sums.pop("loss"), "grad_norm": norm, "lr": lr, **{k: v / scored for k, v in sums.items()}}

    return stats | _elbo_stats(estimator, olds[-1], trainable_BL, delta_parts, totals)


@contextmanager
def keyed_dropout(policy: Any, draws: Draws, purpose: str) -> Iterator[None]:
    """Run a forward whose dropout (LoRA's) depends on the key alone, leaving the global generator as it was."""
    if not getattr(policy, "dropout", 0.0):
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(draws.generator(purpose).initial_seed())
        yield


def _elbo_stats(
    estimator: Estimator, old: LogProbs, trainable_BL: Tensor, delta_parts: list[tuple[Tensor, Tensor]], totals: "Totals"
) -> dict[str, float]:
    """Theorem 4.3's variance over the draws at hand, and Theorem 4.4's V and maximum of the difference theta - theta_old."""
    n_B = trainable_BL.sum(dim=1).clamp(min=1)
    record: dict[str, Any] = {"elbo": (old.draw_BK.mean(dim=1) / n_B).tolist()}
    if estimator.independent and old.draw_BK.shape[1] > 1:
        variance_B = old.draw_BK.var(dim=1)
        record |= {"variance": variance_B.tolist(), "variance_per_token": (variance_B / n_B**2).tolist()}
    if delta_parts:
        delta_BK = torch.cat([new - old.draw_BK[part] for part, new in delta_parts])
        record["delta_max"] = delta_BK.mean(dim=1).abs().tolist()
        if estimator.independent and delta_BK.shape[1] > 1:
            record["delta_variance"] = delta_BK.var(dim=1).tolist()
    together = totals.lists(record)
    out = {f"elbo/{k}": float(torch.tensor(v).mean()) for k, v in together.items() if v and k != "delta_max"}
    if together.get("variance"):
        out["elbo/variance_median"] = float(torch.tensor(together["variance"]).median())
    if together.get("delta_max"):
        out["elbo/delta_max"] = max(together["delta_max"])
    return out


def probe_variance(
    denoise: Denoiser, estimator: Any, trajectory: Trajectory, draws: Draws, repeats: int, rows: int
) -> tuple[Tensor, Tensor]:
    """Variance of the sequence ELBO per trajectory over `repeats` estimates: (variance_B, estimates_BR).

    Independent draws are taken one by one; where draws depend on each other the whole K-draw estimate is repeated.
    """
    single = dataclasses.replace(estimator, samples=1) if estimator.independent else estimator
    trainable_BL = trajectory.trainable_BL
    estimates = []
    for repeat in range(repeats):
        noise = single.draw(trainable_BL, draws, step=1_000_000 + repeat)
        estimates.append(score(denoise, single, trajectory, noise, rows).draw_BK.mean(dim=1))
    estimates_BR = torch.stack(estimates, dim=1)
    return estimates_BR.var(dim=1), estimates_BR


class Totals:
    """Sums, maxima and lists over ranks. On one rank they are what they were given."""

    def __init__(self, gather: Callable[[Any], list[Any]], ranks: int) -> None:
        self.gather, self.ranks = gather, ranks

    def __call__(self, values: dict[str, float]) -> dict[str, float]:
        every = self.gather(values)
        return {name: sum(v[name] for v in every) for name in values}

    def largest(self, value: float) -> float:
        """The maximum over ranks."""
        return max(self.gather(value))

    def lists(self, values: dict[str, list]) -> dict[str, list]:
        """Concatenation over ranks, in rank order."""
        every = self.gather(values)
        names = dict.fromkeys(name for v in every for name in v)
        return {name: [x for v in every for x in v.get(name, [])] for name in names}


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
    first_update: int = 0,
    after_update: Callable[[int, dict[str, Any]], None] = lambda done, metrics: None,
) -> None:
    """Updates `first_update` … `trainer.updates`: generate, score, update, log. `after_update` evaluates and checkpoints."""
    trainer, sampler, estimator, objective = config.trainer, config.sampler, config.estimator, config.objective
    batch = trainer.prompts_per_update * trainer.group_size
    with tracker.progress() as progress:
        bar = progress.add_task("training", total=trainer.updates, completed=first_update, note="")
        for number in range(first_update, trainer.updates):
            before = clock.totals()
            draws = Draws(config.seed, batch, number)
            chosen = [problems[i] for i in prompt_order(len(problems), trainer.prompts_per_update, number, config.seed)]
            done = rollout(engine, sampler, task, codec, chosen, static, objective, trainer, draws, (rank, totals.ranks), clock)
            stats = update(engine, done, estimator, objective, trainer, reference, totals, clock)
            metrics = {"update": number + 1, **rollout_stats(done, trainer.group_size, totals), **stats}

            if trainer.probe_every and number % trainer.probe_every == 0:
                with clock.phase("probe"):
                    metrics |= probe(engine, estimator, done, trainer, number, tracker, totals)
            metrics |= {f"time/{name}": s - before.get(name, 0.0) for name, s in clock.totals().items()}
            tokens = metrics["completion/length"] * batch
            metrics["time/tokens_per_s"] = tokens / max(metrics["time/sample"], 1e-9)
            metrics["memory/peak_mb"] = peak_memory_mb()
            tracker.append("samples", sample_records(done, number + 1, config.logging.samples))
            after_update(number + 1, metrics)
            tracker.log(metrics)
            note = f"reward {metrics['reward/mean']:.3f}  kl {metrics['kl']:.4f}  {metrics['time/tokens_per_s']:.0f} tok/s"
            progress.update(bar, advance=1, note=note)


def probe(
    engine: Any, estimator: Estimator, done: Rollout, trainer: Trainer, number: int, tracker: Any, totals: Totals
) -> dict[str, float]:
    """Fig. 3: the ELBO's variance from many draws, on some of this update's trajectories, one line each in variance.jsonl."""
    some = torch.arange(min(trainer.probe_rows, len(done.reward_B)))
    trajectory = done.trajectory.rows(some)
    variance_B, estimates_BR = probe_variance(
        engine.policy, estimator, trajectory, done.draws.select(some), trainer.probe_draws, trainer.micro_batch
    )
    n_B = trajectory.trainable_BL.sum(dim=1)
    rows = totals.lists(
        {
            "variance": variance_B.tolist(),
            "variance_per_token": (variance_B / n_B.clamp(min=1) ** 2).tolist(),
            "elbo": estimates_BR.mean(dim=1).tolist(),
            "trainable": n_B.tolist(),
            "fixed": trajectory.fixed_BL.sum(dim=1).tolist(),
            "reward": done.reward_B[some].tolist(),
        }
    )
    records = [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
    tracker.append("variance", [{"update": number + 1, "draws": trainer.probe_draws, **record} for record in records])
    variance = torch.tensor(rows["variance"])
    return {"probe/variance": float(variance.mean()), "probe/variance_median": float(variance.median())}


def rollout_stats(done: Rollout, group_size: int, totals: Totals) -> dict[str, float]:
    """Rewards, lengths, forwards and pruning of a rollout, over all ranks."""
    trajectory = done.trajectory
    rows = totals.lists(
        {
            "reward": done.reward_B.tolist(),
            "length": trajectory.until_eos_BL.sum(dim=1).tolist(),
            "ended": (~trajectory.until_eos_BL[:, -1]).tolist(),
            "fixed": trajectory.fixed_BL.sum(dim=1).tolist(),
            "trainable": trajectory.trainable_BL.sum(dim=1).tolist(),
            "nfe_run": [trajectory.nfe_run],
        }
    )
    tensors = {name: torch.tensor(values, dtype=torch.float32) for name, values in rows.items()}
    spread = tensors["reward"].view(-1, group_size)
    return {
        "reward/mean": float(tensors["reward"].mean()),
        "reward/std": float(tensors["reward"].std()),
        "reward/equal_groups": float((spread.max(dim=1).values == spread.min(dim=1).values).float().mean()),
        "reward/best_of_group": float(spread.max(dim=1).values.mean()),
        "completion/length": float(tensors["length"].mean()),
        "completion/ended": float(tensors["ended"].mean()),
        "pruning/fixed": float(tensors["fixed"].mean()),
        "pruning/rows_without_anchor": float((tensors["fixed"] == 0).float().mean()),
        "pruning/trainable": float(tensors["trainable"].mean()),
        "nfe": float(trajectory.nfe),
        "nfe/run": float(tensors["nfe_run"].max()),
    }


def sample_records(done: Rollout, number: int, count: int) -> list[dict[str, Any]]:
    """The first completions of this rank as records for samples.jsonl."""
    return [
        {
            "update": number,
            "row": i,
            "completion": done.completions[i],
            "fixed": done.trajectory.fixed_BL[i].nonzero().squeeze(1).tolist(),
            "rewards": done.reward_parts[i],
            "advantage": float(done.advantage_B[i]),
        }
        for i in range(min(count, len(done.completions)))
    ]


def peak_memory_mb() -> float:
    """Peak memory of this process so far: on the GPU if there is one, else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
