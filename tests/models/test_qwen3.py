"""Qwen3 made into a masked diffusion model: both layouts give the logits they should, through training and export."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, Qwen3ForCausalLM

from stp.errors import UserError
from stp.export import Export, main
from stp.models.adapters import save_adapter
from stp.models.options import Lora, Model
from stp.models.policy import Policy, add_lora, load_model, load_policy
from stp.models.qwen3 import load_qwen3
from stp.run.engine import Engine, Optimizer, Zero
from stp.run.ranks import bootstrap
from stp.samplers import Standard
from stp.types import Draws, Prompts
from tests.models import TOKENIZER, random_ids
from tests.tasks import shared

VOCABULARY, WIDTH, HEADS, KV_HEADS, HEAD, THETA, EPS = len(TOKENIZER), 32, 4, 2, 12, 1234.0, 1e-3
MASK, EOS = TOKENIZER.mask_token_id, TOKENIZER.eos_token_id
QWEN3 = {
    "architectures": ["A2DQwen3LMHeadModel"],
    "auto_map": {"AutoModel": "modeling_qwen3.A2DQwen3LMHeadModel"},
    "model_type": "a2d-qwen3",
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD,
    "hidden_act": "silu",
    "max_position_embeddings": 256,
    "max_window_layers": 28,
    "layer_types": ["full_attention"] * 2,
    "rms_norm_eps": EPS,
    "rope_parameters": {"rope_type": "default", "rope_theta": THETA},
    "use_sliding_window": False,
    "sliding_window": None,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "tie_word_embeddings": True,
    "eos_token_id": EOS,
    "dtype": "float32",
}


def random_weights(tied=True):
    """Every weight of a small Qwen3 by its name, drawn so that each one matters."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape, mean=0.0):
        return mean + 0.3 * torch.randn(*shape, generator=generator)

    weights = {"model.embed_tokens.weight": draw(VOCABULARY, WIDTH), "model.norm.weight": draw(WIDTH, mean=1.0)}
    for n in range(2):
        layer = f"model.layers.{n}."
        for name, heads in {"q": HEADS, "k": KV_HEADS, "v": KV_HEADS}.items():
            weights[f"{layer}self_attn.{name}_proj.weight"] = draw(heads * HEAD, WIDTH)
        weights[f"{layer}self_attn.o_proj.weight"] = draw(WIDTH, HEADS * HEAD)
        for name in ("q_norm", "k_norm"):
            weights[f"{layer}self_attn.{name}.weight"] = draw(HEAD, mean=1.0)
        for name, shape in {"gate_proj": (40, WIDTH), "up_proj": (40, WIDTH), "down_proj": (WIDTH, 40)}.items():
            weights[f"{layer}mlp.{name}.weight"] = draw(*shape)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{layer}{norm}.weight"] = draw(WIDTH, mean=1.0)
    return weights if tied else weights | {"lm_head.weight": draw(VOCABULARY, WIDTH)}


def write_qwen3(folder, weights=None, **changes):
    """A random checkpoint in A2D's layout, with the tiny tokenizer beside it. A change to ... leaves the setting out."""
    folder.mkdir(exist_ok=True)
    record = {key: value for key, value in (QWEN3 | changes).items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(record))
    save_file(random_weights(record.get("tie_word_embeddings")) if weights is None else weights, folder / "model.safetensors")
    TOKENIZER.save_pretrained(folder)
    return folder


