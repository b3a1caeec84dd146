"""LoRA adapters in a folder: plain settings and safetensors, with the stock model's names of modules or with LLaDA's own.

PEFT's own reader unpickles `adapter_model.bin`, imports a module that the settings name (`megatron_core`) and runs their
regular expressions; here what is more than a plain LoRA is refused. Its writer reads the base's config.json as a stock
model's, over the network where the base is a hub id, to see whether the vocabulary has grown; it never has here.
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
    """The model with the adapter of a folder (`adapter_config.json`, `adapter_model.safetensors`), nothing trainable.

    The adapter computes in the precision that it is stored in, as it was trained, or in the base's where that is higher.
    The global generator is left as it was. Raises UserError when the folder holds no plain LoRA of this model: each of its
    tensors has a place there, and each place that its settings name has a tensor.
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
    except Exception as error:  # peft checks what it is given with errors of several kinds
        _unfit(folder, f"{' '.join(str(error).split()):.300}")
    lost = [name for name in found.missing_keys if "lora_" in name] + list(found.unexpected_keys)
    if lost:
        _unfit(folder, f"no place for {lost[0]}")
    dtype = reduce(torch.promote_types, {tensor.dtype for tensor in weights.values()}, model.dtype)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(dtype)
    return adapted.eval()  # dropout too, whose layers are new


def _placed(folder: Path, stored: dict[str, Tensor], settings: dict[str, Any], own: list[str]) -> dict[str, Tensor]:
    """The tensors by the stock model's names. own: its modules, of which those that `target_modules` name, in the file's own
    names for them, must be those that have tensors."""
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
    for module in own:  # a name that none has is as good as none: published adapters list some
        targeted = any(f".{named(module)}".endswith(f".{target}") for target in settings["target_modules"])
        if targeted != (module in filled):
            _unfit(folder, f"no {'tensors' if targeted else 'target_modules'} for {named(module)}")
    return weights


def _unfit(folder: Path, reason: str) -> NoReturn:
    fail("checkpoint", folder, f"the adapter does not fit the base; choose its own with model= ({reason})")


def save_adapter(model: PeftModel, folder: Path, base: str, named: Callable[[str], str] = str) -> None:
    """Write what `load_adapter` and every version of PEFT read: the adapter's tensors as they are, and the few settings
    that a plain LoRA has.

    base: how others find the base, its hub id or folder. named: another name for each module of the stock model, as
    `llada_module` gives.
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
    """The stock names of the modules that an adapter is on."""
    return {_parts(name)[0] for name in _tensors(model)}


def _tensors(model: PeftModel) -> dict[str, Tensor]:
    return get_peft_model_state_dict(model, save_embedding_layers=False)


def _parts(name: str) -> tuple[str, str]:
    """The module of an adapter's tensor, and which tensor of it this is; two empty texts for another name."""
    match = _TENSOR.fullmatch(name)
    return (match["module"], match["leaf"]) if match else ("", "")


def modules_of(model: nn.Module) -> list[str]:
    """The names of a stock model's linear layers and embeddings, with an adapter inside or without."""
    kinds = (nn.Linear, nn.Embedding)
    named = [name for name, module in model.named_modules() if isinstance(module, kinds) and ".lora_" not in name]
    return [name.removesuffix(".base_layer") for name in named]


def _targets(modules: set[str], own: Iterable[str]) -> list[str]:
    """target_modules that mean these of a model's modules: their last names where no other has one of them (`ff_out` is
    each layer's and the head's in LLaDA), else their whole names."""
    last = {name.rpartition(".")[2] for name in modules}
    meant = {name for name in own if name.rpartition(".")[2] in last}
    return sorted(last if meant == modules else modules)


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


def _weights(folder: Path) -> dict[str, Tensor]:
    try:
        return load_file(folder / "adapter_model.safetensors")
    except FileNotFoundError:
        fail("checkpoint", folder, "it has no adapter_model.safetensors; pickled weights are not loaded, convert them first")
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
        fail("checkpoint", folder, f"its adapter_model.safetensors cannot be read ({error})")
