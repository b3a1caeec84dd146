"""A ledger keeps all that the report needs of a run: its tables are those of the folders, and a sweep skips what it has."""

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from stp.config import config_hash, seedless, seedless_hash
from stp.errors import UserError
from stp.run.ledger import Ledger, line_of
from stp.train.entries import enter
from stp.train.resume import finished
from tests.integration.runs import composed, run
from tests.report.test_report import made, three_seeds


def entered(folders, file=Path("ledger.csv")):
    """A ledger with the runs of these folders."""
    for folder in folders:
        record = yaml.safe_load((folder / "config.yaml").read_text())
        line = line_of(folder, seedless_hash(record))
        unique = config_hash_of(record)
        Ledger(file).add(replace(line, config_hash=unique, problems="p"), seedless(record))
    return Ledger(file)


def config_hash_of(record):
    return f"{seedless_hash(record)}{record['seed']}"


def test_a_ledger_gives_the_tables_of_the_folders(runs, monkeypatch):
    three_seeds(runs)
    runs.add("figure3_grpo_elbo", 7)
    runs.add("figure3_stp", 7, probes={1: [3.0, 4.0, 5.0], 2: [1.0, 2.0, 3.0]})
    ledger = entered(runs.folders)
    tables = [made(monkeypatch, *places).joinpath("tables.md").read_text() for places in ((), (ledger.file,))]
    assert tables[0] == tables[1] and "62.5 ± 12.5 (4, 5, 6 of 8)" in tables[1]
    csvs = {path.name: path.read_text() for path in Path("out").glob("table*.csv")}
    assert "62.5" in csvs["table7.csv"]


def test_a_line_is_read_as_it_was_written(runs):
    folder = runs.add("table5_stp", 3, "1110")
    ledger = entered([folder])
    (line,) = ledger.lines()
    assert (line.presets, line.seed, line.correct, line.total, line.base) == (["table5_stp"], 3, 3, 4, 1)
    assert line.rewards == [0.1, 0.2] and line.curve == {"0": 1, "2": 3} and line.probes["1"][0][0] == 4.0
    assert ledger.settings()[line.settings_hash]["sampler.gamma"] == 0.05
    before = [(file.read_bytes(), file.stat().st_mtime_ns) for file in (ledger.file, ledger.beside)]
    entered([folder])  # the same run is one line, and nothing is written
    assert [(file.read_bytes(), file.stat().st_mtime_ns) for file in (ledger.file, ledger.beside)] == before


def test_a_line_says_what_was_asked_but_not_where_it_wrote(runs):
    folder = runs.add("table5_stp")
    (folder / ".hydra").mkdir()
    given = ["experiment=table5_stp", "sampler.gamma=0.1", "trainer.updates=2"]
    elsewhere = ["logging.ledger=/home/me/runs.csv", "hydra.run.dir=/tmp/x", "+logging.group=a", "trainer.resume=auto"]
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([*elsewhere[:2], *given, *elsewhere[2:]]))
    (line,) = entered([folder]).lines()
    assert line.overrides == given


def test_settings_are_kept_once_and_whole(runs):
    a = runs.add("table5_stp", 0)
    b = runs.add("table5_stp", 0, name="b", overrides=("optimizer.lr=3e-4",))
    c = runs.add("table5_grpo_elbo", 0)
    ledger = entered([a, b, c])
    rates = {one["optimizer.lr"] for one in ledger.settings().values()}
    assert len(ledger.settings()) == 3 and rates == {1e-4, 3e-4}
    kept = json.loads(ledger.beside.read_text())
    assert "optimizer.lr" not in kept["common"] and kept["common"]["objective.clip"] == 0.2
    assert "sampler.gamma" not in ledger.settings()[ledger.find((line_key(c), 2, "p")).settings_hash]


def line_key(folder):
    return config_hash_of(yaml.safe_load((folder / "config.yaml").read_text()))


def add(file, line, name):
    for seed in range(8):
        Ledger(file).add(replace(line, seed=seed, config_hash=f"{name}{seed}"), {"x": 1})


def test_processes_may_add_at_the_same_time(runs):
    (line,) = entered([runs.add("table5_stp")]).lines()
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=add, args=(Path("both.csv"), line, name)) for name in "ab"]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert len({line.config_hash for line in Ledger(Path("both.csv")).lines()}) == 16


