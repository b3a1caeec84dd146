"""LLaDA: a stock Llama without a causal mask. Reads and writes LLaDA's own layout by mapping names; no remote code."""

import re
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from stp.errors import fail
from stp.models.loading import load, read_as, read_config

_CONFIG_KEYS = {
    "d_model": "hidden_size",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "n_layers": "num_hidden_layers",
    "mlp_hidden_size": "intermediate_size",
    "rms_norm_eps": "rms_norm_eps",
}

# what the mapping assumes; a checkpoint that says otherwise is another architecture
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
}

_WEIGHTS = {
    r"transformer\.wte": "embed_tokens",
    r"transformer\.ln_f": "norm",
    r"transformer\.blocks\.(\d+)\.(q_proj|k_proj|v_proj)": r"layers.\1.self_attn.\2",
    r"transformer\.blocks\.(\d+)\.attn_out": r"layers.\1.self_attn.o_proj",
    r"transformer\.blocks\.(\d+)\.ff_proj": r"layers.\1.mlp.gate_proj",
    r"transformer\.blocks\.(\d+)\.up_proj": r"layers.\1.mlp.up_proj",
    r"transformer\.blocks\.(\d+)\.ff_out": r"layers.\1.mlp.down_proj",
    r"transformer\.blocks\.(\d+)\.attn_norm": r"layers.\1.input_layernorm",
    r"transformer\.blocks\.(\d+)\.ff_norm": r"layers.\1.post_attention_layernorm",
}


def load_llada(
    path: str | Path, dtype: torch.dtype = torch.float32, attention: str = "sdpa", quantize: str = "none"
) -> LlamaForCausalLM:
    """Load a checkpoint folder, in LLaDA's own layout or in the stock Llama one, as a bidirectional Llama.

    Raises UserError when the folder is not such a checkpoint: no config, missing or unexpected weights, or an
    architecture the mapping does not cover.
    """
    path = Path(path)
    raw = read_config(path)
    if "d_model" in raw:
        config = read_as(llada_config, path, raw, path)
        return load(LlamaForCausalLM, config, path, dtype, attention, quantize, stock_name)
    if raw.get("model_type") != "llama":
        fail("model.path", path, f"its model_type is {raw.get('model_type')!r}; a LLaDA or Llama checkpoint is needed")
    return load(LlamaForCausalLM, read_as(LlamaConfig.from_pretrained, path, path), path, dtype, attention, quantize)


def llada_config(raw: dict[str, Any], path: Path) -> LlamaConfig:
    """Translate LLaDA's config keys."""
    for key, expected in _ASSUMED.items():
        if raw.get(key, expected) != expected:
            fail("model.path", path, f"its config has {key}={raw[key]}; only {key}={expected} is a LLaDA Llama")
    keys = {new: raw[old] for old, new in _CONFIG_KEYS.items() if raw.get(old) is not None}
    config = LlamaConfig(
        **keys,
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
    """LLaDA's weight name as the stock Llama calls it; names that are not LLaDA's are returned unchanged."""
    stem, dot, leaf = name.removeprefix("model.").rpartition(".")
    if stem == "transformer.ff_out":
        return f"lm_head{dot}{leaf}"
    for pattern, stock in _WEIGHTS.items():
        if re.fullmatch(pattern, stem):
            return f"model.{re.sub(pattern, stock, stem)}{dot}{leaf}"
    return name
