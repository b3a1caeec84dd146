"""Tests of the command line's options: everything through Hydra's composition and `stp.config.build`."""

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from stp.cli import one_line, with_causes
from stp.config import CONF, Config, build, register
from stp.errors import UserError
from stp.evaluate.evaluate import Evaluation
from stp.export import Export
from stp.generate.generate import Generation
from stp.lm_eval.harness import Harness
from stp.plan.plan import Plan
from stp.pregenerate import Pregeneration
from stp.pretrain.pretrain import Pretraining
from stp.trace.trace import Tracing

ROOTS = {
    "train": Config,
    "plan": Plan,
    "pregenerate": Pregeneration,
    "evaluate": Evaluation,
    "trace": Tracing,
    "generate": Generation,
    "lm_eval": Harness,
    "export": Export,
    "pretrain": Pretraining,
}

__all__ = ["ROOTS", "composed", "raw", "told"]


def raw(entry: str, *overrides: str) -> Any:
    """The composed config of `python -m stp.<entry> <overrides>`, unchecked.

    Composing takes most of these tests' time: it is done once for a choice of options, to which Hydra then applies the values.
    """
    parsed = [_parsed(override) for override in overrides]
    config = deepcopy(_raw(entry, *(override.input_line for override in parsed if not _is_value(override))))
    ConfigLoaderImpl._apply_overrides_to_config([override for override in parsed if _is_value(override)], config)
    return config


@cache
def _parsed(override: str) -> Override:
    return OverridesParser.create().parse_overrides([override])[0]


def _is_value(override: Override) -> bool:
    """Whether it sets a field, and neither chooses an option nor speaks to Hydra."""
    name = override.key_or_group
    plain = override.type is OverrideType.CHANGE and not override.is_sweep_override() and not override.is_hydra_override()
    return plain and override.package is None and not (Path(CONF) / name).is_dir()


@cache
def _raw(entry: str, *overrides: str) -> Any:
    register(entry, ROOTS[entry])
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose(entry, list(overrides))


def composed(entry: str, *overrides: str) -> Any:
    """The checked config of `python -m stp.<entry> <overrides>`."""
    return build(raw(entry, *overrides), overrides)


def told(entry: str, *overrides: str) -> str:
    """What the entry point prints on stderr for a mistake in its overrides."""
    try:
        composed(entry, *overrides)
    except (UserError, HydraException, OmegaConfBaseException) as error:
        return one_line(with_causes(error))
    raise AssertionError(f"{entry} accepts {overrides}")
