"""`python -m stp.evaluate checkpoint=<run folder, adapter, weights or base>`: accuracy with counts, and pass@k.

`completions=<file>` grades stored completions instead, with no model.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

from stp import checkpoints
from stp import engine as ranks
from stp.cli import run
from stp.config import Evaluation
from stp.errors import fail
from stp.evaluation import accuracy, counts, evaluate, pass_at, regrade, standard_sampler
from stp.models.codec import Codec
from stp.models.policy import Model, Policy
from stp.statistics import Totals
from stp.tasks.base import REWARDS, Problem
from stp.tasks.sources import file_rows
from stp.tracking import Logging, Tracker, advance


def main(config: Evaluation) -> None:
    """Evaluate with the standard sampler; writes eval.jsonl and summary.json."""
    from hydra.core.hydra_config import HydraConfig

    if config.completions is not None:
        return grade(config, Path(config.to or HydraConfig.get().runtime.output_dir))
    ranks.bootstrap()
    folder = Path(ranks.broadcast(config.to or HydraConfig.get().runtime.output_dir))
    device = ranks.device()
    if config.to is not None and (folder / "metrics.jsonl").exists():
        fail("to", folder, "a training run keeps its summary there; give another folder")
    policy, tokenizer, options, sampler, trained_on = load_checkpoint(config)
    policy.to(device)
    task = config.task
    path = task.data.path
    whole_file = path is not None and not Path(path).is_dir() and path != trained_on
    problems = task.problems("all" if whole_file else "test")[: config.size]
    codec = Codec(tokenizer, task.instruction if options.instructions else "", options.prompt_tokens)
    tracker = Tracker(folder, Logging(wandb="disabled"), {}, ranks.rank() == 0)
    totals = Totals(ranks.gather, ranks.world_size())
    summary: dict[str, Any] = {"checkpoint": config.checkpoint, "task": task.name, "seed": config.seed}
    for temperature in config.temperatures:
        samples = config.samples if temperature > 0 else 1
        with tracker.progress() as progress:
            bar = progress.add_task(f"T={temperature:g}", total=len(problems) * samples, note="")
            records = evaluate(
                policy,
                task,
                codec,
                problems,
                standard_sampler(sampler, temperature),
                config.seed,
                config.rows,
                totals,
                ranks.rank(),
                samples,
                device,
                partial(advance, progress, bar, totals.ranks),
            )
        score = accuracy(records)
        tracker.append("eval", [{"temperature": temperature, **r} for r in records])
        line = f"T={temperature:g}: accuracy {counts(score)}"
        if samples > 1:
            score |= pass_at(records, samples)
            line += "".join(f", {name} {100 * v:.1f}%" for name, v in score.items() if name.startswith("pass@"))
        summary[f"T={temperature:g}"] = score
        tracker.say(line)
    tracker.summary(summary)
    tracker.say(f"records in {folder}")


def grade(config: Evaluation, folder: Path) -> None:
    """Grade stored completions by the published and the corrected rules; eval.jsonl and summary.json hold both counts."""
    task, file = config.task, Path(str(config.completions)).expanduser()
    rows = file_rows(file, "completions")[: config.size]
    if (folder / "eval.jsonl").exists():
        fail("to", folder, "an evaluation is kept there; give another folder")
    known: dict[str, Problem] = {}
    if task.data.source != "generate":
        whole = task.data.path is not None and not Path(task.data.path).is_dir()
        known = {problem.id: problem for problem in task.problems("all" if whole else "test")}
    records = regrade(task, rows, known)
    tracker = Tracker(folder, Logging(wandb="disabled"), {}, True)
    tracker.append("eval", records)
    summary: dict[str, Any] = {"completions": str(file), "task": task.name, "grading": task.grading} | accuracy(records)
    for grading in REWARDS:
        score = summary[grading] = accuracy([record | {"correct": record["grades"][grading]} for record in records])
        tracker.say(f"{grading} grading: accuracy {counts(score)}")
    missing = [where for (where, _), record in zip(rows, records, strict=True) if not record["graded"]]
    if missing:
        summary["without_ground_truth"] = len(missing)
        named = ", ".join(missing[:5])
        tracker.say(f"counted as wrong, having no ground_truth: {named} (task.data.path=<the problems' file> supplies it)")
    for name in dict.fromkeys(name for record in records if (name := _measured(record))):
        score = summary[name] = accuracy([record for record in records if _measured(record) == name])
        tracker.say(f"{name}: accuracy {counts(score)}")
    tracker.summary(summary)
    tracker.say(f"records in {folder}")


def _measured(record: dict[str, Any]) -> str:
    """Which measurement of an eval.jsonl a record belongs to: `update 40, T=0`."""
    parts = [f"update {record['update']}"] if "update" in record else []
    return ", ".join([*parts, f"T={record['temperature']:g}"] if "temperature" in record else parts)


def load_checkpoint(config: Evaluation) -> tuple[Policy, Any, Model, Any, str | None]:
    """Policy, tokenizer, model options, sampler and the file it was trained on (a run folder brings its own settings)."""
    folder, options, run_config = checkpoints.trained(config.checkpoint, config.model)
    sampler, trained_on = config.sampler, None
    if run_config:
        known = {f.name for f in dataclasses.fields(sampler)}
        sampler = dataclasses.replace(sampler, **{k: v for k, v in run_config["sampler"].items() if k in known})
        trained_on = run_config["task"]["data"]["path"]
    return *checkpoints.load(folder, options), options, sampler, trained_on


if __name__ == "__main__":
    run(main, "evaluate")
