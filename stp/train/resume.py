"""Finds what is there already: a finished run with these settings, or a checkpoint to continue from."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from stp.config import Config, binding, decisive, differences, plain, unknown, unplaced
from stp.errors import UserError, fail
from stp.run import checkpoints
from stp.run.checkpoints import State
from stp.run.files import read_yaml, write_atomically
from stp.run.folders import give_back, lock
from stp.run.summary import Summary
from stp.train.data import RunData
from stp.train.entries import enter, entered


def finished(config: Config, folder: Path, choices: dict[str, Any], sweep: Path | None) -> dict[str, Any] | None:
    """Returns the summary of a finished run with these settings in this folder or another one of the sweep, or else None.

    Of a run that the ledger has, the summary is its final accuracy alone.
    Presets may name the same settings. They then run once, and the other folders get a summary that says where (`same_as`).
    Probe options do not count as settings. But a run with probes reuses only a run with the same probe options, because
    Figure 3 reads the probes. Problems are compared by content, not by place. Only rank 0 calls this.
    """
    data, wanted = RunData.read(config).hashes, unplaced(plain(config))
    probes = {name: value for name, value in vars(config.trainer).items() if name.startswith("probe_")}
    others = sorted(sweep.glob("**/summary.json")) if sweep is not None else []
    preset = choices.get("experiment")
    for place in [folder, *(file.parent for file in others)]:
        try:
            found = Summary.read(place)
        except ValueError:
            continue
        if found is None or found.updates != config.trainer.updates:
            continue
        holder = place / (found.same_as or "")
        if not all((holder / name).exists() for name in ("summary.json", "config.yaml")):
            continue
        if unplaced(settings_of(holder)) != wanted or {k: v["hash"] for k, v in (found.problems or {}).items()} != data:
            continue
        if place == folder:
            print(f"{folder}: finished", flush=True)
            enter(config, holder, preset)
            return found.record()
        if found.same_as is not None:  # it has no files of its own
            continue
        if not config.trainer.probe_every or probes.items() <= settings_of(place)["trainer"].items():
            twin = replace(found, experiment=preset, same_as=os.path.relpath(place, folder))
            write_atomically(folder / "summary.json", json.dumps(twin.record(), indent=1) + "\n")
            print(f"{folder}: finished, with the settings of {place}", flush=True)
            enter(config, place, preset)
            return found.record()
    if (line := entered(config, data.get("eval", ""), preset)) is not None:
        print(f"{folder}: finished, a line of {config.logging.ledger} has its results", flush=True)
        return {"final": {"accuracy": line.correct / line.total}}
    return None


def settings_of(folder: Path) -> dict[str, Any]:
    """Reads the settings of a run from its config.yaml."""
    return read_yaml(folder / "config.yaml")


def resume_point(config: Config, fresh: Path, about: dict[str, dict[str, Any]]) -> tuple[Path, State | None]:
    """Returns the run's folder and its newest whole checkpoint, or a new folder and None if `trainer.resume` finds no run.

    `auto` takes a checkpoint from this folder, or else from the newest run of this name. The run must have these settings and
    problems (`about`) and updates left; otherwise `auto` tells what differs and starts a new run. Checkpoints that are not
    whole are named and skipped. Only rank 0 calls this.
    """
    wanted = config.trainer.resume
    if wanted is None:
        return fresh, None
    auto, told = wanted == "auto", False
    others = sorted((folder for folder in fresh.parent.glob("*") if folder != fresh), reverse=True)
    for folder in [fresh, *others] if auto else [Path(wanted)]:
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
        if not auto or (torn and _settings(folder) == binding(plain(config))):  # auto never starts over silently
            fail("trainer.resume", folder, trouble)
        if checkpoints.written(folder) and not (told and (folder / "summary.json").exists()):
            print(f"{folder}: not continued, {trouble}", flush=True)  # tells of the newest run, and of unfinished ones
            told = True
    return fresh, None


def _settings(folder: Path) -> dict[str, Any] | None:
    """Returns the settings that decide the results of a folder's run, by its config.yaml."""
    return binding(settings_of(folder)) if (folder / "config.yaml").exists() else None


def _not_resumable(config: Config, folder: Path, state: State, about: dict[str, dict[str, Any]]) -> str | None:
    """Says why a checkpoint cannot be continued with this config and these problems, and the fix. None if it can."""
    # a config of an older version has no classes; `unknown` says so
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
            changed_rows = f"{new['subject']}, whose contents have changed"
            what = changed_rows if old["subject"] == new["subject"] else f"{old['subject']} -> {new['subject']}"
            return f"its {name} problems are others: {what}; give the same ones, or start a new run"
    if state.update > config.trainer.updates or ((folder / "summary.json").exists() and state.update == config.trainer.updates):
        return f"it already has {state.update} updates; raise trainer.updates={config.trainer.updates}"
    return None


def evaluation_of(record: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings of how a run is evaluated, but not when."""
    return {k: v for k, v in record["trainer"].items() if k in ("eval_size", "eval_split", "eval_temperatures")}
