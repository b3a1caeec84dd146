"""`python -m stp.plan`: what a configuration of stp.train needs, counted on the meta device, before a GPU is asked for.

The policy is built without storage, one micro-batch runs forward and backward through it and one batch of a rollout forward,
and the bytes of every tensor that is alive are added up. Weights, gradients and the optimizer's state are counted.
"""

import itertools
import math
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakIdKeyDictionary
from transformers import AttentionInterface, LlamaForCausalLM, Qwen2ForCausalLM

from stp.cli import run
from stp.config import Plan, check, check_ranks
from stp.engine import Zero
from stp.errors import UserError, fail
from stp.models.dream import is_dream, qwen2_config
from stp.models.llada import llama_config
from stp.models.loading import bidirectional, read_config
from stp.models.policy import Model, Policy, add_lora
from stp.models.tiny import shipped
from stp.types import Draws, Prompts, Trajectory

GIB = 2**30
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)  # bytes of a 4-bit weight: its half, a scale for 64 of them, a scale for 256 scales
BUCKET = 500_000_000  # DeepSpeed's reduce_bucket_size, in elements: one buffer from the first backward on
LIVE = 1_000_000_000  # its stage3_max_live_parameters: weights gathered at once

_LLADA_8B = {
    "d_model": 4096,
    "n_heads": 32,
    "n_kv_heads": 32,
    "n_layers": 32,
    "mlp_hidden_size": 12288,
    "embedding_size": 126464,
    "rope_theta": 500000.0,
    "rms_norm_eps": 1e-5,
}
_DREAM_7B = {
    "model_type": "Dream",
    "hidden_size": 3584,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "num_hidden_layers": 28,
    "intermediate_size": 18944,
    "vocab_size": 152064,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
# config.json of the checkpoints on the hub, so that a plan needs no network
KNOWN: dict[str, dict[str, Any]] = {
    "GSAI-ML/LLaDA-8B-Instruct": _LLADA_8B,
    "GSAI-ML/LLaDA-8B-Base": _LLADA_8B,
    "GSAI-ML/LLaDA-1.5": _LLADA_8B,
    "Dream-org/Dream-v0-Instruct-7B": _DREAM_7B,
    "Dream-org/Dream-v0-Base-7B": _DREAM_7B,
}


class _Attention(torch.autograd.Function):
    """What a fused kernel leaves: inputs, output and one number per query and head. No matrix of scores."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = torch.empty_like(query.transpose(1, 2), memory_format=torch.contiguous_format).transpose(1, 2)
        ctx.save_for_backward(query, key, value, output, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        query, key, value, _, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def _attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
    return _Attention.apply(query, key, value).transpose(1, 2).contiguous(), None


AttentionInterface.register("fused_on_meta", _attention)


def skeleton(options: Model) -> Policy:
    """The policy of `options` on the meta device, from its config alone: shapes without storage, adapters included."""
    folder = shipped(options.base or "countdown") if options.path is None else Path(options.path).expanduser()
    if not folder.is_dir() and options.path not in KNOWN:
        fail("model.path", options.path, f"no such folder; a plan needs its config.json, or one of {', '.join(KNOWN)}")
    raw = read_config(folder) if folder.is_dir() else KNOWN[str(options.path)]
    kind: Any = Qwen2ForCausalLM if is_dream(raw) else LlamaForCausalLM
    config: Any = (qwen2_config if is_dream(raw) else llama_config)(raw, folder)
    config._attn_implementation = "eager" if options.attention == "eager" else "fused_on_meta"
    with torch.device("meta"):
        model: Any = bidirectional(kind._from_config(config, dtype=getattr(torch, options.dtype)))
        if options.lora.rank:
            model = add_lora(model, options.lora)
    # DeepSpeed trains adapters in the base's precision
    return Policy(model.to(getattr(torch, options.dtype)), 0, 0, options.logit_chunk, options.lora.dropout)


@dataclass(frozen=True)
class Sizes:
    """Counts of parameters, and the bytes of one."""

    base: int
    adapter: int
    trainable: int
    width: int
    four_bit: int = 0  # of the base's

    @classmethod
    def of(cls, policy: Policy, options: Model) -> "Sizes":
        named = dict(policy.named_parameters())
        adapter = sum(p.numel() for name, p in named.items() if "lora_" in name)
        trainable = sum(p.numel() for p in named.values() if p.requires_grad)
        width = next(iter(named.values())).element_size()
        linears = [
            m for name, m in policy.llama.named_modules() if type(m) is nn.Linear and name != "lm_head" and "lora_" not in name
        ]
        four_bit = sum(m.weight.numel() for m in linears) if options.quantize == "nf4" else 0
        base = sum(p.numel() for p in named.values()) - adapter
        return cls(base, adapter, trainable, width, four_bit)

    @property
    def weights(self) -> float:
        """Bytes of the base."""
        return self.width * (self.base - self.four_bit) + NF4 * self.four_bit


class Live(TorchDispatchMode):
    """Adds up the bytes of the tensors made under it that are still alive.

    peak: by part, when they were most. most: each part's own largest. Tensors as wide as the
    vocabulary count as `logits`, the others as `activations`. What a kernel allocates inside is not seen.
    """

    def __init__(self, module: nn.Module, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.now: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.known = WeakIdKeyDictionary()
        for tensor in itertools.chain(module.parameters(), module.buffers()):
            self.known[tensor.untyped_storage()] = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._add, made)
        return made

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self.known:
            return
        self.known[storage] = True
        part = "logits" if tensor.dim() > 1 and tensor.shape[-1] == self.vocabulary else "activations"
        size = storage.nbytes()
        self.now[part] += size
        self.most |= self.now
        weakref.finalize(storage, self.now.subtract, {part: size}).atexit = False
        if self.now.total() > self.peak.total():
            self.peak = self.now.copy()


def update_peak(policy: Policy, rows: int, tokens: int, positions: int, checkpointing: bool) -> Counter[str]:
    """Bytes of a micro-batch's forward and backward at their peak: `rows` sequences, `positions` scored in all of them.

    Gradients are dropped as they appear: they are counted apart.
    """
    if checkpointing:
        policy.llama.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
    else:
        policy.llama.gradient_checkpointing_disable()
    hooks = [p.register_post_accumulate_grad_hook(_drop) for p in policy.parameters() if p.requires_grad]
    policy.train()
    device = policy.device
    with Live(policy, policy.llama.config.vocab_size) as live:
        ids_BS = torch.zeros(rows, tokens, dtype=torch.long, device=device)
        index_M = torch.zeros(positions, dtype=torch.long, device=device)
        policy(ids_BS, None, index_M, index_M.clone()).sum().backward()
    policy.eval()
    for hook in hooks:
        hook.remove()
    return live.peak


def _drop(parameter: Tensor) -> None:
    parameter.grad = None


@torch.no_grad()
def rollout_peak(policy: Policy, rows: int, tokens: int, positions: int, temperature: float, cache: str) -> Counter[str]:
    """Bytes of one denoising forward at their peak: `rows` sequences, `positions` open in the active blocks.

    With a cache it is a block's first, which computes every position and keeps the keys and values.
    """
    kept = None if cache == "none" else policy.within(0, tokens).kept
    with Live(policy, policy.llama.config.vocab_size) as live:
        ids_BS = torch.zeros(rows, tokens, dtype=torch.long, device=policy.device)
        index_M = torch.zeros(positions, dtype=torch.long, device=policy.device)
        policy.draw(ids_BS, None, index_M, temperature, torch.rand(positions, device=policy.device), kept)
    return live.peak


@dataclass(frozen=True)
class Forwards:
    """Trunk forwards of one kind in one update, on each rank: how many, of how many sequences of how many tokens."""

    phase: str
    count: int
    rows: int
    tokens: int
    positions: int  # whose logits exist at once, at most
    backward: bool = False


def rows_of_a_rank(config: Plan, ranks: int) -> int:
    """Completions of one update on each rank. Groups stay whole: prompts that do not divide are counted up to a multiple."""
    return -(-config.trainer.prompts_per_update // ranks) * config.trainer.group_size


def forwards(config: Plan, ranks: int) -> list[Forwards]:
    """What one update runs on each rank, at most: rows that ended or have nothing to learn save some."""
    trainer, sampler, estimator = config.trainer, config.sampler, config.estimator
    rows = rows_of_a_rank(config, ranks)
    start = sampler.start(None, Draws(0, rows * ranks))
    tokens = config.model.prompt_tokens + sampler.length
    at_once, micro = min(rows, trainer.rollout_rows), min(rows, trainer.micro_batch)
    block = max([window.end - window.begin for window in start.windows] + [start.keep])
    open_L = torch.zeros(1, sampler.length, dtype=torch.bool)
    blank = Trajectory(Prompts(torch.zeros(1, 1, dtype=torch.long)), open_L.long(), open_L, ~open_L, 0, 0)
    copies = estimator.draw(blank, Draws(0, 1)).masked_BKL.shape[1]
    scored = min(micro * estimator.samples * sampler.length, config.model.logit_chunk)
    each = (micro * copies, tokens, scored)
    passes, sets = -(-rows // micro), trainer.inner_updates if trainer.fresh_masks and estimator.varies else 1
    found = [Forwards("rollout", start.nfe * -(-rows // at_once), at_once, tokens, at_once * block)]
    old = sets if config.model.lora.dropout else sets - 1  # on the first set it is the first inner update's own
    if config.objective.needs_old and old:
        found.append(Forwards("old policy", old * passes, *each))
    if config.objective.needs_reference:
        found.append(Forwards("reference", sets * passes, *each))
    return [*found, Forwards("update", trainer.inner_updates * passes, *each, backward=True)]


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU. kept: what stays, by part. update, rollout: what comes and goes, by part. host: offloaded, per rank."""

    ranks: int
    kept: dict[str, float]
    update: dict[str, float]
    rollout: dict[str, float]
    host: float

    @property
    def update_total(self) -> float:
        return sum(self.kept.values()) + sum(self.update.values())

    @property
    def rollout_total(self) -> float:
        return sum(self.kept.values()) + sum(self.rollout.values())

    @property
    def peak(self) -> float:
        return max(self.update_total, self.rollout_total)

    def parts(self) -> dict[str, float]:
        """What makes up the peak."""
        return self.kept | (self.update if self.update_total >= self.rollout_total else self.rollout)


def memory(
    sizes: Sizes, zero: Zero, ranks: int, frozen_copy: bool, update: Mapping[str, float], rollout: Mapping[str, float]
) -> Memory:
    """Sharded by stage: 1 the optimizer (Adam's moments and, from stage 1 on, an fp32 copy), 2 gradients, 3 weights."""
    stage, width = zero.stage, sizes.width
    weights, gradients, optimizer = (ranks if stage >= s else 1 for s in (3, 2, 1))
    state = (12 if stage else 8) * sizes.trainable / optimizer
    held = sizes.base + sizes.adapter
    gathered = stage == 3 and ranks > 1
    kept = {
        "weights": sizes.weights / weights,
        "adapter": width * sizes.adapter / weights,
        "reference copy": width * sizes.base if frozen_copy else 0,
        "gradients": width * sizes.trainable / gradients,
        "optimizer": 0 if zero.offload == "cpu" else state,
        "gradient bucket": BUCKET * (4 if stage == 1 else width) if stage else 0,
    }
    return Memory(
        ranks,
        {name: size for name, size in kept.items() if size},
        {**({"gathered weights": width * min(held, LIVE)} if gathered else {}), **update},
        {**({"gathered weights": width * held} if gathered else {}), **rollout},
        state if zero.offload == "cpu" else 0,
    )


class Planner:
    """Memory of configurations that differ in little; each micro-batch and rollout runs once."""

    def __init__(self, options: Model) -> None:
        self.policy = skeleton(options)
        self.sizes = Sizes.of(self.policy, options)
        self.done: dict[Any, dict[str, int]] = {}

    def memory(self, config: Plan, ranks: int, checkpointing: bool | None = None) -> Memory:
        """Bytes per GPU; `checkpointing` in place of the config's."""
        if checkpointing is None:
            checkpointing = config.model.gradient_checkpointing
        rollout, *_, update = forwards(config, ranks)
        self.policy.logit_chunk = config.model.logit_chunk
        # every chunk's logits are recomputed one at a time; their log-probabilities all stay
        positions = min(config.trainer.micro_batch, rows_of_a_rank(config, ranks))
        positions *= config.estimator.samples * config.sampler.length
        up = self._once(update_peak, update.rows, update.tokens, positions, checkpointing)
        roll = self._once(
            rollout_peak, rollout.rows, rollout.tokens, rollout.positions, config.sampler.temperature, config.sampler.cache
        )
        frozen_copy = config.objective.needs_reference and not config.model.lora.rank
        return memory(self.sizes, config.zero, ranks, frozen_copy, up, roll)

    def _once(self, measure: Callable[..., Counter[str]], *arguments: Any) -> dict[str, int]:
        key = (measure.__name__, self.policy.logit_chunk, *arguments)
        if key not in self.done:
            self.done[key] = dict(measure(self.policy, *arguments))
        return self.done[key]


def changes(config: Plan, ranks: int) -> Iterator[tuple[list[str], Plan, int]]:
    """Ways to need less memory, the fewest changes first: (overrides, config, ranks)."""
    model, trainer, zero = config.model, config.trainer, config.zero
    options: list[list[tuple[str, Any]]] = [
        [("", model), ("model.gradient_checkpointing=true", replace(model, gradient_checkpointing=True))],
        [("", trainer)]
        + [(f"trainer.rollout_rows={n}", replace(trainer, rollout_rows=n)) for n in (4,) if trainer.rollout_rows > n]
        + [(f"trainer.micro_batch={n}", replace(trainer, micro_batch=n)) for n in (2, 1) if trainer.micro_batch > n]
        + [("trainer.micro_batch=1 trainer.rollout_rows=1", replace(trainer, micro_batch=1, rollout_rows=1))],
        [("", zero)]
        + [(f"zero=stage{n}", Zero(n)) for n in (2, 3) if zero.stage < n]
        + [(f"zero=stage{n}_offload", Zero(n, "cpu")) for n in (2, 3) if zero.stage <= n and zero.offload == "none"],
        [("", ranks)] + [(f"ranks={n}", n) for n in (2, 4, 8) if n > ranks],
    ]
    if model.gradient_checkpointing:
        options[0] = options[0][:1]
    combinations = sorted(itertools.product(*options), key=lambda chosen: sum(bool(text) for text, _ in chosen))
    for chosen in combinations:
        (_, model), (_, trainer), (_, zero), (_, more) = chosen
        prompts = trainer.prompts_per_update
        texts = [text for text, _ in chosen if text]
        if prompts % more:
            trainer = replace(trainer, prompts_per_update=math.lcm(prompts, more))
            texts.append(f"trainer.prompts_per_update={trainer.prompts_per_update}")
        yield texts, replace(config, model=model, trainer=trainer, zero=zero), more


def remedy(planner: Planner, config: Plan, ranks: int) -> str:
    """The smallest change that makes the configuration fit, in words."""
    for texts, changed, more in changes(config, ranks):
        try:
            check(changed)
        except UserError:
            continue
        if texts and planner.memory(changed, more).peak <= config.gpu_memory * GIB:
            return f"it fits with {' '.join(texts)}"
    lora = "" if config.model.lora.rank else " training adapters (model.lora.rank=128) needs far less, and"
    return f"no ZeRO stage, batch size or up to 8 GPUs mend it:{lora} a larger GPU is another way"


def show(planner: Planner, config: Plan, found: list[Memory], console: Console) -> None:
    """Parameters, forwards of an update and memory per GPU, as tables."""
    sizes, trainer = planner.sizes, config.trainer
    share = 100 * sizes.trainable / (sizes.base + sizes.adapter)
    console.print(
        f"{config.model.name}: {sizes.base + sizes.adapter:,} parameters, {sizes.trainable:,} trainable ({share:.2f}%)"
    )

    first = found[0].ranks
    runs = forwards(config, first)
    table = Table(title=f"forwards of one update, on each of {first} GPU(s), at most", title_justify="left")
    for column in ("phase", "forwards", "sequences", "tokens each", "logits at once"):
        table.add_column(column, justify="left" if column == "phase" else "right")
    for kind in runs:
        name = f"{kind.phase} (and backward)" if kind.backward else kind.phase
        table.add_row(name, *(f"{number:,}" for number in (kind.count, kind.rows, kind.tokens, kind.positions)))
    console.print(table)
    batch = trainer.prompts_per_update * trainer.group_size
    trunk = sum(kind.count * kind.rows * kind.tokens for kind in runs) * first
    console.print(
        f"per update: {batch:,} completions, {batch * config.sampler.length:,} generated tokens, {trunk:,} tokens through the "
        f"trunk; {trainer.updates:,} updates, {trainer.updates * trainer.inner_updates:,} optimizer updates"
    )

    unit, name = (GIB, "GiB") if max(one.peak for one in found) >= GIB else (2**20, "MiB")
    table = Table(title=f"{name} per GPU", title_justify="left")
    table.add_column(f"zero stage {config.zero.stage}, offload {config.zero.offload}")
    for one in found:
        table.add_column(f"{one.ranks} GPU(s)", justify="right")

    def row(name: str, sizes: list[float], **style: Any) -> None:
        table.add_row(name, *(f"{size / unit:.2f}" if size else "-" for size in sizes), **style)

    for when in ("kept", "update", "rollout"):
        names = list(dict.fromkeys(name for one in found for name in getattr(one, when)))
        for name in names:
            label = name if when == "kept" else f"{when}: {name}"
            row(label, [getattr(one, when).get(name, 0) for one in found], end_section=name == names[-1])
    row("update, peak", [one.update_total for one in found])
    row("rollout, peak", [one.rollout_total for one in found])
    row(f"left of {config.gpu_memory:g} GiB", [config.gpu_memory * GIB - one.peak for one in found])
    if config.zero.offload == "cpu":
        row("host memory of each rank", [one.host for one in found])
    console.print(table)
    other = not config.model.gradient_checkpointing
    totals = [f"{planner.memory(config, one.ranks, other).update_total / unit:.2f}" for one in found]
    console.print(f"update, peak {'with' if other else 'without'} gradient checkpointing: {', '.join(totals)}")
    console.print("not counted: the CUDA context, fragmentation and what kernels allocate inside")


def main(config: Plan) -> None:
    """Print the plan; a configuration that cannot fit is refused with its parts and a change that makes it fit."""
    if config.ranks is not None:
        check_ranks(config, config.ranks)
    planner = Planner(config.model)
    found = [planner.memory(config, ranks) for ranks in ([config.ranks] if config.ranks else (1, 2, 4, 8))]
    console = Console(highlight=False, soft_wrap=True)
    show(planner, config, found, console)
    prompts = config.trainer.prompts_per_update
    uneven = [str(one.ranks) for one in found if prompts % one.ranks]
    if uneven:
        named = " or ".join(uneven)
        console.print(f"trainer.prompts_per_update={prompts} does not divide among {named} GPUs: these are for a multiple")
    fitting = [one for one in found if one.peak <= config.gpu_memory * GIB]
    if not fitting:
        least = min(found, key=lambda one: one.peak)
        parts = ", ".join(f"{name} {size / GIB:.1f}" for name, size in least.parts().items())
        fail(
            "gpu_memory",
            f"{config.gpu_memory:g}",
            f"{least.peak / GIB:.1f} GiB are needed on each of {least.ranks} GPU(s) ({parts}); "
            + remedy(planner, config, least.ranks),
        )
    console.print(f"fits on {', '.join(str(one.ranks) for one in fitting)} GPU(s) of {config.gpu_memory:g} GiB")


if __name__ == "__main__":
    run(main, "plan")
