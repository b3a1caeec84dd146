"""`python -m stp.plan` tells what a configuration of stp.train needs, before a GPU is asked for.

The policy is built on the meta device, without storage: its first two and its first three layers, from which the cost of all
follows. One forward of each phase runs through it, and for an update also the backward pass. The plan adds up the bytes of
every live tensor and the operations of every matrix product, and counts weights, gradients and the optimizer's state. Hours
follow from the operations at a stated share of a GPU's peak.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from transformers import AttentionInterface

from stp.config import Config, check, check_ranks
from stp.errors import UserError, fail, require
from stp.models.architectures import architecture
from stp.models.live import Live
from stp.models.llada import LLADA_8B
from stp.models.loading import bidirectional, read_config
from stp.models.options import Model
from stp.models.policy import Policy, add_lora
from stp.models.tiny import shipped
from stp.run.engine import Zero
from stp.run.memory import card_gib
from stp.types import Draws

GIB = 2**30
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)  # bytes per 4-bit weight: half a byte, a scale per 64 weights, a scale per 256 scales
BUCKET = 500_000_000  # DeepSpeed's reduce_bucket_size in elements: a buffer that exists from the first backward on
LIVE = 1_000_000_000  # DeepSpeed's stage3_max_live_parameters: how many weights are gathered at once
STEPPED = 1_000_000_000  # DeepSpeed's sub_group_size: how many weights stage 3 updates at once

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
_QWEN3_06B = {
    "model_type": "a2d-qwen3",
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "num_hidden_layers": 28,
    "intermediate_size": 3072,
    "vocab_size": 151936,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}
# config.json of checkpoints on the hub; with these a plan needs no network
KNOWN: dict[str, dict[str, Any]] = {
    "GSAI-ML/LLaDA-8B-Instruct": LLADA_8B,
    "GSAI-ML/LLaDA-8B-Base": LLADA_8B,
    "GSAI-ML/LLaDA-1.5": LLADA_8B,
    "Dream-org/Dream-v0-Instruct-7B": _DREAM_7B,
    "Dream-org/Dream-v0-Base-7B": _DREAM_7B,
    "dllm-hub/Qwen3-0.6B-diffusion-mdlm-v0.1": _QWEN3_06B,
}


@dataclass
class Plan(Config):
    """What `python -m stp.plan` looks at: a configuration of stp.train, and the GPUs it should fit on."""

    ranks: int | None = field(default=None, metadata={"help": "GPUs; null compares 1, 2, 4 and 8"})
    gpu_memory: float = field(
        default_factory=card_gib,
        metadata={"help": "GiB of each GPU (this machine's, or 80 without one); exit code 2 where they do not suffice"},
    )
    reserve: float = field(
        default=2.0, metadata={"help": "GiB of each GPU left to the CUDA context, NCCL, kernels' own buffers and fragmentation"}
    )
    gpu_tflops: float = field(
        default=989.0,
        metadata={"help": "peak TFLOP/s of a GPU in the model's dtype: an H100's dense bfloat16; A100, A800: 312"},
    )
    utilization: float = field(default=0.4, metadata={"help": "share of that peak that the hours are estimated with"})

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.ranks is None or self.ranks >= 1, "ranks", self.ranks, "at least 1 GPU is needed; null compares several")
        require(0 < self.gpu_memory < math.inf, "gpu_memory", self.gpu_memory, "give the GiB of a GPU, say 80")
        require(0 <= self.reserve < math.inf, "reserve", self.reserve, "give the GiB to keep free on a GPU, say 2")
        require(0 < self.gpu_tflops < math.inf, "gpu_tflops", self.gpu_tflops, "give the TFLOP/s of a GPU, say 989 for an H100")
        require(0 < self.utilization <= 1, "utilization", self.utilization, "a share of the peak lies in (0, 1]; 0.4 is usual")


class _Attention(torch.autograd.Function):
    """Keeps what a fused kernel keeps: inputs, output and one number per query and head, but no matrix of scores."""

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


def skeleton(options: Model, layers: int | None = None) -> Policy:
    """Returns the policy of `options` on the meta device, from its config alone: shapes without storage, with adapters.

    layers: how many of its layers to make; None makes all.
    """
    folder = shipped(options.base or "countdown") if options.path is None else Path(options.path).expanduser()
    if not folder.is_dir() and options.path not in KNOWN:
        fail("model.path", options.path, f"no such folder; a plan needs its config.json, or one of {', '.join(KNOWN)}")
    raw = read_config(folder) if folder.is_dir() else KNOWN[str(options.path)]
    kind = architecture(raw)
    config: Any = kind.config(raw, folder)
    config._attn_implementation = "eager" if options.attention == "eager" else "fused_on_meta"
    config.num_hidden_layers = layers or config.num_hidden_layers
    with torch.device("meta"):
        model: Any = bidirectional(kind.stock._from_config(config, dtype=getattr(torch, options.dtype)))
        if options.lora.rank:
            model = add_lora(model, options.lora)
    return Policy(model, 0, 0, options.logit_chunk, options.lora.dropout)


@dataclass(frozen=True)
class Sizes:
    """Counts of parameters. width: the bytes of one. four_bit: how many of the base's become 4-bit."""

    base: int
    adapter: int
    trainable: int
    width: int
    four_bit: int = 0

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
        """The bytes of the base's weights."""
        return self.width * (self.base - self.four_bit) + NF4 * self.four_bit


