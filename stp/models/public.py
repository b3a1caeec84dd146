"""Writes public formats: a tokenizer and a stock model that transformers 4 and 5 can both read, and a model card."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

# internals that transformers 5 writes down and that version 4 would read as settings
_INTERNAL = ("backend", "is_local", "local_files_only", "model_specific_special_tokens")


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Writes a tokenizer under the names that transformers 4 has for its class and settings. Version 5 reads them too."""
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings = {name: value for name, value in settings.items() if name not in _INTERNAL}
    if settings["tokenizer_class"] == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    if "extra_special_tokens" in settings:
        settings["additional_special_tokens"] = settings.pop("extra_special_tokens")
    file.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def save_stock(model: PreTrainedModel, folder: Path, mask_id: int) -> None:
    """Writes a stock model, with transformers 4's config keys beside version 5's.

    Without them, version 4 silently uses its own defaults for the rotary frequencies and the precision.
    """
    model.config.mask_token_id = mask_id
    model.save_pretrained(folder)
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    rope = dict(config["rope_parameters"])
    config["rope_theta"] = rope.pop("rope_theta")
    if rope["rope_type"] != "default":
        config["rope_scaling"] = rope
    config["torch_dtype"] = config["dtype"]
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def save_card(folder: Path, to: str, base: str, config: dict[str, Any], results: Sequence[str] = ()) -> None:
    """Writes the model card (README.md) of an export.

    to: the format. base: the hub id or folder of the weights from which it was made. config: the run's whole config, or empty
    if it is not known. results: lines on what was measured.
    """
    library = "peft" if to in ADAPTERS else "transformers"
    name, on_hub = public_name(base), "/" in public_name(base)
    hub = f"base_model: {name}\n" if on_hub else ""
    title, use, *holds = _CARDS[to]
    made = [f"- Base: `{name}`"]
    if config:
        classes = config["classes"]
        names = [f"{group} {classes[group]}" for group in ("sampler", "estimator", "objective")]
        data, updates = config["task"]["data"]["source"], config["trainer"]["updates"]
        made += [
            f"- Task: {classes['task']} (problems: {data})",
            f"- Method: reinforcement learning ({', '.join(names)}), {updates} updates, seed {config['seed']}",
            *_recipe(config),
        ]
    measured = ["## Results", "", *results, ""] if results else []
    lines = [
        "---",
        f"library_name: {library}",
        f"{hub}---",
        "",
        f"# {title}",
        "",
        *made,
        "",
        *measured,
        "## Loading",
        "",
        "```python",
    ]
    found = name if on_hub else f"<folder of {name}>"
    lines += [use.strip().replace("<base>", found), "```", "", "## What holds", "", *(f"- {line}" for line in holds), ""]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")


def public_name(base: str) -> str:
    """Returns what others may know of a base: its hub id, also from the hub's cache, or its folder without the way there."""
    if not Path(base).is_absolute():
        return base
    cached = re.search(r"/models--([^/]+)--([^/]+)/snapshots/", base)
    return f"{cached[1]}/{cached[2]}" if cached else Path(base).name


def _recipe(config: dict[str, Any]) -> list[str]:
    """Returns a card's line on the settings that matter most, where the run's config has them."""
    named = {
        "learning rate": ("optimizer", "lr"),
        "prompts per update": ("trainer", "prompts_per_update"),
        "completions per prompt": ("trainer", "group_size"),
        "inner updates": ("trainer", "inner_updates"),
        "Monte Carlo draws": ("estimator", "samples"),
        "KL weight": ("objective", "beta"),
        "response tokens": ("sampler", "length"),
        "denoising steps": ("sampler", "steps"),
        "gamma": ("sampler", "gamma"),
        "t_cutoff": ("sampler", "t_cutoff"),
    }
    found = {name: config.get(group, {}).get(key) for name, (group, key) in named.items()}
    lora = config.get("model", {}).get("lora", {})
    found["LoRA rank"] = lora.get("rank") or None
    said = [f"{name} {value:g}" for name, value in found.items() if isinstance(value, int | float)]
    return [f"- Recipe: {', '.join(said)}"] if said else []


ADAPTERS = ("adapter", "adapter_llada")

_BIDIRECTIONAL = "The model attends in both directions and fills masks; `generate` of a causal model means nothing for it."
_ALIGNED = "A Dream (Qwen2) predicts the token of position i at i - 1, a Llama or a Qwen3 at i."
_CARDS = {
    "adapter": (
        "A LoRA adapter for a masked diffusion language model",
        """
from peft import PeftModel
from stp.models.options import Model
from stp.models.policy import load_policy

base, tokenizer = load_policy(Model(path="<base>"), trainable=False)  # a stock Llama, Qwen2 or Qwen3, not causal
model = PeftModel.from_pretrained(base.model, "<this folder>")
""",
        _BIDIRECTIONAL,
        "Its modules have the names of transformers' Llama, Qwen2 or Qwen3. Under LLaDA's own modelling code"
        " (`trust_remote_code`) none of its tensors finds a place, of which PEFT only warns:"
        " `python -m stp.export checkpoint=<this folder> model=<its base> to=adapter_llada` writes LLaDA's names.",
    ),
    "adapter_llada": (
        "A LoRA adapter for LLaDA, in LLaDA's own names of modules",
        """
import torch
from peft import PeftModel
from transformers import AutoModel  # a version that LLaDA's modelling code supports

model = AutoModel.from_pretrained("<base>", trust_remote_code=True, torch_dtype=torch.bfloat16)
model = PeftModel.from_pretrained(model, "<this folder>")
""",
        _BIDIRECTIONAL,
        "On transformers' own Llama none of its tensors finds a place, of which PEFT only warns; this project reads it either"
        " way (`checkpoint=<this folder>`).",
    ),
    "merged": (
        "A masked diffusion language model, as a stock Llama, Qwen2 or Qwen3",
        """
import torch
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("<this folder>", torch_dtype="auto")
rows, length = ids.shape
both_ways = torch.zeros(rows, 1, length, length, dtype=model.dtype)  # the lowest number of its type hides a position
logits = model(ids, attention_mask=both_ways).logits
""",
        _BIDIRECTIONAL,
        "transformers 5 reads `is_causal: false` in config.json and needs no such mask. Version 4 does not know that key:"
        " without the mask given it attends causally, the logits are others, and nothing says so.",
        'transformers 4 loads float32 unless it is told `torch_dtype="auto"`.',
        _ALIGNED,
    ),
    "llada": (
        "A masked diffusion language model, in LLaDA's own layout",
        """
import torch
from transformers import AutoModel  # a version that LLaDA's modelling code supports

model = AutoModel.from_pretrained("<this folder>", trust_remote_code=True, torch_dtype=torch.bfloat16)
""",
        _BIDIRECTIONAL,
        "config.json names LLaDA's modelling code on the hub, which is fetched and run.",
    ),
}
