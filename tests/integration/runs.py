"""Small real runs: the shipped base, the real engine, a few updates of a few short completions."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from stp.config import build
from stp.ranks import Ranks
from stp.run.files import read_jsonl
from stp.train.job import execute
from tests.commands import ROOT
from tests.config import raw

EXAMPLE = ROOT / "examples" / "own_task"
OWN = [  # what task=custom needs to know
    f"task.data.path={EXAMPLE / 'questions.jsonl'}",
    f"task.reward={EXAMPLE / 'sorting.py'}:reward",
    f"task.correct={EXAMPLE / 'sorting.py'}:correct",
    "task.working=answer",  # stands for steps to the answer, which some methods read
]

SMALL = [
    "seed=2",  # whose first two updates have groups to learn from
    "sampler.length=24",
    "sampler.steps=6",
    "sampler.block_length=8",
    "task.data.train_size=12",
    "trainer.eval_size=4",
    "trainer.prompts_per_update=2",
    "trainer.group_size=6",
    "trainer.micro_batch=4",
    "trainer.updates=2",
    "trainer.eval_temperatures=[1.0]",
    "trainer.probe_every=1",
    "trainer.probe_rows=2",
    "trainer.probe_draws=2",
    "logging=files",
]


def composed(*overrides: str) -> Any:
    """The checked config of `python -m stp.train` with the small settings and these overrides; custom is the example's task."""
    own = OWN if "task=custom" in overrides else []
    return build(raw("train", *SMALL, *own, *overrides))


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    """Train in this process; returns the summary."""
    return execute(composed(*overrides), folder, {"task": "countdown", "model": "tiny", "sampler": "stp", "estimator": "elbo"})


def on_two_ranks(work: Callable[[Ranks], Any]) -> list[Any]:
    """work(ranks) of each of two ranks: threads that meet at a barrier, which breaks instead of waiting forever."""
    barrier, box = threading.Barrier(2, timeout=60), [None, None]

    def gather(rank: int, value: Any) -> list[Any]:
        box[rank] = value
        barrier.wait()
        values = list(box)
        barrier.wait()
        return values

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda rank: work(Ranks(rank, 2, partial(gather, rank))), range(2)))


def metrics(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what the clock and the machine decide."""
    lines = read_jsonl(folder / "metrics.jsonl")
    return [{k: v for k, v in line.items() if not k.startswith(("time/", "memory/"))} for line in lines]


def weights(folder: Path) -> dict[str, Any]:
    """The exported weights of a finished run."""
    return load_file(folder / "weights" / "model.safetensors")
