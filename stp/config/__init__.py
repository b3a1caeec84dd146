"""Configs: the component dataclasses are the schemas, and a composed config becomes checked objects."""

from stp.config.brought import run_folder
from stp.config.compose import build, preset_config, register
from stp.config.files import CONF
from stp.config.groups import SCHEMAS, options
from stp.config.help import help_page
from stp.config.record import (
    binding,
    code_version,
    config_hash,
    decisive,
    differences,
    leaves,
    plain,
    recorded,
    seedless,
    seedless_hash,
    unknown,
    unplaced,
)
from stp.config.root import Config
from stp.config.rules import check, check_ranks

__all__ = [
    "CONF",
    "SCHEMAS",
    "Config",
    "binding",
    "build",
    "check",
    "check_ranks",
    "code_version",
    "config_hash",
    "decisive",
    "differences",
    "help_page",
    "leaves",
    "options",
    "plain",
    "preset_config",
    "recorded",
    "register",
    "run_folder",
    "seedless",
    "seedless_hash",
    "unknown",
    "unplaced",
]
