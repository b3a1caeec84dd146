"""Turns the command line into checked objects: registers Hydra's schemas, and builds dataclasses from a composed config."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from stp.config.brought import bring, run_folder
from stp.config.files import CONF
from stp.config.groups import SCHEMAS
from stp.config.help import help_page
from stp.config.record import plain
from stp.config.root import Config
from stp.config.rules import check, check_instruction, decided
from stp.errors import fail, require

TEXTS = ("question",)  # fields that hold what a person asks, and so any characters
ROOTS: dict[str, type] = {}  # the options class of each command that has been registered


def register(name: str = "train", root: type = Config) -> None:
    """Gives Hydra a command's schema and help page, all groups' schemas (`schema/…`) and conf's resolvers. Idempotent."""
    wanted = {"train": Config, name: root}  # every command may compose training's presets
    if wanted.items() <= ROOTS.items():
        return
    ROOTS.update(wanted)
    OmegaConf.register_new_resolver("half", lambda number: number // 2, replace=True)
    OmegaConf.register_new_resolver("zero_at", lambda scale: {"paper": "stage2"}.get(scale, "off"), replace=True)
    OmegaConf.register_new_resolver("published_at", _published_at, replace=True)
    for group in ("task", "estimator"):
        OmegaConf.register_new_resolver(f"by_{group}", partial(_by, group), replace=True)
    store = ConfigStore.instance()
    for group, schemas in SCHEMAS.items():
        for name, schema in schemas.items():
            store.store(group=f"schema/{group}", name=name, node=schema)
    for command, options in ROOTS.items():
        page = {"app_name": f"stp.{command}", "template": help_page(command, options)}
        store.store(name=f"{command}_schema", node=options)
        store.store(group="hydra/help", name=f"stp_{command}", node=page)


def _published_at(*, _root_: DictConfig) -> str:
    """Resolves `${published_at:}`: the file with a method's published numbers, at the paper's scale, if one preset is chosen.

    Hydra knows no choice of a group in which several options are chosen, as in `experiment=[lora,method_espo]`.
    """
    experiment, scale = _root_.get("experiment"), _root_.get("scale")
    there = scale == "paper" and (Path(CONF) / "published" / f"{experiment}.yaml").exists()
    return str(experiment) if there else "none"


def _by(group: str, values: Mapping[str, Any], others: Any, *, _root_: DictConfig) -> Any:
    """Resolves `${by_task:{math:1000},1500}`: the value for the chosen option of a group, or the one for all others.

    A command without the group takes the latter.
    """
    chosen = getattr(OmegaConf.get_type(_root_.get(group)), "__name__", "").lower()
    return next((value for option, value in values.items() if option.replace("_", "") == chosen), others)


def build(config: DictConfig, given: Sequence[str] = ()) -> Any:
    """Returns the composed config as objects of its dataclasses, each checked by its own rules.

    given: the command line's overrides, which come before a run folder's settings.
    """
    refuse_unknown(config)
    expand_home(config)
    run = run_folder(config.checkpoint) if isinstance(config.get("checkpoint"), str) else None
    if run is not None:
        bring(config, run, given)
    if "protocol" in config:  # first, because the sampler's own rules would blame the blocks for a wrong length
        protocol: Any = OmegaConf.to_object(config.protocol)
        protocol.check(config)
    built = decided(OmegaConf.to_object(config))
    if isinstance(built, Config):
        check(built)
    if hasattr(built, "task"):
        check_instruction(built, given)
    return built


def refuse_unknown(config: DictConfig, prefix: str = "") -> None:
    """Refuses empty groups, and keys that no schema has (Hydra lets `+key=value` add them)."""
    schema = OmegaConf.get_type(config)
    known = {f.name for f in dataclasses.fields(schema)} if dataclasses.is_dataclass(schema) else None
    for key, value in config.items_ex(resolve=False):
        name = f"{prefix}{key!s}"
        if known is None or key not in known:
            fail(name, value, "no such field; --help lists them")
        if key in SCHEMAS and not prefix:
            options = ", ".join(sorted(p.stem for p in (Path(CONF) / str(key)).glob("*.yaml")))
            require(isinstance(value, DictConfig) and value._is_none() is False, name, value, f"choose one of {options}")
        if isinstance(value, DictConfig) and not value._is_none():
            refuse_unknown(value, f"{name}.")


def expand_home(config: DictConfig, prefix: str = "") -> None:
    """Writes out `~` at the beginning of paths. No other setting begins with it."""
    for key, value in config.items_ex(resolve=False):
        if isinstance(value, DictConfig) and not value._is_none():
            expand_home(value, f"{prefix}{key!s}.")
        elif isinstance(value, str) and value.startswith("~") and key not in TEXTS:
            config[key] = os.path.expanduser(value)
            require(not config[key].startswith("~"), f"{prefix}{key!s}", value, "no such user has a home; write the path out")


def preset_config(name: str) -> tuple[dict[str, Any], dict[str, str]] | None:
    """Returns the plain config of `experiment=<name>` and its option in each group, or None if conf has no such preset."""
    if not (Path(CONF) / "experiment" / f"{name}.yaml").exists():
        return None
    register()
    with initialize_config_dir(CONF, version_base="1.3"):
        config = build(compose("train", [f"experiment={name}"]))
    chosen = {
        group: option
        for group, schemas in SCHEMAS.items()
        for option, schema in schemas.items()
        if type(getattr(config, group, None)) is schema
    }
    return plain(config), chosen
