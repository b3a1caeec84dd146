"""README and docs: their links lead somewhere, their commands compose, their tables fit a terminal."""

import importlib
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.config_store import ConfigStore

from stp.cli import whole
from stp.config import options
from stp.errors import UserError
from stp.evaluation.stored import regrade
from stp.tasks.base import Data
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
    """`half`, `best` and `reverse` are examples (CONTRIBUTING.md, docs/methods.md, README.md), which a reader adds."""
    named = re.findall(
        r"\b(?:stp|conf|scripts|tests|examples)/[\w./-]+\.(?:py|html|yaml|sh)\b", document.read_text(encoding="utf-8")
    )
    assert [name for name in named if not (ROOT / name).exists() and Path(name).stem not in ("half", "best", "reverse")] == []


@pytest.fixture
def reverse(tmp_path, monkeypatch):
    """The README's task, as the two files that it shows, beside rows of two words."""
    shown = (ROOT / "README.md").read_text(encoding="utf-8").partition("`stp/tasks/reverse.py`")[2]
    source, settings = re.findall(r"```python\n(.*?)```", shown, re.DOTALL)[0], re.findall(r"With `(.*?)` in", shown)[0]
    (tmp_path / "conf" / "task").mkdir(parents=True)
    (tmp_path / "conf" / "task" / "reverse.yaml").write_text(settings)
    (tmp_path / "reverse.py").write_text(source)
    (tmp_path / "rows.jsonl").write_text('{"text": "abc"}\n{"text": "hello"}\n')
    package = importlib.import_module("stp.tasks")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    option = options("stp.tasks")["reverse"]
    ConfigStore.instance().store(group="schema/task", name="reverse", node=option)
    given = ["task=reverse", "model.base=countdown", f"task.data.path={tmp_path / 'rows.jsonl'}"]
    yield composed("train", *given, f"hydra.searchpath=[file://{tmp_path / 'conf'}]").task
    del ConfigStore.instance().repo["schema"]["task"]["reverse.yaml"], sys.modules["stp.tasks.reverse"]
    delattr(package, "reverse")


def test_the_example_of_a_task_is_one(reverse, tmp_path):
    """It reads rows and grades and pays completions, stored ones too. What it does not say is inherited."""
    first, second = reverse.problems("all")
    assert (reverse.name, second.question, second.gold) == ("reverse", "hello", "olleh")
    assert reverse.judge(second, "so <answer>olleh</answer>") == ({"right": 1.0}, True)
    assert reverse.judge(second, "<answer>hello</answer>") == ({"right": 0.0}, False)
    assert [len(reverse.problems(split)) for split in ("train", "test")] == [1, 1]
    row = {"question": "abc", "completion": "<answer>cba</answer>", "ground_truth": first.gold}
    assert regrade(reverse, [("a row", row)], {})[0]["correct"]
    with pytest.raises(UserError, match=r"^task\.data\.source=generate: name your rows: task\.data\.path=<file or folder>$"):
        replace(reverse, data=Data()).problems("train")
    (tmp_path / "rows.jsonl").write_text('{"word": "abc"}\n')
    with pytest.raises(UserError, match=r"^rows\.jsonl row 1={'word': 'abc'}: task=reverse looks for a column 'text'$"):
        reverse.problems("all")


def test_the_example_of_an_objective_is_one():
    """The objective of docs/methods.md is a whole file: it weighs as it says, and the rest is inherited."""
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8").partition("## Add a method")[2]
    names: dict[str, Any] = {"__name__": "best"}
    exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0], names)
    assert names["Best"]().advantages(torch.tensor([1.0, 0.0, 0.5, 0.5]), 2).tolist() == [0.5, 0, 0, 0]
