"""Checkpoints in LLaDA's layout and in the stock one give the logits they should, or are refused in one line."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import LlamaConfig, LlamaForCausalLM

from stp.errors import UserError
from stp.models.llada import load_llada
from stp.models.loading import bidirectional
from tests.models import random_ids, small_model
from tests.tasks import shared

LLADA_NAMES = {
    "model.embed_tokens": "model.transformer.wte",
    "model.norm": "model.transformer.ln_f",
    "lm_head": "model.transformer.ff_out",
    "self_attn.q_proj": "q_proj",
    "self_attn.k_proj": "k_proj",
    "self_attn.v_proj": "v_proj",
    "self_attn.o_proj": "attn_out",
    "mlp.gate_proj": "ff_proj",
    "mlp.up_proj": "up_proj",
    "mlp.down_proj": "ff_out",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ff_norm",
}


def random_llama(heads=4, kv_heads=2, tied=False):
    """A random stock Llama in which every weight matters, the norms' too."""
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        rms_norm_eps=1e-3,
        rope_parameters={"rope_type": "default", "rope_theta": 123.0},
        initializer_range=0.3,
        tie_word_embeddings=tied,
    )
    config._attn_implementation = "sdpa"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = bidirectional(LlamaForCausalLM(config)).eval()
        for name, parameter in model.named_parameters():
            if "norm" in name:
                torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model


def write_llada(model, folder, **changes):
    """The model as a checkpoint in LLaDA's own layout."""
    config = model.config
    record = {
        "model_type": "llada",
        "d_model": config.hidden_size,
        "n_heads": config.num_attention_heads,
        "n_kv_heads": config.num_key_value_heads,
        "n_layers": config.num_hidden_layers,
        "mlp_hidden_size": config.intermediate_size,
        "embedding_size": config.vocab_size,
        "vocab_size": config.vocab_size,
        "rope": True,
        "rope_theta": config.rope_parameters["rope_theta"],
        "rms_norm_eps": config.rms_norm_eps,
        "weight_tying": config.tie_word_embeddings,
        "block_type": "llama",
        "mask_token_id": 49,
    }
    weights = {}
    for name, parameter in model.named_parameters():
        stem = name.removesuffix(".weight")
        if stem.startswith("model.layers."):
            number, part = stem.removeprefix("model.layers.").split(".", 1)
            stem = f"model.transformer.blocks.{number}.{LLADA_NAMES[part]}"
        else:
            stem = LLADA_NAMES[stem]
        weights[f"{stem}.weight"] = parameter.detach().clone()
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(record | changes))
    save_file(weights, folder / "model.safetensors")
    return folder


@torch.no_grad()
def logits(model, ids_BS):
    return model(input_ids=ids_BS).logits


def test_the_original_code_gives_the_same_logits():
    folder = shared("fixtures/llada_tiny")
    expected = load_file(folder / "expected.safetensors")
    assert_close(logits(load_llada(folder), expected["input_ids"]), expected["logits"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("tied", [False, True])
def test_a_checkpoint_in_lladas_layout_is_the_model_it_was_made_from(kv_heads, tied, tmp_path):
    model = random_llama(kv_heads=kv_heads, tied=tied)
    loaded = load_llada(write_llada(model, tmp_path / "llada"))
    ids_BS = random_ids(2, 9, vocabulary=50)
    assert torch.equal(logits(loaded, ids_BS), logits(model, ids_BS))
    assert not loaded.training and loaded.config.mask_token_id == 49


def test_names_without_the_leading_model_load_too(tmp_path):
    model = random_llama()
    folder = write_llada(model, tmp_path / "llada")
    weights = load_file(folder / "model.safetensors")
    save_file({name.removeprefix("model."): t for name, t in weights.items()}, folder / "model.safetensors")
    ids_BS = random_ids(2, 9, vocabulary=50)
    assert torch.equal(logits(load_llada(folder), ids_BS), logits(model, ids_BS))


def test_the_stock_layout_saves_and_loads(tmp_path):
    model = small_model()
    model.save_pretrained(tmp_path / "stock")
    loaded = load_llada(str(tmp_path / "stock"))
    ids_BS = random_ids(2, 9)
    assert torch.equal(logits(loaded, ids_BS), logits(model, ids_BS))
    loaded.save_pretrained(tmp_path / "again")
    assert torch.equal(logits(load_llada(tmp_path / "again"), ids_BS), logits(model, ids_BS))


def test_a_checkpoint_in_several_files(tmp_path):
    model = random_llama()
    folder = write_llada(model, tmp_path / "llada")
    weights = load_file(folder / "model.safetensors")
    files = {name: f"part-{i % 2}.safetensors" for i, name in enumerate(weights)}
    for file in set(files.values()):
        save_file({name: weights[name] for name in weights if files[name] == file}, folder / file)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    ids_BS = random_ids(2, 9, vocabulary=50)
    assert torch.equal(logits(load_llada(folder), ids_BS), logits(model, ids_BS))
    (folder / "part-1.safetensors").unlink()
    with pytest.raises(UserError, match=r"part-1\.safetensors is not there"):
        load_llada(folder)


def test_weights_are_cast_to_the_dtype_asked_for(tmp_path):
    folder = write_llada(random_llama(), tmp_path / "llada")
    assert {p.dtype for p in load_llada(folder, torch.bfloat16).parameters()} == {torch.bfloat16}
    assert {p.dtype for p in load_llada(folder).parameters()} == {torch.float32}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_later_token_changes_an_earlier_logit(attention, tmp_path):
    model = load_llada(write_llada(random_llama(), tmp_path / "llada"), attention=attention)
    assert model.config.is_causal is False
    assert all(layer.self_attn.is_causal is False for layer in model.model.layers)
    ids_BS = random_ids(1, 9, vocabulary=50)
    other_BS = ids_BS.clone()
    other_BS[0, -1] = (ids_BS[0, -1] - 3 + 1) % 47 + 3
    change_S = (logits(model, ids_BS) - logits(model, other_BS)).abs().amax(dim=(0, 2))
    assert (change_S > 1e-4).all()


def test_attention_implementations_agree(tmp_path):
    folder = write_llada(random_llama(), tmp_path / "llada")
    ids_BS = random_ids(2, 9, vocabulary=50)
    assert_close(logits(load_llada(folder), ids_BS), logits(load_llada(folder, attention="eager"), ids_BS), atol=1e-5, rtol=0)


def refusal(folder):
    """The one line that a checkpoint is refused with."""
    with pytest.raises(UserError) as error:
        load_llada(folder)
    line = str(error.value)
    assert line.startswith(f"model.path={folder}: ") and "\n" not in line
    return line


def changed_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("model.transformer.wte.weight"), "missing ['model.embed_tokens.weight'], unexpected []"),
        (
            lambda w: w.pop("model.transformer.blocks.1.ff_out.weight"),
            "missing ['model.layers.1.mlp.down_proj.weight'], unexpected []",
        ),
        (lambda w: w.update(extra=torch.zeros(1)), "missing [], unexpected ['extra']"),
        (
            lambda w: w.update({"model.transformer.blocks.2.q_proj.weight": torch.zeros(32, 32)}),
            "unexpected ['model.layers.2.self_attn.q_proj.weight']",
        ),
        (
            lambda w: w.update({"model.transformer.blocks.0.q_proj.weight": torch.zeros(32, 31)}),
            "unexpected ['model.layers.0.self_attn.q_proj.weight']",
        ),
        (
            lambda w: w.update({"model.transformer.blocks.0.q_proj.bias": torch.zeros(32)}),
            "unexpected ['model.layers.0.self_attn.q_proj.bias']",
        ),
    ],
    ids=["no embedding", "no down projection", "another tensor", "a layer too many", "misshapen", "a bias"],
)
def test_weights_that_do_not_fit(change, message, tmp_path):
    folder = write_llada(random_llama(), tmp_path / "llada")
    changed_weights(folder, change)
    assert message in refusal(folder)


