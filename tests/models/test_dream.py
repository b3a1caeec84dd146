"""Dream: a bidirectional Qwen2 whose logits lie one position to the left, behind a denoiser whose logits do not."""

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import Qwen2ForCausalLM

from stp.errors import UserError
from stp.estimators import Elbo
from stp.models.dream import load_dream
from stp.models.options import Model
from stp.models.policy import Policy, load_model, load_policy, load_tokenizer
from stp.samplers import Standard
from stp.types import Draws, Prompts
from tests.models import TOKENIZER, random_ids
from tests.models.test_llada import random_llama, write_llada

VOCABULARY, WIDTH, HEADS, KV_HEADS, THETA, EPS = 50, 32, 4, 2, 1234.0, 1e-3
MASK, EOS = 49, 1
DREAM = {
    "architectures": ["DreamModel"],
    "model_type": "Dream",
    "auto_map": {"AutoConfig": "configuration_dream.DreamConfig", "AutoModel": "modeling_dream.DreamModel"},
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "max_position_embeddings": 128,
    "max_window_layers": 1,
    "hidden_act": "silu",
    "rms_norm_eps": EPS,
    "rope_theta": THETA,
    "rope_scaling": None,
    "use_sliding_window": False,
    "sliding_window": None,
    "attention_dropout": 0.0,
    "tie_word_embeddings": False,
    "mask_token_id": MASK,
    "eos_token_id": EOS,
    "pad_token_id": EOS,
    "torch_dtype": "bfloat16",
    "use_cache": True,
}


def random_weights(seed=0):
    """Every weight of a small Dream by its name, drawn so that each one matters."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape, mean=0.0):
        return mean + 0.3 * torch.randn(*shape, generator=generator)

    kv = WIDTH // HEADS * KV_HEADS
    shapes = {"q_proj": WIDTH, "k_proj": kv, "v_proj": kv}
    weights = {"model.embed_tokens.weight": draw(VOCABULARY, WIDTH), "model.norm.weight": draw(WIDTH, mean=1.0)}
    for n in range(2):
        layer = f"model.layers.{n}."
        for name, rows in shapes.items():
            weights[f"{layer}self_attn.{name}.weight"] = draw(rows, WIDTH)
            weights[f"{layer}self_attn.{name}.bias"] = draw(rows)
        weights[f"{layer}self_attn.o_proj.weight"] = draw(WIDTH, WIDTH)
        weights[f"{layer}mlp.gate_proj.weight"] = draw(40, WIDTH)
        weights[f"{layer}mlp.up_proj.weight"] = draw(40, WIDTH)
        weights[f"{layer}mlp.down_proj.weight"] = draw(WIDTH, 40)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{layer}{norm}.weight"] = draw(WIDTH, mean=1.0)
    return weights | {"lm_head.weight": draw(VOCABULARY, WIDTH)}


def write_dream(folder, **changes):
    """A random checkpoint in Dream's layout, with the tiny tokenizer beside it."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(DREAM | changes))
    save_file(random_weights(), folder / "model.safetensors")
    return folder


