"""`python -m stp.bench` compares rollouts and updates with their bare forwards and with the published loops.

The bare forwards are the limit. A sampler's limit is the trunk forwards that it ran, with the same ids, and the head at the
positions it asked for. An update's limit is its rollout's, plus one reference forward if there is a penalty, plus mu forwards
and backwards. A limit draws, compares and clips nothing, and takes no optimizer step.

The variants of a comparison take turns (A B C A B C ...) after one turn that is not counted. A ratio is taken within each turn;
its median is given with its least and greatest value. On one CPU thread the time is this process's processor time, which other
work on the machine hardly changes. With more threads, and on a GPU (synchronised), it is the wall clock. The shape `llada` has
LLaDA's vocabulary and random weights under LoRA; `tiny` is the base that ships; `llada_8b` has all of LLaDA-8B's sizes and the
settings of the paper's Table 8, for a GPU.
"""

import argparse
import copy
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from stp.bench import published_loops as plain
from stp.config import CONF, SCHEMAS, build, register
from stp.diffusion import Denoiser
from stp.estimators import Elbo, OneStep
from stp.estimators.base import Estimator, masked_log_probs
from stp.loop import rollout, update
from stp.models.codec import Codec
from stp.models.live import Live
from stp.models.llada import LLADA_8B, llama_config
from stp.models.loading import bidirectional
from stp.models.options import Lora, Model
from stp.models.policy import AdapterOff, Policy, add_lora, compile_layers, load_policy
from stp.objectives import Grpo
from stp.roles import Actor, Learner, Run
from stp.run.engine import Engine, Optimizer, Zero
from stp.run.files import write_atomically
from stp.run.ranks import bootstrap
from stp.samplers import Standard, Stp
from stp.samplers.generate import generate
from stp.trainer import Trainer
from stp.types import Anchors, Batch, Draws, Prompts, Rollout, Trajectory

NEVER = -1  # an EOS that no row can draw: every forward of the schedule runs for every row
Row = dict[str, Any]


# ---- measuring


@dataclass
class Turns:
    """The seconds of each variant, turn by turn."""

    cpu: dict[str, list[float]]
    wall: dict[str, list[float]]
    by_wall: bool

    @property
    def seconds(self) -> dict[str, list[float]]:
        return self.wall if self.by_wall else self.cpu

    def ratio(self, one: str, other: str) -> Row:
        """Returns the median, least and greatest ratio of two variants, each taken within a turn."""
        return spread([a / b for a, b in zip(self.seconds[one], self.seconds[other], strict=True)])

    def row(self, item: str, shape: str, names: tuple[str, str], pair: tuple[str, str], target: float | None = None) -> Row:
        """A line of the result: one variant over another (`pair`, under these `names`), and the seconds of the first."""
        timed = pair[0]
        seconds = {"cpu_s": statistics.median(self.cpu[timed]), "wall_s": statistics.median(self.wall[timed])}
        what, over = names
        return {
            "item": item,
            "shape": shape,
            "what": what,
            "over": over,
            "ratio": self.ratio(*pair),
            "target": target,
            **seconds,
        }


def spread(values: list[float]) -> Row:
    """Returns the median, the least and the greatest value."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def take_turns(variants: dict[str, Callable[[], Any]], repeats: int, device: torch.device) -> Turns:
    """Runs the variants in turn, `repeats` times after one turn that is not counted."""
    cpu: dict[str, list[float]] = {name: [] for name in variants}
    wall: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(repeats + 1):
        for name, variant in variants.items():
            started, spent = time.perf_counter(), time.process_time()
            variant()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn:
                cpu[name].append(time.process_time() - spent)
                wall[name].append(time.perf_counter() - started)
    return Turns(cpu, wall, device.type == "cuda" or torch.get_num_threads() > 1)


# ---- shapes


@dataclass
class Shape:
    """A model with the settings of its rollouts and updates. prompts: one row for each completion, in groups."""

    name: str
    policy: Policy
    prompts: Prompts
    sampler: Standard
    estimator: Estimator
    objective: Grpo
    trainer: Trainer
    target: float  # for the sampler over its limit
    published: float | None = None  # for the update over the published loops, which waste work on a large vocabulary

    @property
    def device(self) -> torch.device:
        return self.policy.device

    @property
    def reference(self) -> Any:
        return AdapterOff(self.policy) if self.objective.needs_reference else None

    def learner(self, engine: Any) -> Learner:
        """Returns the learner that makes the shape's updates."""
        return Learner(engine, self.estimator, self.objective, self.trainer, self.reference)

    def rollout(self, sampler: Standard | None = None, anchors: Anchors | None = None) -> Trajectory:
        """Rolls out a completion for each prompt."""
        return (sampler or self.sampler)(self.policy, self.prompts, Draws(0, len(self.prompts)), anchors)

    def plain_rollout(self) -> Trajectory:
        """Rolls out the same completions by the published loop."""
        return plain.sample(self.policy, self.prompts, self.sampler)

    def with_rows(self, rows: int) -> "Shape":
        """Returns the same shape with this number of completions."""
        index = torch.arange(rows) % len(self.prompts)
        return replace(self, prompts=self.prompts.rows(index))


