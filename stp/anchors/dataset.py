"""The static dataset: stored anchors (earlier responses), which of their tokens may be fixed, and what made them."""

import contextlib
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from stp.diffusion import Denoiser
from stp.errors import UserError, fail, require
from stp.estimators.base import masked_log_probs
from stp.types import Anchors, Draws, Noise, Prompts, Trajectory

VERSION = 3  # 3: it says which anchors are right
PARTS = ("tokens", "eligible", "confidence", "reward", "correct")  # the tensors in a file of anchors


@dataclass(frozen=True)
class StaticDataset:
    """k anchors for each of N problems, token-aligned with the response.

    provenance: what made the anchors (model, tokenizer, settings). problems: the problems' keys, in row order. eligible: the
    tokens that may be fixed. confidence: each token's log-probability under one forward with the whole response masked.
    reward: the reward of each anchor. correct: whether it is right, as the task's accuracy counts it.

    A folder holds a dataset as several files. Each has the anchors of some problems and is added as soon as they are made.
    """

    provenance: dict[str, Any]
    problems: list[str]
    tokens_NKL: Tensor
    eligible_NKL: Tensor
    confidence_NKL: Tensor
    reward_NK: Tensor
    correct_NK: Tensor

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row of each problem that has anchors."""
        return {problem: row for row, problem in enumerate(self.problems)}

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors, in the order of PARTS."""
        return self.tokens_NKL, self.eligible_NKL, self.confidence_NKL, self.reward_NK, self.correct_NK

    @classmethod
    def joined(cls, provenance: dict[str, Any], parts: list["StaticDataset"]) -> "StaticDataset":
        """Joins any number of datasets, or none. If a problem stands in several, the first one's anchors stay.

        Raises:
            ValueError: the datasets have different numbers of anchors per problem, or different lengths.
        """
        k, length = provenance.get("pregenerations", 1), provenance.get("length", 0)
        none = torch.zeros(0, k, length)
        rewards = none[:, :, :0].sum(dim=2)
        parts = parts or [cls(provenance, [], none.long(), none.bool(), none, rewards, rewards.bool())]
        if len({part.tokens_NKL.shape[1:] for part in parts}) > 1:
            raise ValueError("its files hold anchors of several shapes")
        problems = [problem for part in parts for problem in part.problems]
        whole = cls(provenance, problems, *map(torch.cat, zip(*(part.tensors for part in parts), strict=True)))
        first: dict[str, int] = {}
        for row, problem in enumerate(problems):
            first.setdefault(problem, row)
        return whole if len(first) == len(problems) else whole.rows(list(first.values()))

    def rows(self, rows: list[int]) -> "StaticDataset":
        """Returns the same dataset for some of its rows."""
        return StaticDataset(self.provenance, [self.problems[row] for row in rows], *(tensor[rows] for tensor in self.tensors))

    def of(self, problems: list[str]) -> "StaticDataset":
        """Returns the dataset of these problems, in their order, without those that have no anchors."""
        return self.rows([self.row_of[problem] for problem in problems if problem in self.row_of])

    def save(self, folder: Path) -> None:
        """Adds these anchors to a folder, in a file that appears whole or not at all. anchors.json says what made them.

        Several jobs may add to one folder at the same time, because a file's name is a hash of its problems.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".writing-*"):  # files of writers that were killed
            with contextlib.suppress(FileNotFoundError):  # the writer may just have finished
                if time.time() - left.stat().st_mtime > 3600:
                    left.unlink()
        ids = json.dumps(self.problems)
        tensors = {name: tensor.contiguous() for name, tensor in zip(PARTS, self.tensors, strict=True)}
        record = json.dumps({"provenance": self.provenance}, indent=1)
        file = f"anchors-{hashlib.sha256(ids.encode()).hexdigest()[:16]}.safetensors"
        _appear(folder / "anchors.json", lambda aside: aside.write_text(record, encoding="utf-8"))
        _appear(folder / file, lambda aside: save_file(tensors, aside, {"problems": ids}))

    def check(self) -> None:
        """Raises ValueError unless the tensors have the right types and shapes that fit together."""
        shape, ids = self.tokens_NKL.shape, self.problems
        same = self.eligible_NKL.shape == self.confidence_NKL.shape == shape
        same = same and self.reward_NK.shape == self.correct_NK.shape == shape[:2]
        if not (same and len(shape) == 3 and shape[0] == len(ids) and min(shape) >= 1):
            raise ValueError("its tensors do not have one row per problem and one shape")
        if [tensor.dtype for tensor in self.tensors] != [torch.int64, torch.bool, torch.float32, torch.float32, torch.bool]:
            raise ValueError("its tensors are of other types")
        if not isinstance(self.provenance, dict) or not all(isinstance(problem, str) for problem in ids):
            raise ValueError("it does not say what made it, or for which problems")
        if shape[2] != self.provenance.get("length", shape[2]):
            raise ValueError("its anchors are not of the length that it names")

    @classmethod
    def load(cls, folder: Path, expected: dict[str, Any] | None = None, option: str = "sampler.static") -> "StaticDataset":
        """Reads a folder. If `expected` is given, refuses another provenance and names what differs. option: for messages.

        The folder may hold any problems, or none if its first file was never finished.
        """
        try:
            provenance = json.loads((folder / "anchors.json").read_text(encoding="utf-8"))["provenance"]
            if not isinstance(provenance, dict):
                raise ValueError("its anchors.json does not say what made it")
        except (FileNotFoundError, NotADirectoryError):
            fail(option, folder, "no static dataset there; make one with python -m stp.pregenerate")
        except (ValueError, RecursionError, KeyError, TypeError, OSError) as error:
            raise UserError(
                f"{option}={folder}: not a readable static dataset ({error}); delete it and make it again"
            ) from None
        for key, value in (expected or {}).items():
            found = provenance.get(key)
            rule = f"made with {key} {found}, this run has {value}; make another with python -m stp.pregenerate"
            require(found == value, option, folder, rule)
        try:
            return cls.joined(
                provenance, [cls._part(file, provenance) for file in sorted(folder.glob("anchors-*.safetensors"))]
            )
        except (SafetensorError, ValueError, RecursionError, KeyError, TypeError, RuntimeError, OSError) as error:
            raise UserError(
                f"{option}={folder}: not a readable static dataset ({error}); delete that file, its anchors are made again"
            ) from None

    @classmethod
    def _part(cls, file: Path, provenance: dict[str, Any]) -> "StaticDataset":
        """Reads one file of a folder."""
        try:
            with safe_open(file, "pt") as held:
                problems = json.loads((held.metadata() or {})["problems"])
                part = cls(provenance, problems, *(held.get_tensor(name) for name in PARTS))
            part.check()
        except (SafetensorError, ValueError, RecursionError, KeyError, TypeError, AttributeError, OSError) as error:
            raise ValueError(f"{file.name}: {error}") from None
        return part

    def anchors(self, problem_keys: list[str], choose: str, draws: Draws, right: bool = False) -> Anchors:
        """Returns one anchor for each row of the global batch. A row whose problem is not in the dataset has nothing eligible.

        choose: `first`, `random` (a new draw for each row), or `best` (highest reward, then fewest eligible tokens). right:
        chooses among right anchors only. All pre-generations of a prompt count as tries; a ground-truth solution, which is not
        the model's, does not.
        """
        stored_B = torch.tensor([problem in self.row_of for problem in problem_keys])
        row_B = torch.tensor([self.row_of.get(problem, 0) for problem in problem_keys])
        correct_BK = self.correct_NK[row_B]
        offered_BK = correct_BK if right else torch.ones_like(correct_BK)
        offers_B = offered_BK.sum(dim=1)
        if choose == "best":
            reward_BK, eligible_BKL = self.reward_NK[row_B].masked_fill(~offered_BK, -torch.inf), self.eligible_NKL[row_B]
            beaten_BK = ~offered_BK | (reward_BK < reward_BK.max(dim=1, keepdim=True).values)
            pick_B = eligible_BKL.sum(dim=2).masked_fill(beaten_BK, eligible_BKL.shape[2] + 1).argmin(dim=1)
        else:
            nth_B = torch.zeros_like(row_B)
            if choose == "random":
                nth_B = (draws.uniform("anchor", 0) * offers_B).long()
            pick_B = (offered_BK.cumsum(dim=1) <= nth_B[:, None]).sum(dim=1).clamp(max=offered_BK.shape[1] - 1)
        known_B = stored_B & (offers_B > 0)
        own_B = stored_B & (self.provenance.get("source") != "ground_truth")
        return Anchors(
            tokens_BL=self.tokens_NKL[row_B, pick_B],
            eligible_BL=self.eligible_NKL[row_B, pick_B] & known_B[:, None],
            confidence_BL=self.confidence_NKL[row_B, pick_B],
            known_B=known_B,
            solved_B=correct_BK.sum(dim=1) * own_B,
            tries_B=correct_BK.shape[1] * own_B.long(),
        )


def _appear(file: Path, write: Callable[[Path], Any]) -> None:
    """Writes a file under another name and renames it, so that it appears whole or not at all, even if others write it too."""
    aside = file.with_name(f".writing-{uuid.uuid4().hex}")
    try:
        write(aside)
        os.replace(aside, file)
    finally:
        aside.unlink(missing_ok=True)


@torch.no_grad()
def token_confidence(denoise: Denoiser, prompts: Prompts, response_BL: Tensor) -> Tensor:
    """Returns the log-probability of every token of a response, from one forward with the whole response masked."""
    everything_BL = torch.ones_like(response_BL, dtype=torch.bool)
    trajectory = Trajectory.given(prompts, response_BL, ~everything_BL, everything_BL)
    noise = Noise(everything_BL[:, None], torch.ones(len(response_BL), 1))
    return masked_log_probs(denoise, trajectory, noise)[:, 0].float().cpu()


def scored(
    denoise: Denoiser, prompts: Prompts, response_BL: Tensor, rows: int, advance: Callable[[int], None] = lambda n: None
) -> Tensor:
    """Calls `token_confidence` for `rows` rows at a time, and `advance` with the number of rows after each."""
    parts = []
    for start in range(0, len(prompts), rows):
        part = slice(start, start + rows)
        parts.append(token_confidence(denoise, prompts.rows(part), response_BL[part]))
        advance(len(parts[-1]))
    return torch.cat(parts)
