"""The benchmark on a toy shape: what it compares and counts; not how long anything takes."""

import json
import sys
from dataclasses import replace

import pytest
import torch

from stp.bench import bench
from stp.bench.bench import Shape, Turns
from stp.estimators import Elbo
from stp.models.options import Lora
from stp.models.policy import Policy, add_lora
from stp.models.tiny import new_tiny, tiny_tokenizer
from stp.objectives import Grpo
from stp.run.engine import Engine, Optimizer, Zero
from stp.run.ranks import bootstrap
from stp.samplers import Standard
from stp.tasks import Countdown
from stp.trainer import Trainer

TOKENIZER = tiny_tokenizer(Countdown.phrases)


def toy(device) -> Shape:
    """Two prompts of three completions, 8 tokens in 4 forwards."""
    model = add_lora(new_tiny(TOKENIZER, 0, width=16, layers=1), Lora(rank=2))
    policy = Policy(model, TOKENIZER.mask_token_id, bench.NEVER, logit_chunk=5).eval()
    trainer = Trainer(inner_updates=2, prompts_per_update=2, group_size=3, micro_batch=4, rollout_rows=6)
    prompts = bench.random_prompts(2, 3, 6, policy)
    return Shape("toy", policy, prompts, Standard(8, 4, 4, 1.0), Elbo(samples=2), Grpo(beta=0.1), trainer, 1.3)


@pytest.fixture(scope="module")
def shape():
    return toy("cpu")


@pytest.fixture(scope="module")
def engine(shape):
    bootstrap()
    return Engine(shape.policy, Optimizer(lr=1e-6), Zero())


def test_a_ratio_is_taken_within_each_turn():
    turns = Turns({"a": [2.0, 9.0, 4.0], "b": [1.0, 3.0, 4.0]}, {}, by_wall=False)
    assert turns.ratio("a", "b") == {"median": 2.0, "min": 1.0, "max": 3.0}


def test_variants_take_turns():
    order = []
    turns = bench.take_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2, torch.device("cpu"))
    assert order == ["a", "b"] * 3 and len(turns.cpu["a"]) == len(turns.wall["b"]) == 2


def test_the_limit_is_the_samplers_forwards_and_the_masked_positions_of_the_block(shape):
    """2 tokens of 4 a forward: 4, then 2 positions of each of 6 rows, in both blocks."""
    calls = bench.sampler_calls(shape, shape.sampler)
    assert [len(call.index_M) for call in calls] == [24, 12, 24, 12]
    assert all((call.ids_BS.flatten()[call.index_M] == shape.policy.mask_id).all() for call in calls)


def test_a_rollout_by_threshold_is_compared_with_the_forwards_of_the_rows_alive(shape):
    """The least tau reveals a block in each forward: two forwards for 4 positions of each of 6 rows."""
    calls = bench.sampler_calls(shape, replace(shape.sampler, reveal="threshold", tau=1e-9))
    assert [len(call.index_M) for call in calls] == [24, 24]
    uneven = bench.sampler_calls(shape, replace(shape.sampler, steps=8, reveal="threshold", tau=0.02))
    rows = [len(call.ids_BS) for call in uneven]
    assert rows == sorted(rows, reverse=True) and rows[-1] < rows[0] == 6


def test_the_limit_of_an_update_is_one_pass_of_each_kind(shape, engine, monkeypatch):
    """Two micro-batches: the rollout's 4 forwards, 2 of the reference, 2 x 2 with gradients."""
    ran = []
    monkeypatch.setattr(bench, "bare_all", lambda policy, calls, backward=False: ran.append((len(calls), backward)))
    done = bench.rolled_out(shape, engine, shape.sampler)
    assert len(set(done.reward_B.tolist())) == 6
    scored = [bench.estimator_calls(shape, shape.estimator, done)]
    bench.bare_update(shape, bench.sampler_calls(shape, shape.sampler), scored)
    assert ran == [(4, False), (2, False), (2, True), (2, True)]
    assert not any(p.grad is not None and p.grad.any() for p in shape.policy.parameters())


@pytest.mark.parametrize("item", sorted(set(bench.ITEMS) - {"ranks", "paper"}))
def test_items_give_their_lines(shape, engine, monkeypatch, item):
    compiling = torch.nn.Module.compile  # without machine code, which takes a minute
    monkeypatch.setattr(torch.nn.Module, "compile", lambda layer, **how: compiling(layer, backend="eager", **how))
    rows = list(bench.ITEMS[item](shape, engine, 1))
    assert rows and all(r["item"] == item and r["ratio"]["min"] <= r["ratio"]["max"] for r in rows)
    bench.table(rows)
    if item == "memory":
        ours = {r["what"]: r["ratio"]["median"] for r in rows if "published" not in r["what"]}
        assert len(ours) == 6 and 0 < max(ours.values()) <= 3  # logits, weights and their running sum
        assert len({v for name, v in ours.items() if name.startswith("gradient")}) == 1
    if item == "pruning":
        assert [r["target"] for r in rows] == [1.0, 1.0, 1.0, 1.0]  # of 4 forwards: 4 by half up, and 3 and a fill


def test_the_command_writes_its_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "SHAPES", {"toy": toy})
    command = ["bench", "--shapes", "toy", "--items", "sampler", "--repeats", "1", "--device", "cpu", "--to", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    threads = torch.get_num_threads()
    bench.main()
    torch.set_num_threads(threads)
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["machine"]["measured"] == "processor time, one thread" and len(written["rows"]) == 3
    assert "published loop" in capsys.readouterr().out
