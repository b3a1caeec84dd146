"""LoRA adapters from a folder: plain settings and safetensors.

PEFT's own reader unpickles `adapter_model.bin`, imports a module that the settings name (`megatron_core`) and runs their
regular expressions; here what is more than a plain LoRA is refused.
"""

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PreTrainedModel

from stp.errors import fail

USED = ("r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "task_type")
IGNORED = ("peft_version", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "init_lora_weights")
FIXED = {"peft_type": "LORA", "bias": "none"}


def load_adapter(folder: Path, model: PreTrainedModel) -> PeftModel:
    """The model with the adapter of a folder (`adapter_config.json`, `adapter_model.safetensors`), nothing trainable.

    The global generator is left as it was. Raises UserError when the folder holds no plain LoRA of this model.
    """
    settings, weights = _settings(folder), _weights(folder)
    ranks = {tensor.shape[0] for name, tensor in weights.items() if ".lora_A." in name and tensor.ndim == 2}
    if ranks != {settings["r"]}:
        fail("checkpoint", folder, f"its adapter_config.json says r={settings['r']}, its weights have {sorted(ranks)}")
    try:
        config = LoraConfig(**{name: settings[name] for name in USED if name in settings}, inference_mode=True)
        with torch.random.fork_rng(devices=[]):
            adapted = PeftModel(model, config)
        found: Any = set_peft_model_state_dict(adapted, weights)
    except Exception as error:  # peft checks what it is given with errors of several kinds
        reason = " ".join(str(error).split())
        fail("checkpoint", folder, f"the adapter does not fit the base; choose its own with model= ({reason:.300})")
    lost = [name for name in found.missing_keys if "lora_" in name] + list(found.unexpected_keys)
    if lost:
        fail("checkpoint", folder, f"the adapter does not fit the base; choose its own with model= (no place for {lost[0]})")
    return adapted


def _settings(folder: Path) -> dict[str, Any]:
    """adapter_config.json, all of whose other settings are off or as usual."""
    try:
        settings = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        fail("checkpoint", folder, f"its adapter_config.json cannot be read ({error})")
    modules = settings.get("target_modules") if isinstance(settings, dict) else None
    if not (isinstance(modules, list) and modules and all(isinstance(name, str) for name in modules)):
        fail("checkpoint", folder, "its adapter_config.json names no list of target_modules")
    if type(settings.get("r")) is not int or type(settings.get("lora_alpha")) not in (int, float):
        fail("checkpoint", folder, "its adapter_config.json has no r and lora_alpha")
    usual = LoraConfig().to_dict()
    more = {k: v for k, v in settings.items() if k not in (*USED, *IGNORED, *FIXED) and v and v != usual.get(k)}
    more |= {k: settings.get(k) for k, value in FIXED.items() if settings.get(k) != value}
    if more:
        name, value = min(more.items())
        fail("checkpoint", folder, f"its adapter_config.json has {name}={value!r:.80}; only plain LoRA adapters are loaded")
    return settings


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(folder / "adapter_model.safetensors")
    except FileNotFoundError:
        fail("checkpoint", folder, "it has no adapter_model.safetensors; pickled weights are not loaded, convert them first")
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
        fail("checkpoint", folder, f"its adapter_model.safetensors cannot be read ({error})")
