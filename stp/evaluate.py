"""`python -m stp.evaluate checkpoint=<run folder, adapter, weights or base>`: accuracy with counts, and pass@k."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

from stp import checkpoints
from stp import engine as ranks
from stp.cli import run
from stp.config import Evaluation
from stp.errors import fail
from stp.evaluation import accuracy, counts, evaluate, pass_at, standard_sampler
from stp.models.codec import Codec
from stp.models.policy import Model, Policy
from stp.statistics import Totals
from stp.tracking import Logging, Tracker, advance


def main(config: Evaluation) -> None:
    """Evaluate with the standard sampler; writes eval.jsonl and summary.json."""
    from hydra.core.hydra_config import HydraConfig

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
    summary: dict[str, Any] = {"checkpoint": config.checkpoint, "task": type(task).__name__.lower(), "seed": config.seed}
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
