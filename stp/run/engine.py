"""Runs DeepSpeed, which is imported nowhere else: process group, ZeRO stages, gradient accumulation, checkpoints."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from stp.errors import fail, require, require_choice
from stp.run import faults
from stp.run.ranks import interruptible, rank, world_size


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
    """AdamW with a linear warm-up to a learning rate, which stays or falls linearly to zero."""

    lr: float = field(default=3e-6, metadata={"help": "learning rate after warm-up"})
    beta1: float = field(default=0.9, metadata={"help": "decay of the mean of gradients"})
    beta2: float = field(default=0.99, metadata={"help": "decay of the mean of squared gradients"})
    weight_decay: float = field(default=0.1, metadata={"help": "decoupled weight decay"})
    warmup: int = field(default=0, metadata={"help": "optimizer updates of linear warm-up"})
    decay: int = field(
        default=0, metadata={"help": "optimizer updates after which the rate has fallen linearly from lr to 0; 0: it stays"}
    )
    max_grad_norm: float = field(default=0.2, metadata={"help": "gradients are scaled down to this norm; 0 turns clipping off"})

    def __post_init__(self) -> None:
        require(0 < self.lr < 1, "optimizer.lr", self.lr, "the learning rate must lie in (0, 1)")
        for name in ("beta1", "beta2"):
            require(0 <= getattr(self, name) < 1, f"optimizer.{name}", getattr(self, name), "Adam's betas lie in [0, 1)")
        require(
            0 <= self.weight_decay < math.inf, "optimizer.weight_decay", self.weight_decay, "weight decay cannot be negative"
        )
        require(self.warmup >= 0, "optimizer.warmup", self.warmup, "a number of updates cannot be negative")
        rule = "choose 0 (a constant rate), or more updates than optimizer.warmup"
        require(self.decay == 0 or self.decay > self.warmup, "optimizer.decay", self.decay, rule)
        require(0 <= self.max_grad_norm < math.inf, "optimizer.max_grad_norm", self.max_grad_norm, "a norm cannot be negative")

    def rate(self, done: int) -> float:
        """Returns the learning rate of the optimizer update that follows the first `done`."""
        rising = (done + 1) / (self.warmup + 1)
        falling = (self.decay - done) / (self.decay - self.warmup) if self.decay else 1.0
        return self.lr * max(0.0, min(1.0, rising, falling))


MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's moments, by their names in its state
LINEAR = torch.nn.functional.linear  # which DeepSpeed replaces at stage 3, for all models of the process
FILE_BYTES = 2**30  # about the size of a checkpoint's file: rank 0 holds this much in memory while it writes


def mapped(file: Path, option: str = "trainer.resume") -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors of a checkpoint's file by name, one at a time. Raises UserError about `option` for any other file."""
    try:
        with safe_open(file, "pt") as tensors:
            names = tensors.keys()
            for name in names:
                yield name, tensors.get_tensor(name)
    except SafetensorError as error:
        fail(option, file, f"it is no safetensors file ({error}); remove its checkpoint")


def trained_weights(checkpoint: Path) -> dict[str, Tensor]:
    """Returns the weights that `Engine.save` wrote, by their names in the policy, in the precision of its forwards."""
    found: dict[str, Tensor] = {}
    for file in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            dtype = getattr(torch, tensors.metadata()["precision"])
        weights = (item for item in mapped(file, "checkpoint") if item[0].startswith("weight/"))
        found |= {key.partition("/")[2]: value.to(dtype) for key, value in weights}
    return found


