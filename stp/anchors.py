"""The static dataset: earlier responses to start from, what of them may be fixed, and where they came from."""

import contextlib
import errno
import itertools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from stp.diffusion import Denoiser
from stp.errors import UserError, fail
from stp.estimators.base import masked_log_probs
from stp.types import Anchors, Draws, Noise, Prompts, Trajectory

VERSION = 2


@dataclass(frozen=True)
class StaticDataset:
    """k anchors for each of N problems, token-aligned with the response.

    provenance: what made them (model, tokenizer, settings). problems: their ids, in row order. eligible: what may be fixed.
    confidence: log-probability of each token under one forward with the whole response masked. reward: of each anchor.
    """

    provenance: dict[str, Any]
    problems: list[str]
    tokens_NKL: Tensor
    eligible_NKL: Tensor
    confidence_NKL: Tensor
    reward_NK: Tensor

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row of each problem that has anchors."""
        return {problem: row for row, problem in enumerate(self.problems)}

    def save(self, folder: Path) -> None:
        """Write anchors.safetensors and anchors.json; the folder appears whole or not at all.

        Jobs that run side by side may make the same dataset: the first to finish leaves it, the others find it there.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left in folder.parent.glob(f".writing-{folder.name}-*"):  # by a writer that was killed
            with contextlib.suppress(FileNotFoundError):  # its writer has just finished
                if time.time() - left.stat().st_mtime > 3600:
                    shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".writing-{folder.name}-") as temporary:
            aside = Path(temporary) / "new"
            aside.mkdir()
            tensors = {name: getattr(self, f"{name}_NKL").contiguous() for name in ("tokens", "eligible", "confidence")}
            save_file(tensors | {"reward": self.reward_NK}, aside / "anchors.safetensors")
            (aside / "anchors.json").write_text(
                json.dumps({"provenance": self.provenance, "problems": self.problems}, indent=1), encoding="utf-8"
            )
            for attempt in itertools.count():
                try:
                    os.rename(aside, folder)  # refused where a folder with files is in the way
                    return
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
                if self._is_in(folder):
                    return
                with contextlib.suppress(FileNotFoundError):  # another job has just taken it away
                    os.rename(folder, Path(temporary) / f"old-{attempt}")

    def _is_in(self, folder: Path) -> bool:
        """Whether a folder holds this dataset, of the same making and problems."""
        try:
            found = StaticDataset.load(folder)
        except UserError:
            return False
        return (found.provenance, found.problems) == (self.provenance, self.problems)

    def check(self) -> None:
        """Raise ValueError unless the parts are of the kinds and shapes that fit together."""
        shape, ids = self.tokens_NKL.shape, self.problems
        same = self.eligible_NKL.shape == self.confidence_NKL.shape == shape and self.reward_NK.shape == shape[:2]
        if not (same and len(shape) == 3 and shape[0] == len(ids) and min(shape) >= 1):
            raise ValueError("its tensors do not have one row per problem and one shape")
        kinds = [self.tokens_NKL.dtype, self.eligible_NKL.dtype, self.confidence_NKL.dtype, self.reward_NK.dtype]
        if kinds != [torch.int64, torch.bool, torch.float32, torch.float32]:
            raise ValueError("its tensors are of other types")
        if not isinstance(self.provenance, dict) or not all(isinstance(problem, str) for problem in ids):
            raise ValueError("its anchors.json does not say what made it, or for which problems")
        if shape[2] != self.provenance.get("length", shape[2]):
            raise ValueError("its anchors are not of the length that it names")

    @classmethod
    def load(cls, folder: Path, expected: dict[str, Any] | None = None) -> "StaticDataset":
        """Read a folder; with `expected`, refuse one whose provenance differs, naming what does.

        Which problems it covers may differ: those without an anchor are decoded with nothing fixed.
        """
        try:
            record = json.loads((folder / "anchors.json").read_text(encoding="utf-8"))
            tensors = load_file(folder / "anchors.safetensors")
            dataset = cls(
                record["provenance"],
                record["problems"],
                tensors["tokens"],
                tensors["eligible"],
                tensors["confidence"],
                tensors["reward"],
            )
            dataset.check()
        except FileNotFoundError:
            fail("sampler.static", folder, "no static dataset there; make one with python -m stp.pregenerate")
        except (SafetensorError, ValueError, RecursionError, KeyError, TypeError, OSError) as error:
            raise UserError(
                f"sampler.static={folder}: not a readable static dataset ({error}); delete it and make it again"
            ) from None
        for key, value in (expected or {}).items():
            found = dataset.provenance.get(key)
            if found != value and key != "problems":
                fail(
                    "sampler.static",
                    folder,
                    f"made with {key} {found}, this run has {value}; make another with python -m stp.pregenerate",
                )
        return dataset

    def anchors(self, problem_ids: list[str], choose: str, draws: Draws) -> Anchors:
        """One anchor for each row of the global batch. Rows of problems that are not in the dataset have nothing eligible.

        choose: `first`, `random` (drawn anew for each row), or `best` (highest reward, then fewest eligible tokens).
        """
        known_B = torch.tensor([problem in self.row_of for problem in problem_ids])
        row_B = torch.tensor([self.row_of.get(problem, 0) for problem in problem_ids])
        k = self.reward_NK.shape[1]
        if choose == "random":
            pick_B = (draws.uniform("anchor", 0) * k).long()
        elif choose == "best":
            reward_BK, eligible_BKL = self.reward_NK[row_B], self.eligible_NKL[row_B]
            beaten_BK = reward_BK < reward_BK.max(dim=1, keepdim=True).values
            pick_B = eligible_BKL.sum(dim=2).masked_fill(beaten_BK, eligible_BKL.shape[2] + 1).argmin(dim=1)
        else:
            pick_B = torch.zeros_like(row_B)
        return Anchors(
            tokens_BL=self.tokens_NKL[row_B, pick_B],
            eligible_BL=self.eligible_NKL[row_B, pick_B] & known_B[:, None],
            confidence_BL=self.confidence_NKL[row_B, pick_B],
        )


@torch.no_grad()
def token_confidence(denoise: Denoiser, prompts: Prompts, response_BL: Tensor) -> Tensor:
    """Log-probability of every token of a response, from one forward with the whole response masked."""
    everything_BL = torch.ones_like(response_BL, dtype=torch.bool)
    trajectory = Trajectory(prompts, response_BL, ~everything_BL, everything_BL, nfe=0, nfe_run=0)
    noise = Noise(everything_BL[:, None], torch.ones(len(response_BL), 1))
    return masked_log_probs(denoise, trajectory, noise)[:, 0].float().cpu()


def scored(
    denoise: Denoiser, prompts: Prompts, response_BL: Tensor, rows: int, advance: Callable[[int], None] = lambda n: None
) -> Tensor:
    """`token_confidence` in batches of `rows`."""
    parts = []
    for start in range(0, len(prompts), rows):
        part = slice(start, start + rows)
        parts.append(token_confidence(denoise, prompts.rows(part), response_BL[part]))
        advance(len(parts[-1]))
    return torch.cat(parts)
