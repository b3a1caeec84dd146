"""Writes the text of `--help`."""

import dataclasses
from pathlib import Path
from typing import Any

from stp.config.files import CONF
from stp.config.groups import SCHEMAS
from stp.config.root import Config


def help_page(name: str, root: type) -> str:
    """Returns the text of `--help`: the groups with their options, and every field with its meaning and default."""
    lines = [f"python -m stp.{name} [group=option] [field=value]", ""]
    used = {f.name for f in dataclasses.fields(root)}
    conf = Path(CONF)
    groups = [g for g in SCHEMAS if g in used]
    groups += ["sampling", "scale"] if "sampler" in groups else []
    groups += ["training", "experiment", "published", "search", "cluster"] if issubclass(root, Config) else []
    if groups:
        lines.append("Groups (choose with group=option)")
    for group in groups:
        lines.append(f"  {group}: " + ", ".join(sorted(p.stem for p in (conf / group).glob("*.yaml"))))
    own = [f for f in dataclasses.fields(root) if f.name not in SCHEMAS]
    lines += ["", "Fields (set with field=value; defaults here are the classes', option files and scale change them)"]
    lines += _describe(own, "")
    for group in groups:
        for option, schema in SCHEMAS.get(group, {}).items():
            title = f"{group}={option}" if len(SCHEMAS[group]) > 1 else group
            lines += ["", f"{title}: {(schema.__doc__ or '').strip().splitlines()[0]}"]
            lines += _describe(dataclasses.fields(schema), f"{group}.")
    lines += ["", "Also: --cfg job prints the composed config, --multirun sweeps comma-separated values.", ""]
    return "\n".join(lines).replace("$", "$$")


def _describe(fields: Any, prefix: str) -> list[str]:
    lines = []
    for f in fields:
        factory = f.default_factory
        default = f.default if factory is dataclasses.MISSING else factory()
        if dataclasses.is_dataclass(default):
            lines += _describe(dataclasses.fields(default), f"{prefix}{f.name}.")
        else:
            lines.append(f"  {prefix}{f.name} = {default}".ljust(44) + f"  {f.metadata.get('help', '')}".rstrip())
    return lines
