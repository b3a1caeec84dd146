"""Loads a Qwen3 that was made into a masked diffusion model (A2D) as a stock Qwen3 without a causal mask.

Such checkpoints (https://huggingface.co/dllm-hub) keep Qwen3's weight names and change its attention alone. They predict a
token at its own position, without Dream's shift. Their modelling code extends the stock class, and no remote code runs.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from stp.errors import fail
from stp.models.loading import load, read_as, read_config

_TYPES = ("a2d-qwen3", "qwen3")

# what the stock config takes from a config.json, in the layouts of transformers 4 (rope_theta) and 5 (rope_parameters)
_CONFIG_KEYS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "attention_bias",
    "tie_word_embeddings",
    "rope_parameters",
    "rope_theta",
    "rope_scaling",
    "use_sliding_window",
    "sliding_window",
    "max_window_layers",
    "layer_types",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)


def load_qwen3(
    path: str | Path, dtype: torch.dtype = torch.float32, attention: str = "sdpa", quantize: str = "none"
) -> Qwen3ForCausalLM:
    """Loads a checkpoint folder, in A2D's layout or in the stock Qwen3 one, as a bidirectional Qwen3.

    Raises UserError as `stp.models.llada.load_llada` does.
    """
    path = Path(path)
    raw = read_config(path)
    if not is_qwen3(raw):
        fail("model.path", path, f"its model_type is {raw.get('model_type')!r}; an A2D Qwen3 or Qwen3 checkpoint is needed")
    config = qwen3_config(raw, path)
    config._attn_implementation = attention
    return load(Qwen3ForCausalLM, config, path, dtype, quantize)


def is_qwen3(raw: dict[str, Any]) -> bool:
    """Says whether a config.json describes an A2D Qwen3 (`A2DQwen3LMHeadModel`) or one saved as a stock Qwen3."""
    return raw.get("model_type") in _TYPES or "A2DQwen3LMHeadModel" in str(raw.get("architectures"))


def qwen3_config(raw: dict[str, Any], path: Path) -> Qwen3Config:
    """Returns the stock config for a config.json in either layout. Layers with a sliding window are refused.

    A2D's own code ignores such windows under one kind of attention and keeps them under another.
    """
    given = {key: raw[key] for key in _CONFIG_KEYS if key in raw}
    config: Qwen3Config = read_as(Qwen3Config, path, **given, use_cache=False)
    if set(config.layer_types or ()) != {"full_attention"}:
        rule = "its config gives layers another attention than full_attention (layer_types, use_sliding_window)"
        fail("model.path", path, f"{rule}; only full attention is a bidirectional Qwen3")
    config.mask_token_id = raw.get("mask_token_id")
    return config
