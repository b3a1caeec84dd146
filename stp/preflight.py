"""What can be known before the work starts: places to write, room on the disk, prompts that the model can take."""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from stp.errors import fail, require
from stp.models.codec import Codec
from stp.models.loading import read_config
from stp.models.policy import Model, Policy, checkpoint_folder, load_tokenizer
from stp.tasks.base import Problem

ADAM = 3 * 4  # bytes of a trained weight and its two moments in a checkpoint


def writable(option: str, folder: Path) -> None:
    """Write and remove a file in a folder, or, while that does not exist, in the nearest one above it.

    Raises:
        UserError: it cannot be written there.
    """
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)) as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        fail(option, folder, f"nothing can be written there ({error.strerror}); give another folder")


def room(folder: Path, policy: Policy, checkpoints: int) -> None:
    """Refuse a disk with less room than what will be written at least: so many checkpoints at once, and the trained weights.

    Raises:
        UserError: naming what is needed and what is free.
    """
    trained = sum(parameter.numel() for parameter in policy.parameters() if parameter.requires_grad)
    needed, free = trained * (ADAM * checkpoints + policy.llama.dtype.itemsize), shutil.disk_usage(_existing(folder)).free
    fix = "make room, keep fewer with trainer.keep_checkpoints=1, or give another disk with hydra.run.dir=<folder>"
    rule = f"{checkpoints} checkpoint(s) and the weights take {needed / 2**30:.1f} GiB, {free / 2**30:.1f} are free; {fix}"
    require(needed <= free, "hydra.run.dir", folder, rule)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(place))


def prompts(model: Model, task: Any, length: int, problems: list[Problem]) -> int:
    """How many prompts are cut to `model.prompt_tokens`. Reads the tokenizer and the config beside the weights, not these.

    Raises:
        UserError: most prompts are cut, or with the response they are longer than the model's positions.
    """
    folder = checkpoint_folder(model)
    codec = Codec(load_tokenizer(folder), task.instruction if model.instructions else "", sys.maxsize)
    lengths = sorted(len(codec.encode_prompt(problem.question)) for problem in problems)
    cut = sum(tokens > model.prompt_tokens for tokens in lengths)
    rule = f"{cut} of {len(problems)} prompts are longer and would lose their beginning; choose {lengths[-1]} or more"
    require(2 * cut <= len(problems), "model.prompt_tokens", model.prompt_tokens, rule)
    raw = read_config(folder)
    most, longest = raw.get("max_position_embeddings", raw.get("max_sequence_length")), min(lengths[-1], model.prompt_tokens)
    if isinstance(most, int):
        rule = f"after a prompt of {longest} tokens that leaves the model's {most} positions; choose {most - longest} or less"
        require(longest + length <= most, "sampler.length", length, rule)
    return cut
