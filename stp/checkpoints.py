"""Checkpoints: written aside, then renamed; resumable to the bit. And exports of what was trained."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from peft import PeftModel

from stp import engine as ranks
from stp.engine import Engine
from stp.errors import fail
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