def tiny(device: torch.device) -> Shape:
    """Makes the shipped base's shape: conf/training/tiny.yaml with 4 prompts, G = 8, L = 48, N = 40, K = 3, mu = 2."""
    policy, _ = load_policy(Model())
    policy.eos_id = NEVER
    trainer = Trainer(inner_updates=2, prompts_per_update=4, group_size=8, micro_batch=32, rollout_rows=512)
    sampler = Standard(length=48, steps=40, block_length=24, temperature=1.0)
    made = random_prompts(4, 8, 24, policy)
    return Shape("tiny", policy.to(device), made.to(device), sampler, Elbo(samples=3), Grpo(beta=0.0), trainer, 1.3)


def llada(device: torch.device) -> Shape:
    """Makes a shape with LLaDA's vocabulary, 8 layers of width 512, LoRA and a KL penalty.

    It has one prompt of 100 tokens, and G = 6, L = 64, N = 8, K = mu = 2.
    """
    config = LlamaConfig(
        vocab_size=126464,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=8,
        num_attention_heads=8,
        use_cache=False,
    )
    config._attn_implementation = "sdpa"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = bidirectional(LlamaForCausalLM(config))
    policy = Policy(add_lora(model, Lora(rank=16)), mask_id=126336, eos_id=NEVER, logit_chunk=192).eval()
    trainer = Trainer(inner_updates=2, prompts_per_update=1, group_size=6, micro_batch=6, rollout_rows=6)
    sampler = Standard(length=64, steps=8, block_length=32, temperature=0.9)
    made = random_prompts(1, 6, 100, policy)
    return Shape("llada", policy.to(device), made.to(device), sampler, Elbo(samples=2), Grpo(beta=0.04), trainer, 1.15, 0.5)


def llada_8b(device: torch.device, sizes: dict[str, Any] = LLADA_8B) -> Shape:
    """Makes the paper's shape (Table 8, `scale=paper`): LLaDA-8B's sizes and random weights, made on the device in bfloat16."""
    register()
    with initialize_config_dir(CONF, version_base="1.3"):
        config = build(compose("train", ["scale=paper", "sampler=standard"]))
    model, trainer = config.model, config.trainer
    policy = random_policy(llama_config(sizes, Path("LLaDA-8B")), model, device)
    made = random_prompts(trainer.prompts_per_update, trainer.group_size, model.prompt_tokens, policy)
    parts = (config.sampler, config.estimator, config.objective, trainer)
    return Shape("llada_8b", policy, made.to(device), *parts, 1.15)


def random_policy(config: LlamaConfig, options: Model, device: torch.device) -> Policy:
    """Makes a policy of these sizes with random weights, and with the adapters and the precision of `options`."""
    config._attn_implementation = options.attention
    with torch.device(device), torch.random.fork_rng():
        torch.manual_seed(0)
        stock = bidirectional(LlamaForCausalLM._from_config(config, dtype=getattr(torch, options.dtype)))
        if options.gradient_checkpointing:
            stock.gradient_checkpointing_enable({"use_reentrant": False})
        model = add_lora(stock, options.lora) if options.lora.rank else stock
    return Policy(model, config.vocab_size - 1, NEVER, options.logit_chunk, options.lora.dropout).eval()


SHAPES = {"tiny": tiny, "llada": llada, "llada_8b": llada_8b}
EIGHT_BILLION = {"llada_8b"}  # shapes that are measured only where they are asked for


def engine_of(shape: Shape) -> Engine:
    """Puts the shape's policy under the engine, in its precision."""
    bfloat16 = shape.policy.llama.dtype == torch.bfloat16
    return Engine(shape.policy, Optimizer(lr=1e-6), Zero(2 if bfloat16 else 0), bfloat16)


def random_prompts(prompts: int, group: int, width: int, policy: Policy) -> Prompts:
    """Returns random prompts without special tokens, each repeated for its group."""
    ids_NP = torch.randint(3, min(policy.llama.config.vocab_size, 100), (prompts, width), generator=Draws(0, 1).generator("p"))
    return Prompts(ids_NP.repeat_interleave(group, dim=0))


# ---- limits


@dataclass(frozen=True)
class Call:
    """The inputs of a forward: its ids, its padding, and the positions that the head is asked for."""

    ids_BS: Tensor
    attend_BS: Tensor | None
    index_M: Tensor


