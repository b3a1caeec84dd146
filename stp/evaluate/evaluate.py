"""`python -m stp.evaluate checkpoint=<run folder, adapter, weights or base>` measures accuracy with counts, mean@k and pass@k.

`to=<its folder>` continues an interrupted evaluation. `completions=<file>` grades stored completions without a model.
"""

import dataclasses
import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

from omegaconf import MISSING

from stp import trained
from stp.config import differences
from stp.errors import fail, require
from stp.evaluation.evaluator import Evaluator, Subject, held_out, standard_sampler, trained_on
from stp.evaluation.intervals import measured, scored, shown
from stp.evaluation.stored import regrade
from stp.models.codec import Codec
from stp.models.options import Model
from stp.models.policy import load_tokenizer, require_described
from stp.run import preflight, ranks
from stp.run.files import read_jsonl, whole_lines, write_atomically
from stp.run.memory import move
from stp.run.tracking import Logging, Tracker
from stp.samplers import Standard
from stp.tasks.base import Problem, fingerprint
from stp.tasks.sources import file_rows

INTERVALS = "95%, over problems (Wilson)"


@dataclass
class Evaluation:
    """What `python -m stp.evaluate` runs."""

    model: Any = MISSING
    task: Any = MISSING
    sampler: Any = MISSING
    protocol: Any = MISSING
    checkpoint: str = field(
        default="base",
        metadata={
            "help": "a run folder or one of its checkpoints (brings its model, task, data and lengths; what the command line"
            " names stays), an adapter or weights folder, or base"
        },
    )
    completions: str | None = field(
        default=None,
        metadata={
            "help": "grade these stored completions (question, completion, ground_truth; or an eval.jsonl) and load no model"
        },
    )
    temperatures: list[float] = field(default_factory=lambda: [0.0], metadata={"help": "0 is greedy; others are sampled"})
    samples: int = field(
        default=1, metadata={"help": "k, completions per problem at temperatures above 0; gives mean@k and pass@k"}
    )
    size: int | None = field(default=None, metadata={"help": "problems; null takes the whole split"})
    rows: int = field(default=128, metadata={"help": "completions denoised at once per rank, and then written"})
    to: str | None = field(
        default=None,
        metadata={
            "help": "folder to write; null is the run of this command; one that an interrupted evaluation left is continued"
        },
    )
    seed: int = field(default=0, metadata={"help": "seed of the sampled completions"})

    def __post_init__(self) -> None:
        require(bool(self.temperatures), "temperatures", self.temperatures, "give at least one, say [0.0]")
        for temperature in self.temperatures:
            require(0 <= temperature <= 10, "temperatures", temperature, "a temperature lies in [0, 10]")
        once = len(set(self.temperatures)) == len(self.temperatures)
        require(once, "temperatures", self.temperatures, "name each temperature once; samples= asks a problem several times")
        require(self.samples >= 1, "samples", self.samples, "at least 1 completion per problem is needed")
        require(self.rows >= 1, "rows", self.rows, "at least 1 completion is denoised at a time")
        require(self.size is None or self.size >= 1, "size", self.size, "at least 1 problem is needed")


