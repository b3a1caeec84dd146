"""`python -m stp.train`: the main job. Composes the parts and runs the loop."""

import hashlib
import json
import os
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import OmegaConf

from stp import checkpoints, faults, preflight
from stp import engine as ranks
from stp.checkpoints import State
from stp.cli import run
from stp.config import (
    Config,
    binding,
    check_ranks,
    code_version,
    config_hash,
    decisive,
    differences,
    plain,
    seedless_hash,
    unknown,
    unplaced,
)
from stp.engine import Engine, bootstrap
from stp.errors import UserError, fail
from stp.evaluation import Evaluator, Subject, accuracy, counts, source_of, standard_sampler
from stp.folders import give_back, lock
from stp.guards import DivergedError, Guard
from stp.loop import train
from stp.memory import peak_memory_mb, reset_peak_memory
from stp.metrics import spent
from stp.models.codec import Codec
from stp.models.policy import AdapterOff, Policy, checkpoint_folder, load_policy, require_available
from stp.pregenerate import FOLDER, Maker, named, static_dataset
from stp.roles import Actor, Learner, Run, Unlogged
from stp.samplers import Stp
from stp.tasks.base import Problem, fingerprint
from stp.tracking import TRAINING, Clock, Tracker, labelled, read_jsonl, require_wandb, write_atomically

BASE = Path("outputs/base")  # evaluations of base models, by what decides them