class Recorder:
    """A denoiser that records its inputs. It draws as `inner` does, but scores everything 0, which costs no time."""

    def __init__(self, inner: Policy) -> None:
        self.inner, self.mask_id, self.eos_id, self.calls = inner, inner.mask_id, NEVER, list[Call]()

    def __call__(self, ids_BS: Tensor, attend_BS: Tensor | None, index_M: Tensor, target_M: Tensor | None = None) -> Tensor:
        self.calls.append(Call(ids_BS.clone(), attend_BS, index_M.clone()))
        return torch.zeros(len(index_M))

    def draw(self, ids_BS: Tensor, attend_BS: Tensor | None, index_M: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
        self(ids_BS, attend_BS, index_M)
        return self.inner.draw(ids_BS, attend_BS, index_M, *args)


def bare(policy: Policy, call: Call, backward: bool = False) -> None:
    """Runs the stock model's trunk and head and nothing else. backward: also goes back from a gradient of ones."""
    model, device = policy.llama, policy.device
    with torch.set_grad_enabled(backward):
        hidden_BSD = model.model(
            input_ids=call.ids_BS.to(device), attention_mask=policy._mask(call.attend_BS), use_cache=False
        ).last_hidden_state
        logits_MV = model.lm_head(hidden_BSD.flatten(0, 1)[call.index_M.to(device)])
    if backward:
        logits_MV.backward(torch.ones_like(logits_MV))


def bare_all(policy: Policy, calls: list[Call], backward: bool = False) -> None:
    """Runs `bare` for each of these calls."""
    for call in calls:
        bare(policy, call, backward)


def sampler_calls(shape: Shape, sampler: Standard, anchors: Anchors | None = None) -> list[Call]:
    """Returns the forwards of a rollout in which no row ends early."""
    recorder = Recorder(shape.policy)
    sampler(recorder, shape.prompts, Draws(0, len(shape.prompts)), anchors)
    return recorder.calls


def estimator_calls(shape: Shape, estimator: Estimator, done: Rollout, step: int = 0) -> list[Call]:
    """Returns the forwards of one pass of an estimator over a rollout's rows, in micro-batches."""
    recorder = Recorder(shape.policy)
    noise = estimator.draw(done.trajectory, done.draws, step)
    for part in torch.arange(len(done.reward_B)).split(shape.trainer.micro_batch):
        estimator(recorder, done.trajectory.rows(part), noise.rows(part))
    return recorder.calls


# ---- one update


class Parity:
    """Stands in for a task and its codec. A completion's reward is its row's number, 0 in the groups that are to be equal."""

    def __init__(self, prompts: Prompts, equal_groups: int = 0, group: int = 1) -> None:
        self.ids, self.equal = prompts, equal_groups * group

    def prompts(self, problems: list[Any]) -> Prompts:
        return self.ids.to("cpu")

    def completions(self, trajectory: Trajectory) -> list[str]:
        return [str(r if r >= self.equal else 0) for r in range(len(trajectory.response_BL))]

    def judge(self, problem: Any, completion: str) -> tuple[dict[str, float], bool]:
        return {"row": float(completion)}, False


def rolled_out(shape: Shape, engine: Any, sampler: Standard, equal_groups: int = 0) -> Rollout:
    """Rolls out the shape's batch with the training loop's own function."""
    stub = Parity(shape.prompts, equal_groups, shape.trainer.group_size)
    problems: Any = [SimpleNamespace(key=i) for i in range(len(shape.prompts) // shape.trainer.group_size)]
    actor = Actor(sampler, stub, stub, problems, Earlier(sampler.length) if sampler.needs_anchors else None)
    return rollout(actor, shape.learner(engine), problems, Draws(0, len(shape.prompts)), Run())


class Earlier:
    """Stands in for a static dataset: each row has an anchor, all of whose tokens may be fixed."""

    def __init__(self, length: int) -> None:
        self.length = length

    def anchors(self, problem_keys: list[str], choose: str, draws: Draws, right: bool = False) -> Anchors:
        tokens_BL = torch.full((len(problem_keys), self.length), 5)
        return Anchors(tokens_BL, torch.ones_like(tokens_BL, dtype=torch.bool), -draws.uniform("anchors", 0, self.length))

    def covers(self, problem_key: str) -> bool:
        return True


def one_update(shape: Shape, engine: Any, sampler: Standard | None = None) -> None:
    """Runs a rollout and its inner updates as stp.train does."""
    done = rolled_out(shape, engine, sampler or shape.sampler)
    update(shape.learner(engine), done, Run())


def bare_update(shape: Shape, rollout_calls: list[Call], score_calls: list[list[Call]]) -> None:
    """Runs only the passes that an update cannot avoid. score_calls: the micro-batches of each mask set.

    These are the rollout's forwards, theta_old's on each mask set after the first, the reference's on each set, and a forward
    and backward for each inner update.
    """
    references = score_calls if shape.objective.needs_reference else []
    for calls in [rollout_calls, *score_calls[1:], *references]:
        bare_all(shape.policy, calls)
    for inner in range(shape.trainer.inner_updates):
        bare_all(shape.policy, score_calls[inner % len(score_calls)], backward=True)
        shape.policy.zero_grad()


def plain_update(shape: Shape, engine: Any) -> None:
    """Does the published loops' work for one update."""
    trainer = shape.trainer
    trajectory = shape.plain_rollout()
    reward_B = torch.arange(float(len(shape.prompts)))
    advantage_B = shape.objective.advantages(reward_B, trainer.group_size)
    draws = Draws(0, len(shape.prompts))
    done = Rollout([], trajectory.to("cpu"), [], [], reward_B, advantage_B, reward_B >= 0, reward_B > 0, draws)
    plain.update(shape.learner(engine), done)


# ---- the items


def sampler_item(shape: Shape, engine: Any, repeats: int) -> Iterator[Row]:
    """Compares a rollout with its limit and with the published loop."""
    calls = sampler_calls(shape, shape.sampler)
    variants: dict[str, Callable[[], Any]] = {
        "limit": partial(bare_all, shape.policy, calls),
        "stp": shape.rollout,
        "plain": shape.plain_rollout,
    }
    turns = take_turns(variants, repeats, shape.device)
    yield turns.row("sampler", shape.name, ("sampler", "its limit"), ("stp", "limit"), shape.target)
    yield turns.row("sampler", shape.name, ("published loop", "the same limit"), ("plain", "limit"))
    yield turns.row("sampler", shape.name, ("sampler", "published loop"), ("stp", "plain"))


def adaptive_item(shape: Shape, engine: Any, repeats: int) -> Iterator[Row]:
    """Compares a rollout by threshold with its limit and with the schedule. Rows leave it one after the other.

    Its limit is the forwards of the rows that were still alive, with the head at the open positions of their active blocks. tau
    is the median confidence of the schedule's draws, because a model with random weights is never sure.
    """
    tau = float(shape.rollout().logp_BL.median().exp())
    sampler = replace(shape.sampler, reveal="threshold", tau=tau)
    calls, done = sampler_calls(shape, sampler), shape.rollout(sampler)
    variants: dict[str, Callable[[], Any]] = {
        "limit": partial(bare_all, shape.policy, calls),
        "threshold": partial(shape.rollout, sampler),
        "schedule": shape.rollout,
    }
    turns = take_turns(variants, repeats, shape.device)
    counts = f"rows of {int(done.nfe_B.min())} to {int(done.nfe_B.max())} forwards"
    yield turns.row("adaptive", shape.name, (f"sampler by threshold, {counts}", "its limit"), ("threshold", "limit"), 1.15)
    over = f"schedule, {shape.sampler.steps} forwards"
    yield turns.row("adaptive", shape.name, (f"sampler by threshold, {counts}", over), ("threshold", "schedule"))


def update_item(shape: Shape, engine: Any, repeats: int) -> Iterator[Row]:
    """Compares an update with its unavoidable passes and with the published loops: with shared masks, then with fresh ones."""
    for fresh in (False, True):
        this = replace(shape, trainer=replace(shape.trainer, fresh_masks=fresh))
        done = rolled_out(this, engine, this.sampler)
        calls = sampler_calls(this, this.sampler)
        sets = this.trainer.inner_updates if fresh else 1
        scored = [estimator_calls(this, this.estimator, done, step) for step in range(sets)]
        variants: dict[str, Callable[[], Any]] = {
            "limit": partial(bare_update, this, calls, scored),
            "stp": partial(one_update, this, engine),
            "plain": partial(plain_update, this, engine),
        }
        turns = take_turns(variants, repeats, this.device)
        what = "update, new masks" if fresh else "update"
        target = (1.2, shape.published) if not fresh else (None, None)
        yield turns.row("update", this.name, (what, "unavoidable passes"), ("stp", "limit"), target[0])
        yield turns.row("update", this.name, (what, "published loops"), ("stp", "plain"), target[1])
        yield turns.row("update", this.name, ("published loops", "the same passes"), ("plain", "limit"))


def memory_item(shape: Shape, engine: Any, repeats: int) -> Iterator[Row]:
    """Compares the logits that exist at once, at most, with one chunk of logits in float32, in bytes."""
    kept, chunk = shape.policy.logit_chunk, 16
    shape.policy.logit_chunk = chunk
    for rows, length in ((2, 32), (2, 64), (4, 64)):
        this = shape.with_rows(rows)
        sampler = replace(shape.sampler, length=length, block_length=length // 2, steps=2)
        yield row_of_bytes(shape, f"sampler, {rows} rows, L={length}", partial(this.rollout, sampler), chunk)
        trajectory = this.rollout(sampler).to("cpu")
        noise = OneStep().draw(trajectory, Draws(0, rows))

        def gradient(trajectory: Trajectory = trajectory, noise: Any = noise) -> None:
            OneStep()(shape.policy, trajectory, noise).token_BL.sum().backward()
            shape.policy.zero_grad()

        yield row_of_bytes(shape, f"gradient, {rows} rows, L={length}", gradient, chunk)
    positions = 2 * (shape.prompts.ids_BP.shape[1] + 32)
    short = replace(shape.with_rows(2), sampler=replace(shape.sampler, length=32, block_length=16, steps=2))
    yield row_of_bytes(shape, f"published sampler, 2 rows, L=32 ({positions} positions)", short.plain_rollout, chunk)
    shape.policy.logit_chunk = kept


def row_of_bytes(shape: Shape, what: str, work: Callable[[], Any], chunk: int) -> Row:
    """Returns a line of memory_item."""
    vocabulary = shape.policy.llama.config.vocab_size
    with Live(shape.policy, vocabulary) as live:
        work()
    ratio = live.most["logits"] / (4 * vocabulary * chunk)
    megabytes = live.most["logits"] / 2**20
    name = {"item": "memory", "shape": shape.name, "what": what, "over": f"a chunk of {chunk} positions"}
    return {**name, "ratio": spread([ratio]), "target": None, "logits_mb": megabytes}


def growth_item(shape: Shape, engine: Any, repeats: int) -> Iterator[Row]:
    """Varies batch, L and N of a rollout, and K and G of an update. Compares the seconds with the shape's own."""
    sampler, rows, trainer = shape.sampler, len(shape.prompts), shape.trainer
    base, G = shape.with_rows(rows), trainer.group_size
    variants: dict[str, Callable[[], Any]] = {
        "rollout": base.rollout,
        f"rollout, batch {rows // 2}": shape.with_rows(rows // 2).rollout,
        f"rollout, batch {rows * 2}": shape.with_rows(rows * 2).rollout,
        f"rollout, L={sampler.length * 2}": partial(base.rollout, replace(sampler, length=sampler.length * 2)),
        f"rollout, N={sampler.steps // 2}": partial(base.rollout, replace(sampler, steps=sampler.steps // 2)),
    }
    turns = take_turns(variants, repeats, shape.device)
    for name in list(variants)[1:]:
        yield turns.row("growth", shape.name, (name, "rollout"), (name, "rollout"))
    double = replace(shape.with_rows(rows * 2), trainer=replace(trainer, group_size=G * 2))
    variants = {"update": partial(one_update, shape, engine), f"update, G={G * 2}": partial(one_update, double, engine)}
    for K in (1, shape.estimator.samples * 2):
        other = replace(shape, estimator=replace(shape.estimator, samples=K))
        variants[f"update, K={K}"] = partial(one_update, other, engine)
    turns = take_turns(variants, repeats, shape.device)
    for name in list(variants)[1:]:
        yield turns.row("growth", shape.name, (name, "update"), (name, "update"))


def pruning_item(shape: Shape, engine: Any, repeats: int) -> Iterator[Row]:
    """Compares STP with the standard sampler. The target is the ratio of forwards, which the time should match to 0.02."""
    unpruned = replace(shape.sampler, steps=max(shape.sampler.steps, shape.sampler.length // 2))
    rows = len(shape.prompts)
    anchors = Earlier(unpruned.length).anchors([""] * rows, "first", Draws(0, rows))
    variants: dict[str, Callable[[], Any]] = {"standard": partial(shape.rollout, unpruned)}
    forwards = {}
    for gamma, t_cutoff in ((0.05, 0.0), (0.0, 0.05), (0.05, 0.05), (0.1, 0.1)):
        options = {f.name: getattr(unpruned, f.name) for f in fields(unpruned)}
        sampler, name = Stp(**options, gamma=gamma, t_cutoff=t_cutoff), f"STP gamma={gamma:g} t_cutoff={t_cutoff:g}"
        variants[name] = partial(shape.rollout, sampler, anchors)
        forwards[name] = shape.rollout(sampler, anchors).nfe_run / unpruned.steps
    turns = take_turns(variants, repeats, shape.device)
    for name, share in forwards.items():
        over = f"standard, {unpruned.steps} forwards"
        yield turns.row("pruning", shape.name, (name, over), (name, "standard"), share)


# the most TFLOP/s of a card in dense bfloat16, by a part of its name
PEAKS = {"A100": 312.0, "A800": 312.0, "H100": 989.0, "H200": 989.0, "H800": 989.0}


def forward_item(shape: Shape, engine: Any, repeats: int) -> Iterator[Row]:
    """Times a rollout's first forward, over its operations at the card's peak (at 1 TFLOP/s if that is unknown)."""
    policy, length = shape.policy, shape.sampler.length
    mask_BL = torch.full((len(shape.prompts), length), policy.mask_id, device=shape.device)
    ids_BS = torch.cat([shape.prompts.ids_BP, mask_BL], dim=1)
    rows, S = ids_BS.shape
    index_BW = S * torch.arange(rows)[:, None] + torch.arange(S - length, S - length + shape.sampler.block_length)
    call = Call(ids_BS, None, index_BW.flatten())
    with Live(policy, policy.llama.config.vocab_size) as live:
        bare(policy, call)
    name = torch.cuda.get_device_name() if shape.device.type == "cuda" else ""
    peak = next((most for part, most in PEAKS.items() if part in name), 1.0)
    turns = take_turns({"forward": partial(bare, policy, call)}, repeats, shape.device)
    teraflop, seconds = live.operations / 1e12, turns.seconds["forward"]
    over = f"{teraflop:.3g} TFLOP at {peak:g} TFLOP/s"
    row = turns.row("forward", shape.name, (f"one forward, {rows} x {S}", over), ("forward", "forward"))
    yield row | {"ratio": spread([s * peak / teraflop for s in seconds])}


PAPER_UPDATES, PAPER_SECONDS = 4000, {"standard": 126_045, "stp": 98_537}  # the paper's optimizer updates on MATH, on A800s


def paper_item(shape: Shape, engine: Any, repeats: int) -> Iterator[Row]:
    """Times one update of the paper's settings by the standard sampler and by STP, and gives the hours of the paper's run."""
    if shape.name not in EIGHT_BILLION:
        return
    plainly = {f.name: getattr(shape.sampler, f.name) for f in fields(Standard)}
    samplers: dict[str, Standard] = {"standard": shape.sampler, "stp": Stp(**plainly)}
    seconds = {}
    for name, sampler in samplers.items():
        started = time.perf_counter()
        one_update(shape, engine, sampler)
        if shape.device.type == "cuda":
            torch.cuda.synchronize()
        seconds[name] = time.perf_counter() - started
    once = {"item": "paper", "shape": shape.name, "target": None, "cpu_s": 0.0}
    ratio = spread([seconds["stp"] / seconds["standard"]])
    yield {**once, "what": "update, sampler=stp", "over": "sampler=standard", "ratio": ratio, "wall_s": seconds["stp"]}
    for name, spent in seconds.items():
        whole = spent * PAPER_UPDATES / shape.trainer.inner_updates
        what = f"{PAPER_UPDATES:,} optimizer updates, sampler={name}: {whole / 3600:.1f} h"
        over = f"the paper's {PAPER_SECONDS[name]:,} s"
        yield {**once, "what": what, "over": over, "ratio": spread([whole / PAPER_SECONDS[name]]), "wall_s": spent}


def savings_item(shape: Shape, engine: Any, repeats: int) -> Iterator[Row]:
    """Compares, for each lossless saving, the work with it and the same work without it."""
    for name, work, plainly in savings(shape, engine):
        turns = take_turns({"with": work, "without": plainly}, repeats, shape.device)
        yield turns.row("savings", shape.name, (name, "without"), ("with", "without"))


def savings(shape: Shape, engine: Any) -> Iterator[tuple[str, Callable[[], Any], Callable[[], Any]]]:
    """Yields (what is saved, the work with the saving, the work without it)."""
    policy, trainer, rows = shape.policy, shape.trainer, len(shape.prompts)
    early, never = (partial(shape.sampler, Ending(policy, eos), shape.prompts, Draws(0, rows)) for eos in (3, NEVER))
    yield "rows that ended leave: a third of them after each block", early, never

    learn = replace(shape, objective=replace(shape.objective, beta=0.0))
    every, some = (rolled_out(shape, engine, shape.sampler, equal) for equal in (0, 1))

    def inner_updates(done: Rollout, scored: bool) -> None:
        policy.dropout = float(scored)  # dropout > 0 makes theta_old take a forward of its own (no layer here drops)
        update(learn.learner(engine), done, Run())
        policy.dropout = 0.0

    yield "theta_old from the first inner update", partial(inner_updates, every, False), partial(inner_updates, every, True)
    if trainer.prompts_per_update > 1:
        name = f"1 of {trainer.prompts_per_update} groups teaches nothing and is not trained"
        yield name, partial(inner_updates, some, False), partial(inner_updates, every, False)

    noise = OneStep().draw(every.trajectory, every.draws)
    shared, apart = (partial(masked_log_probs, policy, every.trajectory, noise, share) for share in (True, False))
    yield "one-step estimate: one forward for a prompt's completions", torch.no_grad()(shared), torch.no_grad()(apart)

    width = shape.prompts.ids_BP.shape[1]
    width_B = torch.linspace(width // 5, width, rows).long()[Draws(0, rows).uniform("order", 0).argsort()]
    uneven = Prompts(shape.prompts.ids_BP.to("cpu"), torch.arange(width) >= width - width_B[:, None])
    start, third = shape.sampler.start(None, Draws(0, rows)), -(-rows // 3)

    def as_they_come() -> None:
        for part in torch.arange(rows).split(third):
            shape.sampler.run(policy, uneven.rows(part).to(shape.device), start.rows(part), Draws(0, rows).select(part))

    sorted_by_width = partial(generate, policy, shape.sampler, Batch(uneven, Draws(0, rows)), third)
    yield "prompts of a fifth to all of the width, three batches by width", sorted_by_width, as_they_come


def compile_item(shape: Shape, engine: Any, repeats: int) -> Iterator[Row]:
    """Compares model.compile with plain layers: a rollout, and a likelihood with its gradient. A CPU needs a C++ compiler."""
    compiled = replace(shape, policy=copy.deepcopy(shape.policy))
    compile_layers(compiled.policy)
    done = rolled_out(shape, engine, shape.sampler)
    noise = shape.estimator.draw(done.trajectory, done.draws)

    def gradient(policy: Policy) -> None:
        shape.estimator(policy, done.trajectory, noise).token_BL.sum().backward()
        policy.zero_grad()

    for what, work, plainly in (
        ("rollout, compiled", compiled.rollout, shape.rollout),
        ("likelihood and gradient, compiled", partial(gradient, compiled.policy), partial(gradient, shape.policy)),
    ):
        work()  # compiles
        turns = take_turns({"with": work, "without": plainly}, repeats, shape.device)
        yield turns.row("compile", shape.name, (what, "not compiled"), ("with", "without"))


def cache_item(shape: Shape, engine: Any, repeats: int) -> Iterator[Row]:
    """Compares the time of sampler.cache with the exact sampler's. For the tiny bases, also measures how far results drift."""
    caches: dict[str, Callable[[], Any]] = {
        cache: partial(shape.rollout, replace(shape.sampler, cache=cache)) for cache in ("none", "prefix", "dual")
    }
    turns = take_turns(caches, repeats, shape.device)
    for cache in ("prefix", "dual"):
        yield turns.row("cache", shape.name, (f"cache={cache}", "cache=none"), (cache, "none"))
    for base in SCHEMAS["task"] if shape.name == "tiny" else ():
        for cache in ("prefix", "dual"):
            for what, values in drift(base, cache, shape.device).items():
                yield {
                    "item": "cache",
                    "shape": base,
                    "what": f"cache={cache}: {what}",
                    "over": "",
                    "ratio": spread(values),
                } | BARE


BARE: Row = {"target": None, "cpu_s": 0.0, "wall_s": 0.0}  # a line that has no time
DRIFT_BATCHES, DRIFT_ROWS = 4, 64


def drift(base: str, cache: str, device: torch.device) -> dict[str, list[float]]:
    """Compares greedy sampling with and without a cache on validation problems of a task. Each list has a value per batch.

    It compares tokens up to the exact sampler's EOS, whole completions, and accuracy. It also compares forward by forward, both
    from the exact sampler's states: how often the best token is the same, and how far its log-probability is off.
    """
    task: Any = SCHEMAS["task"][base]()
    policy, tokenizer = load_policy(Model(base=base), trainable=False)
    policy.to(device)
    codec = Codec(tokenizer, "", sys.maxsize)
    found: dict[str, list[float]] = {}
    for i in range(DRIFT_BATCHES):
        problems = task.problems("validation")[i * DRIFT_ROWS : (i + 1) * DRIFT_ROWS]
        prompts, draws, beside = codec.prompts(problems).to(device), Draws(i, len(problems)), Beside(policy)
        exact = Standard(48, 40, 24, 0.0)(policy, prompts, draws).to("cpu")
        kept = Standard(48, 40, 24, 0.0, cache=cache)(policy, prompts, draws).to("cpu")
        Standard(48, 40, 24, 0.0, cache=cache)(beside, prompts, draws)
        same_BL = exact.response_BL == kept.response_BL
        right = [[task.solves(p, text) for p, text in zip(problems, codec.completions(t), strict=True)] for t in (exact, kept)]
        values = {
            "tokens the same": same_BL[exact.until_eos_BL],
            "completions the same": (same_BL | ~exact.until_eos_BL).all(dim=1),
            "accuracy of the exact sampler": torch.tensor(right[0]),
            "accuracy": torch.tensor(right[1]),
            "best token the same, in the exact states": torch.cat(beside.same),
            "its log-probability off by (nats), there": torch.cat(beside.off),
        }
        for what, value in values.items():
            found.setdefault(what, []).append(float(value.float().mean()))
    return found


class Beside(Denoiser):
    """The exact policy, which also records how the approximation of its `within` would have answered."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.mask_id, self.eos_id = policy, policy.mask_id, policy.eos_id
        self.same, self.off = list[Tensor](), list[Tensor]()

    def __call__(self, *args: Any) -> Tensor:
        return self.policy(*args)

    def within(self, begin: int, end: int) -> Any:
        block = self.policy.within(begin, end)

        def draw(ids_BS: Tensor, attend_BS: Tensor | None, index_M: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
            first = not block.kept.layers
            token_M, confidence_M = self.policy.draw(ids_BS, attend_BS, index_M)
            logits_MV = block(ids_BS, attend_BS, index_M).float()
            logits_MV[:, self.mask_id] = -torch.inf
            logp_M = logits_MV.log_softmax(dim=1).gather(1, token_M[:, None]).squeeze(1)
            if not first:  # the first forward is exact
                self.same.append(logits_MV.argmax(dim=1) == token_M)
                self.off.append((logp_M - confidence_M.log()).abs())
            return token_M, confidence_M

        return SimpleNamespace(draw=draw, mask_id=self.mask_id, eos_id=self.eos_id)


class Ending(Denoiser):
    """A denoiser that draws only `TOKEN` in the first third of the rows, which end early if `TOKEN` is the EOS."""

    TOKEN = 3

    def __init__(self, inner: Policy, eos_id: int) -> None:
        self.inner, self.mask_id, self.eos_id = inner, inner.mask_id, eos_id

    def __call__(self, *args: Any) -> Tensor:
        return self.inner(*args)

    def draw(self, ids_BS: Tensor, attend_BS: Tensor | None, index_M: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
        token_M, confidence_M = self.inner.draw(ids_BS, attend_BS, index_M, *args)
        return token_M.masked_fill(index_M < -(-len(ids_BS) // 3) * ids_BS.shape[1], self.TOKEN), confidence_M


def ranks_item(shape: Shape, engine: Any, repeats: int) -> Iterator[Row]:
    """Compares three updates of stp.train on two ranks and on one, by wall clock, a thread each. Only for the shipped base."""
    if shape.name != "tiny" or shape.device.type == "cuda":
        return
    wall: dict[str, list[float]] = {"1 rank": [], "2 ranks": []}
    for _ in range(min(repeats, 3)):
        for name, spent in wall.items():
            spent.append(trained_seconds(int(name[0])))
    turns = Turns(wall, wall, by_wall=True)
    yield turns.row("ranks", shape.name, ("2 ranks, wall clock", "1 rank"), ("2 ranks", "1 rank"))


def trained_seconds(ranks: int) -> float:
    """Returns the wall-clock seconds that three updates of stp.train take."""
    launched = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    environment = {k: v for k, v in os.environ.items() if k not in launched} | {"OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
        command += ["-m", "stp.train", "sampler=standard", "logging=files", "trainer.updates=3", "trainer.eval_size=0"]
        command += ["trainer.probe_every=0"]
        command += [f"hydra.run.dir={folder}/run"]
        subprocess.run(command, check=True, env=environment, capture_output=True, cwd=folder)
        return json.loads((Path(folder) / "run" / "summary.json").read_text(encoding="utf-8"))["time"]["train_s"]


# ---- the output

ITEMS: dict[str, Callable[[Shape, Any, int], Iterator[Row]]] = {
    "forward": forward_item,
    "sampler": sampler_item,
    "adaptive": adaptive_item,
    "update": update_item,
    "memory": memory_item,
    "growth": growth_item,
    "ranks": ranks_item,
    "pruning": pruning_item,
    "savings": savings_item,
    "compile": compile_item,
    "cache": cache_item,
    "paper": paper_item,
}


def table(rows: list[Row]) -> Table:
    """Returns the result as a table to print."""
    made = Table("item", "shape", "what", "over", "ratio [least, greatest]", "target", "seconds (wall)")
    for r in rows:
        ratio = "{median:.3f} [{min:.3f}, {max:.3f}]".format(**r["ratio"])
        seconds = f"{r['logits_mb']:.1f} MB" if "logits_mb" in r else f"{r['cpu_s']:.2f} ({r['wall_s']:.2f})"
        target = "" if r["target"] is None else f"{r['target']:.3f}"
        made.add_row(r["item"], r["shape"], r["what"], r["over"], ratio, target, seconds)
    return made


def machine(options: argparse.Namespace) -> Row:
    """Describes where and how the figures were measured."""
    return {
        "device": torch.cuda.get_device_name() if options.device == "cuda" else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": options.threads,
        "torch": torch.__version__,
        "load_average": os.getloadavg(),
        "repeats": options.repeats,
        "measured": "processor time, one thread" if options.device == "cpu" and options.threads == 1 else "wall clock",
        "started": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }


def main() -> None:
    """Runs the items on the shapes, writes bench.json after each line, and prints a table at the end."""
    parser = argparse.ArgumentParser(prog="python -m stp.bench", description=__doc__)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["tiny", "llada"], help="default: tiny llada")
    parser.add_argument("--items", nargs="+", choices=ITEMS, default=list(ITEMS), help="default: all")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each comparison (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--to", type=Path, default=Path("outputs/bench"), help="folder to write (default: %(default)s)")
    options = parser.parse_args()
    if options.repeats < 1 or options.threads < 1:
        parser.error("--repeats and --threads must be at least 1")
    torch.set_num_threads(options.threads)
    bootstrap()
    about, rows, console = (
        machine(options),
        list[Row](),
        Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 180),
    )
    options.to.mkdir(parents=True, exist_ok=True)
    for name in options.shapes:
        shape = SHAPES[name](torch.device(options.device))
        engine = engine_of(shape)
        for item in options.items:
            began = time.perf_counter()
            for found in ITEMS[item](shape, engine, options.repeats):
                rows.append(found)
                write_atomically(options.to / "bench.json", json.dumps({"machine": about, "rows": rows}, indent=1) + "\n")
            console.print(f"{name}: {item} measured in {time.perf_counter() - began:.0f} s")
    console.print(table(rows))
    console.print(", ".join(f"{k} {v}" for k, v in about.items()))
