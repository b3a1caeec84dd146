"""A checkpoint of any ZeRO stage is continued at any other, equal to rounding; at its own, bit for bit."""

import itertools

import pytest
import torch
from torch import nn

from stp.errors import UserError
from stp.run.engine import Engine, Optimizer, Zero, trained_weights
from stp.run.ranks import bootstrap
from tests.integration.runs import metrics, run

STAGES = [0, 1, 2, 3]


class Small(nn.Module):
    """Two layers, one of them frozen, of sizes that divide by nothing."""

    mask_id = eos_id = 0

    def __init__(self, width=7, dtype=torch.float32):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.frozen, self.trained = nn.Linear(5, width), nn.Linear(width, 3)
        for parameter in self.parameters():
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
        self.frozen.requires_grad_(False)
        self.to(dtype)

    def forward(self, x):
        return self.trained(torch.tanh(self.frozen(x.to(self.frozen.weight.dtype))))


def engine_of(stage, dtype=torch.float32, offload="none"):
    bootstrap()
    return Engine(Small(dtype=dtype), Optimizer(lr=0.05), Zero(stage, offload), dtype == torch.bfloat16)


def step(engine, number):
    generator = torch.Generator().manual_seed(number)
    engine.backward(engine(torch.randn(4, 5, generator=generator)).float().square().mean(), last=True)
    engine.step()


def weights(engine):
    with engine.full_weights() as policy:
        return torch.cat([parameter.detach().float().flatten().clone() for parameter in policy.parameters()])


def test_a_later_model_of_the_process_computes_with_torchs_own_layers():
    before, engine = torch.nn.functional.linear, engine_of(3)
    assert torch.nn.functional.linear is not before  # DeepSpeed's, for every model
    engine.destroy()
    assert torch.nn.functional.linear is before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_stage_continues_every_other(tmp_path, dtype):
    stages = [stage for stage in STAGES if stage or dtype == torch.float32]
    ends = {}
    for stage in stages:
        engine = engine_of(stage, dtype)
        for number in range(3):
            step(engine, number)
        (tmp_path / str(stage)).mkdir()
        engine.save(tmp_path, str(stage))
        for number in range(3, 6):
            step(engine, number)
        ends[stage] = weights(engine)
        engine.destroy()
        found = trained_weights(tmp_path / str(stage))
        assert {name: tensor.dtype for name, tensor in found.items()} == {"trained.weight": dtype, "trained.bias": dtype}
    assert not torch.allclose(ends[stages[0]], weights(engine_of(stages[0], dtype)))
    for before, after in itertools.product(stages, stages):
        engine = engine_of(after, dtype)
        engine.load(tmp_path, str(before), 3)
        assert engine.updates_done == 3
        for number in range(3, 6):
            step(engine, number)
        found = weights(engine)
        if before == after:
            assert torch.equal(found, ends[before]), (before, after)
        else:
            assert torch.allclose(found, ends[before], atol=1e-6 if dtype == torch.float32 else 1e-2), (before, after)
        engine.destroy()


def test_an_optimizer_in_host_memory_is_continued(tmp_path):
    engine = engine_of(2, offload="cpu")
    (tmp_path / "a").mkdir()
    step(engine, 0)
    engine.save(tmp_path, "a")
    step(engine, 1)
    for stage, offload in ((2, "cpu"), (3, "cpu"), (0, "none")):
        other = engine_of(stage, offload=offload)
        other.load(tmp_path, "a", 1)
        step(other, 1)
        assert torch.allclose(weights(other), weights(engine), atol=1e-6)


def test_tensors_of_another_model_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("stp.run.engine.FILE_BYTES", 1)  # a file for each parameter
    engine = engine_of(0)
    (tmp_path / "a").mkdir()
    step(engine, 0)
    engine.save(tmp_path, "a")
    files = sorted((tmp_path / "a").iterdir())
    assert [file.name for file in files] == ["tensors-00000.safetensors", "tensors-00001.safetensors"]
    engine_of(1).load(tmp_path, "a", 1)
    other = Engine(Small(width=8), Optimizer(), Zero(0))
    with pytest.raises(UserError, match=r"trained\.weight of shape \(3, 7\) is no tensor of this model"):
        other.load(tmp_path, "a", 1)
    files[0].unlink()
    with pytest.raises(UserError, match="3 tensors are missing"):
        engine_of(0).load(tmp_path, "a", 1)


@pytest.mark.parametrize(("policy", "zero", "later"), [(["model.lora.rank=4"], "stage3", "off"), ([], "off", "stage2")])
def test_a_run_goes_on_at_another_stage(tmp_path, capsys, policy, zero, later):
    settings = [*policy, "trainer.checkpoint_every=2", "trainer.probe_every=0", "trainer.eval_size=0", "optimizer.lr=1e-4"]
    run(tmp_path / "whole", *settings, f"zero={zero}", "trainer.updates=3")
    run(tmp_path / "run", *settings, f"zero={zero}")
    run(tmp_path / "new", *settings, f"zero={later}", "trainer.updates=3", f"trainer.resume={tmp_path / 'run'}")
    assert "equal to rounding, no longer bit for bit" in capsys.readouterr().out
    whole, part = metrics(tmp_path / "whole")[-1], metrics(tmp_path / "run")[-1]
    assert part["reward/mean"] == whole["reward/mean"] and part["loss"] == pytest.approx(whole["loss"], abs=1e-5)
