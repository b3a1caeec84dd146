"""The architectures of checkpoints: which stock class takes them, told by their config.json."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from transformers import LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM

from stp.models.dream import is_dream, load_dream, qwen2_config
from stp.models.llada import llama_config, load_llada
from stp.models.qwen3 import is_qwen3, load_qwen3, qwen3_config

Stock: TypeAlias = LlamaForCausalLM | Qwen2ForCausalLM | Qwen3ForCausalLM


@dataclass(frozen=True)
class Architecture:
    """One kind of checkpoint.

    option: the option of the group `model` for its large checkpoint. stock: the class of transformers. config: returns the
    stock config for a config.json's settings and its folder. load: returns the model of a folder.
    """

    option: str
    stock: type[Stock]
    config: Callable[[dict[str, Any], Path], Any]
    load: Callable[..., Any]


DREAM = Architecture("dream_7b", Qwen2ForCausalLM, qwen2_config, load_dream)
QWEN3 = Architecture("qwen3_a2d", Qwen3ForCausalLM, qwen3_config, load_qwen3)
LLADA = Architecture("llada_8b", LlamaForCausalLM, llama_config, load_llada)


def architecture(raw: dict[str, Any]) -> Architecture:
    """Returns the architecture that a config.json describes. What no other one takes is LLaDA's to refuse."""
    return DREAM if is_dream(raw) else QWEN3 if is_qwen3(raw) else LLADA
