"""Adapters are what PEFT reads of them, where they are plain; what is more is refused."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from stp.errors import UserError
from stp.models.adapters import load_adapter
from stp.models.policy import Lora, add_lora
from tests.models import random_ids, small_model


@pytest.fixture
def folder(tmp_path):
    """An adapter whose every weight is drawn, so that it changes the logits."""
    adapted = add_lora(small_model(), Lora(rank=2, alpha=3))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter.data, generator=torch.Generator().manual_seed(len(name)))
    adapted.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def logits(model):
    with torch.no_grad():
        return model(input_ids=random_ids(2, 9)).logits


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
    assert "does not fit the base; choose its own with model= (no place for " in refusal(folder)
    save_file({name: torch.zeros(2, 7) if "lora_A" in name else tensor for name, tensor in weights.items()}, file)
    assert "does not fit the base; choose its own with model= (" in refusal(folder)
