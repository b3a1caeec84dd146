"""`python -m stp.export checkpoint=<run, adapter or weights folder> to=adapter|merged|llada`: public formats."""

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import LlamaForCausalLM

from stp import checkpoints, preflight
from stp.cli import run
from stp.config import Export
from stp.errors import fail, require
from stp.models.llada import save_llada
from stp.models.policy import Model, Policy


def main(config: Export) -> None:
    """Write the checkpoint whole or not at all, and say where."""
    folder, model, _ = checkpoints.trained(config.checkpoint, config.model)
    to = destination(config)
    preflight.writable("folder", to)
    if config.to == "adapter" and (folder is None or not (folder / "adapter_config.json").exists()):
        fail("to", "adapter", "this checkpoint has no adapter, all of its weights are its own; use to=merged")
    # an adapter trained on 4-bit weights goes into the weights that they were made from
    model = dataclasses.replace(model, quantize="none", dtype=config.dtype or model.dtype)
    aside = to.with_name(f"{to.name}.writing")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
    except OSError as error:
        fail("folder", to, f"nothing can be written there ({error.strerror}); give another folder=<folder>")
    try:
        policy, tokenizer = checkpoints.load(folder, model)
        if config.to == "llada" and not isinstance(policy.llama, LlamaForCausalLM):
            fail("to", "llada", f"the model is a {type(policy.llama).__name__}, not a LLaDA; use to=merged")
        write(policy, aside, config.to, model)
        tokenizer.save_pretrained(aside)
        os.replace(aside, to)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    print(to, flush=True)


def destination(config: Export) -> Path:
    """The folder to write: the given one, `export-<to>` in a run, `<name>-<to>` beside an adapter or weights folder."""
    source = Path(config.checkpoint)
    if config.folder is not None:
        to = Path(config.folder)
    elif config.checkpoint == "base":
        fail("folder", None, "the base has no folder to write beside; give folder=<folder>, or checkpoint=<run folder>")
    elif (source / "config.yaml").exists():
        to = source / f"export-{config.to}"
    else:
        to = source.with_name(f"{source.resolve().name}-{config.to}")
    empty = not to.exists() or (to.is_dir() and not any(to.iterdir()))
    require(empty, "folder", to, "something is there already; remove it or give another folder=<folder>")
    return to


def write(policy: Policy, folder: Path, to: str, options: Model) -> None:
    """The weights and their config, in one of the three formats."""
    model: Any = policy.model
    if to == "adapter":
        model.peft_config["default"].base_model_name_or_path = options.path
        model.save_pretrained(folder, save_embedding_layers=False)
        return
    stock = model.merge_and_unload() if isinstance(model, PeftModel) else model
    if to == "llada":
        save_llada(stock, folder, policy.mask_id)
    else:
        stock.config.mask_token_id = policy.mask_id
        stock.save_pretrained(folder)


if __name__ == "__main__":
    run(main, "export")