def main(config: Config) -> float:
    """Hydra's job: one run in the folder that Hydra made. Returns the final accuracy, which a sweeper may maximise."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    bootstrap(config.guards.rank_timeout)
    hydra = HydraConfig.get()
    folder, choices = Path(ranks.broadcast(hydra.runtime.output_dir)), dict(hydra.runtime.choices)
    sweep = Path(hydra.sweep.dir) if hydra.mode == RunMode.MULTIRUN else None
    auto = config.trainer.resume == "auto"
    summary = ranks.from_first(lambda: finished(config, folder, choices, sweep)) if auto else None
    if auto and sweep is not None:  # a job continues itself, never another job
        config.trainer.resume = str(folder) if checkpoints.written(folder) else None
    summary = summary or execute(config, folder, choices)
    return summary["final"].get("accuracy", float("nan"))


def finished(config: Config, folder: Path, choices: dict[str, Any], sweep: Path | None) -> dict[str, Any] | None:
    """The summary of a run with these settings that this folder, or another one of the sweep, already holds; else None.

    Presets may name the same settings: they run once, and the other folders get a summary that says where (`same_as`). Probes
    are no part of the settings, but a run that is to be probed takes no twin that was not, or otherwise (Figure 3 reads them).
    A run on other problems is another run; the same ones may lie elsewhere. For rank 0.
    """
    data = {name: about["hash"] for name, about in problems_read(config)[0].items()}
    wanted = unplaced(plain(config))
    probes = {name: value for name, value in vars(config.trainer).items() if name.startswith("probe_")}
    others = sorted(sweep.glob("**/summary.json")) if sweep is not None else []
    for file in [folder / "summary.json", *others]:
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        holder = file.parent / found.get("same_as", "")
        if (
            not all((holder / name).exists() for name in ("summary.json", "config.yaml"))
            or found.get("updates") != config.trainer.updates
        ):
            continue
        if unplaced(settings_of(holder)) != wanted or {k: v["hash"] for k, v in found.get("problems", {}).items()} != data:
            continue
        if file.parent == folder:
            print(f"{folder}: finished", flush=True)
            return found
        if "same_as" not in found and (
            not config.trainer.probe_every or probes.items() <= settings_of(file.parent)["trainer"].items()
        ):
            twin = {"experiment": choices.get("experiment"), "same_as": os.path.relpath(file.parent, folder)}
            write_atomically(folder / "summary.json", json.dumps(found | twin, indent=1) + "\n")
            print(f"{folder}: finished, with the settings of {file.parent}", flush=True)
            return found
    return None


def settings_of(folder: Path) -> dict[str, Any]:
    """The settings of a run, by its config.yaml."""
    return yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))


def problems_read(config: Config) -> tuple[dict[str, dict[str, Any]], list[Problem], list[Problem]]:
    """The training and the held-out problems of a run, after what is kept of them."""
    task, options = config.task, config.trainer
    train, held_out = task.problems("train"), []
    about = {"train": described(task, "train", train)}
    if options.eval_size:
        held_out = task.problems(options.eval_split)[: options.eval_size]
        about["eval"] = described(task, options.eval_split, held_out)
    return about, train, held_out


def described(task: Any, split: str, problems: list[Problem]) -> dict[str, Any]:
    """What is said of problems, with their hash and how many there are."""
    subject = str(Subject.of(task, split, problems))
    return {"problems": len(problems), "hash": fingerprint(problems), "subject": subject}


def execute(config: Config, fresh: Path, choices: dict[str, Any]) -> dict[str, Any]:
    """Train, evaluate before and after, and leave a run's files in its folder. Returns the summary.

    fresh: the folder of a new run (a resumed one stays in its own). choices: the option taken in each group.
    Too many updates in a row that could not be applied: the run goes back to its last checkpoint, once.

    Raises:
        RunError: a full disk, a rank that is gone, or updates that could not be applied a second time.
        Interrupted: SIGTERM or SIGINT, after a checkpoint was written.
    """
    bootstrap()
    with faults.listening(config.guards.grace):
        try:
            return attempt(config, fresh, choices)
        except DivergedError as trouble:
            if not checkpoints.written(trouble.run):
                raise
            reason = str(trouble)
            config.trainer.resume = str(trouble.run)
        if ranks.rank() == 0:
            print(f"{reason}; back to the last checkpoint", flush=True)
        return attempt(config, fresh, choices)


def attempt(config: Config, fresh: Path, choices: dict[str, Any]) -> dict[str, Any]:
    """`execute`, from the newest checkpoint on."""
    reset_peak_memory()
    check_ranks(config, ranks.world_size())
    require_available(config.model)
    problems = problems_read(config)
    folder, state = ranks.from_first(lambda: resume_point(config, fresh, problems[0]))
    held = settings_of(folder) if (folder / "config.yaml").exists() else None
    if state is None and (checkpoints.written(folder) or (held is not None and unplaced(held) != unplaced(plain(config)))):
        rule = f"another run is kept there; continue it, with its settings and trainer.resume={folder}, or give another folder"
        fail("hydra.run.dir", folder, rule)
    if ranks.rank() == 0:
        preflight.writable("hydra.run.dir", folder)
    labels = labelled(config.logging, choices, config.seed)
    tracker = Tracker(folder, labels, plain(config), ranks.rank() == 0, folder / "train.log")
    with faults.explained(folder), closing(tracker):
        tracker.say(f"run folder: {folder}")
        return work(config, tracker, state, choices, problems)


def work(
    config: Config,
    tracker: Tracker,
    state: State | None,
    choices: dict[str, Any],
    read: tuple[dict[str, dict[str, Any]], list[Problem], list[Problem]],
) -> dict[str, Any]:
    """`execute` in a run's folder (the tracker's), after what a checkpoint says, with the problems read."""
    folder = tracker.folder
    about, problems, held_out = read
    here, rank = ranks.current(), ranks.rank()
    clock = Clock(state.clock if state and rank == 0 else None)  # whose `cpu` is all ranks', so the others start at 0
    codes = list(dict.fromkeys([*(state.code if state else []), code_version()]))

    task = config.task
    ready(config, problems, held_out)
    tracker.say(preflight.told(Subject.of(task, "train", problems), checkpoint_folder(config.model)))
    if held_out:
        tracker.say(f"evaluated on {Subject.of(task, config.trainer.eval_split, held_out)}")
    policy, tokenizer = load_policy(config.model)
    codec = Codec(tokenizer, task.instruction if config.model.instructions else "", config.model.prompt_tokens)
    policy.to(ranks.device())
    if rank == 0:
        kept = config.trainer.keep_checkpoints + 1 if config.trainer.checkpoint_every else 0
        preflight.room(folder, policy, kept)
    reference: Any = None
    if config.objective.needs_reference:
        reference = AdapterOff(policy) if config.model.lora.rank else policy.frozen_copy()
    static = None
    tracker.start_wandb(state.wandb_id if state else None)
    if rank == 0:
        write_atomically(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plain(config))))
        checkpoints.clean(folder)
    logged = ranks.broadcast(tracker.keep_until(state.update if state else -1, config.trainer.updates))
    if config.sampler.needs_anchors and isinstance(config.sampler, Stp):
        with clock.phase("pregenerate"):
            maker = Maker(config, policy, codec, config.trainer.rollout_rows, here)
            static = static_dataset(maker, problems, tracker)
    asked = replace(codec, prompt_tokens=None)  # what it is tested on is asked whole
    made_by = base_settings(config, policy, asked, held_out) if held_out else {}  # before ZeRO shards the weights
    engine = Engine(policy, config.optimizer, config.zero, config.model.dtype == "bfloat16")
    boundary: dict[str, Any] = {}  # the last update that is complete, and what its checkpoint keeps

    final: dict[str, Any] | None = None

    evaluate = Evaluator(task, asked, held_out, config.seed, config.trainer.rollout_rows)

    def answers(temperature: float) -> list[dict[str, Any]]:
        """The records of an evaluation, on every rank."""
        records = []
        with tracker.progress() as progress, engine.generation() as policy:
            bar = progress.add_task(f"evaluating (T={temperature:g})", total=len(held_out), note="")
            for chunk in evaluate(policy, standard_sampler(config.sampler, temperature), here):
                records += chunk
                progress.update(bar, advance=len(chunk))
        return records

    def measure(update: int) -> dict[str, Any]:
        """Accuracy at each temperature; the first is the one that counts. The base's answers (update 0) are kept."""
        scores = {}
        for temperature in config.trainer.eval_temperatures if held_out else []:
            with clock.phase("eval"):
                kept = KeptAnswers(made_by | {"temperature": temperature}) if update == 0 else None
                records = kept.load(tracker) if kept else None
                if records is None:
                    records = answers(temperature)
                    if kept and rank == 0:
                        kept.save(records, tracker)
            tracker.append("eval", [{"update": update, "temperature": temperature, **r} for r in records])
            scores[f"T={temperature:g}"] = accuracy(records)
            tracker.say(f"update {update}: accuracy {counts(scores[f'T={temperature:g}'])} at T={temperature:g}")
        return scores

    def evaluate_now(update: int) -> dict[str, float]:
        nonlocal final
        every = config.trainer.eval_every
        if update == config.trainer.updates:
            checkpoints.export(engine, tokenizer, folder)  # first: what was trained outlives an evaluation that is cut short
        elif not (every and update % every == 0):
            return {}
        final = measure(update)
        named = {f"eval/accuracy_{name}": score["accuracy"] for name, score in final.items()}
        return {"eval/accuracy": next(iter(named.values())), **named} if named else {}

    def checkpoint_now(unlogged: Unlogged) -> None:
        every = config.trainer.checkpoint_every
        update = unlogged["metrics"]["update"]
        boundary.update(unlogged=unlogged, clock=spent(clock, here), saved=False)
        faults.hold(False)
        if every and update % every == 0:
            save()
        ranks.gather(None)  # may raise Interrupted

    def save() -> None:
        if not boundary or boundary["saved"] or guard.in_a_row:  # never the weights of a streak of bad updates
            return
        with clock.phase("checkpoint"):
            now = State(
                update=boundary["unlogged"]["metrics"]["update"],
                optimizer_updates=engine.updates_done,
                unlogged=boundary["unlogged"],
                clock=boundary["clock"],
                base=base,
                problems=about,
                config=plain(config),
                ranks=here.count,
                code=codes,
                wandb_id=tracker.wandb_id,
            )
            checkpoints.save(engine, folder, now, config.trainer.keep_checkpoints)
        boundary["saved"] = True

    try:
        base = state.base if state else {}
        if state is None or evaluation_of(state.config) != evaluation_of(plain(config)):
            tracker.drop_base()
            base = {}
        if config.trainer.eval_first and not base:
            base = measure(0)
        if state is not None:
            engine.load(folder / "checkpoints", state.tag, state.optimizer_updates)
            tracker.say(f"resumed after update {state.update} from {folder}")
            before = (state.ranks, state.config["zero"]["stage"])
            if before != (here.count, config.zero.stage):
                was, now = (f"{n} rank(s) at ZeRO stage {stage}" for n, stage in (before, (here.count, config.zero.stage)))
                tracker.say(f"on {now}, it was {was}: equal to rounding, no longer bit for bit")
        done = state.update if state else 0
        unlogged: Any = state.unlogged if state and 0 <= logged < done else None
        seen = read_jsonl(folder / "metrics.jsonl") + ([unlogged["metrics"]] if unlogged else [])
        guard = Guard(config.guards, folder, rank, seen, tracker.say)
        actor = Actor(config.sampler, task, codec, problems, static)
        learner = Learner(engine, config.estimator, config.objective, config.trainer, reference)
        train(actor, learner, Run(here, clock, tracker, guard, checkpoint_now, evaluate_now), config.seed, done, unlogged)
        if final is None:  # a run that stopped after its last update has it still to come
            evaluate_now(config.trainer.updates)
        summary = summarise(config, choices, folder, base, final or {}, spent(clock, here), codes, about)
        tracker.summary(summary)
        report(tracker, summary, base, final or {}, folder)
        return summary
    except faults.Interrupted as signal:
        save()
        last = checkpoints.written(folder)
        after = f"continue after {last[0].name} with trainer.resume={folder}" if last else "there was no update to keep"
        tracker.say(f"stopped (exit code {signal.code}); {after}")
        raise
    finally:
        engine.destroy()


