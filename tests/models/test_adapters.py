"""Adapters are what PEFT reads of them, where they are plain; what is more is refused."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from stp.errors import UserError
from stp.models.adapters import load_adapter, save_adapter
from stp.models.llada import llada_module
from stp.models.options import Lora
from stp.models.policy import add_lora
from tests.models import random_ids, small_model
from tests.models.test_llada import LLADA_NAMES

Q_K_V_UP = ["q_proj", "k_proj", "v_proj", "up_proj"]
ALL = [*Q_K_V_UP, "o_proj", "gate_proj", "down_proj"]


def drawn(targets=Q_K_V_UP, **lora):
    """A small model with an adapter whose every weight is drawn, so that it changes the logits."""
    adapted = add_lora(small_model(), Lora(rank=2, alpha=3, target_modules=targets, **lora))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter.data, generator=torch.Generator().manual_seed(len(name)))
    return adapted.eval()


@pytest.fixture
def folder(tmp_path):
    """An adapter as PEFT writes it."""
    drawn().save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def logits(model):
    with torch.no_grad():
        return model(input_ids=random_ids(2, 9)).logits


def stored(folder):
    return load_file(folder / "adapter_model.safetensors")


def refusal(folder, model=None):
    """The one line that an adapter is refused with."""
    with pytest.raises(UserError) as error:
        load_adapter(folder, model or small_model())
    assert str(error.value).startswith(f"checkpoint={folder}: ") and "\n" not in str(error.value)
    return str(error.value)


def changed(folder, **settings):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return folder


def test_an_adapter_is_what_peft_reads(folder):
    before = torch.get_rng_state()
    ours = load_adapter(folder, small_model())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(logits(ours), logits(PeftModel.from_pretrained(small_model(), str(folder))))
    assert not torch.equal(logits(ours), logits(small_model()))


def in_lladas_names(name):
    """A tensor's name in the stock model, as LLaDA's own modelling code has it, by the tests' own table."""
    stem, mark, leaf = name.removeprefix("base_model.model.").partition(".lora_")
    number = stem.split(".")[2] if stem.startswith("model.layers.") else None
    part = LLADA_NAMES[stem if number is None else stem.removeprefix(f"model.layers.{number}.")]
    return f"base_model.model.{part if number is None else f'model.transformer.blocks.{number}.{part}'}{mark}{leaf}"


class LLaDA(torch.nn.Module):
    """Modules under the names that LLaDA's modelling code gives them: what PEFT finds there."""

    def __init__(self):
        super().__init__()
        stock = small_model()
        for name, module in stock.named_modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
                *owners, last = in_lladas_names(f"base_model.model.{name}.lora_A").split(".")[2:-1]
                owner = self
                for part in owners:
                    if not hasattr(owner, part):
                        owner.add_module(part, torch.nn.Module())
                    owner = getattr(owner, part)
                owner.add_module(last, module)

    def prepare_inputs_for_generation(self):
        """PEFT asks every causal model for it."""


TARGETS = [Q_K_V_UP, ALL, ["down_proj"], ["lm_head"], ["embed_tokens", "q_proj"]]


