"""Checkpoints: written aside, then renamed; resumable to the bit. And what was trained: written, and read again."""

import dataclasses
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
from stp.models.adapters import load_adapter
from stp.models.policy import Lora, Model, Policy, load_policy
from stp.tracking import write_atomically


def save(engine: Engine, run: Path, update: int, state: dict[str, Any], keep: int) -> None:
    """Write `checkpoints/update-<n>` whole or not at all, point `latest` at it, and drop the oldest beyond `keep`."""
    folder = run / "checkpoints"
    name, aside = f"update-{update:06d}", f"writing-{update:06d}"
    if ranks.rank() == 0:
        shutil.rmtree(folder / aside, ignore_errors=True)
        (folder / aside).mkdir(parents=True)
    ranks.barrier()
    engine.save(folder, aside)
    ranks.barrier()
    if ranks.rank() == 0:
        (folder / aside / "state.json").write_text(
            json.dumps({"update": update, "optimizer_updates": engine.updates_done, **state})
        )
        for file in (folder / aside).rglob("*"):
            if file.is_file():
                _sync(file)
        shutil.rmtree(folder / name, ignore_errors=True)
        os.rename(folder / aside, folder / name)
        _sync(folder)
        write_atomically(folder / "latest", name)
        for old in sorted(folder.glob("update-*"))[:-keep]:
            shutil.rmtree(old)
    ranks.barrier()


def latest(run: Path) -> tuple[str, dict[str, Any]] | None:
    """(tag, state) of a run's newest complete checkpoint; None when it has none."""
    pointer = run / "checkpoints" / "latest"
    if not pointer.exists():
        return None
    tag = pointer.read_text().strip()
    try:
        return tag, json.loads((run / "checkpoints" / tag / "state.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        fail("trainer.resume", run, f"its checkpoint {tag} cannot be read ({error})")


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
            policy.model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
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
    bare = dataclasses.replace(model, lora=Lora())
    adapter = folder is not None and (folder / "adapter_config.json").exists()
    if folder is not None and not adapter:
        bare = dataclasses.replace(bare, path=str(folder))
    policy, tokenizer = load_policy(bare, trainable=False)
    if not adapter:
        return policy, tokenizer
    adapted = load_adapter(folder, policy.llama)
    return Policy(adapted, policy.mask_id, policy.eos_id, model.logit_chunk).requires_grad_(False).eval(), tokenizer
