"""Values that are not finite: the update is not applied, its batch is kept, the run goes back once; and alarms."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file

from stp.errors import RunError, UserError
from stp.estimators import Elbo
from stp.run.engine import Engine
from stp.run.guards import Guard, Guards
from stp.tasks import Countdown
from tests.commands import on_ranks
from tests.integration.runs import composed, metrics, run, weights

ROWS = 12  # completions of an update
QUIET = ["trainer.eval_size=0", "trainer.probe_every=0", "sampler=standard", "objective.beta=0.04"]


def bad_reward(patch, updates):
    """One completion's reward is not a number, in these updates (from 0, counted over attempts)."""
    original, calls = Countdown.reward_parts, iter(range(10**9))

    def reward_parts(self, problem, text):
        number, row = divmod(next(calls), ROWS)
        return {"format": torch.nan} if number in updates and row == 3 else original(self, problem, text)

    patch.setattr(Countdown, "reward_parts", reward_parts)


def bad_log_probability(patch, updates):
    """The reference gives a completion no probability at all; the clamp of the ratio would make that finite."""
    original, calls = Elbo.__call__, iter(range(10**9))

    def call(self, denoise, trajectory, noise):
        found = original(self, denoise, trajectory, noise)
        if not isinstance(denoise, Engine) and next(calls) // 3 in updates:  # three micro-batches in each update
            found = dataclasses.replace(found, token_BL=found.token_BL.index_fill(1, torch.tensor([0]), -torch.inf))
        return found

    patch.setattr(Elbo, "__call__", call)


