"""A run leaves what the design says, learns with every kind of policy, and does what its config asks."""

import json
import time
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from stp.models.policy import Policy
from stp.run.files import read_jsonl
from stp.run.tracking import TRAINING, Clock
from tests.commands import command
from tests.integration.runs import composed, metrics, run, weights


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A run of the small settings, with which others are compared."""
    folder = tmp_path_factory.mktemp("plain")
    run(folder)
    return folder


def test_a_run_leaves_its_files(tmp_path):
    summary = run(tmp_path / "run", "trainer.checkpoint_every=1", "trainer.keep_checkpoints=1")
    folder = tmp_path / "run"
    assert json.loads((folder / "summary.json").read_text()) == json.loads(json.dumps(summary))
    assert summary["base"]["total"] == summary["final"]["total"] == 4
    low, high = summary["final"]["interval"]["accuracy"]
    assert low <= summary["final"]["accuracy"] <= high
    assert [line["update"] for line in metrics(folder)] == [1, 2]
    assert {line["update"] for line in read_jsonl(folder / "variance.jsonl")} == {1, 2}
    assert {line["update"] for line in read_jsonl(folder / "eval.jsonl")} == {0, 2}
    assert OmegaConf.load(folder / "config.yaml").sampler.gamma == 0.05
    assert [p.name for p in (folder / "checkpoints").glob("update-*")] == ["update-000002"]
    sample = read_jsonl(folder / "samples.jsonl")[0]
    assert set(sample) == {"update", "row", "problem", "prompt", "completion", "fixed", "rewards", "advantage"}


def test_phases_add_up_to_the_wall_clock(tmp_path):
    started = time.perf_counter()
    spent = run(tmp_path / "run")["time"]
    wall = time.perf_counter() - started
    phases = sum(seconds for name, seconds in spent.items() if name not in ("train_s", "cpu_s"))
    assert phases <= wall and phases > 0.5 * wall
    assert 0 < spent["cpu_s"] < 2 * spent["train_s"]
    assert min(spent.values()) >= 0  # `other` is what is left, and would hide a phase that counts too much
    assert spent["train_s"] == pytest.approx(sum(spent[f"{name}_s"] for name in (*TRAINING, "other")))


def test_a_phase_lasts_as_long_as_its_work():
    clock = Clock()
    with clock.phase("work"):
        time.sleep(0.1)
    time.sleep(0.05)
    totals = clock.totals()
    assert 0.1 <= totals["work"] < 0.15 + totals["other"] and totals["other"] >= 0.05
    resumed = Clock(totals).totals()
    assert resumed["work"] == totals["work"] and resumed["other"] == pytest.approx(totals["other"], abs=0.02)


def test_the_same_seed_gives_the_same_run_whatever_ran_before(plain, tmp_path):
    torch.manual_seed(123)
    torch.rand(7)
    run(tmp_path / "again")
    assert metrics(plain) == metrics(tmp_path / "again")
    a, b = weights(plain), weights(tmp_path / "again")
    assert all(torch.equal(a[name], b[name]) for name in a.keys() | b.keys())


def test_another_seed_gives_another_run(plain, tmp_path):
    run(tmp_path / "other", "seed=1")
    assert metrics(plain) != metrics(tmp_path / "other")


@pytest.mark.parametrize("micro_batch", [1, 3, 8])
def test_micro_batches_change_nothing_but_rounding(plain, tmp_path, micro_batch):
    run(tmp_path / "other", "trainer.updates=1", f"trainer.micro_batch={micro_batch}", "trainer.rollout_rows=3")
    a, b = metrics(plain)[0], metrics(tmp_path / "other")[0]
    assert a["reward/mean"] == b["reward/mean"]
    assert a["loss"] == pytest.approx(b["loss"], abs=1e-6)
    assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)


def test_a_kl_penalty_keeps_full_fine_tuning_near_its_frozen_copy(tmp_path):
    fast = ["optimizer.lr=3e-4", "optimizer.warmup=0", "trainer.updates=3"]
    run(tmp_path / "free", "objective.beta=1e-6", *fast)
    run(tmp_path / "held", "objective.beta=1", *fast)
    free, held = metrics(tmp_path / "free")[-1], metrics(tmp_path / "held")[-1]
    assert 0 < held["kl"] < free["kl"] / 2


def test_lora_trains_adapters_alone_and_exports_them(tmp_path):
    from peft import PeftModel

    from stp.models.llada import load_llada
    from stp.models.tiny import shipped

    lora = ["model.lora.rank=4", "model.lora.dropout=0.1", "objective.beta=0.04", "optimizer.lr=1e-2", "optimizer.warmup=0"]
    run(tmp_path / "run", *lora)
    assert metrics(tmp_path / "run")[1]["kl"] > 0
    base = load_llada(shipped("countdown"))
    ids = torch.arange(3, 15)[None]
    before = base(ids).logits.detach()
    adapted = PeftModel.from_pretrained(base, str(tmp_path / "run" / "adapter"))
    assert not torch.allclose(adapted(ids).logits, before)
    with adapted.disable_adapter():
        assert torch.equal(adapted(ids).logits, before)


def test_dropout_is_on_in_gradient_forwards_alone(tmp_path, monkeypatch):
    """Rollouts, scores, probes and evaluations see the policy itself, before and after it has been trained."""
    seen = []
    forward = Policy.forward

    def watched(self, *args):
        seen.append((torch.is_grad_enabled(), self.training))
        return forward(self, *args)

    monkeypatch.setattr(Policy, "forward", watched)
    run(tmp_path / "run", "model.lora.rank=4", "model.lora.dropout=0.5", "trainer.eval_every=1")
    assert set(seen) == {(True, True), (False, False)}
    assert seen[-1] == (False, False) and (False, False) in seen[seen.index((True, True)) :]


def test_dropout_changes_what_is_learned(tmp_path):
    """A fresh adapter is silent, so dropout shows from the second inner update on."""
    lora = ["model.lora.rank=4", "trainer.updates=1", "optimizer.lr=1e-2", "optimizer.warmup=0"]
    run(tmp_path / "off", *lora)
    run(tmp_path / "on", *lora, "model.lora.dropout=0.5")
    off, on = metrics(tmp_path / "off")[0], metrics(tmp_path / "on")[0]
    assert off["reward/mean"] == on["reward/mean"] and off["elbo/elbo"] == on["elbo/elbo"]
    assert off["loss"] != on["loss"]


def test_nothing_is_learned_from_groups_of_equal_rewards(tmp_path, monkeypatch):
    from stp.tasks import Countdown

    monkeypatch.setattr(Countdown, "reward_parts", lambda self, problem, completion: {"answer": 0.1})
    run(tmp_path / "run")
    assert all(line["grad_norm"] == 0 and line["reward/equal_groups"] == 1 for line in metrics(tmp_path / "run"))


def test_forwards_are_the_schedules(tmp_path):
    for name, overrides, forwards in [
        ("stp", ["sampler.length=48", "sampler.steps=40", "sampler.block_length=16"], 37),
        ("standard", ["sampler=standard"], 6),
    ]:
        summary = run(tmp_path / name, "trainer.updates=1", "trainer.eval_size=0", *overrides)
        assert summary["forwards_per_rollout"] == forwards


def test_a_static_dataset_made_for_other_settings_is_refused(tmp_path):
    from stp.errors import UserError

    run(tmp_path / "run", "trainer.updates=1")
    made = next((tmp_path / "outputs" / "static").iterdir())
    run(tmp_path / "again", "trainer.updates=1", f"sampler.static={made}")
    with pytest.raises(UserError, match=r"sampler\.static=.*temperature.*pregenerate"):
        run(tmp_path / "other", "trainer.updates=1", f"sampler.static={made}", "sampler.temperature=0.5")


def test_a_static_dataset_of_fewer_problems_leaves_the_others_without_anchor(tmp_path):
    run(tmp_path / "few", "trainer.updates=1", "task.data.train_size=6")
    made = next((tmp_path / "outputs" / "static").iterdir())
    run(tmp_path / "more", f"sampler.static={made}", "trainer.updates=6")
    shares = [line["pruning/rows_without_anchor"] for line in metrics(tmp_path / "more")]
    assert sum(shares) / 6 == pytest.approx(0.5)  # one epoch of 12 problems, of which 6 have an anchor
    assert all(
        line["pruning/rows_with_nothing_fixed"] >= line["pruning/rows_without_anchor"] for line in metrics(tmp_path / "more")
    )


def test_optimizer_offload_trains(tmp_path):
    run(tmp_path / "on", "zero=stage2", "zero.offload=cpu")
    run(tmp_path / "off", "zero=stage2")
    on, off = metrics(tmp_path / "on")[-1], metrics(tmp_path / "off")[-1]
    assert on["loss"] == pytest.approx(off["loss"], abs=1e-6) and on["grad_norm"] > 0


def test_ranks_must_share_the_prompts_evenly():
    from stp.config import check_ranks
    from stp.errors import UserError

    with pytest.raises(UserError, match="multiple of 4"):
        check_ranks(composed(), 4)


def test_evaluate_reads_a_run_an_adapter_and_the_base(tmp_path):
    run(tmp_path / "run", "model.lora.rank=4", "optimizer.lr=1e-2")
    for checkpoint in (tmp_path / "run", tmp_path / "run" / "adapter", "base"):
        out = tmp_path / f"eval-{Path(checkpoint).name}"
        small = ["sampler.length=24", "sampler.steps=12", "sampler.block_length=8", "temperatures=[0,1]", "samples=2", "size=4"]
        places = [f"checkpoint={checkpoint}", f"to={out}", f"hydra.run.dir={out}"]
        done = command("-m", "stp.evaluate", *places, *small, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        summary = json.loads((out / "summary.json").read_text())
        assert summary["T=0"]["total"] == 4 and summary["T=1"]["total"] == 8 and "pass@2" in summary["T=1"]
