"""Decides when a run's state is written: every `checkpoint_every` updates, and when the run is asked to stop."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from stp import trained
from stp.metrics import spent
from stp.roles import Unlogged
from stp.run import checkpoints, faults, ranks
from stp.run.checkpoints import State
from stp.run.engine import Engine
from stp.run.guards import Guard
from stp.run.tracking import Clock
from stp.samplers.difficulty import Visits
from stp.trainer import Trainer


class Checkpointer:
    """Writes checkpoints of a run's last complete update, and its result after the last one.

    state: what every checkpoint of the run says. Each adds how far the run has come.
    """

    def __init__(self, state: State, engine: Engine, tokenizer: Any, folder: Path, trainer: Trainer, clock: Clock) -> None:
        self.state, self.engine, self.tokenizer, self.folder = state, engine, tokenizer, folder
        self.trainer, self.clock = trainer, clock
        self.saved = True  # there is nothing to write yet

    def complete(self, unlogged: Unlogged, guard: Guard, visits: Visits) -> None:
        """Takes note of an update that is complete except for its evaluation and its line in metrics.jsonl.

        Raises:
            Interrupted: some rank was asked to stop.
        """
        update = unlogged["metrics"]["update"]
        self.state = replace(
            self.state,
            update=update,
            optimizer_updates=self.engine.updates_done,
            unlogged=dict(unlogged),
            clock=spent(self.clock, ranks.current()),
            visits={key: list(pair) for key, pair in visits.counts.items()},  # they go on while this update can be saved
        )
        self.saved = bool(guard.in_a_row)  # weights from a streak of bad updates are never saved
        faults.hold(False)
        every = self.trainer.checkpoint_every
        if every and update % every == 0:
            self.save()
        ranks.gather(None)  # may raise Interrupted
        if update == self.trainer.updates:
            self.export()  # before the last evaluation, which may be cut short

    def save(self) -> None:
        """Writes a checkpoint of the last complete update, unless there is one already."""
        if self.saved:
            return
        with self.clock.phase("checkpoint"):
            checkpoints.save(self.engine, self.folder, self.state, self.trainer.keep_checkpoints)
        self.saved = True

    def export(self) -> None:
        """Writes what was trained in public formats."""
        trained.export(self.engine, self.tokenizer, self.folder)