def bad_gradient(patch, updates):
    """The backward pass overflows although its loss is finite, in the second inner update."""
    original, steps = Engine.__init__, Engine.step

    def init(self, policy, *args):
        self.count = 0
        bad = lambda grad: grad * torch.inf if self.count in [2 * u + 1 for u in updates] else grad  # noqa: E731
        next(p for p in policy.parameters() if p.requires_grad).register_hook(bad)
        original(self, policy, *args)

    def step(self):
        self.count += 1
        return steps(self)

    patch.setattr(Engine, "__init__", init)
    patch.setattr(Engine, "step", step)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The weights after one update that is sound."""
    folder = tmp_path_factory.mktemp("first")
    run(folder / "run", *QUIET, "trainer.updates=1")
    return weights(folder / "run")


@pytest.mark.parametrize("zero", ["off", "stage2", "stage3"])
@pytest.mark.parametrize(
    ("bad", "reason"), [(bad_reward, "reward"), (bad_log_probability, "reference"), (bad_gradient, "gradient")]
)
def test_what_is_not_finite_is_not_applied(tmp_path, monkeypatch, first, bad, reason, zero):
    if zero == "stage3" and bad is not bad_reward:
        pytest.skip("the same path as stage 2")
    bad(monkeypatch, {1})
    run(tmp_path / "run", *QUIET, f"zero={zero}")
    one, two = metrics(tmp_path / "run")
    inner = 1 if bad is bad_gradient else 0
    assert one["guard/skipped"] == 0 and two["guard/skipped"] == 2 - inner and two["grad_norm"] is None
    if inner == 0 and zero == "off":
        assert all(torch.equal(a, b) for a, b in zip(weights(tmp_path / "run").values(), first.values(), strict=True))
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path / "run").values())
    record = json.loads((tmp_path / "run" / "bad" / "update-000002-rank0.json").read_text())
    assert record["update"] == 2 and record["inner_update"] == inner and reason in record["not_finite"]
    assert len(record["rows"]) == ROWS and record["rows"][0]["question"]
    tensors = load_file(tmp_path / "run" / "bad" / "update-000002-rank0.safetensors")
    assert tensors["response_BL"].shape == tensors["old_BL"].shape == (ROWS, 24)
    assert bool(tensors["reward_B"].isnan()[3]) == (bad is bad_reward)


def test_what_is_not_finite_on_one_rank_is_applied_on_none(tmp_path):
    """Two ranks, the second of which has a bad reward in its second update."""
    more = ["trainer.updates=3", "zero=stage2"]
    for done in on_ranks("-m", "tests.integration.poisoned", str(tmp_path / "run"), *QUIET, *more, cwd=tmp_path):
        assert done.returncode == 0, done.stderr[-3000:]
    assert [line["guard/skipped"] for line in metrics(tmp_path / "run")] == [0, 2, 0]
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path / "run").values())
    kept = {rank: load_file(tmp_path / "run" / "bad" / f"update-000002-rank{rank}.safetensors") for rank in (0, 1)}
    assert kept[0]["reward_B"].isfinite().all() and kept[1]["reward_B"].isnan().tolist() == [i == 2 for i in range(6)]
    records = [json.loads((tmp_path / "run" / "bad" / f"update-000002-rank{rank}.json").read_text()) for rank in (0, 1)]
    assert all("reward" in record["not_finite"] for record in records)


def test_a_fault_that_passes_is_gone_after_going_back(tmp_path, monkeypatch):
    """Two bad updates in a row, once: back to the last checkpoint, and on as if nothing had been."""
    often = [*QUIET, "trainer.updates=3", "trainer.checkpoint_every=1", "guards.max_bad_updates=2"]
    run(tmp_path / "whole", *often)
    bad_reward(monkeypatch, {1, 2})
    run(tmp_path / "run", *often)
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")
    found, wanted = weights(tmp_path / "run"), weights(tmp_path / "whole")
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(("every", "attempts"), [(1, 2), (0, 1)])
def test_a_fault_that_stays_ends_the_run_with_a_report(tmp_path, monkeypatch, capfd, every, attempts):
    bad_reward(monkeypatch, set(range(1, 99)))
    often = [*QUIET, "trainer.updates=9", f"trainer.checkpoint_every={every}", "guards.max_bad_updates=2"]
    with pytest.raises(RunError, match=r"2 updates in a row up to 3 had values that are not finite; their batches .*bad"):
        run(tmp_path / "run", *often)
    assert capfd.readouterr().out.count("update 3: not finite: reward") == attempts
    assert [line["guard/skipped"] for line in metrics(tmp_path / "run")] == [0, 2, 2]
    assert [p.name for p in (tmp_path / "run").glob("checkpoints/update-*")] == ["update-000001"] * every


def line(update, **changed):
    return {"update": update, "kl": 0.1, "ratio/clipped": 0.1, "elbo/elbo": -0.5, "completion/length": 20.0} | changed


@pytest.mark.parametrize(
    ("name", "metric", "bad"),
    [
        ("kl", "kl", 1.5),
        ("clipped", "ratio/clipped", 0.5),
        ("entropy", "elbo/elbo", -0.01),
        ("length", "completion/length", 2.0),
        ("equal_groups", "reward/equal_groups", 1.0),
        ("confidence", "confidence/mean", 0.995),
    ],
)
def test_an_alarm_is_the_mean_of_a_window_beyond_its_threshold(tmp_path, name, metric, bad):
    said = []
    guard = Guard(Guards(window=2), tmp_path, 0, [], said.append)
    on = [guard.watch(line(i, **{metric: bad}))["guard/alarms"] for i in range(3)]
    assert on == [0, 1, 1] and len(said) == 1 and f"ALARM {name} {abs(bad):.3g}" in said[0]
    resumed = Guard(Guards(window=2), tmp_path, 0, [line(0, **{metric: bad}), line(1, **{metric: bad})])
    assert list(resumed.alarms) == [name]
    off = Guard(Guards(window=2, **{name: None}), tmp_path, 0, [])
    assert [off.watch(line(i, **{metric: bad}))["guard/alarms"] for i in range(3)] == [0, 0, 0]


def test_a_value_that_is_missing_or_not_finite_is_no_alarm(tmp_path):
    guard = Guard(Guards(window=2), tmp_path, 0, [])
    for value in (None, float("nan"), 9.0):
        assert guard.watch(line(0, kl=value)) == {"guard/alarms": 0}


def test_guards_are_checked_and_leave_the_settings_hash_alone():
    from stp.config import config_hash

    for wrong in ("guards.window=0", "guards.kl=-1", "guards.grace=0", "guards.max_bad_updates=0"):
        with pytest.raises(UserError, match=wrong.replace(".", r"\.")):
            composed(wrong)
    assert config_hash(composed("guards.kl=null")) == config_hash(composed())
