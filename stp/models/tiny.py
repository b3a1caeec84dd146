"""The tiny LLaDA: the same class as LLaDA, small enough for a CPU, with a small tokenizer of its own."""

import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from stp.errors import fail
from stp.models.loading import bidirectional

BASES = Path(__file__).parent / "tiny_base"  # the weights that ship with the package, a folder per task

LARGEST = 1_000  # a tiny model knows fewer tokens than this
EOS, MASK, UNKNOWN = "<|endoftext|>", "<|mdm_mask|>", "<|unknown|>"
_TAGS = ["<reasoning>", "</reasoning>", "<answer>", "</answer>", "\n"]
_SPECIAL = re.compile(r"[][.*+?(){}|^$\\]")


def shipped(task: str) -> Path:
    """Returns the folder of a task's tiny base. Raises UserError if none ships."""
    if not (BASES / task / "config.json").exists():
        known = ", ".join(sorted(folder.name for folder in BASES.iterdir()))
        fail("model.base", task, f"bases ship for {known}; choose one, or make your own: python -m stp.pretrain task={task}")
    return BASES / task


def is_tiny(raw: dict[str, Any]) -> bool:
    """Says whether a config.json describes a tiny model, by the size of its vocabulary."""
    sizes = [raw.get(name) for name in ("vocab_size", "embedding_size")]
    return all(size < LARGEST for size in sizes if isinstance(size, int))


def tiny_tokenizer(phrases: Sequence[str], largest: int = 100) -> PreTrainedTokenizerFast:
    """Makes a tokenizer with a token for each whole number up to `largest`, phrase of a task, tag, and other ASCII character.

    Longer numbers split greedily from the left into the longest known numbers, so any printable ASCII text has tokens.
    """
    known = [*phrases, *_TAGS]
    words = [EOS, MASK, UNKNOWN, *known, *string.printable[:95], *(str(n) for n in range(10, largest + 1))]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN, continuing_subword_prefix=""))
    spelt = "|".join(_SPECIAL.sub(r"\\\g<0>", p) for p in sorted(known, key=len, reverse=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(rf"{spelt}|[0-9]+|."), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=EOS,
        mask_token=MASK,
        unk_token=UNKNOWN,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        chat_template="{% for m in messages %}{{ m['content'] }}{% endfor %}",
    )


def tiny_config(tokenizer: PreTrainedTokenizerFast, width: int = 96, layers: int = 4, heads: int = 4) -> LlamaConfig:
    """Returns the config of a Llama that has about half a million parameters at the defaults."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        initializer_range=width**-0.5,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=False,
    )
    config.mask_token_id = tokenizer.mask_token_id
    config._attn_implementation = "sdpa"
    return config


def new_tiny(tokenizer: PreTrainedTokenizerFast, seed: int, width: int = 96, layers: int = 4) -> LlamaForCausalLM:
    """Returns a model with fresh weights from a seed. The global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return bidirectional(LlamaForCausalLM(tiny_config(tokenizer, width, layers)))