def main(config: Evaluation) -> None:
    """Evaluates with the standard sampler, by schedule or threshold. Writes eval.jsonl batch by batch, and summary.json."""
    from hydra.core.hydra_config import HydraConfig

    if config.completions is not None:
        return grade(config, Path(config.to or HydraConfig.get().runtime.output_dir))
    ranks.bootstrap()
    folder = Path(ranks.broadcast(config.to or HydraConfig.get().runtime.output_dir))
    if config.to is not None and (folder / "metrics.jsonl").exists():
        fail("to", folder, "a training run keeps its summary there; give another folder")
    weights, options, run_config = trained.locate(config.checkpoint, config.model)
    task, protocol, sampler = config.task, config.protocol, config.sampler
    split, problems = held_out(task, trained_on(run_config))
    problems = problems[: config.size]
    asked = settings(config, problems, options, sampler)
    refuse_others(folder, asked)  # before the weights are loaded
    instruction = protocol.instruction(task) if options.instructions else ""
    base = trained.base_folder(weights, options)
    require_described("model.path" if weights is None else "checkpoint", base, options)
    preflight.positions(base, Codec(load_tokenizer(base), instruction, None, protocol.prefill), sampler.length, problems)

    policy, tokenizer = trained.load(weights, options)
    move(policy, ranks.device())
    codec = Codec(tokenizer, instruction, None, protocol.prefill)
    asked |= {"weights": policy.fingerprint(adapter=True), "tokenizer": codec.fingerprint()}
    refuse_others(folder, asked)
    tracker = Tracker(folder, Logging(wandb="disabled"), {}, ranks.rank() == 0)
    here, evaluate = ranks.current(), Evaluator(task, codec, problems, config.seed, config.rows)
    samples = [config.samples if temperature > 0 else 1 for temperature in config.temperatures]
    done = ranks.broadcast(kept(folder, asked, [k * len(problems) for k in samples], config.rows * here.count))
    ready, total = sum(done), sum(samples) * len(problems)
    subject = Subject.of(task, split, problems)
    tracker.say(preflight.told(subject, base))
    state = "finished" if ready == total else f"continued after {ready} of {total} completions"
    tracker.say(f"{folder}: {state}" if ready else f"an interrupted evaluation continues with to={folder}")

    summary: dict[str, Any] = {"checkpoint": config.checkpoint, "protocol": asked["protocol"], "task": task.name}
    summary |= {"grading": task.grading, "sampler": asked["sampler"], "seed": config.seed, "intervals": INTERVALS}
    summary |= {"weights": None if weights is None else str(weights), "measured": dataclasses.asdict(subject)}
    begin = 0
    for temperature, k, before in zip(config.temperatures, samples, done, strict=True):
        tokens, started = 0, time.perf_counter()
        with tracker.progress() as progress:
            bar = progress.add_task(f"T={temperature:g}", total=len(problems) * k, completed=before, note="")
            unpruned = replace(standard_sampler(sampler, temperature), reveal=sampler.reveal, tau=sampler.tau)
            for chunk in evaluate(policy, unpruned, here, k, before):
                tracker.append("eval", [{"temperature": temperature, **r} for r in chunk])
                tokens += sum(r["tokens"] for r in chunk)
                speed = tokens / (time.perf_counter() - started)
                progress.update(bar, advance=len(chunk), note=f"{speed:.0f} tok/s")
        if tracker.active:  # the file also has what an interrupted evaluation kept
            end = begin + len(problems) * k
            records = read_jsonl(folder / "eval.jsonl")[begin:end]
            score = summary[f"T={temperature:g}"] = measured(records, k)
            tracker.say(f"T={temperature:g}: {shown(score)}")
            if sampler.threshold is not None:
                forwards = [r["forwards"] for r in records]
                score["forwards"] = {"mean": mean(forwards), "median": median(forwards), "max": max(forwards)}
                tracker.say(
                    f"forwards: {mean(forwards):.1f} on average, {max(forwards)} at most, {sampler.steps} by the schedule"
                )
            begin = end
    tracker.summary(summary)
    tracker.say(f"records in {folder}; intervals: {INTERVALS}")


def settings(config: Evaluation, problems: list[Problem], options: Model, sampler: Standard) -> dict[str, Any]:
    """Returns the settings that decide an evaluation's records, apart from weights and tokenizer. Batches and ranks do not."""
    revealed = {} if sampler.threshold is None else {"reveal": sampler.reveal, "tau": sampler.threshold}
    return {
        "protocol": type(config.protocol).__name__.lower(),
        "task": {"name": config.task.name, **dataclasses.asdict(config.task)},
        "problems": {"count": len(problems), "hash": fingerprint(problems)},
        "model": {name: getattr(options, name) for name in ("dtype", "quantize", "attention", "instructions")},
        "sampler": {name: getattr(sampler, name) for name in ("length", "steps", "block_length")} | revealed,
        "temperatures": list(config.temperatures),
        "samples": config.samples,
        "seed": config.seed,
    }


