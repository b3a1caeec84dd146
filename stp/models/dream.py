"""Loads Dream as a stock Qwen2 without a causal mask. Weight names are unchanged, and no remote code runs.

Dream was made from an autoregressive Qwen2.5 and kept its shift: position i - 1 predicts the token at position i, and position
0 also predicts its own (https://hkunlp.github.io/blog/2025/dream). `Policy` undoes the shift.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from stp.errors import fail
from stp.models.loading import load, read_as, read_config

_CONFIG_KEYS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "rms_norm_eps",
    "tie_word_embeddings",
    "eos_token_id",
    "pad_token_id",
)

# settings that a Qwen2 assumes; a checkpoint with other values has another architecture
_ASSUMED = {"hidden_act": "silu", "use_sliding_window": False, "use_mrope": False, "rope_scaling": None}


def load_dream(
    path: str | Path, dtype: torch.dtype = torch.float32, attention: str = "sdpa", quantize: str = "none"
) -> Qwen2ForCausalLM:
    """Loads a checkpoint folder, in Dream's own layout or in the stock Qwen2 one, as a bidirectional Qwen2.

    The model's logits stand one position to the left of their tokens; `stp.models.policy.Policy` aligns them. Raises UserError
    as `stp.models.llada.load_llada` does.
    """
    path = Path(path)
    raw = read_config(path)
    if not is_dream(raw):
        fail("model.path", path, f"its model_type is {raw.get('model_type')!r}; a Dream or Qwen2 checkpoint is needed")
    config = qwen2_config(raw, path)
    config._attn_implementation = attention
    return load(Qwen2ForCausalLM, config, path, dtype, quantize)


def qwen2_config(raw: dict[str, Any], path: Path) -> Qwen2Config:
    """Returns the stock config for a config.json in either layout."""
    if raw.get("model_type") == "qwen2":
        return read_as(Qwen2Config.from_pretrained, path, path)
    return read_as(dream_config, path, raw, path)


def is_dream(raw: dict[str, Any]) -> bool:
    """Says whether a config.json describes a Dream (`DreamModel`) or a Dream saved as a stock Qwen2."""
    return raw.get("model_type") in ("Dream", "qwen2") or "DreamModel" in str(raw.get("architectures"))


def dream_config(raw: dict[str, Any], path: Path) -> Qwen2Config:
    """Translates Dream's config into Qwen2's. Dream adds only the mask token."""
    for key, expected in _ASSUMED.items():
        if raw.get(key, expected) != expected:
            fail("model.path", path, f"its config has {key}={raw[key]}; only {key}={expected} is a Dream Qwen2")
    rope = {"rope_type": "default", "rope_theta": raw.get("rope_theta", 10_000.0)} | (raw.get("rope_parameters") or {})
    if rope["rope_type"] != "default":
        fail("model.path", path, f"its config has rope_type={rope['rope_type']}; only rope_type=default is a Dream Qwen2")
    config = Qwen2Config(
        **{key: raw[key] for key in _CONFIG_KEYS if raw.get(key) is not None},
        rope_parameters=rope,
        use_cache=False,
    )
    config.mask_token_id = raw.get("mask_token_id")
    return config
