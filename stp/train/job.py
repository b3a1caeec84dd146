"""Runs a training job: composes or continues a run, trains, evaluates and summarises."""

from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from stp.anchors.make import FOLDER, Maker, named, static_dataset
from stp.config import Config, check_ranks, code_version, plain, unplaced
from stp.errors import fail, require
from stp.evaluation.evaluator import Evaluator, Subject
from stp.loop import train
from stp.metrics import spent
from stp.models.codec import Codec
from stp.models.policy import AdapterOff, Policy, checkpoint_folder, load_policy, require_available
from stp.roles import Actor, Learner, Run
from stp.run import checkpoints, faults, preflight, ranks
from stp.run.checkpoints import State
from stp.run.engine import Engine
from stp.run.files import read_jsonl, write_atomically
from stp.run.guards import DivergedError, Guard
from stp.run.ledger import Ledger
from stp.run.memory import move, start_afresh
from stp.run.ranks import bootstrap
from stp.run.tracking import Clock, Tracker, labelled, require_wandb
from stp.samplers import Pruned, Stp
from stp.samplers.difficulty import Visits
from stp.train.checkpointer import Checkpointer
from stp.train.data import RunData
from stp.train.entries import enter
from stp.train.evaluations import Evaluations, base_settings
from stp.train.resume import evaluation_of, finished, resume_point, settings_of
from stp.train.summary import report, summarise


def main(config: Config) -> float:
    """Does one run in the folder that Hydra made. Returns the final accuracy, which a sweeper may maximise."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    bootstrap(config.guards.rank_timeout)
    hydra = HydraConfig.get()
    folder, choices = Path(ranks.broadcast(hydra.runtime.output_dir)), dict(hydra.runtime.choices)
    sweep = Path(hydra.sweep.dir) if hydra.mode == RunMode.MULTIRUN else None
    summary = None
    if config.trainer.resume == "auto":
        summary = ranks.from_first(lambda: finished(config, folder, choices, sweep))
        if sweep is not None:  # a job of a sweep continues only itself
            config = resuming(config, folder if checkpoints.written(folder) else None)
    summary = summary or execute(config, folder, choices)
    return summary["final"].get("accuracy", float("nan"))


def resuming(config: Config, run: Path | None) -> Config:
    """Returns the same config, set to continue this run, or none."""
    return replace(config, trainer=replace(config.trainer, resume=None if run is None else str(run)))


def execute(config: Config, fresh: Path, choices: dict[str, Any]) -> dict[str, Any]:
    """Trains, evaluates before and after, and leaves a run's files in its folder. Returns the summary.

    fresh: the folder of a new run (a resumed one stays in its own). choices: the option taken in each group.
    If too many updates in a row cannot be applied, the run goes back to its last checkpoint, once.

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
            run, reason = trouble.run, str(trouble)
        if ranks.rank() == 0:
            print(f"{reason}; back to the last checkpoint", flush=True)
        return attempt(resuming(config, run), fresh, choices)


def attempt(config: Config, fresh: Path, choices: dict[str, Any]) -> dict[str, Any]:
    """Does what `execute` says, once, from the newest checkpoint on."""
    start_afresh()
    check_ranks(config, ranks.world_size())
    require_available(config.model)
    data = RunData.read(config)
    folder, state = ranks.from_first(lambda: resume_point(config, fresh, data.about))
    if state is None:
        refuse_another(folder, config)
    if ranks.rank() == 0:
        preflight.writable("hydra.run.dir", folder)
    labels = labelled(config.logging, choices, config.seed)
    tracker = Tracker(folder, labels, plain(config), ranks.rank() == 0, folder / "train.log")
    with faults.explained(folder), closing(tracker):
        tracker.say(f"run folder: {folder}")
        return job(config, data, tracker, state, choices)


def refuse_another(folder: Path, config: Config) -> None:
    """Refuses to start a run in a folder that holds a run with checkpoints or with other settings."""
    held = settings_of(folder) if (folder / "config.yaml").exists() else None
    other = held is not None and unplaced(held) != unplaced(plain(config))
    if other or checkpoints.written(folder):
        rule = f"another run is kept there; continue it, with its settings and trainer.resume={folder}, or give another folder"
        fail("hydra.run.dir", folder, rule)


