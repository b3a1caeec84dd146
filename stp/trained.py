"""Writes what was trained in public formats, and finds and loads it again for `checkpoint=`."""

import dataclasses
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from stp.config import recorded, run_folder
from stp.errors import fail, require
from stp.models.adapters import load_adapter, save_adapter
from stp.models.loading import require_finite
from stp.models.options import Lora, Model
from stp.models.policy import Policy, base_name, checkpoint_folder, load_policy
from stp.models.public import save_card, save_stock, save_tokenizer
from stp.run import ranks
from stp.run.checkpoints import MANIFEST, BrokenError, state, verify, written
from stp.run.engine import Engine, trained_weights


def export(engine: Engine, tokenizer: Any, run: Path) -> Path:
    """Writes the trained result in public formats: `adapter/` (PEFT) or `weights/` (stock model), with the tokenizer."""
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


def locate(checkpoint: str, model: Model) -> tuple[Path | None, Model, dict[str, Any]]:
    """Returns the folder of a checkpoint's weights or adapter (None for the base alone), its model, and its run's config.

    A finished run gives its weights or adapter. An unfinished one gives its newest whole checkpoint, and a line tells so. The
    model is the given one, which `stp.config.build` has taken from the run. Outside of a run the config is empty.
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
    """Returns the newest result of a run: its adapter or weights, or a whole checkpoint if the run went on after these.

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
    """Says whether `locate` found an adapter on the model's base: an adapter's folder, or a checkpoint of a run with LoRA."""
    if folder is None:
        return False
    return (folder / "adapter_config.json").exists() or (model.lora.rank > 0 and (folder / MANIFEST).exists())


def base_folder(folder: Path | None, model: Model) -> Path:
    """Returns the folder that has the config.json and the tokenizer for what `locate` found."""
    own = folder is not None and (folder / "config.json").exists() and not (folder / "adapter_config.json").exists()
    return folder if own and folder is not None else checkpoint_folder(model)


def load(folder: Path | None, model: Model) -> tuple[Policy, Any]:
    """Loads the policy and tokenizer that `locate` found. Nothing is trainable, and an adapter stays an adapter."""
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
    """Puts the weights of a run's checkpoint into a policy of the run's model, in the precision of its forwards.

    Raises:
        UserError: the checkpoint belongs to another model.
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