class Engine:
    """A policy under DeepSpeed. A call runs the policy, and `step` applies the accumulated gradients."""

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
            "zero_force_ds_cpu_optimizer": False,  # torch's AdamW stays when offloaded: DeepSpeed's would be compiled
            "bf16": {"enabled": bfloat16},
            "steps_per_print": 2**31 - 1,
        }
        self.adamw = adamw
        self.deepspeed, *_ = deepspeed.initialize(model=policy, optimizer=adamw, config=config)
        self.mask_id, self.eos_id = self.policy.mask_id, self.policy.eos_id
        faults.hold(False)

    @property
    def policy(self) -> Any:
        """The policy itself."""
        return self.deepspeed.module

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.deepspeed(*args, **kwargs)

    @contextlib.contextmanager
    def generation(self) -> Iterator[Any]:
        """Yields the policy for rollouts. Stage 3 gathers its weights, so ranks may run different numbers of forwards."""
        if self.stage < 3:
            with interruptible(self.policy):
                yield self.policy
            return
        from deepspeed.runtime.zero import unwrap_model_for_generation

        with unwrap_model_for_generation(self.deepspeed) as policy, interruptible(policy):
            yield policy

    def backward(self, loss: Tensor, last: bool) -> None:
        """Accumulates the gradients of a micro-batch. `last` marks the final one of the update."""
        faults.hold(True)  # from here to the end of the update no state can be saved
        self.deepspeed.set_gradient_accumulation_boundary(last)
        self.deepspeed.backward(loss, scale_wrt_gas=False)
        if not last:
            self.deepspeed.step()

    def step(self) -> tuple[float, float]:
        """Clips the gradients, applies one optimizer update and clears the gradients. Returns (norm before clipping, rate).

        If the norm is not finite, gradients are cleared without being applied, and the norm is returned as NaN. All ranks share
        one norm, so they do the same.
        """
        lr = self.options.rate(self.updates_done)
        for group in self.deepspeed.optimizer.param_groups:
            group["lr"] = lr
        norm = None
        if self.stage == 0:
            gradients = [p.grad for p in self.policy.parameters() if p.grad is not None]
            norm = float(torch.nn.utils.get_total_norm(gradients))
            if not math.isfinite(norm):
                self.deepspeed.zero_grad()
                return math.nan, lr
        self.deepspeed.step()
        if norm is None:
            if self.deepspeed.optimizer.overflow:  # ZeRO has looked itself and applied nothing
                return math.nan, lr
            norm = float(self.deepspeed.get_global_grad_norm() or 0.0)
        self.updates_done += 1
        return norm, lr

    def save(self, folder: Path, tag: str) -> None:
        """Writes the trained weights and AdamW's moments under folder/tag, whole and in float32, for any ZeRO stage to read.

        Every rank takes part because each may hold a share. Rank 0 writes about a GiB at a time.
        """
        trained, batch, files = self.trained(), dict[str, Tensor](), 0
        precision = {"precision": str(trained[0][1].dtype).removeprefix("torch.")}  # the precision of the forwards
        for name, parameter in trained:
            for kind in ("weight", *MOMENTS):
                whole = self._whole(parameter, kind)
                if rank() == 0:
                    batch[f"{kind}/{name}"] = whole.detach().float().cpu().contiguous()
            if sum(tensor.nbytes for tensor in batch.values()) >= FILE_BYTES:
                save_file(batch, folder / tag / f"tensors-{files:05}.safetensors", precision)
                batch, files = {}, files + 1
        if batch:
            save_file(batch, folder / tag / f"tensors-{files:05}.safetensors", precision)

    def load(self, folder: Path, tag: str, updates_done: int) -> None:
        """Restores what `save` wrote at any ZeRO stage and on any number of ranks.

        Raises:
            UserError: the tensors do not belong to this policy.
        """
        optimizer = self.deepspeed.optimizer
        if self.stage == 3:
            optimizer.checkpoint_event_prologue()
        self._begin_moments(updates_done)
        missing = {f"{kind}/{name}": (parameter, kind) for name, parameter in self.trained() for kind in ("weight", *MOMENTS)}
        for file in sorted((folder / tag).glob("*.safetensors")):
            for key, value in mapped(file):
                parameter, kind = missing.pop(key, (None, ""))
                if parameter is None or value.shape != getattr(parameter, "ds_shape", parameter.shape):
                    fail("trainer.resume", file, f"{key} of shape {tuple(value.shape)} is no tensor of this model")
                self._restore(parameter, kind, value)
        require(not missing, "trainer.resume", folder / tag, f"{len(missing)} tensors are missing ({min(missing, default='')})")
        if self.stage == 3:
            for group in range(len(optimizer.fp32_partitioned_groups_flat)):
                optimizer._reassign_or_swap_out_partitioned_parameters(group)
            optimizer.checkpoint_event_epilogue()
        elif self.stage:
            optimizer.update_lp_params()
        self.updates_done = updates_done

    def trained(self) -> list[tuple[str, nn.Parameter]]:
        """Returns the trainable parameters by name, in the same order on every rank."""
        return [(name, parameter) for name, parameter in self.policy.named_parameters() if parameter.requires_grad]

    def _whole(self, parameter: nn.Parameter, kind: str) -> Tensor:
        """Returns a parameter's float32 weight or moment. From ZeRO stage 1 on it is gathered from all ranks."""
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        if self.stage == 0:
            return parameter if kind == "weight" else self.adamw.state[parameter][kind]
        return safe_get_full_fp32_param(parameter) if kind == "weight" else safe_get_full_optimizer_state(parameter, kind)

    def _restore(self, parameter: Any, kind: str, value: Tensor) -> None:
        """Puts a float32 weight or moment back. From ZeRO stage 1 on this is only this rank's share."""
        from deepspeed import utils

        if self.stage == 0:
            (parameter.data if kind == "weight" else self.adamw.state[parameter][kind]).copy_(value)
            return
        if self.stage == 3:  # DeepSpeed's function for whole tensors forgets that shares are padded to equal size
            size = parameter.ds_tensor.numel()
            value = nn.functional.pad(value.flatten(), (0, size * world_size() - value.numel()))[size * rank() :][:size]
            into, moment = utils.safe_set_local_fp32_param, utils.safe_set_local_optimizer_state
        else:
            into, moment = utils.safe_set_full_fp32_param, utils.safe_set_full_optimizer_state
        into(parameter, value) if kind == "weight" else moment(parameter, value, kind)

    def _begin_moments(self, updates_done: int) -> None:
        """Gives AdamW the state that it would make in its first update, with the step count after `updates_done`."""
        optimizer = self.deepspeed.optimizer
        if self.stage == 0:
            held = [parameter for _, parameter in self.trained()]
        elif self.stage == 3:
            held = optimizer.fp32_partitioned_groups_flat
        else:
            held = optimizer.single_partition_of_fp32_groups
        for tensor in held:
            step = torch.tensor(float(updates_done), device=tensor.device if self.adamw.defaults["fused"] else "cpu")
            self.adamw.state[tensor] = {"step": step} | {kind: torch.zeros_like(tensor).detach() for kind in MOMENTS}
        if self.stage in (1, 2):
            optimizer._lazy_init_hp_params_optimizer_state()

    @contextlib.contextmanager
    def full_weights(self) -> Iterator[Any]:
        """Yields the policy with every trainable weight whole on rank 0, for export. At stage 3 it gathers them."""
        if self.stage < 3:
            yield self.policy
            return
        import deepspeed

        trainable = [p for p in self.policy.parameters() if p.requires_grad]
        with deepspeed.zero.GatheredParameters(trainable, modifier_rank=None):
            yield self.policy

    def destroy(self) -> None:
        """Frees the engine. The process group stays for the next job of a sweep; torch is again as it was before ZeRO-3."""
        self.deepspeed.destroy()
        torch.nn.functional.linear = LINEAR