@pytest.mark.parametrize(
    "key_value",
    [
        {"block_type": "sequential"},
        {"layer_norm_type": "default"},
        {"activation_type": "gelu"},
        {"rope": False},
        {"alibi": True},
        {"include_bias": True},
        {"include_qkv_bias": True},
        {"attention_layer_norm": True},
        {"input_emb_norm": True},
        {"scale_logits": True},
        {"clip_qkv": 8.0},
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
    ],
)
def test_another_architecture(key_value, tmp_path):
    ((key, value),) = key_value.items()
    assert f"its config has {key}={value}; only {key}=" in refusal(write_llada(random_llama(), tmp_path / "llada", **key_value))


@pytest.mark.parametrize("kv_heads", [0, 3, -2])
def test_heads_that_cannot_be_shared(kv_heads, tmp_path):
    said = refusal(write_llada(random_llama(), tmp_path / "llada", n_kv_heads=kv_heads))
    assert f"its 4 heads cannot share {kv_heads} key-value heads evenly" in said


def test_missing_files(tmp_path):
    assert "no config.json there; give a checkpoint folder" in refusal(tmp_path / "nowhere")
    assert "no config.json there; give a checkpoint folder" in refusal(tmp_path)
    folder = write_llada(random_llama(), tmp_path / "llada")
    (folder / "model.safetensors").unlink()
    assert "model.safetensors is not there" in refusal(folder)


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_pickled_weights_are_never_loaded(tmp_path):
    folder = write_llada(random_llama(), tmp_path / "llada")
    (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.pt"):
        (folder / name).write_bytes(pickle.dumps(Trap()))
    assert "only safetensors are loaded, convert pickled weights first" in refusal(folder)
    (folder / "model.safetensors").write_bytes(pickle.dumps(Trap()))
    assert "model.safetensors is not a readable safetensors file" in refusal(folder)


def test_a_file_cut_short(tmp_path):
    folder = write_llada(random_llama(), tmp_path / "llada")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    assert "model.safetensors is not a readable safetensors file" in refusal(folder)


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_an_index_that_is_not_one(content, tmp_path):
    folder = write_llada(random_llama(), tmp_path / "llada")
    (folder / "model.safetensors.index.json").write_text(content)
    assert "model.safetensors.index.json" in refusal(folder)


@pytest.mark.parametrize("changes", [{"d_model": 33}, {"d_model": "wide"}, {"embedding_size": None, "vocab_size": None}])
def test_a_config_that_is_no_model(changes, tmp_path):
    refusal(write_llada(random_llama(), tmp_path / "llada", **changes))


def test_another_model_type_is_refused_before_anything_is_built(tmp_path, monkeypatch):
    small_model().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_embd": 32}))
    monkeypatch.setattr(LlamaForCausalLM, "_from_config", lambda *args, **kwargs: pytest.fail("a model was built"))
    assert "gpt2" in refusal(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "\xff"])
def test_a_config_that_is_not_json(content, tmp_path):
    folder = write_llada(random_llama(), tmp_path / "llada")
    (folder / "config.json").write_bytes(content.encode("latin-1"))
    assert "its config.json cannot be read" in refusal(folder)
