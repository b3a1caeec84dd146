"""`python -m stp.pregenerate`: write the static dataset that spatial pruning starts from."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from stp import engine as ranks
from stp import preflight
from stp.anchors import VERSION, StaticDataset, scored
from stp.cli import run
from stp.config import Pregeneration
from stp.evaluation import standard_sampler
from stp.loop import generate, rank_share
from stp.models.codec import Codec
from stp.models.policy import Policy, load_policy
from stp.samplers import Stp
from stp.statistics import Totals
from stp.tasks.base import Problem
from stp.tracking import Logging, Tracker
from stp.types import Draws

FOLDER = Path("outputs/static")


def provenance(config: Any, source: str, policy: Policy, codec: Codec, problems: list[Problem]) -> dict[str, Any]:
    """What decides the anchors' content (hashed as config_hash), and which problems they are for."""
    ids = hashlib.sha256(json.dumps([p.id for p in problems]).encode()).hexdigest()[:16]
    sampler = config.sampler
    made_by: dict[str, Any] = {"length": sampler.length}
    if source == "model":
        settings = {"steps": sampler.steps, "block_length": sampler.block_length, "temperature": sampler.temperature}
        made_by |= settings | {"pregenerations": sampler.pregenerations}
    record = {
        "version": VERSION,
        "source": source,
        "task": config.task.name,
        "model": policy.fingerprint(),
        "tokenizer": codec.fingerprint(),
        **made_by,
    }
    config_hash = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12]
    return record | {"config_hash": config_hash, "problems": ids}


def static_dataset(
    config: Any,
    policy: Policy,
    codec: Codec,
    problems: list[Problem],
    rows: int,
    tracker: Tracker,
    totals: Totals,
    rank: int,
    to: Path | None = None,
) -> StaticDataset:
    """The static dataset for these problems: the named one, the cached one, or a new one made now and cached."""
    sampler = config.sampler
    record = provenance(config, sampler.anchors, policy, codec, problems)
    if sampler.static is not None:
        return StaticDataset.load(Path(sampler.static), record)
    folder = to or FOLDER / f"{record['task']}-{sampler.anchors}-{record['config_hash']}-{record['problems'][:8]}"
    if ranks.broadcast((folder / "anchors.json").exists()):
        tracker.say(f"static dataset: {folder} (reused)")
        return StaticDataset.load(folder, record)
    dataset = make(config, policy, codec, problems, record, rows, tracker, totals, rank)
    if rank == 0:
        dataset.save(folder)
    ranks.barrier()
    share = float(dataset.eligible_NKL.any(dim=2).float().mean())
    tracker.say(f"static dataset: {folder} ({len(problems)} problems, {100 * share:.0f}% of anchors have tokens to fix)")
    return dataset


def make(
    config: Any,
    policy: Policy,
    codec: Codec,
    problems: list[Problem],
    record: dict[str, Any],
    rows: int,
    tracker: Tracker,
    totals: Totals,
    rank: int,
) -> StaticDataset:
    """Generate (or encode) the anchors, score their tokens and reward them; each rank does its share of the problems."""
    sampler: Stp = config.sampler
    k, length = sampler.pregenerations, sampler.length
    repeated = [p for p in problems for _ in range(k)]
    share = rank_share(len(repeated), rank, totals.ranks)
    mine = repeated[share]
    prompts = codec.prompts(repeated)
    with tracker.progress() as progress, ranks.interruptible(policy):
        bar = progress.add_task("static dataset", total=len(mine) * 2, note="")

        def advance(n: int) -> None:
            progress.update(bar, advance=n)

        if record["source"] == "model":
            standard = standard_sampler(sampler, sampler.temperature)
            draws = Draws("static", len(repeated))
            trajectory = generate(policy, standard, prompts, draws, rows, local=share, advance=advance, device=ranks.device())
            response_BL, texts = trajectory.response_BL, codec.completions(trajectory)
            known_B = torch.ones(len(mine), dtype=torch.bool)
        else:
            eos = policy.eos_id
            ids = [codec.solution_ids(config.task.solution(p), length) for p in mine]
            response_BL = torch.tensor([(i or []) + [eos] * (length - len(i or [])) for i in ids])
            texts = codec.tokenizer.batch_decode([i or [] for i in ids])
            known_B = torch.tensor([i is not None for i in ids])
            advance(len(mine))
        confidence_BL = scored(policy, prompts.rows(slice(share.start, share.stop)), response_BL, rows, advance)
    rewards = [sum(config.task.reward_parts(p, text).values()) for p, text in zip(mine, texts, strict=True)]
    parts = totals.gather((response_BL, codec.eligible(response_BL) & known_B[:, None], confidence_BL, torch.tensor(rewards)))
    tokens, eligible, confidence, reward = (torch.cat([p[i] for p in parts]) for i in range(4))
    shape = (len(problems), k, length)
    return StaticDataset(
        record | {"made_with": {"model": config.model.name, "path": config.model.path}},
        [p.id for p in problems],
        tokens.view(shape),
        eligible.view(shape),
        confidence.view(shape),
        reward.view(len(problems), k),
    )


def main(config: Pregeneration) -> None:
    """Make the static dataset for a task's training problems."""
    ranks.bootstrap()
    sampler = config.sampler if isinstance(config.sampler, Stp) else Stp(**vars(config.sampler))
    config = dataclasses.replace(config, sampler=dataclasses.replace(sampler, anchors=config.source, static=None))
    preflight.writable("to", Path(config.to) if config.to is not None else FOLDER)
    problems = config.task.problems("train")
    preflight.prompts(config.model, config.task, config.sampler.length, problems)
    policy, tokenizer = load_policy(config.model, trainable=False)
    policy.to(ranks.device())
    codec = Codec(tokenizer, config.task.instruction if config.model.instructions else "", config.model.prompt_tokens)
    tracker = Tracker(Path("."), Logging(wandb="disabled"), {}, ranks.rank() == 0)
    totals = Totals(ranks.gather, ranks.world_size())
    to = None if config.to is None else Path(config.to)
    dataset = static_dataset(config, policy, codec, problems, config.rows, tracker, totals, ranks.rank(), to)
    tracker.say(
        f"mean reward {float(dataset.reward_NK.mean()):.3f}, {float(dataset.eligible_NKL.sum(dim=2).float().mean()):.1f} "
        "eligible tokens per anchor"
    )


if __name__ == "__main__":
    run(main, "pregenerate")
