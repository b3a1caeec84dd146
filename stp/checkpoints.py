"""Checkpoints: written aside, hashed, then renamed; resumable to the bit. And what was trained: written, and read again."""

import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from peft import PeftModel

from stp import engine as ranks
from stp.config import recorded
from stp.engine import Engine
from stp.errors import fail
from stp.models.adapters import load_adapter, save_adapter
from stp.models.policy import Lora, Model, Policy, base_name, load_policy
from stp.models.public import save_card, save_stock, save_tokenizer
from stp.tracking import write_atomically

MANIFEST = "manifest.json"


def save(engine: Engine, run: Path, update: int, state: dict[str, Any], keep: int) -> None:
    """Write `checkpoints/update-<n>` whole or not at all, and drop the oldest beyond `keep`.

    Its files are written aside and read back into a manifest of their SHA-256 hashes; only then the folder gets its name.
    `latest` names it too, for people: a resumed run looks at the checkpoints themselves.
    """
    folder = run / "checkpoints"
    name, aside = f"update-{update:06d}", folder / f"writing-{update:06d}"
    if ranks.rank() == 0:
        clean(run)
        aside.mkdir(parents=True)
    ranks.barrier()
    try:
        engine.save(folder, aside.name)
        ranks.barrier()
        if ranks.rank() == 0:
            record = {"update": update, "optimizer_updates": engine.updates_done, **state}
            (aside / "state.json").write_text(json.dumps(record), encoding="utf-8")
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


def state(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint says about its run.

    Raises:
        BrokenError: it says nothing, or the hash of what it says is not the manifest's.
    """
    manifest = checkpoint / MANIFEST
    if not manifest.is_file():
        raise BrokenError(f"no {MANIFEST}: it was not written by stp.train, or not to the end")
    try:
        hashes = json.loads(manifest.read_text(encoding="utf-8"))
        if hashes["state.json"] != _hash(checkpoint / "state.json"):
            raise BrokenError("state.json has changed since it was written")
        return json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
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

    A run folder brings its own model, and its config; elsewhere the model is the given one and the config empty.
    """
    if checkpoint == "base":
        return None, model, {}
    folder = Path(checkpoint)
    if not folder.is_dir():
        fail("checkpoint", checkpoint, "no such folder; give a run folder, an adapter or weights folder, or base")
    if not (folder / "config.yaml").exists():
        return folder, model, {}
    model, config = recorded(folder)
    inside = [folder / name for name in ("adapter", "weights") if (folder / name).is_dir()]
    if not inside:
        fail("checkpoint", folder, f"this run has not finished; continue it with trainer.resume={folder}")
    return inside[0], model, config


def load(folder: Path | None, model: Model) -> tuple[Policy, Any]:
    """Policy and tokenizer of what `trained` found, nothing of it trainable; an adapter stays an adapter."""
    bare = dataclasses.replace(model, lora=Lora(), compile=False)
    adapter = folder if folder is not None and (folder / "adapter_config.json").exists() else None
    if folder is not None and adapter is None:
        bare = dataclasses.replace(bare, path=str(folder))
    policy, tokenizer = load_policy(bare, trainable=False)
    if adapter is None:
        return policy, tokenizer
    adapted = load_adapter(adapter, policy.llama)
    return Policy(adapted, policy.mask_id, policy.eos_id, model.logit_chunk).requires_grad_(False).eval(), tokenizer
