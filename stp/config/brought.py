"""Gives a command the settings of the run folder that it got as its checkpoint."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from stp.config.groups import SCHEMAS
from stp.config.record import recorded
from stp.errors import require
from stp.samplers import Standard

LENGTHS = ("length", "steps", "block_length", "temperature")  # what conf/sampling sets


def run_folder(checkpoint: str) -> Path | None:
    """Returns the run folder that a checkpoint is, or lies in as weights, adapter, export or checkpoint. None for others."""
    place = Path(checkpoint).expanduser().absolute()
    if checkpoint == "base" or (place / "config.yaml").exists():
        return None if checkpoint == "base" else Path(checkpoint).expanduser()
    above = [place.parent, *([place.parent.parent] if place.parent.name == "checkpoints" else [])]
    return next((run for run in above if (run / "config.yaml").exists() and (run / "metrics.jsonl").exists()), None)


def bring(config: DictConfig, run: Path, given: Sequence[str]) -> None:
    """Gives a command's config a run's model, task with its data, and sampler settings.

    What the command line names stays: a field (`sampler.length=`), the whole source of the problems (`task.data.path=`), and
    another task or model than the run's (`task=`) with its own settings. What a protocol decides stays too.

    Raises:
        UserError: the command line names a field that the run's task does not have.
    """
    record = recorded(run)[1]
    names = {override.partition("=")[0].lstrip("+~") for override in given}
    names |= set(getattr(OmegaConf.get_type(config.get("protocol")), "decides", ()))
    names |= {"task.data"} if names & {"task.data.source", "task.data.path", "task.data.hub"} else set()
    names |= {f"sampler.{name}" for name in LENGTHS} if "sampling" in names else set()
    for group in ("model", "task", "sampler"):
        if group not in config:
            continue
        own, theirs = config[group], record[group]
        schema = {option.__name__: option for option in SCHEMAS[group].values()}[record["classes"][group]]
        other = OmegaConf.get_type(own) is not schema or (group == "model" and own.name != theirs["name"])
        if group == "sampler":  # the command keeps its own class: training may prune, evaluation does not
            left = ("reveal", "tau") if OmegaConf.get_type(own) is Standard else ()  # and evaluation is by the schedule
            brought = OmegaConf.merge(own, {name: value for name, value in theirs.items() if name in own and name not in left})
        elif group in names and other:
            continue
        else:
            brought = OmegaConf.merge(OmegaConf.structured(schema), theirs)
        kept = {name: OmegaConf.select(config, name) for name in sorted(names) if name.startswith(f"{group}.")}
        config[group] = brought
        for name, value in kept.items():
            known = OmegaConf.select(config, name.rpartition(".")[0])
            has = isinstance(known, DictConfig) and name.rpartition(".")[2] in known
            require(has, name, value, f"the run in {run} has {group}={schema.__name__.lower()}, which has no such field")
            OmegaConf.update(config, name, value)