def test_a_run_enters_itself_and_is_not_run_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = composed("logging.ledger=results/runs.csv", "trainer.resume=auto", "trainer.probe_every=0")
    choices = {"experiment": "table5_stp"}
    assert finished(config, tmp_path / "run", choices, None) is None
    summary = run(tmp_path / "run", "logging.ledger=results/runs.csv", "trainer.probe_every=0")
    ledger = Ledger(Path("results/runs.csv"))
    (line,) = ledger.lines()
    assert (line.correct, line.total, line.config_hash) == (summary["final"]["correct"], 4, config_hash(config))
    found = finished(config, tmp_path / "elsewhere", choices, None)
    assert (
        found["final"]["accuracy"] == summary["final"]["accuracy"]
        and "results/runs.csv has its results" in capsys.readouterr().out
    )
    assert ledger.lines()[0].presets == ["table5_stp"]
    finished(config, tmp_path / "elsewhere", {"experiment": "figure3_stp"}, None)  # a preset of the same settings
    assert ledger.lines()[0].presets == ["figure3_stp", "table5_stp"]
    for other in ("seed=5", "trainer.updates=3", "trainer.eval_size=3", "trainer.probe_every=1"):
        wanted = composed("logging.ledger=results/runs.csv", "trainer.resume=auto", "trainer.probe_every=0", other)
        assert finished(wanted, tmp_path / "elsewhere", choices, None) is None, other
    ledger.file.unlink()
    finished(config, tmp_path / "run", choices, None)  # a run that was finished before there was a ledger
    assert Ledger(Path("results/runs.csv")).lines()[0].presets == ["table5_stp"]


def test_a_run_without_evaluation_is_no_line(runs):
    folder = runs.add("table5_stp", base={}, final={})
    config = composed("logging.ledger=runs.csv")
    enter(config, folder, "table5_stp")
    assert not Path("runs.csv").exists()


def test_a_ledger_from_before_devices_were_recorded_is_read_and_added_to(runs):
    ledger = entered([runs.add("table5_stp", 0, device="cpu AVX2")])
    before = ledger.file.read_text().replace(",device", "").replace(",cpu AVX2", "")
    ledger.file.write_text(before)
    assert before.count("\n") == 2 and "AVX2" not in before and [line.device for line in ledger.lines()] == [""]
    entered([runs.add("table5_stp", 1, device="cpu AVX512")])
    assert [line.device for line in ledger.lines()] == ["", "cpu AVX512"]
    ledger.file.write_text(before.replace(",code", ""))  # no other column may be missing
    with pytest.raises(UserError, match="line 1 does not name the columns"):
        ledger.lines()


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "a,b\n", "nonsense\nx\n", "task,seed\ncountdown,x\n", "\0"])
def test_another_table_is_no_ledger(tmp_path, monkeypatch, capsys, text):
    monkeypatch.chdir(tmp_path)
    Path("other.csv").write_text(text)
    with pytest.raises(UserError, match="line 1 does not name the columns"):
        Ledger(Path("other.csv")).lines()
    with pytest.raises(SystemExit) as stopped:
        made(monkeypatch, "other.csv")
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("error:") == 1


def test_a_damaged_ledger_is_refused_before_a_run_that_would_write_to_it(runs):
    ledger = entered([runs.add("table5_stp")])
    rows, settings = ledger.file.read_text().splitlines(), ledger.beside.read_text()
    ledger.file.write_text(f"{rows[0]}\n{rows[1][:60]}\n")
    with pytest.raises(UserError, match="line 2 is not one"):
        run(Path("run"), f"logging.ledger={ledger.file}")
    ledger.file.write_text("\n".join(rows) + "\n")
    for text in ("{}", settings[:-9], '{"common": {}, "own": {}}'):
        ledger.beside.write_text(text)
        with pytest.raises(UserError, match=r"ledger\.settings\.json"):
            run(Path("run"), f"logging.ledger={ledger.file}")
    assert not Path("run/metrics.jsonl").exists()


def test_a_ledger_that_is_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        made(monkeypatch, "missing.csv")
    assert "missing.csv: no finished run is there" in capsys.readouterr().err


def test_the_name_of_a_ledger():
    with pytest.raises(UserError, match="it is a table of finished runs"):
        composed("logging.ledger=runs.json")
