"""Checkpoints: written aside, hashed, then renamed; resumable to the bit. And what was trained: written, and read again."""

import dataclasses
import hashlib
import json
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import torch
from peft import PeftModel

from stp import engine as ranks
from stp.config import recorded, run_folder
from stp.engine import Engine, trained_weights
from stp.errors import fail, require
from stp.models.adapters import load_adapter, save_adapter
from stp.models.loading import require_finite
from stp.models.policy import Lora, Model, Policy, base_name, checkpoint_folder, load_policy
from stp.models.public import save_card, save_stock, save_tokenizer
from stp.tracking import write_atomically

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class State:
    """What a checkpoint says about its run: state.json.

    update: how many are done. unlogged: the last of them, which may have no line in metrics.jsonl yet. clock: seconds by phase.
    base: the base's accuracy by temperature. problems: number and hash of those it trains on and is evaluated on. config: its
    settings. ranks, code: what ran it.
    """

    update: int
    optimizer_updates: int
    unlogged: dict[str, Any]
    clock: dict[str, float]
    base: dict[str, Any]
    problems: dict[str, Any]
    config: dict[str, Any]
    ranks: int
    code: list[str]
    wandb_id: str | None = None

    @property
    def tag(self) -> str:
        """The name of the checkpoint's folder."""
        return f"update-{self.update:06d}"

    @staticmethod
    def read(record: Any) -> "State":
        """The record of a state.json.

        Raises:
            OtherVersionError: it is not what this version of the code writes.
        """
        kinds = {name: get_origin(kind) or kind for name, kind in get_type_hints(State).items() if name != "wandb_id"}
        if not isinstance(record, dict) or any(name in record and not isinstance(record[name], kinds[name]) for name in kinds):
            raise OtherVersionError("its state.json is not what stp.train writes; remove that checkpoint")
        if record.keys() - {"wandb_id"} != kinds.keys():
            raise OtherVersionError(
                "another version of the code wrote it, whose state.json is not this one's "
                f"({', '.join(sorted((record.keys() - {'wandb_id'}) ^ kinds.keys()))}); "
                "continue it with that version, or start a new run in another folder"
            )
        return State(**record)


def save(engine: Engine, run: Path, state: State, keep: int) -> None:
    """Write `checkpoints/update-<n>` whole or not at all, and drop the oldest beyond `keep`.

    Its files are written aside and read back into a manifest of their SHA-256 hashes; only then the folder gets its name.
    `latest` names it too, for people: a resumed run looks at the checkpoints themselves.
    """
    folder = run / "checkpoints"
    name, aside = state.tag, folder / f"writing-{state.update:06d}"
    if ranks.rank() == 0:
        clean(run)
        aside.mkdir(parents=True)
    ranks.barrier()
    try:
        engine.save(folder, aside.name)
        ranks.barrier()
        if ranks.rank() == 0:
            (aside / "state.json").write_text(json.dumps(dataclasses.asdict(state)), encoding="utf-8")
            hashes = {file.relative_to(aside).as_posix(): _hash(file) for file in _files(aside)}
            (aside / MANIFEST).write_text(json.dumps(hashes, indent=1), encoding="utf-8")
            for file in [*_files(aside), aside, *run.glob("*.jsonl")]:  # lines up to here count with it
                _sync(file)
            for other in folder.glob("update-*"):
                if other.name >= name:  # the run came back from an earlier one because these were not whole
                    shutil.rmtree(other)
            os.rename(aside, folder / name)
            _sync(folder)
            write_atomically(folder / "latest", name)
            for old in sorted(folder.glob("update-*"))[:-keep]:
                shutil.rmtree(old)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)  # on a full disk it is what stands in the way
        raise
    ranks.barrier()


def clean(run: Path) -> None:
    """Remove what a killed run was writing aside."""
    for left in (run / "checkpoints").glob("writing-*"):
        shutil.rmtree(left)


def written(run: Path) -> list[Path]:
    """A run's checkpoints, whole or not, newest first."""
    return sorted((run / "checkpoints").glob("update-*"), reverse=True)


