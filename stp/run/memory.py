"""The memory of the process and of its GPU."""

import contextlib
import gc
import resource
from pathlib import Path

import torch
from torch import nn

from stp.errors import require

PROCESS = Path("/proc/self")


def card_gib() -> float:
    """Returns the GiB of this process's GPU, or 80 without one."""
    if not torch.cuda.is_available():
        return 80.0
    return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory * 10 // 2**30 / 10


def peak_memory_mb() -> float:
    """Returns the peak memory since the last reset: on the GPU if there is one, else this process's resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    if PROCESS.exists():
        peak = next(
            (line for line in (PROCESS / "status").read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM")), None
        )
        if peak is not None:
            return int(peak.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def start_afresh() -> None:
    """Frees what an earlier job of this process left, and counts the peak anew, where the system can.

    Parts of a policy under DeepSpeed refer to each other, so that its gigabytes stay until Python looks for such circles.
    """
    gc.collect()
    if torch.cuda.is_initialized():  # else the first GPU would be, before this rank has chosen its own
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        (PROCESS / "clear_refs").write_text("5", encoding="utf-8")


def move(policy: nn.Module, device: torch.device) -> None:
    """Moves a policy to its device.

    Raises:
        UserError: the weights alone are larger than the GPU's free memory.
    """
    if device.type == "cuda":
        # a 4-bit layer's weights, a class of their own, shrink to a quarter on their way
        needed = sum(p.nbytes if type(p) is nn.Parameter else p.nbytes / 4 for p in policy.parameters()) / 2**30
        free, total = (size / 2**30 for size in torch.cuda.mem_get_info(device))
        rule = f"{free:.1f} of the {total:.1f} GiB of this GPU ({torch.cuda.get_device_name(device)}) are free; end what else "
        rule += "uses it, or ask python -m stp.plan, with the same overrides, what makes the run fit"
        require(needed <= free, "model", f"{needed:.1f} GiB of weights", rule)
    policy.to(device)
