"""What can be known before the work starts: places to write, room on the disk, prompts that the model can take."""

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
from stp.models.policy import Model, Policy, checkpoint_folder, load_tokenizer, require_described
from stp.models.tiny import is_tiny
from stp.tasks.base import Problem

ADAM = 3 * 4  # bytes of a trained weight and its two moments in a checkpoint


def writable(option: str, folder: Path, fix: str = "give another folder") -> None:
    """Write and remove a file in a folder, or, while that does not exist, in the nearest one above it. fix: what to do else.

    Raises:
        UserError: it cannot be written there.
    """
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)) as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        fail(option, folder, f"nothing can be written there ({error.strerror}); {fix}")


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


def prompts(model: Model, task: Any, length: int, problems: list[Problem], whole: Sequence[Problem] = ()) -> int:
    """How many prompts are cut to `model.prompt_tokens`. Reads the tokenizer and the config beside the weights, not these.

    whole: problems that are asked uncut, as evaluation does.

    Raises:
        UserError: model=tiny describes a large model, most prompts are cut, or with the response they are longer than the
            model's positions.
    """
    folder = checkpoint_folder(model)
    require_described("model.path", folder, model)
    codec = Codec(load_tokenizer(folder), task.instruction if model.instructions else "", None)
    lengths = sorted(len(codec.encode_prompt(problem.question)) for problem in problems)
    cut = sum(tokens > model.prompt_tokens for tokens in lengths)
    most, half = known_positions(folder), lengths[(len(lengths) - 1) // 2]  # with which half of the prompts are whole
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
    """How many positions a config.json says that its model has; None where it does not."""
    raw = read_config(folder)
    most = raw.get("max_position_embeddings", raw.get("max_sequence_length"))
    return most if isinstance(most, int) else None


def positions(folder: Path, codec: Codec, length: int, problems: Sequence[Problem]) -> None:
    """Refuse a response that with the longest of these prompts, asked as the codec asks, leaves the model's positions."""
    most = known_positions(folder)
    if most is not None and problems:
        _require_room(most, max(len(codec.encode_prompt(problem.question)) for problem in problems), length)


def _require_room(most: int, prompt: int, length: int, otherwise: str = "") -> None:
    rule = f"after a prompt of {prompt} tokens that leaves the model's {most} positions; "
    fits = f"choose {most - prompt} or less" if prompt < most else "leave that problem out"
    require(prompt + length <= most, "sampler.length", length, rule + " ".join(part for part in (fits, otherwise) if part))


def told(subject: Subject, folder: Path) -> str:
    """What a command measures or makes, with a warning where generated problems meet a model that is not the tiny one."""
    if subject.source != "generated" or is_tiny(read_config(folder)):
        return str(subject)
    real = "task.data.source=hub or task.data.path=<file or folder> takes the real ones"
    return f"{subject}\nWARNING: these problems are generated for the tiny model, not {subject.task}'s own; {real}"