def job(config: Config, data: RunData, tracker: Tracker, state: State | None, choices: dict[str, Any]) -> dict[str, Any]:
    """Does what `execute` says in a run's folder (the tracker's). state: the checkpoint to continue from, if any."""
    here, folder = ranks.current(), tracker.folder
    clock = Clock(state.clock if state and here.number == 0 else None)  # `cpu` is of all ranks: others start at 0
    ready(config, data)
    announce(config, data, tracker)
    policy, tokenizer = load_policy(config.model)
    move(policy, ranks.device())
    codec = Codec(tokenizer, config.task.instruction if config.model.instructions else "", config.model.prompt_tokens)
    reference: Any = reference_of(config, policy)
    logged = open_folder(config, policy, tracker, state)
    static = None
    if config.sampler.needs_anchors and isinstance(config.sampler, Pruned):
        with clock.phase("pregenerate"):
            static = static_dataset(Maker(config, policy, codec, config.trainer.rollout_rows, here), data.train, tracker)
    solutions = None
    if config.rescue.needs_solutions:
        with clock.phase("pregenerate"):
            maker = Maker(from_solutions(config), policy, codec, config.trainer.rollout_rows, here)
            solutions = static_dataset(maker, data.train, tracker)
        rule = f"no solution of a training problem has tokens to hint within sampler.length={config.sampler.length}; raise it"
        require(bool(solutions.eligible_NKL.any()), "rescue", type(config.rescue).__name__.lower(), rule)
    whole = replace(codec, prompt_tokens=None)  # test prompts are never cut
    evaluate = Evaluator(config.task, whole, data.held_out, config.seed, config.trainer.rollout_rows)
    made_by = base_settings(config, policy, whole, data.held_out) if data.held_out else {}  # before ZeRO shards the weights
    engine = Engine(policy, config.optimizer, config.zero, config.model.dtype == "bfloat16")
    evaluations = Evaluations(config, engine, evaluate, made_by, tracker, clock)
    try:
        evaluations.measure_base(known_base(config, state))
        now = begun(config, data, evaluations.base, tracker, state)
        if state is not None:
            continue_from(state, config, engine, tracker)
        unlogged: Any = state.unlogged if state and 0 <= logged < state.update else None
        seen = read_jsonl(folder / "metrics.jsonl") + ([unlogged["metrics"]] if unlogged else [])
        guard = Guard(config.guards, folder, here.number, seen, tracker.say)
        checkpointer = Checkpointer(now, engine, tokenizer, folder, config.trainer, clock)
        actor = Actor(config.sampler, config.task, codec, data.train, static, Visits(now.visits), config.rescue, solutions)
        learner = Learner(engine, config.estimator, config.objective, config.trainer, reference)
        complete = partial(checkpointer.complete, guard=guard, visits=actor.visits)
        surroundings = Run(here, clock, tracker, guard, complete, evaluations)
        try:
            train(actor, learner, surroundings, config.seed, now.update, unlogged)
            if evaluations.final is None:  # a run that stopped after its last update has its evaluation still to come
                checkpointer.export()
                evaluations(config.trainer.updates)
            summary = summarise(config, choices, now, evaluations, spent(clock, here))
        except faults.Interrupted:
            checkpointer.save()
            raise
        tracker.summary(summary.record())
        if here.number == 0:
            enter(config, folder, choices.get("experiment"))
        report(tracker, summary, evaluations)
        return summary.record()
    except faults.Interrupted as signal:
        last = checkpoints.written(folder)
        after = f"continue after {last[0].name} with trainer.resume={folder}" if last else "there was no update to keep"
        tracker.say(f"stopped (exit code {signal.code}); {after}")
        raise
    finally:
        engine.destroy()


def from_solutions(config: Config) -> Config:
    """Returns the config whose static dataset holds the ground-truth anchors that a rescue reads, whatever the sampler is."""
    sampler = config.sampler
    static = sampler.static if isinstance(sampler, Stp) and sampler.anchors == "ground_truth" else None
    return replace(
        config, sampler=Stp(sampler.length, sampler.steps, sampler.block_length, anchors="ground_truth", static=static)
    )


def announce(config: Config, data: RunData, tracker: Tracker) -> None:
    """Tells on which problems the run trains and is evaluated."""
    tracker.say(preflight.told(Subject.of(config.task, "train", data.train), checkpoint_folder(config.model)))
    if data.held_out:
        tracker.say(f"evaluated on {Subject.of(config.task, config.trainer.eval_split, data.held_out)}")


