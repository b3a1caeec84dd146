"""`python -m stp.export checkpoint=<run, adapter or weights folder> to=<format>` writes public formats, and uploads them."""

import dataclasses
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING
from peft import PeftModel
from transformers import LlamaForCausalLM

from stp import trained
from stp.cli import run
from stp.config import run_folder
from stp.errors import fail, require, require_choice
from stp.evaluation.intervals import beside, counts, interval
from stp.models.adapters import adapted_modules, save_adapter
from stp.models.llada import llada_module, save_llada
from stp.models.loading import read_config, stored_dtype
from stp.models.options import Model
from stp.models.policy import Policy, base_name, checkpoint_folder
from stp.models.public import ADAPTERS, public_name, save_card, save_stock, save_tokenizer
from stp.run import hub, preflight
from stp.run.checkpoints import MANIFEST
from stp.run.summary import Summary

OTHERWISE = {"llada": "merged", "adapter_llada": "adapter"}  # a format of LLaDA's own -> the stock format to use instead


@dataclass
class Export:
    """What `python -m stp.export` runs."""

    model: Any = MISSING
    checkpoint: str = field(
        default="base",
        metadata={
            "help": "a run folder (brings its model), an adapter folder (model= says of what), a weights folder, or base"
        },
    )
    to: str = field(
        default="merged",
        metadata={
            "help": "adapter (PEFT) | adapter_llada (PEFT, on LLaDA's own names of modules) | merged (stock weights)"
            " | llada (LLaDA's own names and config)"
        },
    )
    folder: str | None = field(
        default=None, metadata={"help": "folder to write; null is export-<to> in the run, <name>-<to> beside other folders"}
    )
    push: str | None = field(
        default=None,
        metadata={"help": "upload to this place on the hub, <user>/<name>, with a card of what was trained and measured"},
    )
    dry_run: bool = field(
        default=False, metadata={"help": "show the card and the files that push= would upload, and keep nothing"}
    )
    dtype: str | None = field(
        default=None, metadata={"help": "float32 | bfloat16: of the merged weights; null is the run's or the weights' own"}
    )

    def __post_init__(self) -> None:
        require_choice("to", self.to, ("adapter", "adapter_llada", "merged", "llada"))
        if self.dtype is not None:
            require_choice("dtype", self.dtype, ("float32", "bfloat16"))
        if self.push is not None:
            hub.require_name(self.push)
        require(not self.dry_run or self.push is not None, "dry_run", True, "it shows an upload; add push=<user>/<name>")


def main(config: Export) -> None:
    """Writes the checkpoint whole or not at all, and tells where. With `push=` it goes on to the hub."""
    folder, model, trained_by = trained.locate(config.checkpoint, config.model)
    to = destination(config)
    if config.push is not None and not config.dry_run:
        hub.require_access(config.push)
    preflight.writable("folder", to)
    if config.to in ADAPTERS and not trained.holds_adapter(folder, model):
        fail("to", config.to, "this checkpoint has no adapter, all of its weights are its own; use to=merged")
    # an adapter that was trained on 4-bit weights is merged into the weights from which these were made
    model = dataclasses.replace(model, quantize="none", dtype=precision(config, folder, model, bool(trained_by)))
    aside = to.with_name(f"{to.name}.writing")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
    except OSError as error:
        fail("folder", to, f"nothing can be written there ({error.strerror}); give another folder=<folder>")
    try:
        policy, tokenizer = trained.load(folder, model)
        kind = type(policy.llama).__name__
        if config.to in OTHERWISE:
            llada = isinstance(policy.llama, LlamaForCausalLM)
            require(llada, "to", config.to, f"the model is a {kind}, not a LLaDA; use to={OTHERWISE[config.to]}")
        base = base_name(model) if config.push is None else public_name(base_name(model))
        write(policy, aside, config.to, base)
        save_tokenizer(tokenizer, aside)
        save_card(aside, config.to, base, trained_by, results(config.checkpoint, folder))
        if config.push is not None:
            card = aside / "README.md"
            card.write_text(card.read_text(encoding="utf-8").replace('"<this folder>"', f'"{config.push}"'), encoding="utf-8")
        if config.dry_run:
            return show(aside, str(config.push))
        os.replace(aside, to)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    print(to, flush=True)
    if config.push is not None:
        print(hub.upload(to, config.push), flush=True)


