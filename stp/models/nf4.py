"""NF4 (QLoRA, arXiv 2305.14314): 4-bit base weights by bitsandbytes, double quantisation, bf16 compute."""

from importlib.util import find_spec

import torch
from torch import nn
from transformers import PreTrainedModel

from stp.errors import require


def require_available() -> None:
    """Raise UserError where 4-bit weights cannot be had."""
    name, value = "model.quantize", "nf4"
    require(torch.cuda.is_available(), name, value, "4-bit weights need a CUDA GPU, none is here; use model.quantize=none")
    require(
        find_spec("bitsandbytes") is not None,
        name,
        value,
        "bitsandbytes is not installed; pip install -e '.[gpu]', or use model.quantize=none",
    )


def quantised(model: PreTrainedModel) -> list[str]:
    """Names of the linear layers that become 4-bit: all but the head. Embeddings and norms are none."""
    return [name for name, module in model.named_modules() if type(module) is nn.Linear and name != "lm_head"]


def replace_linears(model: PreTrainedModel) -> None:
    """Put 4-bit layers in place of a meta model's linear ones. Their weights quantise on the way to the GPU."""
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
    model.is_loaded_in_4bit = True  # type: ignore[assignment]  # peft then adapts layers of this kind
