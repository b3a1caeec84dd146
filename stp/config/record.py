"""Records a config as plain values, hashes the record, and compares two records."""

import dataclasses
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stp import __version__
from stp.config.files import CONF
from stp.config.groups import SCHEMAS
from stp.errors import fail
from stp.models.options import Model
from stp.run.files import read_yaml

INVALID = (OmegaConfBaseException, yaml.YAMLError)  # errors in a file of settings
FREE = (
    *("trainer.micro_batch", "trainer.micro_draws", "trainer.rollout_rows", "trainer.eval_"),
    *("zero.stage", "zero.offload"),
    *("model.logit_chunk", "model.gradient_checkpointing"),
    *("task.on_error", "task.timeout"),
)
PLACE = ("task.data.source", "task.data.path", "task.data.hub", "task.reward", "task.correct")


def plain(config: Any) -> dict[str, Any]:
    """Returns a config as plain nested dicts, with the class of each group, because a group's options may share fields."""
    chosen = {group: type(getattr(config, group)).__name__ for group in SCHEMAS if hasattr(config, group)}
    return dataclasses.asdict(config) | {"classes": chosen}


def config_hash(config: Any) -> str:
    """Returns a short hash of everything that decides a run's results, but not of where it logs or how often it evaluates."""
    return _digest(decisive(plain(config)))


def seedless_hash(record: dict[str, Any]) -> str:
    """Returns the `config_hash` of a plain config (a run's config.yaml) without its seed. Seeds of an experiment share it."""
    return _digest({k: v for k, v in decisive(record).items() if k != "seed"})


def seedless(record: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings of `seedless_hash` by their names on the command line."""
    return leaves({k: v for k, v in decisive(record).items() if k not in ("seed", "classes")})


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()[:12]


def decisive(record: dict[str, Any]) -> dict[str, Any]:
    """Returns the part of a config that decides a run's results, given the number of updates."""
    trainer = {
        k: v
        for k, v in record["trainer"].items()
        if not k.startswith(("eval_every", "eval_first", "probe_", "checkpoint_", "keep_", "resume", "updates"))
    }
    return {k: v for k, v in record.items() if k not in ("logging", "guards")} | {"trainer": trainer}


def unplaced(record: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings of `decisive` by name, without the places of problems and rewards, whose contents are compared."""
    return {name: value for name, value in leaves(decisive(record)).items() if name not in PLACE}


def binding(record: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings by name that must not change when a run is continued: they decide its draws or its updates.

    Settings that change only memory, rounding or evaluation are left out, and so is the place of the problems, whose contents
    are compared. LoRA's dropout is drawn for each pass, so with dropout a pass must keep its completions and draws, too.
    """
    settings = unplaced(record)
    dropout = settings.get("model.lora.dropout")
    free = tuple(name for name in FREE if not (dropout and name.startswith("trainer.micro_")))
    return {name: value for name, value in settings.items() if not name.startswith(free)}


def recorded(folder: Path) -> tuple[Model, dict[str, Any]]:
    """Reads a run's config.yaml. Returns its model and its whole config, with types checked in the parts that others use.

    Raises:
        UserError: the file cannot be read, or stp.train did not write it.
    """
    try:
        config = read_yaml(folder / "config.yaml")
        parts: dict[str, Any] = {}
        for group in ("model", "sampler", "task"):
            schema = {option.__name__: option for option in SCHEMAS[group].values()}[config["classes"][group]]
            parts[group] = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), config[group]))
        return parts["model"], config | {group: dataclasses.asdict(part) for group, part in parts.items()}
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError, *INVALID) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        fail("checkpoint", folder, f"its config.yaml is not one that stp.train wrote ({reason:.200})")


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the settings of a plain config by their command-line names."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def unknown(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Returns settings that only one of two plain configs has, in groups of equal class. Different versions wrote them."""
    if "classes" not in old:
        return ["classes"]
    same = [{k: v for k, v in c.items() if old["classes"].get(k) == new["classes"].get(k)} for c in (old, new)]
    return sorted(leaves(same[0]).keys() ^ leaves(same[1]).keys())


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Lists `key: old -> new` for every setting that differs."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}: {a} -> {b}")
    return found


def code_version() -> str:
    """Returns the commit of the package's checkout, `dirty` if code or conf differ from it. Elsewhere the package's version."""
    package = Path(__file__).parents[1]

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=package, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "loop.py")  # fails if the checkout is of another project that holds this environment
        return git("rev-parse", "HEAD") + (" dirty" if git("status", "--porcelain", "--", ".", CONF) else "")
    except (OSError, subprocess.CalledProcessError):
        return __version__