def results(checkpoint: str, folder: Path | None) -> list[str]:
    """Returns a card's lines on what a run measured, with 95 % intervals: none unless its final weights are exported."""
    run = run_folder(checkpoint)
    summary = Summary.read(run) if run is not None and folder is not None and not (folder / MANIFEST).exists() else None
    if summary is None or not summary.scores or summary.eval is None:
        return []
    about = summary.eval
    lines = [f"| {about['split']} problems of {summary.task} | before | after |", "|---|---|---|"]
    for temperature, (before, after) in summary.scores.items():
        lines.append(f"| {temperature} | {_counted(before)} | {_counted(after)} |")
        other = beside(after)
        lines += [f"| {temperature}, {name} | {_counted(before[name])} | {_counted(other[name])} |" for name in other]
    source, grading = about.get("source", "unknown"), about.get("grading", "unknown")
    place = source.removeprefix("from ")
    if place != source and not place.startswith("the hub's "):
        source = f"from {Path(place).name}"  # the card is public, the way to a file is not
    return [
        f"Accuracy on held-out problems ({source}; {grading} grading), one completion each, by the standard sampler:",
        "",
        *lines,
        "",
        "Brackets hold 95 % intervals over problems (Wilson). This is one seed.",
    ]


def _counted(score: dict[str, Any]) -> str:
    """Returns the counts with the interval that the run found. An older run kept none: it has one if completions are counted.

    Parts of a completion, as a puzzle's cells, depend on each other, and their counts alone do not say how much.
    """
    if "interval" in score:
        low, high = score["interval"]["accuracy"]
    elif "unit" not in score:
        low, high = interval([1] * score["correct"] + [0] * (score["total"] - score["correct"]), [1] * score["total"])
    else:
        return counts(score)
    return f"{counts(score)} [{100 * low:.1f}, {100 * high:.1f}]"


def show(folder: Path, name: str) -> None:
    """Prints what an upload would hold: the files with their sizes, and the card."""
    print(f"{name} would get these files, and nothing was uploaded:")
    for file in sorted(folder.iterdir()):
        print(f"  {file.name}  {file.stat().st_size:,} bytes")
    print((folder / "README.md").read_text(encoding="utf-8"), flush=True)


def destination(config: Export) -> Path:
    """Returns the folder to write: the given one, `export-<to>` in a run, or `<name>-<to>` beside an adapter or weights folder.

    For one of a run's checkpoints it is `export-<to>-update-<n>`.
    """
    source = Path(config.checkpoint).expanduser()
    if config.folder is not None:
        to = Path(config.folder)
    elif config.checkpoint == "base":
        fail("folder", None, "the base has no folder to write beside; give folder=<folder>, or checkpoint=<run folder>")
    elif (run := run_folder(config.checkpoint)) is not None and (run == source or source.parent.name == "checkpoints"):
        to = run / (f"export-{config.to}" if run == source else f"export-{config.to}-{source.name}")
    else:
        to = source.with_name(f"{source.resolve().name}-{config.to}")
    empty = not to.exists() or (to.is_dir() and not any(to.iterdir()))
    require(empty, "folder", to, "something is there already; remove it or give another folder=<folder>")
    return to


def precision(config: Export, folder: Path | None, model: Model, of_run: bool) -> str:
    """Returns the dtype in which weights are loaded, and merged ones written: as asked for, the run's, or the weights' own.

    An adapter keeps its own dtype. Its base is then loaded in bfloat16, only to check that the adapter fits.
    """
    if config.to in ADAPTERS:
        return "bfloat16"
    if config.dtype is not None or of_run:
        return config.dtype or model.dtype
    adapter = folder is not None and (folder / "adapter_config.json").exists()
    weights = checkpoint_folder(model) if folder is None or adapter else folder
    return stored_dtype(read_config(weights)) or model.dtype


def write(policy: Policy, folder: Path, to: str, base: str) -> None:
    """Writes the weights and their config in one of the four formats. base: how others find an adapter's base."""
    model: Any = policy.model
    adapter = isinstance(model, PeftModel)
    if to != "adapter" and adapter and policy.llama.config.tie_word_embeddings:
        apart = adapted_modules(model).isdisjoint({"lm_head", "model.embed_tokens"})
        rule = "the adapter is on the head or the embeddings, which are one matrix in this model and would become two"
        require(apart, "to", to, f"{rule}; use to=adapter")
    if to in ADAPTERS:
        save_adapter(model, folder, base, llada_module if to == "adapter_llada" else str)
        return
    if adapter:
        for name, parameter in model.named_parameters():
            if "lora_" in name:  # float32: rounds once, when added to the weights
                parameter.data = parameter.data.float()
    stock = model.merge_and_unload() if adapter else model
    if to == "llada":
        save_llada(stock, folder, policy.mask_id)
    else:
        save_stock(stock, folder, policy.mask_id)


if __name__ == "__main__":
    run(main, "export", Export)
