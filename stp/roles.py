"""The parts of a run by role: who makes completions, who learns from them, and what surrounds both.

The loop knows its parts by the few methods that it uses, so it depends on none of them.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, TypedDict

import torch
from torch import Tensor

from stp.diffusion import Denoiser
from stp.estimators.base import Estimator
from stp.objectives import Objective
from stp.ranks import Ranks
from stp.rescue import None_, Rescue
from stp.samplers import Standard
from stp.samplers.difficulty import Visits
from stp.trainer import Trainer
from stp.types import AnchorSource, Prompts, Question, Rollout, Trajectory


class Policy(Denoiser, Protocol):
    """The trained model as a denoiser. dropout: the probability with which its adapters drop an activation."""

    dropout: float

    @property
    def device(self) -> torch.device:
        """Where the model computes."""

    def train(self) -> Any:
        """Turns dropout on."""

    def eval(self) -> Any:
        """Turns dropout off."""


class Engine(Denoiser, Protocol):
    """A policy whose forwards can be differentiated and whose gradients can be applied, on all ranks together."""

    @property
    def policy(self) -> Policy:
        """The policy itself."""

    def generation(self) -> AbstractContextManager[Policy]:
        """Yields the policy for rollouts, in which ranks may run different numbers of forwards."""

    def backward(self, loss: Tensor, last: bool) -> None:
        """Accumulates the gradients of a micro-batch; `last` marks the final one of the update."""

    def step(self) -> tuple[float, float]:
        """Applies the gradients. Returns their norm and the learning rate.

        If the gradients are not finite, it applies none, and the norm is NaN.
        """


class Task(Protocol):
    """Rewards and grades completions."""

    def judge(self, problem: Any, completion: str) -> tuple[dict[str, float], bool]:
        """Returns named parts whose sum is the reward, and whether the completion is right."""


class Codec(Protocol):
    """Turns problems into prompts, and responses into text."""

    def prompts(self, problems: list[Any]) -> Prompts:
        """Returns left-padded prompts, one row for each problem."""

    def completions(self, trajectory: Trajectory) -> list[str]:
        """Returns the text of each response up to its EOS."""


class Clock(Protocol):
    """Counts the seconds that each phase takes."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Adds the time of what runs inside to this phase."""

    def totals(self) -> dict[str, float]:
        """Returns the seconds of each phase so far, and under `cpu` this rank's processor seconds."""


class Bar(Protocol):
    """A display with one progress bar for each task."""

    def add_task(self, description: str, *, total: float, completed: int = 0, note: str = "") -> Any:
        """Adds a bar. Returns the name under which `update` knows it."""

    def update(self, task: Any, /, *, advance: float, note: str = "") -> None:
        """Moves a bar forward."""


class Tracker(Protocol):
    """Records what happens. samples: how many completions of each update are recorded."""

    @property
    def samples(self) -> int: ...

    def append(self, name: str, records: list[dict[str, Any]]) -> None:
        """Appends records to the file of this name."""

    def log(self, metrics: dict[str, Any]) -> None:
        """Records the metrics of an update."""

    def progress(self) -> AbstractContextManager[Bar]:
        """Shows progress bars while what is inside runs."""


class Guard(Protocol):
    """Watches for values that are not finite and for a policy that collapses. alarms: the text of each alarm that is on."""

    @property
    def alarms(self) -> dict[str, str]: ...

    def keep(self, update: int, rollout: Rollout, inner: int, bad: dict[str, float], tensors: dict[str, Tensor]) -> None:
        """Saves a batch whose gradients were not applied. bad: in how many micro-batches each value was not finite."""

    def watch(self, metrics: dict[str, Any]) -> dict[str, float]:
        """Checks an update's metrics. Returns metrics to add to them."""

    def stop_if_diverged(self) -> None:
        """Raises an error if too many updates in a row could not be applied."""


class Unlogged(TypedDict):
    """The last finished update, before it is evaluated and logged. Checkpoints store it, so that a resumed run can log it.

    before: seconds per phase when the update started.
    """

    metrics: dict[str, Any]
    before: dict[str, float]


@dataclass(frozen=True)
class Actor:
    """How completions are made and rewarded.

    static: the earlier responses that spatial pruning starts from. visits: how often each prompt was solved in this run.
    rescue: what is done with groups that teach nothing. solutions: the ground-truth anchors that a rescue may read.
    """

    sampler: Standard
    task: Task
    codec: Codec
    problems: Sequence[Question]
    static: AnchorSource | None = None
    visits: Visits = field(default_factory=Visits)
    rescue: Rescue = field(default_factory=None_)
    solutions: AnchorSource | None = None


@dataclass(frozen=True)
class Learner:
    """How the policy learns from completions. reference: the policy that the KL penalty compares with, if there is one."""

    engine: Engine
    estimator: Estimator
    objective: Objective
    trainer: Trainer
    reference: Denoiser | None = None


class Silent:
    """A clock, a tracker and a guard that do nothing."""

    samples = 0
    alarms: dict[str, str] = {}

    def phase(self, name: str) -> AbstractContextManager[None]:
        return nullcontext()

    def totals(self) -> dict[str, float]:
        return {"cpu": 0.0}

    def append(self, name: str, records: list[dict[str, Any]]) -> None: ...

    def log(self, metrics: dict[str, Any]) -> None: ...

    def progress(self) -> AbstractContextManager[Bar]:
        return nullcontext(self)

    def add_task(self, description: str, *, total: float, completed: int = 0, note: str = "") -> None: ...

    def update(self, task: Any, /, *, advance: float, note: str = "") -> None: ...

    def keep(self, update: int, rollout: Rollout, inner: int, bad: dict[str, float], tensors: dict[str, Tensor]) -> None: ...

    def watch(self, metrics: dict[str, Any]) -> dict[str, float]:
        return {}

    def stop_if_diverged(self) -> None: ...


@dataclass(frozen=True)
class Run:
    """What surrounds every step and decides nothing about it. `Run()` is one process that records nothing.

    complete: called with each finished update before it is logged; writes a checkpoint if one is due. evaluate: called with the
    number of finished updates; measures accuracy if an evaluation is due, and returns metrics.
    """

    ranks: Ranks = field(default_factory=Ranks)
    clock: Clock = field(default_factory=Silent)
    tracker: Tracker = field(default_factory=Silent)
    guard: Guard = field(default_factory=Silent)
    complete: Callable[[Unlogged], None] = lambda unlogged: None
    evaluate: Callable[[int], dict[str, float]] = lambda update: {}
