"""The help page names every group and every field, each with what it means."""

import dataclasses

import pytest

from stp.config import SCHEMAS, help_page
from tests.commands import command
from tests.config import ROOTS
from tests.config.test_options import FILES, groups


def leaves(schema, prefix=""):
    """(dotted name, field) of every option of a dataclass, nested ones included."""
    for field in dataclasses.fields(schema):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if dataclasses.is_dataclass(default):
            yield from leaves(type(default), f"{prefix}{field.name}.")
        elif field.name not in SCHEMAS or prefix:
            yield f"{prefix}{field.name}", field


def options(entry):
    """Every option of an entry point: its own, and those of its groups' classes."""
    yield from leaves(ROOTS[entry])
    for group in (g for g in groups(entry) if g in SCHEMAS):
        for schema in SCHEMAS[group].values():
            yield from leaves(schema, f"{group}.")


@pytest.mark.parametrize("entry", ROOTS)
def test_every_field_is_listed_with_its_help(entry):
    lines = help_page(entry, ROOTS[entry]).splitlines()
    names = 0
    for name, field in options(entry):
        text = field.metadata.get("help", "").replace("$", "$$")
        assert text, f"{name} has no help text"
        assert any(line.startswith(f"  {name} = ") and line.endswith(f"  {text}") for line in lines), name
        names += 1
    assert names == sum(line.startswith("  ") and " = " in line.split("  ")[1] for line in lines)  # and nothing else


@pytest.mark.parametrize(("entry", "group"), [(e, g) for e in ROOTS for g in groups(e)])
def test_every_group_is_listed_with_its_options(entry, group):
    assert f"  {group}: {', '.join(FILES[group])}" in help_page(entry, ROOTS[entry]).splitlines()


@pytest.mark.parametrize("schema", [c for group in SCHEMAS.values() for c in group.values()] + list(ROOTS.values()))
def test_every_class_says_what_it_is(schema):
    assert schema.__doc__ and not schema.__doc__.startswith(schema.__name__ + "(")  # not the one that dataclass writes


def test_the_command_prints_it(tmp_path):
    done = command("-m", "stp.train", "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == help_page("train", ROOTS["train"]).replace("$$", "$").strip()
    assert not list(tmp_path.iterdir())
