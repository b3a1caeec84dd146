"""`python -m stp.evaluate checkpoint=<run folder, adapter, weights or base>`: accuracy with counts, and pass@k."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from stp import engine as ranks
from stp.cli import run
from stp.config import Evaluation
from stp.errors import fail
from stp.evaluation import accuracy, counts, evaluate, pass_at, standard_sampler
from stp.models.codec import Codec
from stp.models.policy import Lora, Model, Policy, load_policy
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
    options, sampler, trained_on = config.model, config.sampler, None
    if config.checkpoint == "base":
        policy, tokenizer = load_policy(dataclasses.replace(options, lora=Lora()), trainable=False)
        return policy, tokenizer, options, sampler, trained_on
    folder = Path(config.checkpoint)
    if not folder.is_dir():
        fail("checkpoint", config.checkpoint, "no such folder; give a run folder, an adapter or weights folder, or base")
    if (folder / "config.yaml").exists():
        saved: Any = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
        lora = Lora(**saved["model"].pop("lora"))
        options = Model(**saved["model"], lora=lora)
        known = {f.name for f in dataclasses.fields(sampler)}
        sampler = dataclasses.replace(sampler, **{k: v for k, v in saved["sampler"].items() if k in known})
        trained_on = saved["task"]["data"]["path"]
        inside = [folder / name for name in ("adapter", "weights") if (folder / name).is_dir()]
        if not inside:
            fail("checkpoint", folder, "this run has not finished; continue it with trainer.resume=" + str(folder))
        folder = inside[0]
    if (folder / "adapter_config.json").exists():
        return *_with_adapter(folder, options), options, sampler, trained_on
    policy, tokenizer = load_policy(dataclasses.replace(options, path=str(folder), lora=Lora()), trainable=False)
    return policy, tokenizer, options, sampler, trained_on


def _with_adapter(folder: Path, options: Model) -> tuple[Policy, Any]:
    from peft import PeftModel

    base, tokenizer = load_policy(dataclasses.replace(options, lora=Lora()), trainable=False)
    try:
        model = PeftModel.from_pretrained(base.llama, str(folder))
    except (RuntimeError, ValueError, OSError) as error:
        fail(
            "checkpoint",
            folder,
            f"the adapter does not fit the base; choose its own with model= ({str(error).splitlines()[0]})",
        )
    return Policy(model, base.mask_id, base.eos_id, options.logit_chunk).requires_grad_(False).eval(), tokenizer


if __name__ == "__main__":
    run(main, "evaluate")
