"""The words of a command line, before Hydra reads them."""

import os

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from stp.cli import arguments, main, quoted, stop, with_causes
from stp.errors import UserError
from stp.run.ranks import LAUNCHED, bootstrap, choose_accelerator
from tests.config import composed, told


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("seed=1,2 --multirun trainer.updates=1", "--multirun seed=1,2 trainer.updates=1"),
        ("seed=1 -m task=math", "-m seed=1 task=math"),
        ("seed=1 --cfg job task=math", "--cfg job seed=1 task=math"),
        ("--multirun seed=1,2", "--multirun seed=1,2"),
        ("to=~/x", "to='~/x'"),
        ("--help", "--help"),
    ],
)
def test_flags_stand_anywhere(given, taken):
    assert arguments(given.split()) == taken.split()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--sampler.gamma=0.1", "--sampler.gamma=0.1: a field is set without dashes; write sampler.gamma=0.1"),
        ("--seed=1", "write seed=1"),
        ("--frobnicate", "--frobnicate=: no such flag; --help lists"),
    ],
)
def test_dashes_before_a_field_are_named(given, said):
    with pytest.raises(UserError) as caught:
        arguments([given])
    assert said in str(caught.value)


@pytest.mark.parametrize("value", ["/tmp/ü/x", "a=b", "it's", "a\\", "a\\'b", "~/x", "[x", "a*b?", "a,b"])
def test_any_value_can_be_quoted(value):
    (override,) = OverridesParser.create().parse_overrides([f"to={quoted(value)}"])
    assert override.value() == value


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("to=/tmp/ü/x", "to=/tmp/ü/x: Hydra reads some of these characters as its own; quote the value: \"to='/tmp/ü/x'\""),
        ("to=/a=b/x", "to=/a=b/x: Hydra reads some of these characters as its own; quote the value: \"to='/a=b/x'\""),
        ("temperatures=[0,1", "temperatures=[0,1: its brackets or quotes do not match; write a list as temperatures=[1,2]"),
        ("base", "base: a field is set with <name>=<value>"),
    ],
)
def test_what_hydra_cannot_read_is_named_with_the_way_to_write_it(override, said):
    with pytest.raises(OverrideParseException) as caught:
        OverridesParser.create().parse_overrides([override])
    assert with_causes(caught.value).startswith(said)


def test_a_tilde_is_the_home_folder_in_every_path(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    names = ("trainer.resume", "sampler.static", "task.data.path", "model.path")
    config = composed("train", *(f"{name}='~/x y'" for name in names))
    found = (config.trainer.resume, config.sampler.static, config.task.data.path, config.model.path)
    assert found == ("/home/me/x y",) * 4
    assert (composed("evaluate", "to='~'").to, composed("evaluate", "checkpoint='~/x'").checkpoint) == (
        "/home/me",
        "/home/me/x",
    )
    assert composed("export", "folder='~/x'").folder == "/home/me/x"
    assert told("export", "folder='~nobody-here/x'").startswith("folder=~nobody-here/x: no such user has a home")


@pytest.mark.parametrize("missing", LAUNCHED)
def test_a_rank_without_its_launcher_is_told_what_is_missing(missing, monkeypatch):
    for name in ("RANK", *LAUNCHED):
        monkeypatch.setenv(name, "0")
    monkeypatch.delenv(missing)
    with pytest.raises(UserError, match=f"RANK=0: a launcher sets {missing} too; start with torchrun.*unset RANK"):
        bootstrap()


@pytest.mark.parametrize(("gpu", "wanted"), [(False, "cuda"), (True, "cpu"), (False, "xpu")])
def test_an_accelerator_that_is_not_there_is_refused(gpu, wanted, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setenv("DS_ACCELERATOR", wanted)
    with pytest.raises(UserError, match=f"DS_ACCELERATOR={wanted}: .*unset it"):
        choose_accelerator()
    monkeypatch.delenv("DS_ACCELERATOR")
    assert choose_accelerator() is gpu and os.environ["DS_ACCELERATOR"] == ("cuda" if gpu else "cpu")


def test_ranks_with_the_same_mistake_say_it_once_and_a_rank_its_own(monkeypatch, tmp_path, capsys):
    """torchrun gives each rank a folder for its error file, side by side."""
    for rank, mistake in enumerate(["the same", "the same", "its own"]):
        own = tmp_path / "attempt_0" / str(rank) / "error.json"
        own.parent.mkdir(parents=True)
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(own))
        with pytest.raises(SystemExit) as ended:
            stop(mistake)
        assert ended.value.code == 2
    assert capsys.readouterr().err == "error: the same\nerror: its own\n"


def test_the_script_names_its_commands(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["stp", "--help"])
    main()
    assert "the commands are bench, evaluate, export, " in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["stp", "trian", "seed=1"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and capsys.readouterr().err.startswith("error: stp trian: no such command; stp <command>")
