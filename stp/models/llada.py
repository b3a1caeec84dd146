"""LLaDA as a stock Llama without a causal mask. Reads and writes LLaDA's own layout by mapping names, without remote code."""

import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from transformers import LlamaConfig, LlamaForCausalLM

from stp.errors import fail, require
from stp.models.loading import load, read_as, read_config

LLADA_8B: dict[str, Any] = {  # what config.json says of the sizes
    "d_model": 4096,
    "n_heads": 32,
    "n_kv_heads": 32,
    "n_layers": 32,
    "mlp_hidden_size": 12288,
    "embedding_size": 126464,
    "rope_theta": 500000.0,
    "rms_norm_eps": 1e-5,
}
_CODE = "GSAI-ML/LLaDA-8B-Instruct"

_CONFIG_KEYS = {
    "d_model": "hidden_size",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "n_layers": "num_hidden_layers",
    "mlp_hidden_size": "intermediate_size",
    "rms_norm_eps": "rms_norm_eps",
}

# settings that the mapping assumes; a checkpoint with other values has another architecture
_ASSUMED = {
    "block_type": "llama",
    "layer_norm_type": "rms",
    "activation_type": "silu",
    "rope": True,
    "alibi": False,
    "include_bias": False,
    "include_qkv_bias": False,
    "attention_layer_norm": False,
    "input_emb_norm": False,
    "scale_logits": False,
    "clip_qkv": None,
    "rope_scaling": None,
}

_TRUNK = {"wte": "model.embed_tokens", "ln_f": "model.norm", "ff_out": "lm_head"}
_BLOCK = {
    "q_proj": "self_attn.q_proj",
    "k_proj": "self_attn.k_proj",
    "v_proj": "self_attn.v_proj",
    "attn_out": "self_attn.o_proj",
    "ff_proj": "mlp.gate_proj",
    "up_proj": "mlp.up_proj",
    "ff_out": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ff_norm": "post_attention_layernorm",
}
_STOCK = {stock: llada for table in (_TRUNK, _BLOCK) for llada, stock in table.items()}


def load_llada(
    path: str | Path, dtype: torch.dtype = torch.float32, attention: str = "sdpa", quantize: str = "none"
) -> LlamaForCausalLM:
    """Loads a checkpoint folder, in LLaDA's own layout or in the stock Llama one, as a bidirectional Llama.

    Raises UserError if the folder is not such a checkpoint: it has no config, its weights are missing or unexpected, or the
    mapping does not cover its architecture.
    """
    path = Path(path)
    raw = read_config(path)
    names = stock_name if "d_model" in raw else str
    config = llama_config(raw, path)
    config._attn_implementation = attention
    return load(LlamaForCausalLM, config, path, dtype, quantize, names)


def llama_config(raw: dict[str, Any], path: Path) -> LlamaConfig:
    """Returns the stock config for a config.json in either layout."""
    if "d_model" in raw:
        return read_as(llada_config, path, raw, path)
    if raw.get("model_type") != "llama":
        fail(
            "model.path",
            path,
            f"its model_type is {raw.get('model_type')!r}; a LLaDA, Llama, Dream or Qwen3 checkpoint is needed",
        )
    return read_as(LlamaConfig.from_pretrained, path, path)


def llada_config(raw: dict[str, Any], path: Path) -> LlamaConfig:
    """Translates LLaDA's config keys into Llama's."""
    for key, expected in _ASSUMED.items():
        if raw.get(key, expected) != expected:
            fail("model.path", path, f"its config has {key}={raw[key]}; only {key}={expected} is a LLaDA Llama")
    sizes = {  # the values that LLaDA's own code uses for keys that its config leaves out
        "n_kv_heads": 1 if raw.get("multi_query_attention") else raw["n_heads"],
        "mlp_hidden_size": raw.get("mlp_ratio", 4) * raw["d_model"],
        "rms_norm_eps": 1e-5,
    }
    sizes |= {key: raw[key] for key in _CONFIG_KEYS if raw.get(key) is not None}
    config = LlamaConfig(
        **{new: sizes[old] for old, new in _CONFIG_KEYS.items()},
        vocab_size=raw.get("embedding_size") or raw["vocab_size"],
        max_position_embeddings=raw.get("max_sequence_length", 4096),
        tie_word_embeddings=raw.get("weight_tying", False),
        attention_bias=False,
        bos_token_id=None,
        eos_token_id=raw.get("eos_token_id"),
        pad_token_id=raw.get("pad_token_id"),
        rope_parameters={"rope_type": "default", "rope_theta": float(raw.get("rope_theta", 10_000.0))},
        use_cache=False,
    )
    config.mask_token_id = raw.get("mask_token_id")
    return config


