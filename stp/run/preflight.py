"""Checks before the work starts: places to write, room on the disk, and prompts that fit the model."""

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stp.errors import fail, require
from stp.evaluation.evaluator import Subject
from stp.models.codec import Codec
from stp.models.loading import read_config
from stp.models.options import Model
from stp.models.policy import Policy, checkpoint_folder, load_tokenizer, require_described
from stp.models.tiny import is_tiny
from stp.tasks.base import Problem

ADAM = 3 * 4  # the bytes in a checkpoint of a trained weight and its two moments


def writable(option: str, folder: Path, fix: str = "give another folder") -> None:
    """Tries to write and remove a file in a folder, or if there is none yet, in the nearest existing one above it.

    fix: the advice in the error message.

    Raises:
        UserError: nothing can be written there.
    """
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)) as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        fail(option, folder, f"nothing can be written there ({error.strerror}); {fix}")


def room(folder: Path, policy: Policy, checkpoints: int) -> None:
    """Refuses a disk with too little room for `checkpoints` checkpoints at once and the trained weights.

    Raises:
        UserError: it names what is needed and what is free.
    """
    trained = sum(parameter.numel() for parameter in policy.parameters() if parameter.requires_grad)
    needed, free = trained * (ADAM * checkpoints + policy.llama.dtype.itemsize), shutil.disk_usage(_existing(folder)).free
    fix = "make room, keep fewer with trainer.keep_checkpoints=1, or give another disk with hydra.run.dir=<folder>"
    rule = f"{checkpoints} checkpoint(s) and the weights take {needed / 2**30:.1f} GiB, {free / 2**30:.1f} are free; {fix}"
    require(needed <= free, "hydra.run.dir", folder, rule)


def _existing(folder: Path) -> Path:
    """Returns the folder, or the nearest one above it that exists."""
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(place))


def prompts(model: Model, task: Any, length: int, problems: list[Problem], whole: Sequence[Problem] = ()) -> int:
    """Counts the prompts that are cut to `model.prompt_tokens`. Reads the tokenizer and the config, but not the weights.

    whole: problems that are asked uncut, as in evaluations.

    Raises:
        UserError: model=tiny describes a large model, most prompts would be cut, or a prompt and its response need more
            positions than the model has.
    """
    folder = checkpoint_folder(model)
    require_described("model.path", folder, model)
    codec = Codec(load_tokenizer(folder), task.instruction if model.instructions else "", None)
    lengths = sorted(len(codec.encode_prompt(problem.question)) for problem in problems)
    cut = sum(tokens > model.prompt_tokens for tokens in lengths)
    most, half = known_positions(folder), lengths[(len(lengths) - 1) // 2]  # `half` leaves half of the prompts uncut
    least, room = lengths[-1], (most or sys.maxsize) - length
    advice = f"choose {least} or more" if least <= room else f"choose {half} to {room}, which the model's {most} positions hold"
    if half > room:
        advice = f"the model's {most} positions hold {room} beside sampler.length={length}; give shorter problems or responses"
    rule = f"{cut} of {len(problems)} prompts are longer and would lose their beginning; {advice}"
    require(2 * cut <= len(problems), "model.prompt_tokens", model.prompt_tokens, rule)
    if most is not None:
        _require_room(
            most,
            min(lengths[-1], model.prompt_tokens),
            length,
            f"or model.prompt_tokens={room} or less" if half <= room else "",
        )
    positions(folder, codec, length, whole)
    return cut


def known_positions(folder: Path) -> int | None:
    """Returns how many positions the model has by its config.json, or None if that does not say."""
    raw = read_config(folder)
    most = raw.get("max_position_embeddings", raw.get("max_sequence_length"))
    return most if isinstance(most, int) else None


def positions(folder: Path, codec: Codec, length: int, problems: Sequence[Problem]) -> None:
    """Refuses a response length that with the longest of these prompts needs more positions than the model has."""
    most = known_positions(folder)
    if most is not None and problems:
        _require_room(most, max(len(codec.encode_prompt(problem.question)) for problem in problems), length)


def _require_room(most: int, prompt: int, length: int, otherwise: str = "") -> None:
    rule = f"after a prompt of {prompt} tokens that leaves the model's {most} positions; "
    fits = f"choose {most - prompt} or less" if prompt < most else "leave that problem out"
    require(prompt + length <= most, "sampler.length", length, rule + " ".join(part for part in (fits, otherwise) if part))


def told(subject: Subject, folder: Path) -> str:
    """Returns the line on what a command measures or makes. It warns if a large model gets generated problems."""
    if subject.source != "generated" or is_tiny(read_config(folder)):
        return str(subject)
    real = "task.data.source=hub or task.data.path=<file or folder> takes the real ones"
    return f"{subject}\nWARNING: these problems are generated for the tiny model, not {subject.task}'s own; {real}"
