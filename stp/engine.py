"""DeepSpeed, and nothing else here imports it: process group, ZeRO stages, gradient accumulation, checkpoints."""

import contextlib
import math
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stp.errors import require, require_choice


@dataclass
class Zero:
    """DeepSpeed ZeRO."""

    stage: int = field(
        default=0, metadata={"help": "0 (off), 1 (optimizer), 2 (+ gradients), 3 (+ weights) sharded over ranks"}
    )
    offload: str = field(default="none", metadata={"help": "none | cpu: keep the optimizer's state in host memory"})

    def __post_init__(self) -> None:
        require(self.stage in (0, 1, 2, 3), "zero.stage", self.stage, "ZeRO has stages 0, 1, 2 and 3")
        require_choice("zero.offload", self.offload, ("none", "cpu"))
        require(self.offload == "none" or self.stage > 0, "zero.offload", self.offload, "offload needs zero=stage1 or higher")


@dataclass
class Optimizer:
    """AdamW, linear warm-up to a constant rate."""

    lr: float = field(default=3e-6, metadata={"help": "learning rate after warm-up"})
    beta1: float = field(default=0.9, metadata={"help": "decay of the mean of gradients"})
    beta2: float = field(default=0.99, metadata={"help": "decay of the mean of squared gradients"})
    weight_decay: float = field(default=0.1, metadata={"help": "decoupled weight decay"})
    warmup: int = field(default=0, metadata={"help": "optimizer updates of linear warm-up"})
    max_grad_norm: float = field(default=0.2, metadata={"help": "gradients are scaled down to this norm; 0 turns clipping off"})

    def __post_init__(self) -> None:
        require(0 < self.lr < 1, "optimizer.lr", self.lr, "the learning rate must lie in (0, 1)")
        for name in ("beta1", "beta2"):
            require(0 <= getattr(self, name) < 1, f"optimizer.{name}", getattr(self, name), "Adam's betas lie in [0, 1)")
        require(
            0 <= self.weight_decay < math.inf, "optimizer.weight_decay", self.weight_decay, "weight decay cannot be negative"
        )
        require(self.warmup >= 0, "optimizer.warmup", self.warmup, "a number of updates cannot be negative")
        require(0 <= self.max_grad_norm < math.inf, "optimizer.max_grad_norm", self.max_grad_norm, "a norm cannot be negative")


def bootstrap() -> None:
    """Join the process group (idempotent): nccl on GPUs, gloo on CPUs, alone when no launcher set the environment."""
    env = os.environ
    if "RANK" not in env:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        env.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    cuda = torch.cuda.is_available()
    if not cuda:
        env.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed
    import deepspeed.ops

    if cuda:
        torch.cuda.set_device(int(env["LOCAL_RANK"]))
    else:
        deepspeed.ops.__compatible_ops__ = {}  # no compiled shared-memory op, and no compiler probe of minutes
    if not deepspeed.comm.is_initialized():
        deepspeed.init_distributed("nccl" if cuda else "gloo", verbose=False)


def rank() -> int:
    """This process's rank, 0 before `bootstrap`."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def world_size() -> int:
    """Number of ranks, 1 before `bootstrap`."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def device() -> torch.device:
    """This rank's device."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def barrier() -> None:
    """Wait for every rank."""
    if world_size() > 1:
        torch.distributed.barrier()


def broadcast(value: Any) -> Any:
    """Rank 0's value, on every rank."""
    if world_size() == 1:
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


def gather(value: Any) -> list[Any]:
    """Every rank's value, in rank order, on every rank."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    torch.distributed.all_gather_object(values, value)
    return values


class Engine:
    """A policy under DeepSpeed. Calling it runs the policy; `step` applies the accumulated gradients."""

    def __init__(self, policy: nn.Module, optimizer: Optimizer, zero: Zero, bfloat16: bool = False) -> None:
        import deepspeed

        trainable = [p for p in policy.parameters() if p.requires_grad]
        self.options, self.stage = optimizer, zero.stage
        self.updates_done = 0
        adamw = torch.optim.AdamW(
            trainable,
            lr=optimizer.lr,
            betas=(optimizer.beta1, optimizer.beta2),
            weight_decay=optimizer.weight_decay,
            fused=zero.offload == "none",
        )
        zero_config: dict[str, Any] = {"stage": zero.stage}
        if zero.offload == "cpu":
            zero_config["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
        config = {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            "gradient_clipping": optimizer.max_grad_norm,
            "zero_optimization": zero_config,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,  # offload keeps torch's AdamW: nothing to compile
            "bf16": {"enabled": bfloat16},
            "steps_per_print": 2**31 - 1,
        }
        self.deepspeed, self.adamw, _, _ = deepspeed.initialize(model=policy, optimizer=adamw, config=config)

    @property
    def policy(self) -> Any:
        """The policy itself."""
        return self.deepspeed.module

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.deepspeed(*args, **kwargs)

    @property
    def mask_id(self) -> int:
        return self.policy.mask_id

    @property
    def eos_id(self) -> int:
        return self.policy.eos_id

    @contextlib.contextmanager
    def generation(self) -> Iterator[Any]:
        """The policy for rollouts: at stage 3 its weights are gathered, so that ranks may run unequal numbers of forwards."""
        if self.stage < 3:
            yield self.policy
            return
        from deepspeed.runtime.zero import unwrap_model_for_generation

        with unwrap_model_for_generation(self.deepspeed) as policy:
            yield policy

    def backward(self, loss: Tensor, last: bool) -> None:
        """Accumulate gradients; `last` marks the final micro-batch of the update."""
        self.deepspeed.set_gradient_accumulation_boundary(last)
        self.deepspeed.backward(loss, scale_wrt_gas=False)
        if not last:
            self.deepspeed.step()

    def step(self) -> tuple[float, float]:
        """Clip, apply one optimizer update, clear the gradients. Returns (gradient norm before clipping, learning rate)."""
        lr = self.options.lr * min(1.0, (self.updates_done + 1) / (self.options.warmup + 1))
        for group in self.deepspeed.optimizer.param_groups:
            group["lr"] = lr
        norm = None
        if self.stage == 0:
            gradients = [p.grad for p in self.policy.parameters() if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients)
        self.deepspeed.step()
        if norm is None:
            norm = self.deepspeed.get_global_grad_norm()
        self.updates_done += 1
        return float(norm) if norm is not None else 0.0, lr

    def save(self, folder: Path, tag: str) -> None:
        """Weights (trainable ones) and optimizer state of every rank, under folder/tag."""
        self.deepspeed.save_checkpoint(str(folder), tag=tag, save_latest=False, exclude_frozen_parameters=True)

    def load(self, folder: Path, tag: str, updates_done: int) -> None:
        """Restore what `save` wrote."""
        self.deepspeed.load_checkpoint(str(folder), tag=tag, load_module_strict=False)
        self.updates_done = updates_done

    @contextlib.contextmanager
    def full_weights(self) -> Iterator[Any]:
        """The policy with every trainable weight whole on rank 0 (gathers at stage 3), for export."""
        if self.stage < 3:
            yield self.policy
            return
        import deepspeed

        trainable = [p for p in self.policy.parameters() if p.requires_grad]
        with deepspeed.zero.GatheredParameters(trainable, modifier_rank=None):
            yield self.policy

    def destroy(self) -> None:
        """Free the engine; the process group stays for the next job of a sweep."""
        self.deepspeed.destroy()
