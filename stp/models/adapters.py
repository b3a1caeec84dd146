"""LoRA adapters in a folder: plain settings and safetensors, with the stock model's names of modules or with LLaDA's own.

PEFT's own reader is not used. It unpickles `adapter_model.bin`, imports a module that the settings name (`megatron_core`)
and runs regular expressions from them; the reader here refuses all but a plain LoRA. Neither is PEFT's writer: to see
whether the vocabulary has grown, which never happens here, it reads the base's config.json, from the hub if need be.
"""

import json
import re
from collections.abc import Callable, Iterable
from functools import reduce
from pathlib import Path
from typing import Any, NoReturn

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from stp.errors import fail
from stp.models.llada import llada_module, stock_module

USED = ("r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "task_type")
IGNORED = ("peft_version", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "init_lora_weights")
FIXED = {"peft_type": "LORA", "bias": "none"}

_PREFIX = "base_model.model."
_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.(?P<leaf>lora_[AB]\.weight|lora_embedding_[AB])")
_IS_A = re.compile(r"\.lora_(embedding_)?A\b")


def load_adapter(folder: Path, model: PreTrainedModel) -> PeftModel:
    """Puts the adapter of a folder (`adapter_config.json`, `adapter_model.safetensors`) on a model, with nothing trainable.

    The adapter computes in the precision in which it was trained and stored, or in the base's if that is higher. The global
    generator stays as it was. Raises UserError if the folder does not hold a plain LoRA of this model, in which each tensor
    has its module and each module that the settings target has its tensors.
    """
    settings, stored = _settings(folder), _weights(folder)
    own = modules_of(model)
    weights = _placed(folder, stored, settings, own)
    targets = _targets({_parts(name)[0] for name in weights}, own)
    try:
        used = {name: settings[name] for name in USED if name in settings}
        config = LoraConfig(**used | {"target_modules": targets}, inference_mode=True)
        with torch.random.fork_rng(devices=[]):
            adapted = PeftModel(model, config)
        found: Any = set_peft_model_state_dict(adapted, weights)
    except Exception as error:  # peft raises errors of several kinds for what it does not accept
        _unfit(folder, f"{' '.join(str(error).split()):.300}")
    lost = [name for name in found.missing_keys if "lora_" in name] + list(found.unexpected_keys)
    if lost:
        _unfit(folder, f"no place for {lost[0]}")
    dtype = reduce(torch.promote_types, {tensor.dtype for tensor in weights.values()}, model.dtype)
    return in_precision(adapted, dtype).eval()  # the new layers have dropout, which must be off too


def in_precision(model: PeftModel, dtype: torch.dtype) -> PeftModel:
    """Puts the tensors of a model's adapter in a precision, in place. PEFT makes those of a bfloat16 model in float32."""
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(dtype)
    return model


def _placed(folder: Path, stored: dict[str, Tensor], settings: dict[str, Any], own: list[str]) -> dict[str, Tensor]:
    """Returns the tensors under the stock model's names. own: the model's modules.

    Raises UserError unless the modules that `target_modules` names (in the file's own names) are those that have tensors.
    """
    weights: dict[str, Tensor] = {}
    named: Callable[[str], str] = str
    for name, tensor in stored.items():
        module, leaf = _parts(name)
        stock = stock_module(module)
        place = f"{_PREFIX}{stock}.{leaf}"
        if stock not in own or place in weights:
            _unfit(folder, f"no place for {name}")
        if stock != module:
            named = llada_module
        if tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16):
            fail("checkpoint", folder, f"its weights are {tensor.dtype}; float32, bfloat16 or float16 is needed")
        weights[place] = tensor
    ranks = {tensor.shape[0] for name, tensor in weights.items() if _IS_A.search(name) and tensor.ndim == 2}
    if ranks != {settings["r"]}:
        fail("checkpoint", folder, f"its adapter_config.json says r={settings['r']}, its weights have {sorted(ranks)}")
    filled = {_parts(name)[0] for name in weights}
    for module in own:  # published adapters also target names that no module has; these are ignored
        targeted = any(f".{named(module)}".endswith(f".{target}") for target in settings["target_modules"])
        if targeted != (module in filled):
            _unfit(folder, f"no {'tensors' if targeted else 'target_modules'} for {named(module)}")
    return weights


def _unfit(folder: Path, reason: str) -> NoReturn:
    fail("checkpoint", folder, f"the adapter does not fit the base; choose its own with model= ({reason})")


def save_adapter(model: PeftModel, folder: Path, base: str, named: Callable[[str], str] = str) -> None:
    """Writes an adapter that `load_adapter` and every version of PEFT can read: its tensors and a plain LoRA's few settings.

    base: how others find the base, its hub id or folder. named: returns the name to write for a module of the stock model,
    for instance `llada_module`.
    """
    config: Any = model.peft_config["default"]
    weights = {
        f"{_PREFIX}{named(module)}.{leaf}": tensor.contiguous()
        for (module, leaf), tensor in ((_parts(name), tensor) for name, tensor in _tensors(model).items())
    }
    modules = {_parts(name)[0] for name in weights}
    own = [named(module) for module in modules_of(model.get_base_model())]
    settings = {name: getattr(config, name) for name in USED} | {"target_modules": _targets(modules, own)}
    record = FIXED | settings | {"base_model_name_or_path": base, "inference_mode": True}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def adapted_modules(model: PeftModel) -> set[str]:
    """Returns the stock names of the modules that have an adapter."""
    return {_parts(name)[0] for name in _tensors(model)}


def _tensors(model: PeftModel) -> dict[str, Tensor]:
    return get_peft_model_state_dict(model, save_embedding_layers=False)


def _parts(name: str) -> tuple[str, str]:
    """Splits the name of an adapter's tensor into its module and the rest. Returns two empty texts for any other name."""
    match = _TENSOR.fullmatch(name)
    return (match["module"], match["leaf"]) if match else ("", "")


def modules_of(model: nn.Module) -> list[str]:
    """Returns the names of a stock model's linear layers and embeddings, whether or not they hold an adapter."""
    kinds = (nn.Linear, nn.Embedding)
    named = [name for name, module in model.named_modules() if isinstance(module, kinds) and ".lora_" not in name]
    return [name.removesuffix(".base_layer") for name in named]


def _targets(modules: set[str], own: Iterable[str]) -> list[str]:
    """Returns the `target_modules` that name exactly these of a model's modules.

    These are the last parts of their names. If another module shares one of these parts (in LLaDA each layer and the head have
    an `ff_out`), they are the whole names.
    """
    last = {name.rpartition(".")[2] for name in modules}
    meant = {name for name in own if name.rpartition(".")[2] in last}
    return sorted(last if meant == modules else modules)


def _settings(folder: Path) -> dict[str, Any]:
    """Reads adapter_config.json. Raises UserError if a setting that a plain LoRA does not have is neither off nor default."""
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


def _weights(folder: Path) -> dict[str, Tensor]:
    try:
        return load_file(folder / "adapter_model.safetensors")
    except FileNotFoundError:
        fail("checkpoint", folder, "it has no adapter_model.safetensors; pickled weights are not loaded, convert them first")
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
        fail("checkpoint", folder, f"its adapter_model.safetensors cannot be read ({error})")