@pytest.mark.parametrize("targets", TARGETS, ids="-".join)
def test_it_is_written_as_it_is(targets, tmp_path):
    adapted = drawn(targets)
    save_adapter(adapted, tmp_path / "ours", "a/base")
    assert {p.name for p in (tmp_path / "ours").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    settings = json.loads((tmp_path / "ours" / "adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["target_modules"]) == ("a/base", sorted(targets))
    for read in (load_adapter(tmp_path / "ours", small_model()), PeftModel.from_pretrained(small_model(), tmp_path / "ours")):
        assert torch.equal(logits(read), logits(adapted))


def test_writing_looks_at_no_base(tmp_path, monkeypatch, caplog):
    """PEFT's writer asks the hub, or reads a LLaDA's config.json as a Llama's and warns."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text('{"model_type": "llada", "vocab_size": 5}')
    adapted = drawn()
    adapted.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    monkeypatch.setattr(type(adapted.config), "from_pretrained", lambda *_, **__: pytest.fail("it read the base's config"))
    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", lambda *_: pytest.fail("it asked the hub"))
    save_adapter(adapted, tmp_path / "ours", "GSAI-ML/LLaDA-8B-Instruct")
    assert not caplog.records


@pytest.mark.parametrize("targets", TARGETS, ids="-".join)
def test_lladas_own_names(targets, tmp_path):
    """PEFT fills the modules that LLaDA's code has, these and no others; and they are read back."""
    adapted = drawn(targets)
    save_adapter(adapted, tmp_path / "stock", "base")
    save_adapter(adapted, tmp_path / "llada", "base", llada_module)
    expected = {in_lladas_names(name): tensor for name, tensor in stored(tmp_path / "stock").items()}
    assert stored(tmp_path / "llada").keys() == expected.keys()
    theirs = PeftModel.from_pretrained(LLaDA(), str(tmp_path / "llada"))
    found = {name.replace(".default", ""): p for name, p in theirs.named_parameters() if ".lora_" in name}
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
    assert torch.equal(logits(load_adapter(tmp_path / "llada", small_model())), logits(adapted))


@pytest.fixture
def published(tmp_path):
    """An adapter as the published code writes it: LLaDA's names, and three target_modules that LLaDA does not have."""
    save_adapter(drawn(), tmp_path / "published", "base", llada_module)
    return changed(
        tmp_path / "published", target_modules=ALL, lora_dropout=0.05, loftq_config={}, megatron_core="megatron.core"
    )


def test_published_adapters_are_read(published):
    assert torch.equal(logits(load_adapter(published, small_model())), logits(drawn()))


def test_each_tensor_has_a_place_and_each_place_a_tensor(published, folder):
    whole = stored(published)

    def without(part):
        return {name: tensor for name, tensor in whole.items() if part not in name}

    def refused(weights, **settings):
        save_file(weights, changed(published, **settings) / "adapter_model.safetensors")
        return refusal(published)

    assert "(no tensors for model.transformer.blocks.1.q_proj)" in refused(without("blocks.1.q_proj"))
    assert "(no place for base_model.model.model.transformer.blocks.0.k_proj.lora_A.weight)" in refused(whole | stored(folder))
    one = "base_model.model.model.transformer.blocks.7.q_proj.lora_A.weight"
    assert f"(no place for {one})" in refused(whole | {one: torch.zeros(2, 32)})
    assert "(no target_modules for model.transformer.blocks.0.v_proj)" in refused(whole, target_modules=["q_proj", "k_proj"])
    assert "(no tensors for model.transformer.blocks.0.ff_out)" in refused(whole, target_modules=[*Q_K_V_UP, "ff_out"])
    lost = "base_model.model.model.layers.1.mlp.up_proj.lora_B.default.weight"
    assert f"(no place for {lost})" in refused(without("blocks.1.up_proj.lora_B"), target_modules=Q_K_V_UP)
    assert "its weights are torch.int64; float32, bfloat16 or float16 is needed" in refused(
        {k: v.long() for k, v in whole.items()}
    )


def test_an_adapter_computes_in_its_own_precision(tmp_path):
    """As it was trained: in bfloat16 on a base in bfloat16. The higher of two, where they differ."""
    trained = drawn().bfloat16()
    save_adapter(trained, tmp_path / "half", "base")
    save_adapter(drawn(), tmp_path / "whole", "base")
    half, whole = torch.bfloat16, torch.float32
    assert {tensor.dtype for tensor in stored(tmp_path / "half").values()} == {half}
    assert torch.equal(logits(load_adapter(tmp_path / "half", small_model().bfloat16())), logits(trained))
    for name, base, expected in (("half", half, half), ("half", whole, whole), ("whole", half, whole), ("whole", whole, whole)):
        parameters = load_adapter(tmp_path / name, small_model().to(base)).named_parameters()
        assert {p.dtype for n, p in parameters if ".lora_" in n} == {expected}


@pytest.mark.parametrize(
    "setting",
    [
        {"megatron_core": "antigravity", "megatron_config": {"a": 1}},
        {"peft_type": "IA3"},
        {"bias": "all"},
        {"use_dora": True},
        {"modules_to_save": ["lm_head"]},
        {"rank_pattern": {"(a+)+b": 4}},
        {"loftq_config": {"loftq_bits": 4}},
    ],
)
def test_what_is_more_than_a_plain_lora_is_refused(folder, setting):
    line = refusal(changed(folder, **setting))
    assert any(name in line for name in setting) and "only plain LoRA adapters are loaded" in line


def test_patterns_of_modules_are_refused(folder):
    assert "names no list of target_modules" in refusal(changed(folder, target_modules="(a+)+b"))


def test_pickled_weights_are_refused(folder):
    file = folder / "adapter_model.safetensors"
    torch.save(load_file(file), folder / "adapter_model.bin")
    file.unlink()
    assert "pickled weights are not loaded" in refusal(folder)


def test_weights_that_do_not_fit_are_refused(folder):
    assert "says r=3, its weights have [2]" in refusal(changed(folder, r=3))
    changed(folder, r=2)
    file = folder / "adapter_model.safetensors"
    weights = load_file(file)
    save_file({name: tensor for name, tensor in weights.items() if "q_proj" not in name}, file)
    assert "choose its own with model= (no tensors for model.layers.0.self_attn.q_proj)" in refusal(folder)
    save_file({name: torch.zeros(2, 7) if "lora_A" in name else tensor for name, tensor in weights.items()}, file)
    assert "does not fit the base; choose its own with model= (" in refusal(folder)
