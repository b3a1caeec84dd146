"""NF4: refused where it cannot run, and which layers it touches. What it computes on a GPU is not tested here."""

import sys
import types

import pytest
import torch
from torch import nn

import stp.models.policy
from stp.errors import UserError
from stp.models import nf4
from stp.models.dream import load_dream
from stp.models.llada import load_llada
from stp.models.options import Lora, Model
from stp.models.policy import add_lora, load_policy
from tests.config import composed, told
from tests.models import random_ids
from tests.models.test_dream import random_weights, write_dream
from tests.models.test_llada import random_llama, write_llada

KINDS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]  # fmt: skip # noqa: E501


class Params4bit(nn.Parameter):
    """bitsandbytes's parameter as far as loading sees it: a class of its own that keeps its settings."""

    def __new__(cls, data, requires_grad=False, **settings):
        self = torch.Tensor._make_subclass(cls, data, requires_grad)
        self.__dict__.update(settings)
        return self


class Linear4bit(nn.Linear):
    def __init__(self, inputs, outputs, bias, compute_dtype, device, **settings):
        super().__init__(inputs, outputs, bias, device)
        self.compute_dtype = compute_dtype
        self.weight = Params4bit(self.weight.data, **settings, module=self)


@pytest.fixture
def stub(monkeypatch):
    """bitsandbytes without its kernels: its layers hold and multiply plain weights."""
    package = types.ModuleType("bitsandbytes")
    package.nn = types.SimpleNamespace(Linear4bit=Linear4bit, Params4bit=Params4bit)
    monkeypatch.setitem(sys.modules, "bitsandbytes", package)


@pytest.mark.parametrize(
    ("cuda", "package", "reason"),
    [
        (False, True, "4-bit weights need a CUDA GPU, none is here; use model.quantize=none"),
        (True, False, "bitsandbytes is not installed; pip install -e '.[gpu]', or use model.quantize=none"),
    ],
)
def test_refused_before_anything_loads(cuda, package, reason, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(nf4, "find_spec", lambda name: name if package else None)
    monkeypatch.setattr(stp.models.policy, "checkpoint_folder", lambda options: pytest.fail("it looked for weights"))
    with pytest.raises(UserError, match=r"^model\.quantize=nf4: ") as error:
        load_policy(Model(quantize="nf4", dtype="bfloat16"))
    assert str(error.value) == f"model.quantize=nf4: {reason}"


def test_training_is_refused_before_problems_are_read(tmp_path, monkeypatch):
    from stp.train.job import execute

    config = composed("train", "scale=paper", "model.quantize=nf4")
    monkeypatch.setattr(type(config.task), "problems", lambda *args: pytest.fail("it read problems"))
    with pytest.raises(UserError, match=r"^model\.quantize=nf4: 4-bit weights need a CUDA GPU"):
        execute(config, tmp_path / "run", {})


def test_rules():
    assert composed("train", "scale=paper", "model.quantize=nf4").model.quantize == "nf4"
    lora = "add model.lora.rank=128"
    assert lora in told("train", "scale=paper", "model.quantize=nf4", "model.lora.rank=0")
    assert "use zero=stage2" in told("train", "scale=paper", "model.quantize=nf4", "zero=stage3")
    assert "add model.dtype=bfloat16" in told("train", "model.quantize=nf4", "model.lora.rank=4")
    assert "choose one of none, nf4" in told("train", "model.quantize=int8")


@pytest.mark.parametrize("load", [load_llada, load_dream])
def test_linear_layers_become_4_bit_but_the_head(load, stub, tmp_path):
    folder = write_llada(random_llama(), tmp_path / "m") if load is load_llada else write_dream(tmp_path / "m")
    plain, model = load(folder, torch.bfloat16), load(folder, torch.bfloat16, quantize="nf4")
    layers = [f"model.layers.{n}.{kind}" for n in range(2) for kind in KINDS]
    assert nf4.quantised(plain) == layers
    assert [name for name, module in model.named_modules() if isinstance(module, Linear4bit)] == layers
    assert type(model.lm_head) is nn.Linear and type(model.model.embed_tokens) is nn.Embedding
    for name in layers:
        weight = model.get_parameter(f"{name}.weight")
        assert type(weight) is Params4bit and not weight.requires_grad and weight.module is model.get_submodule(name)
        assert (weight.quant_type, weight.compress_statistics) == ("nf4", True)  # the double quantisation of QLoRA
        assert model.get_submodule(name).compute_dtype == torch.bfloat16
    ids_BS = random_ids(2, 9, vocabulary=47)
    with torch.no_grad():  # the stub does not round: the right weight is in every layer
        assert torch.equal(model(input_ids=ids_BS).logits, plain(input_ids=ids_BS).logits)


def test_real_bitsandbytes_quantises_on_the_way_to_the_device(tmp_path):
    """Where the gpu extra is installed; its CPU kernels do for this."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    model = load_dream(write_dream(tmp_path / "dream"), torch.bfloat16, quantize="nf4")
    adapted = add_lora(model, Lora(rank=2)).to("cpu")
    weight = model.model.layers[0].self_attn.q_proj.base_layer.weight
    assert (weight.dtype, weight.quant_state.quant_type, weight.quant_state.nested) == (torch.uint8, "nf4", True)
    close = bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state).float()
    exact = random_weights()["model.layers.0.self_attn.q_proj.weight"]
    assert (close - exact).abs().mean() < 0.2 * exact.abs().mean()
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    assert type(adapted.base_model.model.model.layers[0].mlp.up_proj).__module__ == "peft.tuners.lora.bnb"