def evaluation_of(record: dict[str, Any]) -> dict[str, Any]:
    """How a run is evaluated, by its settings; not when."""
    return {k: v for k, v in record["trainer"].items() if k in ("eval_size", "eval_split", "eval_temperatures")}


def base_settings(config: Config, policy: Policy, codec: Codec, problems: list[Problem]) -> dict[str, Any]:
    """What decides a base model's answers, but for the temperature; not in what batches or on how many ranks."""
    sampler, model, task = config.sampler, config.model, config.task
    return {
        "version": 1,
        "weights": policy.fingerprint(),
        "tokenizer": codec.fingerprint(),
        "model": {name: getattr(model, name) for name in ("dtype", "quantize", "attention", "instructions")},
        "task": {"name": task.name, **{k: v for k, v in plain(config)["task"].items() if k != "data"}},
        "problems": fingerprint(problems),
        "sampler": {name: getattr(sampler, name) for name in ("length", "steps", "block_length")},
        "seed": config.seed,
    }


class KeptAnswers:
    """A base model's answers to a run's held-out problems, kept for every later run that would ask the same."""

    def __init__(self, settings: dict[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
        self.settings, self.file = settings, BASE / f"{settings['task']['name']}-{digest}.json"

    def load(self, tracker: Tracker) -> list[dict[str, Any]] | None:
        """The records, as rank 0 reads them, on every rank; None where there are none."""
        found: list[dict[str, Any]] | None = None
        if ranks.rank() == 0 and self.file.exists():
            try:
                record = json.loads(self.file.read_text(encoding="utf-8"))
                found = record["records"] if record["settings"] == self.settings else None
                accuracy(found or [])
            except (OSError, ValueError, KeyError, TypeError):
                tracker.say(f"{self.file}: not an evaluation that stp.train kept; it is measured again")
                found = None
        found = ranks.broadcast(found)
        if found is not None:
            tracker.say(f"the base's evaluation at T={self.settings['temperature']:g} is reused: {self.file}")
        return found

    def save(self, records: list[dict[str, Any]], tracker: Tracker) -> None:
        """Keep the records; where that is not possible, say so."""
        try:
            BASE.mkdir(parents=True, exist_ok=True)
            write_atomically(self.file, json.dumps({"settings": self.settings, "records": records}) + "\n")
        except OSError as error:
            tracker.say(f"{self.file}: not kept ({error.strerror}); the next run measures its base again")


def ready(config: Config, problems: list[Problem], held_out: list[Problem]) -> None:
    """Refuse, before weights are read, what would fail later: W&B, the static dataset, prompts too long."""
    if ranks.rank() == 0:
        require_wandb(config.logging)
    if config.sampler.needs_anchors and isinstance(config.sampler, Stp):
        if config.sampler.static is not None:
            made_for = {"task": config.task.name, "source": config.sampler.anchors, "length": config.sampler.length}
            named(Path(config.sampler.static), made_for, problems)
        elif ranks.rank() == 0:
            made = "make the dataset with stp.pregenerate to=<folder> and name it with sampler.static=<folder>"
            preflight.writable("sampler.static", FOLDER, f"make it writable, start from another folder, or {made}")
    cut = preflight.prompts(config.model, config.task, config.sampler.length, problems, held_out)
    if cut and ranks.rank() == 0:
        print(f"{cut} of {len(problems)} prompts have over {config.model.prompt_tokens} tokens: cut on the left", flush=True)


def resume_point(config: Config, fresh: Path, about: dict[str, dict[str, Any]]) -> tuple[Path, State | None]:
    """The run's folder and what its newest whole checkpoint says; a new folder and None unless `trainer.resume` finds one.

    `auto` takes the folder's own checkpoint, or that of the newest run of this name, if it has these settings and problems
    (`about`) and updates left; otherwise it says what differs and starts a new one. Checkpoints that are not whole are named
    and left out. For rank 0.
    """
    wanted = config.trainer.resume
    if wanted is None:
        return fresh, None
    auto, told = wanted == "auto", False
    for folder in [fresh, *sorted(fresh.parent.glob("*"), reverse=True)] if auto else [Path(wanted)]:
        trouble: str | None = "no complete checkpoint there; give a run folder that has checkpoints/, or auto"
        torn = False
        for checkpoint in checkpoints.written(folder):
            try:
                state = checkpoints.state(checkpoint)
                trouble = _not_resumable(config, folder, state, about)
                if trouble is None:
                    checkpoints.verify(checkpoint)
            except checkpoints.OtherVersionError as other:
                trouble = str(other)
            except checkpoints.BrokenError as broken:
                trouble, torn = f"none of its checkpoints is whole; {checkpoint.name}: {broken}", True
                print(f"{checkpoint}: skipped, {broken}", flush=True)
                continue
            torn = False
            break
        if trouble is None:
            try:
                lock("trainer.resume", folder)
            except UserError as busy:
                if not auto or folder == fresh:
                    raise
                print(f"{busy}", flush=True)
                continue
            if fresh != folder:
                give_back(fresh)
            return folder, state
        if not auto or (torn and _settings(folder) == binding(plain(config))):  # auto never starts over in silence
            fail("trainer.resume", folder, trouble)
        if checkpoints.written(folder) and not (told and (folder / "summary.json").exists()):
            print(f"{folder}: not continued, {trouble}", flush=True)  # the newest, and others that are not finished
            told = True
    return fresh, None


def _settings(folder: Path) -> dict[str, Any] | None:
    """What decides the results of the run in a folder, by its config.yaml."""
    return binding(settings_of(folder)) if (folder / "config.yaml").exists() else None


def _not_resumable(config: Config, folder: Path, state: State, about: dict[str, dict[str, Any]]) -> str | None:
    """Why a checkpoint cannot be continued with this config and these problems, and the fix; None when it can."""
    # a config of an older version has no classes, which `unknown` names
    if not (isinstance(state.config.get("trainer"), dict) and isinstance(state.config.get("classes", {}), dict)):
        return "the state.json of its newest checkpoint is not what stp.train writes; remove that checkpoint"
    now = plain(config)
    strange = unknown(decisive(state.config), decisive(now))
    if strange:
        return (
            f"another version of the code wrote it, whose settings are not this one's ({', '.join(strange[:4])}); "
            "continue it with that version, or start a new run in another folder"
        )
    changed = differences(binding(state.config), binding(now))
    if changed:
        return f"its settings differ from this run's ({'; '.join(changed[:4])}); give the same ones"
    compared = ["train", "eval"] if evaluation_of(state.config) == evaluation_of(now) else ["train"]
    for name in compared:
        old, new = state.problems.get(name), about.get(name)
        if old and new and old["hash"] != new["hash"]:
            return (
                f"its {name} problems are others: {old['subject']} -> {new['subject']}; give the same ones, or start a new run"
            )
    if state.update > config.trainer.updates or ((folder / "summary.json").exists() and state.update == config.trainer.updates):
        return f"it already has {state.update} updates; raise trainer.updates={config.trainer.updates}"
    return None


def summarise(
    config: Config,
    choices: dict[str, Any],
    folder: Path,
    base: dict[str, Any],
    final: dict[str, Any],
    seconds: dict[str, float],
    codes: list[str],
    about: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """summary.json.

    seconds: by phase. codes: the versions of the code that ran it, several where it was resumed. about: its problems.
    """
    evaluated = about["eval"]["problems"] if "eval" in about else 0  # fewer than trainer.eval_size where there are no more
    probed = [r["variance"] for r in read_jsonl(folder / "variance.jsonl")]
    variance = torch.tensor([v for v in probed if v is not None], dtype=torch.float64)  # null: it overflowed
    metrics = read_jsonl(folder / "metrics.jsonl")
    quartiles = variance.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)) if len(variance) else None
    phases = ("sample", "score", "reward", "update", "eval", "probe", "pregenerate", "checkpoint", "other")
    return {
        "task": choices.get("task"),
        "model": choices.get("model"),
        "sampler": choices.get("sampler"),
        "estimator": choices.get("estimator"),
        "objective": choices.get("objective"),
        "experiment": choices.get("experiment"),
        "seed": config.seed,
        "updates": config.trainer.updates,
        "ranks": ranks.world_size(),
        "config_hash": config_hash(config),
        "seedless_hash": seedless_hash(plain(config)),
        "code": ", then ".join(codes),
        "eval": {"split": config.trainer.eval_split, "size": config.trainer.eval_size, "problems": evaluated}
        | {"source": source_of(config.task, config.trainer.eval_split), "grading": config.task.grading},
        "problems": about,
        "base": scores(base, config.trainer.eval_temperatures),
        "final": scores(final, config.trainer.eval_temperatures),
        "time": {
            "train_s": sum(seconds.get(name, 0.0) for name in (*TRAINING, "other")),
            "cpu_s": seconds.get("cpu", 0.0),
            **{f"{name}_s": seconds.get(name, 0.0) for name in phases},
        },
        "forwards_per_rollout": metrics[-1]["nfe"] if metrics else None,
        "elbo_variance": None
        if quartiles is None
        else {
            "median": float(quartiles[1]),
            "mean": float(variance.mean()),
            "iqr": float(quartiles[2] - quartiles[0]),
            "trajectories": len(variance),
            "not_finite": len(probed) - len(variance),
            "draws": 1 if config.estimator.independent else config.estimator.samples,
        },
        "peak_memory_mb": peak_memory_mb(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }


def scores(measured: dict[str, Any], temperatures: list[float]) -> dict[str, Any]:
    """The first temperature's counts at the top, those of the others under their names."""
    first, *others = (f"T={t:g}" for t in temperatures)
    return {"temperature": temperatures[0], **measured.get(first, {}), **{name: measured[name] for name in others if measured}}


def report(tracker: Tracker, summary: dict[str, Any], base: dict[str, Any], final: dict[str, Any], folder: Path) -> None:
    """The closing lines of a run."""
    for name in final:
        before = f"{counts(base[name])} before, " if name in base else ""
        tracker.say(f"accuracy at {name}: {before}{counts(final[name])} after")
    spent = summary["time"]
    parts = ", ".join(f"{name} {spent[f'{name}_s']:.0f}" for name in ("sample", "score", "update"))
    tracker.say(f"training {spent['train_s']:.0f} s ({parts}), evaluation {spent['eval_s']:.0f} s, in {folder}")


if __name__ == "__main__":
    run(main, "train", Config)
