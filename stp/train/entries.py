"""A run's line in the ledger: entered when the run has finished, and found by a job that need not run again."""

from dataclasses import replace
from pathlib import Path

from stp.config import Config, config_hash, plain, seedless, seedless_hash
from stp.run.ledger import Ledger, Line, line_of


def enter(config: Config, folder: Path, preset: str | None) -> None:
    """Adds the line of the finished run in this folder, if there is a ledger and the run was evaluated."""
    record = plain(config)
    line = line_of(folder, seedless_hash(record)) if config.logging.ledger else None
    if line is not None:
        _ledger(config).add(replace(line, presets=[preset] if preset else []), seedless(record))


def entered(config: Config, held_out: str, preset: str | None) -> Line | None:
    """Returns the ledger's line of this run, which then names the preset too, or None. held_out: the hash of its problems.

    A run with probes is only taken for one whose line has probes, because Figure 3 needs them.
    """
    line = _ledger(config).find((config_hash(config), config.trainer.updates, held_out)) if config.logging.ledger else None
    if line is None or (config.trainer.probe_every and not line.probes):
        return None
    if preset and preset not in line.presets:
        _ledger(config).add(replace(line, presets=[preset]), seedless(plain(config)))
    return line


def _ledger(config: Config) -> Ledger:
    return Ledger(Path(str(config.logging.ledger)))