def stock_name(name: str) -> str:
    """Returns the stock Llama's name for one of LLaDA's weights. Names that are not LLaDA's stay unchanged."""
    module, dot, leaf = name.rpartition(".")
    return stock_module(module) + dot + leaf


def stock_module(name: str) -> str:
    """Returns the stock Llama's name for one of LLaDA's modules. Names that are not LLaDA's stay unchanged."""
    match name.removeprefix("model.").split("."):
        case ["transformer", "blocks", number, part] if part in _BLOCK:
            return f"model.layers.{number}.{_BLOCK[part]}"
        case ["transformer", part] if part in _TRUNK:
            return _TRUNK[part]
    return name


def llada_module(name: str) -> str:
    """Inverts `stock_module`: returns the name that `LLaDAModelLM` has for a module of the stock Llama."""
    match name.split(".", 3):
        case ["model", "layers", number, part] if part in _STOCK:
            return f"model.transformer.blocks.{number}.{_STOCK[part]}"
    return f"model.transformer.{_STOCK[name]}" if name in _STOCK else name


def save_llada(model: LlamaForCausalLM, folder: Path, mask_id: int) -> None:
    """Writes a stock Llama in LLaDA's own layout: its config keys and weight names, in files of at most 5 GB.

    Raises UserError for a Llama that the layout cannot describe: one with biases, another activation, scaled rotary
    frequencies, or heads of another width.
    """
    config = model.config
    rope: Any = config.rope_parameters
    plain = {
        "attention_bias": (config.attention_bias, False),
        "mlp_bias": (config.mlp_bias, False),
        "hidden_act": (config.hidden_act, "silu"),
        "rope_type": (rope["rope_type"], "default"),
        "head_dim": (config.head_dim, config.hidden_size // config.num_attention_heads),
    }
    for key, (value, expected) in plain.items():
        require(value == expected, "to", "llada", f"the model has {key}={value}, LLaDA's layout only {expected}; use to=merged")
    record = {
        "architectures": ["LLaDAModelLM"],
        "model_type": "llada",
        # the modelling code itself stays on the hub; transformers fetches it there when told to trust it
        "auto_map": {
            "AutoConfig": f"{_CODE}--configuration_llada.LLaDAConfig",
            "AutoModel": f"{_CODE}--modeling_llada.LLaDAModelLM",
            "AutoModelForCausalLM": f"{_CODE}--modeling_llada.LLaDAModelLM",
        },
        **{llada: getattr(config, stock) for llada, stock in _CONFIG_KEYS.items()},
        **{key: value for key, value in _ASSUMED.items() if value is not None},
        "mlp_ratio": 4,
        "vocab_size": config.vocab_size,
        "embedding_size": config.vocab_size,
        "max_sequence_length": config.max_position_embeddings,
        "rope_theta": rope["rope_theta"],
        "rope_full_precision": True,
        "layer_norm_with_affine": True,
        "bias_for_layer_norm": False,
        "weight_tying": config.tie_word_embeddings,
        "attention_dropout": 0.0,
        "residual_dropout": 0.0,
        "embedding_dropout": 0.0,
        "flash_attention": False,
        "init_device": "meta",
        "mask_token_id": mask_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
        "torch_dtype": str(model.dtype).removeprefix("torch."),
        "use_cache": False,
    }
    (folder / "config.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    weights = {}
    for name, tensor in model.named_parameters():  # a tied head is not a parameter of its own, so it is not written
        module, _, leaf = name.rpartition(".")
        weights[f"{llada_module(module)}.{leaf}"] = tensor.detach()
    save_torch_state_dict(weights, folder, max_shard_size="5GB")