def refuse_others(folder: Path, asked: dict[str, Any]) -> None:
    """Refuses a folder whose evaluation has other values for any of these settings."""
    file = folder / "evaluation.json"
    if not file.exists():
        free = not (folder / "eval.jsonl").exists()
        require(free, "to", folder, "an evaluation is kept there, without its settings (evaluation.json); give another folder")
        return
    settings = json.loads(file.read_text(encoding="utf-8"))
    changed = differences({name: settings.get(name) for name in asked}, asked)
    if changed:
        rule = f"the evaluation kept there has other settings ({'; '.join(changed[:4])}); give the same ones, or another folder"
        fail("to", folder, rule)


def kept(folder: Path, asked: dict[str, Any], totals: list[int], chunk: int) -> list[int]:
    """Returns how many completions of each temperature a folder keeps. Only whole chunks count, as if never interrupted.

    The rest of eval.jsonl is cut off. For a new evaluation its settings are written. Only rank 0 calls this.
    """
    if ranks.rank() != 0:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "evaluation.json", json.dumps(asked, indent=1) + "\n")
    file = folder / "eval.jsonl"
    lines = whole_lines(file)
    done: list[int] = []
    for total in totals:
        left = min(len(lines) - sum(done), total)
        done.append(left if left == total else left // chunk * chunk)
        if left < total:
            break
    if file.exists():
        write_atomically(file, "".join(line + "\n" for line in lines[: sum(done)]))
    return done + [0] * (len(totals) - len(done))


def grade(config: Evaluation, folder: Path) -> None:
    """Grades stored completions by the published and the corrected rules. Writes both counts to eval.jsonl and summary.json."""
    task, file = config.task, Path(str(config.completions)).expanduser()
    rows = file_rows(file, "completions")[: config.size]
    if (folder / "eval.jsonl").exists():
        fail("to", folder, "an evaluation is kept there; give another folder")
    known: dict[str, Problem] = {}
    if task.data.source != "generate":
        known = {problem.id: problem for problem in held_out(task, None)[1]}
    records = regrade(task, rows, known)
    tracker = Tracker(folder, Logging(wandb="disabled"), {}, True)
    tracker.say(f"{task.name}: {len(records)} stored completions of {file}; {task.grading} grading counts")
    tracker.append("eval", records)
    summary: dict[str, Any] = {
        "completions": str(file),
        "task": task.name,
        "intervals": INTERVALS,
        "grading": task.grading,
    } | scored(records)
    for grading in task.gradings:
        score = summary[grading] = scored([graded_by(record, grading) for record in records])
        tracker.say(f"{grading} grading: {shown(score)}")
    missing = [where for (where, _), record in zip(rows, records, strict=True) if not record["graded"]]
    if missing:
        summary["without_ground_truth"] = len(missing)
        named = ", ".join(missing[:5])
        tracker.say(f"counted as wrong, having no ground_truth: {named} (task.data.path=<the problems' file> supplies it)")
    for name in dict.fromkeys(name for record in records if (name := _measured(record))):
        score = summary[name] = scored([record for record in records if _measured(record) == name])
        tracker.say(f"{name}: {shown(score)}")
    tracker.summary(summary)
    tracker.say(f"records in {folder}; intervals: {INTERVALS}")


def graded_by(record: dict[str, Any], grading: str) -> dict[str, Any]:
    """Returns the record of a stored completion as another grading counts it."""
    counts = {"counts": record["counts_by"][grading]} if "counts_by" in record else {}
    return record | {"correct": record["grades"][grading]} | counts


def _measured(record: dict[str, Any]) -> str:
    """Names the measurement to which a record of an eval.jsonl belongs: `update 40, T=0`."""
    parts = [f"update {record['update']}"] if "update" in record else []
    return ", ".join([*parts, f"T={record['temperature']:g}"] if "temperature" in record else parts)
