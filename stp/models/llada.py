"""LLaDA: a stock Llama without a causal mask. Reads and writes LLaDA's own layout by mapping names; no remote code."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from stp.errors import UserError, fail, require

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


def load_llada(path: str | Path, dtype: torch.dtype = torch.float32, attention: str = "sdpa") -> LlamaForCausalLM:
    """Load a checkpoint folder, in LLaDA's own layout or in the stock Llama one, as a bidirectional Llama.

    Raises UserError when the folder is not such a checkpoint: no config, missing or unexpected weights, or an
    architecture the mapping does not cover.
    """
    path = Path(path)
    raw = read_config(path)
    if "d_model" in raw:
        try:
            config = llada_config(raw, path)
        except UserError:
            raise
        except Exception as error:  # transformers checks values with errors of several kinds
            fail("model.path", path, f"its config.json describes no model ({' '.join(str(error).split())})")
        weights = {stock_name(name): t for name, t in read_weights(path).items()}
        if config.tie_word_embeddings:
            weights.pop("lm_head.weight", None)
    else:
        if raw.get("model_type") != "llama":
            fail("model.path", path, f"its model_type is {raw.get('model_type')!r}; a LLaDA or Llama checkpoint is needed")
        config = LlamaConfig.from_pretrained(path)
        weights = read_weights(path)
    config._attn_implementation = attention
    try:
        model = bidirectional(LlamaForCausalLM._from_config(config, dtype=dtype))
    except ImportError as error:
        fail("model.attention", attention, f"{str(error).splitlines()[0]}; install it or use model.attention=sdpa")
    missing, unexpected = _assign(model, weights, dtype)
    if missing or unexpected:
        fail("model.path", path, f"weights do not fit the config: missing {missing[:3]}, unexpected {unexpected[:3]}")
    return model.eval()


def bidirectional(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """Switch the causal mask off, in the config and in each attention module (other backends read that one)."""
    model.config.is_causal = False
    for module in model.modules():
        if hasattr(module, "is_causal"):
            module.is_causal = False  # type: ignore[assignment]
    return model


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


def read_config(path: Path) -> dict[str, Any]:
    """config.json of a checkpoint folder; UserError when there is none."""
    try:
        raw = json.loads((path / "config.json").read_text())
    except FileNotFoundError:
        fail("model.path", path, "no config.json there; give a checkpoint folder")
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        fail("model.path", path, f"its config.json cannot be read ({error})")
    require(isinstance(raw, dict), "model.path", path, "its config.json is not a table of settings")
    return raw


def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint folder: model.safetensors, or the files its index names. Pickles are never loaded."""
    index = path / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.exists():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            fail("model.path", path, f"model.safetensors.index.json is not an index of weights ({error!r})")
    weights: dict[str, Tensor] = {}
    for name in names:
        try:
            weights |= load_file(path / name)
        except FileNotFoundError:
            fail("model.path", path, f"{name} is not there; only safetensors are loaded, convert pickled weights first")
        except (SafetensorError, OSError) as error:
            raise UserError(f"model.path={path}: {name} is not a readable safetensors file ({error})") from None
    return weights


def _assign(model: LlamaForCausalLM, weights: dict[str, Tensor], dtype: torch.dtype) -> tuple[list[str], list[str]]:
    """Copy weights in; returns (missing, unexpected or misshapen) names."""
    own = dict(model.named_parameters())
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    unexpected = [n for n, t in weights.items() if n not in tied and (n not in own or own[n].shape != t.shape)]
    missing = [n for n in own if n not in weights and n not in tied]
    if not missing and not unexpected:
        with torch.no_grad():
            for name, parameter in own.items():
                if name in weights:
                    parameter.copy_(weights[name].to(dtype))
    return missing, unexpected
