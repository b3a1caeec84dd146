"""What `python -m stp.train` runs, and with it what `stp.plan` looks at."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from stp.errors import require
from stp.run.engine import Optimizer
from stp.run.guards import Guards
from stp.trainer import Trainer


@dataclass
class Config:
    """What `python -m stp.train` runs."""

    model: Any = MISSING
    task: Any = MISSING
    sampler: Any = MISSING
    estimator: Any = MISSING
    objective: Any = MISSING
    rescue: Any = MISSING
    zero: Any = MISSING
    logging: Any = MISSING
    optimizer: Optimizer = field(default_factory=Optimizer)
    trainer: Trainer = field(default_factory=Trainer)
    guards: Guards = field(default_factory=Guards)
    seed: int = field(default=0, metadata={"help": "seed of every draw of the run"})

    def __post_init__(self) -> None:
        require(self.seed >= 0, "seed", self.seed, "choose a whole number from 0 on")
