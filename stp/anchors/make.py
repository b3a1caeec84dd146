"""Makes a static dataset: generates or encodes anchors, scores and rewards them, batch by batch."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stp.anchors.dataset import PARTS, VERSION, StaticDataset, scored
from stp.errors import require
from stp.evaluation.evaluator import standard_sampler
from stp.models.codec import Codec
from stp.models.policy import Policy
from stp.ranks import Ranks
from stp.run import ranks
from stp.run.tracking import Tracker
from stp.samplers.generate import generate
from stp.tasks.base import Problem
from stp.types import Batch, Draws

FOLDER = Path("outputs/static")


@dataclass(frozen=True)
class Maker:
    """Makes anchors. config: it has the model, the task and the sampler (with the anchors' source). rows: completions at once.

    An anchor depends only on its problem and on what made it, not on the other problems of its batch or on the ranks.
    """

    config: Any
    policy: Policy
    codec: Codec
    rows: int
    here: Ranks

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Everything that decides the anchors' content, and a hash of it as config_hash."""
        sampler, task = self.config.sampler, self.config.task
        made_by: dict[str, Any] = {"length": sampler.length}
        if sampler.source == "model":
            settings = {"steps": sampler.steps, "block_length": sampler.block_length, "temperature": sampler.temperature}
            made_by |= settings | {"pregenerations": sampler.pregenerations}
        record = {
            "version": VERSION,
            "source": sampler.source,
            "task": task.name,
            "rewards": task.paid_by,
            "grading": task.grading,
            "model": self.policy.fingerprint(),
            "tokenizer": self.codec.fingerprint(),
            **made_by,
        }
        return record | {"config_hash": hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12]}

    def batches(self, problems: list[Problem]) -> Iterator[StaticDataset]:
        """Yields anchors batch by batch, the same on every rank: `rows` completions per rank, but at least one problem."""
        model, k = self.config.model, self.config.sampler.pregenerations
        made_by = self.provenance | {"made_with": {"model": model.name, "path": model.path}}
        step = max(1, self.rows * self.here.count // k)
        for begin in range(0, len(problems), step):
            some = problems[begin : begin + step]
            repeated = [(problem, i) for problem in some for i in range(k)]
            parts = self.here.gather(self._rows(repeated[self.here.share(len(repeated))]))
            tensors = [torch.cat([part[i] for part in parts]).unflatten(0, (len(some), k)) for i in range(len(PARTS))]
            yield StaticDataset(made_by, [problem.key for problem in some], *tensors)

    def _rows(self, wanted: list[tuple[Problem, int]]) -> tuple[Tensor, ...]:
        """Returns the tensors of PARTS, with one row for each (problem, number of its pre-generation)."""
        sampler, task, codec = self.config.sampler, self.config.task, self.codec
        problems = [problem for problem, _ in wanted]
        if not problems:  # in the last batch a rank may have nothing to do
            none = torch.zeros(0, sampler.length)
            return none.long(), none.bool(), none, none.sum(dim=1), none.bool().any(dim=1)
        prompts = codec.prompts(problems)
        if sampler.source == "model":
            standard = standard_sampler(sampler, sampler.temperature)
            draws = Draws("static", len(wanted), names=tuple(f"{problem.key}/{i}" for problem, i in wanted))
            trajectory = generate(self.policy, standard, Batch(prompts, draws), self.rows)
            response_BL, texts = trajectory.response_BL, codec.completions(trajectory)
            known_B = torch.ones(len(wanted), dtype=torch.bool)
        else:
            ids = [codec.solution_ids(task.solution(problem), sampler.length) for problem in problems]
            response_BL = torch.tensor([(i or []) + [self.policy.eos_id] * (sampler.length - len(i or [])) for i in ids])
            texts = codec.tokenizer.batch_decode([i or [] for i in ids])
            known_B = torch.tensor([i is not None for i in ids])
        confidence_BL = scored(self.policy, prompts, response_BL, self.rows)
        judged = [task.judge(problem, text) for problem, text in zip(problems, texts, strict=True)]
        reward_B = torch.tensor([sum(parts.values()) for parts, _ in judged]).float()
        correct_B = torch.tensor([solved for _, solved in judged])
        return response_BL, codec.eligible(response_BL) & known_B[:, None], confidence_BL, reward_B, correct_B


def static_dataset(maker: Maker, problems: list[Problem], tracker: Tracker, to: Path | None = None) -> StaticDataset:
    """Returns the static dataset of these problems, from the folder `sampler.static`, or else `to` or one named by provenance.

    In the latter cases it makes the anchors that the folder lacks, and adds them batch by batch. So a job that was stopped, a
    parallel one, and one with other problems all reuse what is there.
    """
    sampler, keys = maker.config.sampler, list(dict.fromkeys(problem.key for problem in problems))
    if sampler.static is not None:
        folder = Path(sampler.static)
        dataset = ranks.from_first(lambda: named(folder, maker.provenance, problems))
    else:
        record = maker.provenance
        folder = to or FOLDER / f"{record['task']}-{record['source']}-{record['config_hash']}"
        option = "sampler.static" if to is None else "to"

        def found() -> StaticDataset:
            there = (folder / "anchors.json").exists()
            return StaticDataset.load(folder, record, option).of(keys) if there else StaticDataset.joined(record, [])

        parts = [ranks.from_first(found)]
        missing = list({problem.key: problem for problem in problems if problem.key not in parts[0].row_of}.values())
        if parts[0].problems:
            there = "all" if not missing else f"{len(keys) - len(missing)} of {len(keys)}"
            tracker.say(f"static dataset: {folder} has {there} problems already")
        with tracker.progress() as progress, ranks.interruptible(maker.policy):
            bar = progress.add_task("static dataset", total=len(missing), note="")
            for batch in maker.batches(missing):
                if maker.here.number == 0:
                    batch.save(folder)
                parts.append(batch)
                progress.update(bar, advance=len(batch.problems))
        dataset = StaticDataset.joined(record, parts).of(keys)
    tracker.say(f"static dataset: {folder} ({described(dataset, len(keys), maker.policy.eos_id)})")
    return dataset


def named(folder: Path, expected: dict[str, Any], problems: list[Problem]) -> StaticDataset:
    """Reads the anchors of these problems from a folder.

    Raises:
        UserError: the folder has another provenance, or anchors for none of these problems.
    """
    dataset = StaticDataset.load(folder, expected | {"version": VERSION}).of([problem.key for problem in problems])
    rule = f"it has anchors for none of these {len(problems)} problems; make some with python -m stp.pregenerate to={folder}"
    require(bool(dataset.problems), "sampler.static", folder, rule)
    return dataset


def described(dataset: StaticDataset, problems: int, eos_id: int) -> str:
    """Describes a dataset: `512 problems, 94% of anchors have tokens to fix, 16% are right, 1% are cut at 48 tokens`."""
    covered, ended_NKL = len(dataset.problems), dataset.tokens_NKL == eos_id
    count = f"{covered} of {problems} problems, the others start fully masked" if covered < problems else f"{problems} problems"
    fixable, length = float(dataset.eligible_NKL.any(dim=2).float().mean()), ended_NKL.shape[2]
    parts = [count, f"{100 * fixable:.0f}% of anchors have tokens to fix"]
    if dataset.provenance["source"] == "model":
        cut = float((~ended_NKL.any(dim=2)).float().mean())
        right = float(dataset.correct_NK.float().mean())
        parts += [f"{100 * right:.0f}% are right", f"{100 * cut:.0f}% are cut at {length} tokens"]
    else:
        cut = float(ended_NKL.all(dim=2).float().mean())
        parts += [f"{100 * cut:.0f}% are left out, for want of a solution within {length} tokens"]
    return ", ".join(parts)
