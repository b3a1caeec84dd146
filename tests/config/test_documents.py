"""README and docs: their links lead somewhere, their commands compose, their tables fit a terminal."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from stp.cli import whole
from tests.config import ROOTS, composed

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"```(?:sh|text)\n(.*?)```", re.DOTALL)


def commands() -> list[str]:
    """The arguments of every shown `python -m stp.<entry>` that Hydra composes, placeholders filled in; sweeps are left out."""
    found: dict[str, None] = {}
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for line in [line for block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]:
            typed = re.sub(r"<[^>]*>", "x", line.partition("# ")[0]).partition(" < ")[0]
            command = typed.partition("python -m stp.")[2]
            entry, *arguments = shlex.split(command) or [""]
            complete = not any(mark in command for mark in ("…", "|", "--"))
            if entry in ROOTS and complete:
                found[shlex.join([entry, *arguments])] = None
    return list(found)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    text = document.read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (document.parent / link).exists()] == []


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_documents_composes(command):
    entry, *arguments = shlex.split(command)
    composed(entry, *map(whole, arguments))


def test_there_are_commands_in_the_documents():
    assert len(commands()) > 20 and "train sampler=stp task=countdown" in commands()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_table_fits_a_terminal(document):
    lines = document.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("|") and len(line) > 130] == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 2_400


def test_the_readme_shows_lines_of_the_minimal_loop():
    """Its last Python block is an excerpt, with `…` for what is left out."""
    shown = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[-1].splitlines()
    lines = [line.strip() for line in (ROOT / "examples" / "minimal_loop.py").read_text(encoding="utf-8").splitlines()]
    assert len(shown) > 5 and [line for line in shown if line != "…" and line not in lines] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_exist(document):
    """`half` and `best` are the examples of CONTRIBUTING.md and docs/methods.md, which a reader adds."""
    named = re.findall(
        r"\b(?:stp|conf|scripts|tests|examples)/[\w./-]+\.(?:py|html|yaml|sh)\b", document.read_text(encoding="utf-8")
    )
    assert [name for name in named if not (ROOT / name).exists() and Path(name).stem not in ("half", "best")] == []


def test_the_example_of_an_objective_is_one():
    """The objective of docs/methods.md is a whole file: it weighs as it says, and the rest is inherited."""
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8").partition("## Add a method")[2]
    names: dict[str, Any] = {"__name__": "best"}
    exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0], names)
    assert names["Best"]().advantages(torch.tensor([1.0, 0.0, 0.5, 0.5]), 2).tolist() == [0.5, 0, 0, 0]