def reference_of(config: Config, policy: Policy) -> AdapterOff | Policy | None:
    """Returns the reference policy: LoRA's base, or a frozen copy. None if the objective reads none."""
    if not config.objective.reads_reference:
        return None
    return AdapterOff(policy) if config.model.lora.rank else policy.frozen_copy()


def open_folder(config: Config, policy: Policy, tracker: Tracker, state: State | None) -> int:
    """Starts W&B, writes config.yaml, and drops lines that a continued run writes again. Returns the last logged update."""
    if ranks.rank() == 0:
        kept = config.trainer.keep_checkpoints + 1 if config.trainer.checkpoint_every else 0
        preflight.room(tracker.folder, policy, kept)
    tracker.start_wandb(state.wandb_id if state else None)
    if ranks.rank() == 0:
        write_atomically(tracker.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plain(config))))
        checkpoints.clean(tracker.folder)
    return ranks.broadcast(tracker.keep_until(state.update if state else -1, config.trainer.updates))


def known_base(config: Config, state: State | None) -> dict[str, Any] | None:
    """Returns the base's accuracy from a checkpoint, or None if the run is now evaluated in another way."""
    same = state is not None and evaluation_of(state.config) == evaluation_of(plain(config))
    return state.base if state is not None and same else None


def begun(config: Config, data: RunData, base: dict[str, Any], tracker: Tracker, state: State | None) -> State:
    """Returns what every checkpoint of this run says, with the progress of its last checkpoint, or of a new run."""
    return State(
        update=state.update if state else 0,
        optimizer_updates=state.optimizer_updates if state else 0,
        unlogged=state.unlogged if state else {},
        clock=state.clock if state else {},
        base=base,
        problems=data.about,
        config=plain(config),
        ranks=ranks.world_size(),
        code=list(dict.fromkeys([*(state.code if state else []), code_version()])),
        devices=list(dict.fromkeys([*(state.devices if state else []), ranks.device_name()])),
        visits=state.visits if state else {},
        wandb_id=tracker.wandb_id,
    )


def continue_from(state: State, config: Config, engine: Engine, tracker: Tracker) -> None:
    """Loads a checkpoint's weights and optimizer, and tells whether the run continues bit for bit."""
    engine.load(tracker.folder / "checkpoints", state.tag, state.optimizer_updates)
    tracker.say(f"resumed after update {state.update} from {tracker.folder}")
    before, after = (state.ranks, state.config["zero"]["stage"]), (ranks.world_size(), config.zero.stage)
    if before != after:
        was, now = (f"{count} rank(s) at ZeRO stage {stage}" for count, stage in (before, after))
        tracker.say(f"on {now}, it was {was}: equal to rounding, no longer bit for bit")


def ready(config: Config, data: RunData) -> None:
    """Refuses, before weights are read, what would fail later: W&B, the static dataset, prompts that are too long."""
    if ranks.rank() == 0:
        require_wandb(config.logging)
        if config.logging.ledger is not None:
            ledger = Ledger(Path(config.logging.ledger))
            preflight.writable("logging.ledger", ledger.file.parent)
            ledger.runs()
    if config.sampler.needs_anchors and isinstance(config.sampler, Pruned):
        if config.sampler.static is not None:
            made_for = {"task": config.task.name, "source": config.sampler.source, "length": config.sampler.length}
            named(Path(config.sampler.static), made_for, data.train)
        elif ranks.rank() == 0:
            made = "make the dataset with stp.pregenerate to=<folder> and name it with sampler.static=<folder>"
            preflight.writable("sampler.static", FOLDER, f"make it writable, start from another folder, or {made}")
    if config.rescue.needs_solutions:
        solved = any(config.task.solution(problem) is not None for problem in data.train)
        rule = f"it reads worked solutions, and no training problem of task={config.task.name} has one; choose another rescue"
        require(solved, "rescue", type(config.rescue).__name__.lower(), rule)
        if ranks.rank() == 0 and from_solutions(config).sampler.static is None:
            preflight.writable("rescue", FOLDER, "solutions are kept there; make it writable, or start from another folder")
    cut = preflight.prompts(config.model, config.task, config.sampler.length, data.train, data.held_out)
    if cut and ranks.rank() == 0:
        print(f"{cut} of {len(data.train)} prompts have over {config.model.prompt_tokens} tokens: cut on the left", flush=True)
