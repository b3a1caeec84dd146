"""What setup.py allows, what constraints.txt pins, what the workflow runs, and what scripts/versions.sh installs."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
SETUP = (ROOT / "setup.py").read_text(encoding="utf-8")
RANGES = {found.name: found.specifier for found in map(Requirement, re.findall(r'"([\w-]+>=[\d.,<>=]+)"', SETUP))}
PINNED = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)


@pytest.mark.parametrize("name", PINNED)
def test_a_pinned_version_is_one_that_setup_allows(name):
    assert PINNED[name] in RANGES.get(name, SpecifierSet())


def test_the_workflow_calls_the_same_commands_on_every_python_that_setup_allows():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    (pythons,) = re.findall(r"python: \[(.*)\]", workflow)
    (allowed,) = re.findall(r'python_requires="(.*?)"', SETUP)
    supported = [f"3.{minor}" for minor in range(30) if f"3.{minor}" in SpecifierSet(allowed)]
    assert re.findall(r"[\d.]+", pythons) == supported
    assert re.findall(r"run: (.*)", workflow) == ["bash .ci/run", "make wheel"]
    own = (ROOT / ".ci" / "run").read_text().splitlines()
    assert {'make setup PIP_ARGS="--no-compile ${PIP_ARGS:-}"', "make lint", "make test"} <= set(own)  # an index is passed on


def test_the_lowest_environment_holds_every_lower_bound(tmp_path):
    """No Python is found, so nothing is installed and the table stays empty."""
    env = os.environ | {"TO": str(tmp_path), "PYTHONS": "no-such-python"}
    done = subprocess.run([ROOT / "scripts" / "versions.sh"], env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "no-such-python is not here" in done.stderr
    lowest = dict(line.split("==") for line in (tmp_path / "lowest.txt").read_text().splitlines())
    assert {"torch", "transformers", "peft", "deepspeed", "pytest"} <= set(lowest)
    assert all(f">={version}" in str(RANGES[name]) for name, version in lowest.items())