def by_hand(weights, ids_S):
    """The logits for one unpadded sequence, from the definition: no code of transformers or of the project."""
    size = len(ids_S)

    def norm(x, name):
        return x / (x.square().mean(-1, keepdim=True) + EPS).sqrt() * weights[f"{name}.weight"]

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T

    angle = torch.arange(size)[:, None] * THETA ** (-torch.arange(0, HEAD, 2) / HEAD)
    turn = torch.polar(torch.ones_like(angle), angle)

    def rotated(x):  # dimension j and j + HEAD/2 form a pair
        pairs = torch.complex(x[..., : HEAD // 2], x[..., HEAD // 2 :]) * turn
        return torch.cat([pairs.real, pairs.imag], dim=-1)

    x = weights["model.embed_tokens.weight"][ids_S]
    for n in range(2):
        layer = f"model.layers.{n}."
        h = norm(x, f"{layer}input_layernorm")
        q, k, v = (linear(h, f"{layer}self_attn.{name}_proj").view(size, -1, HEAD) for name in "qkv")
        q, k = (rotated(norm(t, f"{layer}self_attn.{name}_norm").transpose(0, 1)) for t, name in ((q, "q"), (k, "k")))
        k, v = (t.repeat_interleave(HEADS // KV_HEADS, dim=0) for t in (k, v.transpose(0, 1)))
        mixed = (q @ k.transpose(1, 2) / math.sqrt(HEAD)).softmax(-1) @ v  # no causal mask
        x = x + linear(mixed.transpose(0, 1).reshape(size, HEADS * HEAD), f"{layer}self_attn.o_proj")
        h = norm(x, f"{layer}post_attention_layernorm")
        gate = torch.nn.functional.silu(linear(h, f"{layer}mlp.gate_proj"))
        x = x + linear(gate * linear(h, f"{layer}mlp.up_proj"), f"{layer}mlp.down_proj")
    return norm(x, "model.norm") @ weights.get("lm_head.weight", weights["model.embed_tokens.weight"]).T


@torch.no_grad()
def everywhere(model, ids_BS, attend_BS=None):
    """The denoiser's logits at every position: no shift stands between them and the tokens."""
    return Policy(model, MASK, EOS)(ids_BS, attend_BS, torch.arange(ids_BS.numel())).view(*ids_BS.shape, -1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_qwen3(tmp_path_factory.mktemp("qwen3"))


def test_the_reference_checkpoints_logits():
    """A2D's own modelling code wrote them, with and without padding."""
    expected = load_file(shared("fixtures/qwen3_a2d_tiny") / "expected.safetensors")
    model = load_qwen3(shared("fixtures/qwen3_a2d_tiny"))
    real_BS = expected["attend"]
    assert_close(everywhere(model, expected["input_ids"]), expected["logits"], atol=2e-5, rtol=0)
    padded_BSV = everywhere(model, expected["input_ids"], real_BS)
    assert_close(padded_BSV[real_BS], expected["padded_logits"][real_BS], atol=2e-5, rtol=0)


@pytest.mark.parametrize("tied", [True, False])
def test_logits_with_and_without_padding(tied, tmp_path):
    model, weights = load_qwen3(write_qwen3(tmp_path / "m", tie_word_embeddings=tied)), random_weights(tied)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    rows = [random_ids(1, n, seed=n)[0] for n in (9, 4, 7, 1)]
    ids_BS = torch.stack([torch.cat([torch.full((9 - len(row),), EOS), row]) for row in rows])
    attend_BS = torch.stack([torch.arange(9) >= 9 - len(row) for row in rows])
    for row, logits_SV in zip(rows, everywhere(model, ids_BS, attend_BS), strict=True):
        assert_close(logits_SV[9 - len(row) :], by_hand(weights, row), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {
            "rope_parameters": ...,
            "rope_theta": THETA,
            "rope_scaling": None,
            "dtype": ...,
            "torch_dtype": "float32",
        },  # version 4
        {"rope_parameters": {"rope_type": "default"}, "rope_theta": THETA},
        {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "auto_map": ...},
        {"model_type": "another", "layer_types": ...},  # its architecture says what it is
        {"sliding_window": 4},  # which use_sliding_window leaves off
        {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2, "layer_types": ...},  # no layer is above
    ],
)
def test_every_way_to_write_the_config_is_the_same_model(changes, folder, tmp_path):
    ids_BS = random_ids(2, 9)
    loaded = load_model(write_qwen3(tmp_path / "m", **changes), Model())
    assert torch.equal(everywhere(loaded, ids_BS), everywhere(load_qwen3(folder), ids_BS))


def test_every_way_to_write_the_weights_is_the_same_model(folder, tmp_path):
    ids_BS, weights = random_ids(2, 9), random_weights()
    expected = everywhere(load_qwen3(folder), ids_BS)
    whole = write_qwen3(tmp_path / "with_head", weights | {"lm_head.weight": weights["model.embed_tokens.weight"].clone()})
    half = write_qwen3(tmp_path / "half", {name: tensor.bfloat16() for name, tensor in weights.items()}, dtype="bfloat16")
    parts = write_qwen3(tmp_path / "parts")
    (parts / "model.safetensors").unlink()
    files = {name: f"model-{i % 2 + 1:05}-of-00002.safetensors" for i, name in enumerate(weights)}
    for file in set(files.values()):
        save_file({name: tensor for name, tensor in weights.items() if files[name] == file}, parts / file)
    (parts / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    assert torch.equal(everywhere(load_qwen3(whole), ids_BS), expected)
    assert torch.equal(everywhere(load_qwen3(parts), ids_BS), expected)
    assert_close(everywhere(load_qwen3(half), ids_BS), expected, atol=0.5, rtol=0.1)
    assert {p.dtype for p in load_qwen3(half, torch.bfloat16).parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2", "architectures": ["GPT2"]}, "its model_type is 'gpt2'; an A2D Qwen3 or Qwen3 checkpoint"),
        ({"model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"]}, "its model_type is 'qwen3_moe'; an A2D"),
        ({"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1, "layer_types": ...}, "only full attention"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "only full attention is a bidirectional Qwen3"),
        ({"rope_parameters": {"rope_type": "spiral", "rope_theta": 1.0}}, "its config.json describes no model"),
        ({"hidden_act": "nothing"}, "its config.json describes no model"),
        ({"num_attention_heads": "many"}, "its config.json describes no model"),
        ({"num_key_value_heads": 3}, "its 4 heads cannot share 3 key-value heads evenly"),
        ({"head_dim": 16}, "weights do not fit the config"),
        ({"tie_word_embeddings": False}, "weights do not fit the config: missing ['lm_head.weight']"),
        ({"attention_bias": True}, "missing ['model.layers.0.self_attn.q_proj.bias'"),
    ],
)
def test_refusals(changes, message, tmp_path):
    with pytest.raises(UserError) as error:
        load_qwen3(write_qwen3(tmp_path / "m", random_weights(), **changes))
    assert str(error.value).startswith(f"model.path={tmp_path / 'm'}: ") and "\n" not in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize("cache", ["prefix", "dual"])
def test_a_block_of_one_forward_is_exact_with_kept_keys_and_values(cache, folder):
    """`tests/models/test_within.py` has the later forwards of a block."""
    policy, _ = load_policy(Model(path=str(folder)), trainable=False)
    assert not policy.shifted
    prompts, draws = Prompts(random_ids(2, 5), torch.tensor([[False] * 2 + [True] * 3, [True] * 5])), Draws(0, 2)
    exact, kept = (Standard(8, 2, 4, 1.0, cache=c)(policy, prompts, draws).response_BL for c in ("none", cache))
    assert torch.equal(kept, exact)


@pytest.mark.parametrize("lora", [Lora(), Lora(rank=2)])
def test_every_zero_stage_trains_the_same_weights(lora, folder):
    """The tied matrix learns as embedding and as head, whatever is sharded."""
    bootstrap()
    ids_BS, index_M, target_M = random_ids(2, 9), torch.tensor([3, 12, 17]), random_ids(1, 3)[0]
    found = []
    for stage in (0, 2, 3):
        policy, _ = load_policy(Model(path=str(folder), lora=lora))
        before = {name: p.detach().clone() for name, p in policy.named_parameters() if p.requires_grad}
        engine = Engine(policy, Optimizer(lr=1e-2, max_grad_norm=0.0), Zero(stage))
        for last in (False, True):
            engine.backward(-engine(ids_BS, None, index_M, target_M).sum(), last)
        engine.step()
        with engine.full_weights() as trained:
            assert trained.llama.lm_head.weight is trained.llama.model.embed_tokens.weight
            after = {name: p.detach().clone() for name, p in trained.named_parameters() if p.requires_grad}
        engine.destroy()
        assert after.keys() == before.keys() and any(not torch.equal(after[name], before[name]) for name in after)
        found.append(after)
    for after in found[1:]:
        assert_close(after, found[0], atol=1e-5, rtol=1e-4)


def test_an_adapter_merges_into_a_stock_qwen3_and_leaves_the_tied_matrix_alone(folder, tmp_path):
    model = add_lora(load_qwen3(folder), Lora(rank=2, target_modules=["q_proj", "o_proj", "down_proj"]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
    ids_BS = random_ids(2, 9)
    expected = everywhere(model, ids_BS)
    assert not torch.allclose(expected, everywhere(load_qwen3(folder), ids_BS), atol=0.1)
    save_adapter(model, tmp_path / "adapter", str(folder))
    main(Export(model=Model(path=str(folder)), checkpoint=str(tmp_path / "adapter"), to="merged"))
    merged = tmp_path / "adapter-merged"
    assert json.loads((merged / "config.json").read_text())["model_type"] == "qwen3"
    weights = load_file(merged / "model.safetensors")
    assert "lm_head.weight" not in weights
    assert torch.equal(weights["model.embed_tokens.weight"], random_weights()["model.embed_tokens.weight"])
    assert_close(everywhere(load_model(merged, Model()), ids_BS), expected, atol=2e-5, rtol=1e-5)
    stock = AutoModelForCausalLM.from_pretrained(merged)  # without this project, as the card says
    assert isinstance(stock, Qwen3ForCausalLM)
    with torch.no_grad():
        assert_close(stock(input_ids=ids_BS).logits, expected, atol=2e-5, rtol=1e-5)
    for to, instead in (("llada", "merged"), ("adapter_llada", "adapter")):
        with pytest.raises(UserError, match=rf"^to={to}: the model is a Qwen3ForCausalLM, not a LLaDA; use to={instead}$"):
            main(Export(model=Model(path=str(folder)), checkpoint=str(tmp_path / "adapter"), to=to))


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_an_adapter_on_the_tied_matrix_is_refused_where_it_is_made_and_where_it_would_be_merged(target, folder, tmp_path):
    with pytest.raises(UserError, match="the model's head and embeddings are one matrix, which cannot take an adapter"):
        load_policy(Model(path=str(folder), lora=Lora(rank=2, target_modules=[target])))
    untied = load_qwen3(write_qwen3(tmp_path / "untied", tie_word_embeddings=False))
    save_adapter(add_lora(untied, Lora(rank=2, target_modules=[target])), tmp_path / "adapter", "base")
    with pytest.raises(UserError, match=r"^to=merged: the adapter is on the head or the embeddings, which are one matrix"):
        main(Export(model=Model(path=str(folder)), checkpoint=str(tmp_path / "adapter"), to="merged"))