def by_hand(weights, ids_S):
    """Dream's aligned logits for one unpadded sequence, from its definition: no code of transformers or of the project."""
    size = len(ids_S)
    head = WIDTH // HEADS

    def norm(x, name):
        return x / (x.square().mean(-1, keepdim=True) + EPS).sqrt() * weights[f"{name}.weight"]

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0)

    angle = torch.arange(size)[:, None] * THETA ** (-torch.arange(0, head, 2) / head)
    turn = torch.polar(torch.ones_like(angle), angle)

    def rotated(x):  # dimension j and j + head/2 form a pair
        pairs = torch.complex(x[..., : head // 2], x[..., head // 2 :]) * turn
        return torch.cat([pairs.real, pairs.imag], dim=-1)

    x = weights["model.embed_tokens.weight"][ids_S]
    for n in range(2):
        layer = f"model.layers.{n}."
        h = norm(x, f"{layer}input_layernorm")
        q, k, v = (linear(h, f"{layer}self_attn.{name}_proj").view(size, -1, head).transpose(0, 1) for name in ("q", "k", "v"))
        k, v = (t.repeat_interleave(HEADS // KV_HEADS, dim=0) for t in (rotated(k), v))
        mixed = (rotated(q) @ k.transpose(1, 2) / math.sqrt(head)).softmax(-1) @ v  # no causal mask
        x = x + linear(mixed.transpose(0, 1).reshape(size, WIDTH), f"{layer}self_attn.o_proj")
        h = norm(x, f"{layer}post_attention_layernorm")
        gate = torch.nn.functional.silu(linear(h, f"{layer}mlp.gate_proj"))
        x = x + linear(gate * linear(h, f"{layer}mlp.up_proj"), f"{layer}mlp.down_proj")
    logits = linear(norm(x, "model.norm"), "lm_head")
    return torch.cat([logits[:1], logits[:-1]])  # the token at i is predicted at i - 1, the first one at itself


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_dream(tmp_path_factory.mktemp("dream"))


@pytest.fixture(scope="module")
def policy(folder):
    return Policy(load_dream(folder), MASK, EOS).requires_grad_(False)


def everywhere(policy, ids_BS, attend_BS=None):
    return policy(ids_BS, attend_BS, torch.arange(ids_BS.numel())).view(*ids_BS.shape, -1)


def test_the_denoiser_gives_aligned_logits(policy):
    ids_BS = random_ids(3, 9, vocabulary=VOCABULARY)
    expected_BSV = torch.stack([by_hand(random_weights(), ids_S) for ids_S in ids_BS])
    assert_close(everywhere(policy, ids_BS), expected_BSV, atol=1e-4, rtol=1e-4)
    index_M = torch.tensor([9, 0, 1, 26, 18, 10, 9])  # any order, first positions of rows and their neighbours
    assert_close(policy(ids_BS, None, index_M), expected_BSV.flatten(0, 1)[index_M], atol=1e-4, rtol=1e-4)
    target_M = torch.tensor([5, 0, 3, 7, 11, 2, 49])
    logp_MV = expected_BSV.flatten(0, 1)[index_M].log_softmax(-1)
    assert_close(policy(ids_BS, None, index_M, target_M), logp_MV[torch.arange(7), target_M], atol=1e-4, rtol=1e-4)


def test_the_model_itself_is_shifted(folder, policy):
    ids_BS = random_ids(2, 9, vocabulary=VOCABULARY)
    with torch.no_grad():
        raw_BSV = load_dream(folder)(input_ids=ids_BS).logits
    aligned_BSV = everywhere(policy, ids_BS)
    assert_close(aligned_BSV[:, 1:], raw_BSV[:, :-1])
    assert_close(aligned_BSV[:, 0], raw_BSV[:, 0])
    assert not torch.allclose(aligned_BSV, raw_BSV, atol=0.1)


def test_left_padding_changes_nothing_at_real_positions(policy):
    """The first real token too: it is predicted at itself, not at the padding before it."""
    rows = [random_ids(1, n, seed=n, vocabulary=VOCABULARY)[0] for n in (9, 4, 7, 1)]
    ids_BS = torch.stack([torch.cat([torch.full((9 - len(row),), EOS), row]) for row in rows])
    attend_BS = torch.stack([torch.arange(9) >= 9 - len(row) for row in rows])
    logits_BSV = everywhere(policy, ids_BS, attend_BS)
    for row, logits_SV in zip(rows, logits_BSV, strict=True):
        assert_close(logits_SV[9 - len(row) :], by_hand(random_weights(), row), atol=1e-4, rtol=1e-4)


def test_samplers_and_estimators_run_on_it(policy):
    prompts = Prompts(random_ids(2, 5, vocabulary=VOCABULARY), torch.tensor([[False] * 2 + [True] * 3, [True] * 5]))
    draws = Draws(0, 2)
    done = Standard(length=8, steps=8, block_length=4, temperature=1.0)(policy, prompts, draws)
    estimator = Elbo(samples=2)
    noise = estimator.draw(done, draws)
    whole_BL = estimator(policy, done, noise).token_BL
    real_P = prompts.real_BP[0]
    alone = replace(done.rows(slice(0, 1)), prompts=Prompts(prompts.ids_BP[:1, real_P]))
    assert_close(estimator(policy, alone, noise.rows(slice(0, 1))).token_BL, whole_BL[:1], atol=1e-4, rtol=1e-4)


def test_gradients_reach_every_weight(folder):
    policy = Policy(load_dream(folder), MASK, EOS)
    ids_BS = random_ids(2, 6, vocabulary=VOCABULARY)
    policy(ids_BS, None, torch.tensor([0, 1, 7, 11]), torch.tensor([3, 4, 5, 6])).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in policy.named_parameters() if "k_proj.bias" not in n)


def test_a_config_says_which_architecture_it_is(folder, tmp_path):
    assert isinstance(load_model(folder, Model()), Qwen2ForCausalLM)
    assert type(load_model(write_llada(random_llama(), tmp_path / "llada"), Model())).__name__ == "LlamaForCausalLM"
    only_named = write_dream(tmp_path / "named", model_type="something")
    assert isinstance(load_model(only_named, Model()), Qwen2ForCausalLM)
    stock = tmp_path / "stock"
    load_dream(folder).save_pretrained(stock)
    assert json.loads((stock / "config.json").read_text())["model_type"] == "qwen2"
    ids_BS = random_ids(2, 9, vocabulary=VOCABULARY)
    again = Policy(load_model(stock, Model()), MASK, EOS)
    with torch.no_grad():
        assert torch.equal(everywhere(again, ids_BS), everywhere(Policy(load_dream(folder), MASK, EOS), ids_BS))
    assert again.llama.config.mask_token_id == MASK


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2", "architectures": ["GPT2"]}, "its model_type is 'gpt2'; a Dream or Qwen2 checkpoint is needed"),
        ({"hidden_act": "gelu"}, "its config has hidden_act=gelu; only hidden_act=silu"),
        ({"use_sliding_window": True}, "only use_sliding_window=False"),
        ({"rope_scaling": {"type": "yarn", "factor": 4}}, "only rope_scaling=None"),
        ({"num_attention_heads": "many"}, "its config.json describes no model"),
        ({"hidden_size": 64}, "weights do not fit the config"),
        ({"num_hidden_layers": 3}, "missing ['model.layers.2."),
    ],
)
def test_refusals(changes, message, tmp_path):
    with pytest.raises(UserError) as error:
        load_dream(write_dream(tmp_path / "dream", **changes))
    assert str(error.value).startswith(f"model.path={tmp_path / 'dream'}: ") and "\n" not in str(error.value)
    assert message in str(error.value)


def test_weight_names_are_dreams_own(folder):
    assert set(load_file(folder / "model.safetensors")) == set(load_dream(folder).state_dict())


def test_the_tokenizer_loads_without_remote_code(tmp_path):
    """In the hub's layout: a class of remote code around Qwen2's vocabulary and merges, the mask among the added tokens."""
    folder = write_dream(tmp_path / "dream")
    pieces = [*map(chr, range(97, 123)), "Ġ", "ab", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\na b\n")
    special = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    added = {"28": "<|endoftext|>", "29": "<|im_start|>", "30": "<|im_end|>", "49": "<|mask|>"}
    record = {
        "tokenizer_class": "DreamTokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_dream.DreamTokenizer", None]},
        "added_tokens_decoder": {i: special | {"content": content} for i, content in added.items()},
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "mask_token": "<|mask|>",
        "chat_template": "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(record))
    tokenizer = load_tokenizer(folder)
    assert tokenizer("ab b<|im_end|>")["input_ids"] == [27, 26, 1, 30]
    assert tokenizer.convert_ids_to_tokens(28) == tokenizer.eos_token == "<|endoftext|>"
    policy, _ = load_policy(Model(path=str(folder)), trainable=False)
    assert (policy.mask_id, policy.eos_id, policy.shifted) == (tokenizer.convert_tokens_to_ids("<|mask|>"), 28, True)
    TOKENIZER.save_pretrained(folder)  # any other tokenizer beside a Dream
    assert load_tokenizer(folder).get_vocab() == TOKENIZER.get_vocab()