@dataclass(frozen=True)
class Cost:
    """What one forward needs: bytes by part at their peak, and floating-point operations."""

    peak: Counter[str]
    operations: float


def update_cost(policy: Policy, rows: int, tokens: int, positions: int, checkpointing: bool) -> Cost:
    """Measures a micro-batch's forward and backward: `rows` sequences, `positions` scored in all of them together.

    Gradients are dropped as they appear, because they are counted elsewhere.
    """
    if checkpointing:
        policy.llama.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
    else:
        policy.llama.gradient_checkpointing_disable()
    hooks = [p.register_post_accumulate_grad_hook(_drop) for p in policy.parameters() if p.requires_grad]
    policy.train()
    with Live(policy, policy.llama.config.vocab_size) as live:
        _scored(policy, rows, tokens, positions).sum().backward()
    policy.eval()
    for hook in hooks:
        hook.remove()
    # a fused kernel's backward computes the scores again: it has five products, its forward has two
    times = 3.5 + checkpointing
    return Cost(live.peak, live.operations + times * attention_operations(policy, rows, tokens))


def _drop(parameter: Tensor) -> None:
    parameter.grad = None


def _scored(policy: Policy, rows: int, tokens: int, positions: int) -> Tensor:
    ids_BS = torch.zeros(rows, tokens, dtype=torch.long, device=policy.device)
    index_M = torch.zeros(positions, dtype=torch.long, device=policy.device)
    return policy(ids_BS, None, index_M, index_M.clone())


@torch.no_grad()
def score_cost(policy: Policy, rows: int, tokens: int, positions: int) -> Cost:
    """Measures a forward that scores tokens without gradients: for theta_old, the reference, a probe or an anchor."""
    with Live(policy, policy.llama.config.vocab_size) as live:
        _scored(policy, rows, tokens, positions)
    return Cost(live.peak, live.operations + attention_operations(policy, rows, tokens))


@torch.no_grad()
def draw_cost(policy: Policy, rows: int, tokens: int, positions: int, temperature: float, cache: str) -> Cost:
    """Measures one denoising forward: `rows` sequences, `positions` open in their active blocks together.

    With a cache it measures a block's first forward, which computes every position and keeps the keys and values.
    """
    kept = None if cache == "none" else policy.within(0, tokens).kept
    with Live(policy, policy.llama.config.vocab_size) as live:
        ids_BS = torch.zeros(rows, tokens, dtype=torch.long, device=policy.device)
        index_M = torch.zeros(positions, dtype=torch.long, device=policy.device)
        policy.draw(ids_BS, None, index_M, temperature, torch.rand(positions, device=policy.device), kept)
    return Cost(live.peak, live.operations + attention_operations(policy, rows, tokens))


def attention_operations(policy: Policy, rows: int, tokens: int) -> float:
    """Counts the operations of fused attention in one forward, two products per layer, which `Live` does not see.

    Returns 0 for eager attention, which `Live` sees.
    """
    config = policy.llama.config
    if config._attn_implementation == "eager":
        return 0
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 4.0 * rows * tokens**2 * config.num_attention_heads * head * config.num_hidden_layers


