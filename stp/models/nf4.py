"""NF4 (QLoRA, arXiv 2305.14314): 4-bit base weights by bitsandbytes, with double quantisation and bf16 compute."""

from importlib.util import find_spec

import torch
from torch import nn
from transformers import PreTrainedModel

from stp.errors import require


def require_available() -> None:
    """Raises UserError if this machine cannot use 4-bit weights."""
    name, value = "model.quantize", "nf4"
    require(torch.cuda.is_available(), name, value, "4-bit weights need a CUDA GPU, none is here; use model.quantize=none")
    require(
        find_spec("bitsandbytes") is not None,
        name,
        value,
        "bitsandbytes is not installed; pip install -e '.[gpu]', or use model.quantize=none",
    )


def quantised(model: PreTrainedModel) -> list[str]:
    """Returns the names of the layers that become 4-bit: all linear layers except the head."""
    return [name for name, module in model.named_modules() if type(module) is nn.Linear and name != "lm_head"]


def replace_linears(model: PreTrainedModel) -> None:
    """Replaces a meta model's linear layers by 4-bit ones. Their weights quantise when they move to the GPU."""
    import bitsandbytes

    for name in quantised(model):
        linear: nn.Linear = model.get_submodule(name)  # type: ignore[assignment]
        four_bit = bitsandbytes.nn.Linear4bit(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            compute_dtype=torch.bfloat16,
            compress_statistics=True,
            quant_type="nf4",
            device="meta",
        )
        model.set_submodule(name, four_bit)
    model.is_loaded_in_4bit = True  # type: ignore[assignment]  # tells peft to expect 4-bit layers
