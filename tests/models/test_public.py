"""What other tools read: both transformers' names are in the files, and a card says what holds."""

import json

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from stp.models.llada import load_llada
from stp.models.public import save_card, save_stock, save_tokenizer
from tests.models import TOKENIZER, random_ids, small_model


def read(file):
    return json.loads(file.read_text(encoding="utf-8"))


def test_a_tokenizer_has_names_that_transformers_4_knows(tmp_path):
    """Version 4 has no TokenizersBackend, takes extra_special_tokens for a table, and may not look for a template's file."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=TOKENIZER.backend_tokenizer,
        eos_token=TOKENIZER.eos_token,
        additional_special_tokens=["<reasoning>", "<answer>"],
        chat_template="{{ messages[0]['content'] }} ü",
    )
    save_tokenizer(tokenizer, tmp_path)
    settings = read(tmp_path / "tokenizer_config.json")
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert settings["additional_special_tokens"] == ["<reasoning>", "<answer>"] and "extra_special_tokens" not in settings
    assert settings["chat_template"] == tokenizer.chat_template
    assert {p.name for p in tmp_path.iterdir()} == {"tokenizer.json", "tokenizer_config.json"}
    again = AutoTokenizer.from_pretrained(tmp_path)
    for name in ("special_tokens_map", "chat_template", "padding_side", "model_max_length"):
        assert getattr(again, name) == getattr(tokenizer, name)
    assert again.get_vocab() == tokenizer.get_vocab() and again("12 + 3")["input_ids"] == tokenizer("12 + 3")["input_ids"]


def test_a_config_has_both_versions_keys(tmp_path):
    model = small_model().bfloat16()
    model.config.rope_parameters["rope_theta"] = 500_000.0
    save_stock(model, tmp_path, mask_id=1)
    config = read(tmp_path / "config.json")
    assert (config["rope_theta"], config["rope_parameters"]["rope_theta"]) == (500_000.0, 500_000.0)
    assert (config["torch_dtype"], config["dtype"]) == ("bfloat16", "bfloat16")
    assert (config["is_causal"], config["mask_token_id"]) == (False, 1) and not config.get("rope_scaling")
    again, ours = LlamaForCausalLM.from_pretrained(tmp_path), load_llada(tmp_path, torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(again(random_ids(2, 9)).logits, ours(random_ids(2, 9)).logits)
    save_stock(again, tmp_path / "again", mask_id=1)
    assert read(tmp_path / "again" / "config.json") == config


def test_scaled_frequencies_are_said_to_both(tmp_path):
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling["original_max_position_embeddings"] = 64
    config = small_model().config.to_dict() | {"rope_parameters": {"rope_theta": 5e5, **scaling}}
    model = LlamaForCausalLM(LlamaConfig(**config)).eval()
    save_stock(model, tmp_path, mask_id=1)
    assert read(tmp_path / "config.json")["rope_scaling"] == scaling
    again = LlamaForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq)


RUN = {
    "classes": {"task": "Gsm8k", "sampler": "Stp", "estimator": "Elbo", "objective": "Grpo"},
    "task": {"data": {"source": "hub"}},
    "trainer": {"updates": 1500},
    "seed": 3,
}


@pytest.mark.parametrize("to", ["adapter", "adapter_llada", "merged", "llada"])
def test_a_card_says_what_it_is(to, tmp_path):
    save_card(tmp_path, to, "GSAI-ML/LLaDA-8B-Instruct", RUN)
    card = (tmp_path / "README.md").read_text()
    library = "peft" if to.startswith("adapter") else "transformers"
    assert card.startswith(f"---\nlibrary_name: {library}\nbase_model: GSAI-ML/LLaDA-8B-Instruct\n---\n\n# A ")
    assert "- Task: Gsm8k (problems: hub)\n" in card and "Stp, estimator Elbo, objective Grpo), 1500 updates, seed 3\n" in card
    code = card.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    assert ("attends causally" in card) == (to == "merged")  # what cannot be right in transformers 4
    save_card(tmp_path, to, "/home/me/weights/llada", {})  # a folder's adapter, whose run is not known
    card = (tmp_path / "README.md").read_text()
    assert "base_model" not in card and "- Base: `llada`\n\n## Loading" in card and "/home" not in card
    assert ('"<folder of llada>"' in card) == (library == "peft")
    save_card(tmp_path, to, "/home/me/hub/models--GSAI-ML--LLaDA-1.5/snapshots/0f3a", {})  # the hub's cache
    card = (tmp_path / "README.md").read_text()
    assert "base_model: GSAI-ML/LLaDA-1.5\n" in card and "/home" not in card