@dataclass(frozen=True)
class Forwards:
    """Trunk forwards of one kind on each rank: how many, with how many sequences of how many tokens, how often in a run.

    temperature: the temperature of the drawn tokens, or None if given tokens are scored.
    """

    phase: str
    count: int
    rows: int
    tokens: int
    positions: int  # the largest number of positions whose logits exist at once
    scored: int  # the number of positions, over all rows, that get logits at all
    times: int = 1
    temperature: float | None = None
    backward: bool = False


def rows_of_a_rank(config: Plan, ranks: int) -> int:
    """Returns how many completions of one update each rank has. Groups stay whole, so uneven prompts are rounded up."""
    return -(-config.trainer.prompts_per_update // ranks) * config.trainer.group_size


def forwards(config: Plan, ranks: int) -> list[Forwards]:
    """Returns the forwards of one update on each rank, at most: rows that end early or have nothing to learn save some.

    A rescue is counted as if every group needed it, every time.
    """
    trainer, sampler, chunk = config.trainer, config.sampler, config.model.logit_chunk
    rows = rows_of_a_rank(config, ranks)
    start = sampler.start(None, Draws(0, rows * ranks))
    tokens = config.model.prompt_tokens + sampler.length
    at_once, micro = min(rows, trainer.rollout_rows), min(rows, trainer.micro_batch)
    block = max([window.end - window.begin for window in start.windows] + [start.keep])
    draws = config.estimator.copies(sampler.length, start.nfe) // config.estimator.copies_per_draw
    at_a_time = trainer.draws_at_once(draws)
    scored = micro * config.estimator.positions_at_once(sampler.length, trainer.micro_draws)
    copies = micro * at_a_time * config.estimator.copies_per_draw
    each = (copies, tokens, min(scored, chunk), scored, trainer.updates)
    passes, sets = -(-rows // micro) * -(-draws // at_a_time), trainer.inner_updates if trainer.fresh_masks else 1
    drawn = (at_once, tokens, at_once * block, at_once * block, trainer.updates, sampler.temperature)
    found = [Forwards("rollout", sampler.forwards(start)[1] * -(-rows // at_once), *drawn)]
    if config.rescue.most:
        found.append(Forwards("rescue", config.rescue.most * found[0].count, *drawn))
    old = sets if config.model.lora.dropout else sets - 1  # the first inner update computes it on the first set
    if config.objective.needs_old and old:
        found.append(Forwards("old policy", old * passes, *each))
    if config.objective.needs_reference:
        found.append(Forwards("reference", sets * passes, *each))
    if config.objective.tilts_reference:  # theta_old and the reference, once
        found.append(Forwards("weights", 2 * passes, *each))
    if config.objective.weighs_rows and trainer.inner_updates > 1:
        found.append(Forwards("weights", (trainer.inner_updates - 1) * passes, *each))
    return [*found, Forwards("update", trainer.inner_updates * passes, *each, backward=True)]


def beside(config: Plan, ranks: int) -> list[Forwards]:
    """Returns the forwards of a run outside its updates, on each rank: a new static dataset, evaluations and probes.

    Evaluations do not cut prompts: a prompt of more than model.prompt_tokens is longer than is counted here.
    """
    trainer, sampler, model = config.trainer, config.sampler, config.model
    tokens, length = model.prompt_tokens + sampler.length, sampler.length
    found = []

    def drawn(phase: str, completions: int, temperature: float, times: int) -> Forwards:
        rows = min(trainer.rollout_rows, -(-completions // ranks))
        batches, positions = -(-completions // (rows * ranks)), rows * sampler.block_length
        return Forwards(phase, batches * sampler.steps, rows, tokens, positions, positions, times, temperature)

    def given(phase: str, anchors: int) -> Forwards:
        rows = min(trainer.rollout_rows, -(-anchors // ranks))
        return Forwards(
            phase, -(-anchors // (rows * ranks)), rows, tokens, min(rows * length, model.logit_chunk), rows * length
        )

    # null takes all training problems, whose number is not known here: count those that the updates visit
    prompts = config.task.data.train_size or trainer.updates * trainer.prompts_per_update
    if sampler.needs_anchors and sampler.static is None:
        anchors = prompts * sampler.pregenerations
        found += [drawn("pregeneration", anchors, sampler.temperature, 1)] if sampler.source == "model" else []
        found.append(given("anchors", anchors))
    if config.rescue.needs_solutions:
        found.append(given("solutions", prompts))
    if trainer.eval_size:
        every = trainer.eval_every
        times = 1 + len({*range(every or trainer.updates, trainer.updates + 1, every or 1), trainer.updates})
        found += [drawn("evaluation", trainer.eval_size, t, times) for t in trainer.eval_temperatures]
    if trainer.probe_every:
        single = replace(config.estimator, samples=1) if config.estimator.independent else config.estimator
        rows = min(-(-trainer.probe_rows // ranks), rows_of_a_rank(config, ranks))
        micro = min(rows, trainer.micro_batch)
        scored, copies = micro * single.positions(length), single.copies(length, sampler.steps)
        count, probes = trainer.probe_draws * -(-rows // micro), -(-trainer.updates // trainer.probe_every)
        found.append(Forwards("probe", count, micro * copies, tokens, min(scored, model.logit_chunk), scored, probes))
    return found


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU. kept: what stays during training, by part. phases: all that exists in each phase, by part.

    host: what is offloaded to host memory.
    """

    ranks: int
    kept: dict[str, float]
    phases: dict[str, dict[str, float]]
    host: float

    def total(self, phase: str) -> float:
        """Returns the bytes of a phase at its peak."""
        return sum(self.phases[phase].values())

    @property
    def fullest(self) -> str:
        """The phase that needs the most memory."""
        return max(self.phases, key=self.total)

    @property
    def peak(self) -> float:
        return self.total(self.fullest)


BEFORE = ("pregeneration", "anchors", "solutions")  # phases before DeepSpeed shards anything or allocates gradients


def memory(sizes: Sizes, zero: Zero, ranks: int, frozen_copy: bool, phases: Mapping[str, Mapping[str, float]]) -> Memory:
    """Adds up the memory of one GPU. phases: the bytes that come and go in each phase, by part.

    ZeRO shards the optimizer's state from stage 1 on, gradients from stage 2, and weights at stage 3. The state is Adam's
    moments and, from stage 1 on, an fp32 copy of the trained weights.
    """
    stage, width = zero.stage, sizes.width
    weights, gradients, optimizer = (ranks if stage >= s else 1 for s in (3, 2, 1))
    state = (12 if stage else 8) * sizes.trainable / optimizer
    held = sizes.base + sizes.adapter
    gathered = stage == 3 and ranks > 1
    whole = {
        "weights": sizes.weights,
        "adapter": width * sizes.adapter,
        "reference copy": width * sizes.base if frozen_copy else 0,
    }
    kept = whole | {
        "weights": sizes.weights / weights,
        "adapter": width * sizes.adapter / weights,
        "gradients": width * sizes.trainable / gradients,
        "optimizer": 0 if zero.offload == "cpu" else state,
        "gradient bucket": BUCKET * (4 if stage == 1 else width) if stage else 0,
    }

    def there(phase: str) -> dict[str, float]:
        parts = whole if phase in BEFORE else kept
        if gathered and phase not in BEFORE:
            parts = parts | {"gathered weights": width * (min(held, LIVE) if phase == "update" else held)}
        return {name: size for name, size in {**parts, **phases[phase]}.items() if size}

    kept = {name: size for name, size in kept.items() if size}
    found = {phase: there(phase) for phase in phases}
    if stage and zero.offload == "none":  # ZeRO makes the gradients one tensor, and turns that into float32
        stepped = min(sizes.trainable / optimizer, STEPPED if stage == 3 else math.inf)
        left = {name: size for name, size in kept.items() if stage == 3 or name != "gradient bucket"}  # else freed before
        flat = {"flat gradients": width * stepped, "flat gradients in float32": 4 * stepped if width < 4 else 0}
        found["optimizer step"] = left | {name: size for name, size in flat.items() if size}
    return Memory(ranks, kept, found, state if zero.offload == "cpu" else 0)


def deeper(two: Cost, three: Cost, layers: int) -> Cost:
    """Returns the cost of a model of `layers` equal layers from its costs with two and with three of them.

    It is exact, because the peak always lies where the activations of all layers exist, at the head or in the last layer.
    """
    more = layers - 3
    peak = {part: size + more * (size - two.peak[part]) for part, size in three.peak.items()}
    return Cost(Counter(peak), three.operations + more * (three.operations - two.operations))


class Planner:
    """Computes memory and operations of similar configurations.

    Each kind of forward runs once: on two and on three layers of a deep model, and on a shallow one as it is.
    """

    def __init__(self, options: Model) -> None:
        self.policy = skeleton(options)
        self.layers = self.policy.llama.config.num_hidden_layers
        self.measured = [self.policy] if self.layers <= 5 else [skeleton(options, layers) for layers in (2, 3)]
        self.sizes = {kind: Sizes.of(self.policy, replace(options, quantize=kind)) for kind in {"none", options.quantize}}
        if options.lora.rank and options.dtype == "bfloat16":  # `remedy` may try it
            self.sizes["nf4"] = Sizes.of(self.policy, replace(options, quantize="nf4"))
        self.done: dict[Any, Cost] = {}

    def memory(self, config: Plan, ranks: int, checkpointing: bool | None = None) -> Memory:
        """Returns the memory per GPU. checkpointing: replaces the config's gradient checkpointing."""
        phases: dict[str, Mapping[str, float]] = {}
        kinds = [*beside(config, ranks), *forwards(config, ranks)]
        # these phases score as many sequences as an update, but without gradients, so they need less
        for kind in (k for k in kinds if k.phase not in ("old policy", "reference", "weights", "probe")):
            peak = self.cost(config, kind, checkpointing).peak
            if kind.phase not in phases or peak.total() > sum(phases[kind.phase].values()):  # an evaluation per temperature
                phases[kind.phase] = peak
        frozen_copy = config.objective.reads_reference and not config.model.lora.rank
        return memory(self.sizes[config.model.quantize], config.zero, ranks, frozen_copy, phases)

    def operations(self, config: Plan, ranks: int) -> dict[str, float]:
        """Returns the floating-point operations of a whole run on each GPU, by phase."""
        found: Counter[str] = Counter()
        for kind in [*beside(config, ranks), *forwards(config, ranks)]:
            found[kind.phase] += kind.count * kind.times * self.cost(config, kind).operations  # type: ignore[assignment]
        return dict(found)

    def cost(self, config: Plan, kind: Forwards, checkpointing: bool | None = None) -> Cost:
        """Returns what one forward of this kind needs."""
        for policy in self.measured:
            policy.logit_chunk = config.model.logit_chunk
        if kind.backward:
            again = config.model.gradient_checkpointing if checkpointing is None else checkpointing
            # backward recomputes logits one chunk at a time, but log-probabilities stay for all scored positions
            return self._once(update_cost, kind.rows, kind.tokens, kind.scored, again)
        if kind.temperature is None:
            return self._once(score_cost, kind.rows, kind.tokens, kind.scored)
        cache = config.sampler.cache if kind.phase in ("rollout", "rescue") else "none"  # only rollouts may be approximate
        return self._once(draw_cost, kind.rows, kind.tokens, kind.positions, kind.temperature, cache)

    def _once(self, measure: Callable[..., Cost], *arguments: Any) -> Cost:
        key = (measure.__name__, self.measured[0].logit_chunk, *arguments)
        if key not in self.done:
            costs = [measure(policy, *arguments) for policy in self.measured]
            self.done[key] = costs[0] if len(costs) == 1 else deeper(costs[0], costs[1], self.layers)
        return self.done[key]


def ladder(config: Plan, ranks: int) -> list[list[tuple[str, str, Any]]]:
    """Returns ways to need less memory: for each option the values to try, mildest first, as (override, name, value)."""
    model, trainer, zero = config.model, config.trainer, config.zero
    four_bit = model.lora.rank > 0 and model.dtype == "bfloat16" and model.quantize == "none"
    stages = [(f"zero=stage{n}", "zero", Zero(n)) for n in (2, 3) if zero.stage < n]
    stages += [(f"zero=stage{n}_offload", "zero", Zero(n, "cpu")) for n in (2, 3) if zero.stage <= n and zero.offload == "none"]
    named: list[list[tuple[str, Any]]] = [
        [("model.gradient_checkpointing", True)] if not model.gradient_checkpointing else [],
        [("trainer.micro_batch", n) for n in (2, 1) if n < trainer.micro_batch],
        [("model.logit_chunk", n) for n in (1024,) if n < model.logit_chunk],
        [("trainer.rollout_rows", n) for n in (4, 1) if n < trainer.rollout_rows],
        [("model.quantize", "nf4")] if four_bit else [],
        [("ranks", n) for n in (2, 4, 8) if n > ranks],
    ]
    steps = [[(f"{name}={str(value).lower()}", name, value) for name, value in option] for option in named]
    return [option for option in [*steps[:4], stages, *steps[4:]] if option]


def apply(config: Plan, steps: Iterable[tuple[str, str, Any]], ranks: int) -> tuple[list[str], Plan, int]:
    """Takes these steps of a `ladder`. Returns the overrides, the config and the number of ranks."""
    config = replace(config, ranks=ranks)
    texts = []
    for text, name, value in steps:
        group, _, field = name.partition(".")
        config = replace(config, **{group: replace(getattr(config, group), **{field: value}) if field else value})
        texts.append(text)
    more, trainer = config.ranks or ranks, config.trainer
    if more > ranks and trainer.prompts_per_update % more:
        trainer = replace(trainer, prompts_per_update=math.lcm(trainer.prompts_per_update, more))
        config = replace(config, trainer=trainer)
        texts.append(f"trainer.prompts_per_update={trainer.prompts_per_update}")
    return texts, config, more


def fits(config: Plan, needed: Memory) -> bool:
    """Says whether a configuration leaves the reserve free."""
    return needed.peak <= (config.gpu_memory - config.reserve) * GIB


def remedy(planner: Planner, config: Plan, ranks: int) -> str:
    """Says in words which changes make a configuration fit: as few as possible, up to three, each by its mildest value."""
    options = ladder(config, ranks) if config.gpu_memory > config.reserve else []
    for count in range(1, min(len(options), 3) + 1):
        found = []
        for some in itertools.combinations(options, count):
            for steps in itertools.product(*some):
                texts, changed, more = apply(config, steps, ranks)
                if _allowed(changed) and fits(changed, planner.memory(changed, more)):
                    found.append(" ".join(texts))
                    break
        if found:
            return f"it fits with {', or with '.join(found[:4])}"
    lora = "" if config.model.lora.rank else " training adapters (model.lora.rank=128) needs far less, and"
    return f"no three of ZeRO stage, batch sizes, precision and up to 8 GPUs mend it:{lora} a larger GPU is another way"


def _allowed(config: Plan) -> bool:
    try:
        check(config)
    except UserError:
        return False
    return True


def hours(planner: Planner, config: Plan, ranks: int) -> dict[str, float]:
    """Returns the hours of each phase of a whole run: its operations at the stated share of the GPUs' peak."""
    rate = config.gpu_tflops * 1e12 * config.utilization
    return {phase: operations / rate / 3600 for phase, operations in planner.operations(config, ranks).items()}


def show(planner: Planner, config: Plan, found: list[Memory], console: Console) -> None:
    """Prints parameters, forwards, memory per GPU and hours, as tables."""
    sizes, trainer = planner.sizes[config.model.quantize], config.trainer
    share = 100 * sizes.trainable / (sizes.base + sizes.adapter)
    console.print(
        f"{config.model.name}: {sizes.base + sizes.adapter:,} parameters, {sizes.trainable:,} trainable ({share:.2f}%)"
    )

    first = found[0].ranks
    runs = forwards(config, first)
    table = Table(title=f"forwards on each of {first} GPU(s), at most", title_justify="left")
    for column in ("phase", "times", "forwards", "sequences", "tokens each", "logits at once"):
        table.add_column(column, justify="left" if column == "phase" else "right", no_wrap=column == "phase")
    for kind in [*beside(config, first), *runs]:
        name = kind.phase + " (and backward)" * kind.backward
        name += f" (T={kind.temperature:g})" if kind.phase == "evaluation" else ""
        numbers = (kind.times, kind.count, kind.rows, kind.tokens, kind.positions)
        table.add_row(name, *(f"{number:,}" for number in numbers))
    console.print(table)
    if config.sampler.threshold is not None:
        fewest, most = config.sampler.forwards(config.sampler.start(None, Draws(0, 1)))
        console.print(f"rollout: by threshold each row takes {fewest} to {most} forwards; all sums here are of the most")
    batch = trainer.prompts_per_update * trainer.group_size
    trunk = sum(kind.count * kind.rows * kind.tokens for kind in runs) * first
    console.print(
        f"per update: {batch:,} completions, {batch * config.sampler.length:,} generated tokens, {trunk:,} tokens through the "
        f"trunk; {trainer.updates:,} updates, {trainer.updates * trainer.inner_updates:,} optimizer updates"
    )
    for kind in runs:
        if kind.phase == "rescue":
            told = f"rescue: 0 to {kind.count:,} forwards per update, with the rows that are rolled out again"
            console.print(f"{told}; tables and hours count the most")
    console.print(_memory_table(config, found))
    other = not config.model.gradient_checkpointing
    totals = [f"{planner.memory(config, one.ranks, other).total('update') / GIB:.2f}" for one in found]
    console.print(f"update, peak {'with' if other else 'without'} gradient checkpointing: {', '.join(totals)} GiB")
    console.print(
        f"reserve: {config.reserve:g} GiB of each GPU for what is not counted (CUDA context, NCCL, kernels' own buffers, "
        "fragmentation)"
    )
    console.print(_hours_table(planner, config, found))
    console.print(
        f"hours: an estimate, all operations above at utilization={config.utilization:g} of gpu_tflops={config.gpu_tflops:g} "
        "on each GPU; communication, offloading and the CPU's work are not counted"
    )


def _memory_table(config: Plan, found: list[Memory]) -> Table:
    unit, name = (GIB, "GiB") if max(one.peak for one in found) >= GIB else (2**20, "MiB")
    table = Table(title=f"{name} per GPU", title_justify="left")
    table.add_column(f"zero stage {config.zero.stage}, offload {config.zero.offload}")
    for one in found:
        table.add_column(f"{one.ranks} GPU(s)", justify="right")

    def row(name: str, sizes: list[float], **style: Any) -> None:
        table.add_row(name, *(f"{size / unit:.2f}" if size else "-" for size in sizes), **style)

    parts = list(dict.fromkeys(name for one in found for name in one.kept))
    for name in parts:
        row(name, [one.kept.get(name, 0) for one in found], end_section=name == parts[-1])
    for phase in found[0].phases:
        own = dict.fromkeys(name for one in found for name in one.phases[phase] if name not in one.kept)
        for name in own:
            row(f"{phase}: {name}", [one.phases[phase].get(name, 0) for one in found])
        row(f"{phase}, peak", [one.total(phase) for one in found], end_section=True)
    usable = (config.gpu_memory - config.reserve) * GIB
    row(f"left of {config.gpu_memory:g} GiB beside the reserve", [usable - one.peak for one in found])
    if config.zero.offload == "cpu":
        row("host memory of each rank", [one.host for one in found])
    return table


def _hours_table(planner: Planner, config: Plan, found: list[Memory]) -> Table:
    table = Table(title="hours of a run", title_justify="left")
    table.add_column("phase")
    for one in found:
        table.add_column(f"{one.ranks} GPU(s)", justify="right")
    spent = [hours(planner, config, one.ranks) for one in found]
    for phase in spent[0]:
        table.add_row(phase, *(f"{each[phase]:.2g}" for each in spent), end_section=phase == list(spent[0])[-1])
    table.add_row("all", *(f"{sum(each.values()):.3g}" for each in spent))
    return table


def main(config: Plan) -> None:
    """Prints the plan. Refuses a configuration that cannot fit, with its parts and the changes that make it fit."""
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
    fitting = [one for one in found if fits(config, one)]
    if not fitting:
        least = min(found, key=lambda one: one.peak)
        parts = ", ".join(f"{name} {size / GIB:.1f}" for name, size in least.phases[least.fullest].items())
        fail(
            "gpu_memory",
            f"{config.gpu_memory:g}",
            f"{least.peak / GIB:.1f} GiB are needed on each of {least.ranks} GPU(s) ({least.fullest}: {parts}) beside "
            f"reserve={config.reserve:g}; " + remedy(planner, config, least.ranks),
        )
    named = ", ".join(str(one.ranks) for one in fitting)
    console.print(f"fits on {named} GPU(s) of {config.gpu_memory:g} GiB, {config.reserve:g} of them in reserve")