def state(checkpoint: Path) -> State:
    """What a checkpoint says about its run.

    Raises:
        BrokenError: it says nothing, or the hash of what it says is not the manifest's.
        OtherVersionError: another version of the code wrote it.
    """
    manifest = checkpoint / MANIFEST
    if not manifest.is_file():
        raise BrokenError(f"no {MANIFEST}: it was not written by stp.train, or not to the end")
    try:
        hashes = json.loads(manifest.read_text(encoding="utf-8"))
        if hashes["state.json"] != _hash(checkpoint / "state.json"):
            raise BrokenError("state.json has changed since it was written")
        return State.read(json.loads((checkpoint / "state.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BrokenError(f"cannot be read ({error})") from None


def verify(checkpoint: Path) -> None:
    """Raise `BrokenError` unless the files are those of its manifest, name by name and hash by hash; nothing is unpickled."""
    hashes = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
    found = {file.relative_to(checkpoint).as_posix(): file for file in _files(checkpoint) if file.name != MANIFEST}
    for name in sorted(hashes.keys() | found.keys()):
        if name not in found:
            raise BrokenError(f"{name} is missing")
        if name not in hashes:
            raise BrokenError(f"{name} does not belong to it")
        if hashes[name] != _hash(found[name]):
            raise BrokenError(f"{name} has changed since it was written ({found[name].stat().st_size} bytes)")


class BrokenError(Exception):
    """Why a checkpoint cannot be used."""


class OtherVersionError(BrokenError):
    """Why a checkpoint that is whole is not one of this version of the code."""


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if not file.is_dir())


def _hash(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def export(engine: Engine, tokenizer: Any, run: Path) -> Path:
    """The trained result in public formats: `adapter/` (PEFT) or `weights/` (stock Llama, safetensors), with the tokenizer."""
    with engine.full_weights() as policy:
        folder = run / ("adapter" if isinstance(policy.model, PeftModel) else "weights")
        if ranks.rank() == 0:
            aside = run / f".writing-{folder.name}"
            for left in (aside, folder):
                shutil.rmtree(left, ignore_errors=True)
            model, config = recorded(run)
            if isinstance(policy.model, PeftModel):
                save_adapter(policy.model, aside, base_name(model))
            else:
                save_stock(policy.model, aside, policy.mask_id)
            save_tokenizer(tokenizer, aside)
            save_card(aside, "adapter" if folder.name == "adapter" else "merged", base_name(model), config)
            os.rename(aside, folder)
    ranks.barrier()
    return folder


def trained(checkpoint: str, model: Model) -> tuple[Path | None, Model, dict[str, Any]]:
    """Where a checkpoint's weights or adapter lie (None: the base alone), of what model, and its run's config.

    A run that has finished gives its weights or adapter, another one its newest whole checkpoint, which is said. The model is
    the given one (`stp.config.build` has taken it from the run); outside of a run the config is empty.
    """
    if checkpoint == "base":
        return None, model, {}
    folder = Path(checkpoint).expanduser()
    if not folder.is_dir():
        fail("checkpoint", checkpoint, "no such folder; give a run folder, an adapter or weights folder, or base")
    run = run_folder(checkpoint)
    if run is None:
        return folder, model, {}
    config = recorded(run)[1]
    if run != folder and folder.parent.name != "checkpoints":
        return folder, model, config
    if run != folder:
        try:
            state(folder)
            verify(folder)
        except BrokenError as broken:
            fail("checkpoint", folder, f"this checkpoint is not whole: {broken}; give another one of {run}")
        return folder, model, config
    return newest(run), model, config


def newest(run: Path) -> Path:
    """Returns what a run has learnt last: its adapter or weights, or a whole checkpoint where it has gone on from these.

    Raises:
        UserError: there is neither.
    """
    exported = next((run / name for name in ("adapter", "weights") if (run / name).is_dir()), None)
    summary = run / "summary.json"
    updates = json.loads(summary.read_text(encoding="utf-8"))["updates"] if summary.exists() else math.inf
    for checkpoint in written(run):
        try:
            if state(checkpoint).update <= updates and exported is not None:
                break
            verify(checkpoint)
        except BrokenError as broken:
            _say(f"{checkpoint}: skipped, {broken}")
            continue
        _say(f"{run} has not finished: its newest whole checkpoint is taken, {checkpoint.name}")
        return checkpoint
    if exported is None:
        fail("checkpoint", run, f"this run has not finished and has no whole checkpoint; continue it with trainer.resume={run}")
    return exported


def _say(text: str) -> None:
    if ranks.rank() == 0:
        print(text, flush=True)


def holds_adapter(folder: Path | None, model: Model) -> bool:
    """Whether what `trained` found is an adapter on the model's base: a folder of one, or a checkpoint of a run with LoRA."""
    if folder is None:
        return False
    return (folder / "adapter_config.json").exists() or (model.lora.rank > 0 and (folder / MANIFEST).exists())


def base_folder(folder: Path | None, model: Model) -> Path:
    """Returns the folder with the config.json and the tokenizer of what `trained` found."""
    own = folder is not None and (folder / "config.json").exists() and not (folder / "adapter_config.json").exists()
    return folder if own and folder is not None else checkpoint_folder(model)


def load(folder: Path | None, model: Model) -> tuple[Policy, Any]:
    """Policy and tokenizer of what `trained` found, nothing of it trainable; an adapter stays an adapter."""
    if folder is not None and (folder / MANIFEST).exists():
        policy, tokenizer = load_policy(dataclasses.replace(model, compile=False))
        restore(policy, folder)
        return policy.requires_grad_(False).eval(), tokenizer
    bare = dataclasses.replace(model, lora=Lora(), compile=False)
    adapter = folder if folder is not None and (folder / "adapter_config.json").exists() else None
    if folder is not None and adapter is None:
        bare = dataclasses.replace(bare, path=str(folder))
    policy, tokenizer = load_policy(bare, trainable=False)
    if adapter is None:
        return policy, tokenizer
    adapted = load_adapter(adapter, policy.llama)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            require_finite("checkpoint", adapter, name, parameter)
    return Policy(adapted, policy.mask_id, policy.eos_id, model.logit_chunk).requires_grad_(False).eval(), tokenizer


@torch.no_grad()
def restore(policy: Policy, checkpoint: Path) -> None:
    """Put the trainable weights of a run's checkpoint into a policy of the run's model, in the precision of its forwards.

    Raises:
        UserError: the checkpoint is of another model.
    """
    own = {name: parameter for name, parameter in policy.named_parameters() if parameter.requires_grad}
    found = trained_weights(checkpoint)
    shapes, others = ({name: tensor.shape for name, tensor in weights.items()} for weights in (own, found))
    missing = sorted(name for name in own if others.get(name) != shapes[name])
    rule = f"its weights are not those of this model ({', '.join(missing[:3])}); leave model= to the run"
    require(not missing, "checkpoint", checkpoint, rule)
    for name, parameter in own.items():
        require_finite("checkpoint", checkpoint, name, found[name])
        parameter.data = found[name]
