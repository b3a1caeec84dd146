"""The process's peak memory."""

import contextlib
import resource
from pathlib import Path

import torch

PROCESS = Path("/proc/self")


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


def reset_peak_memory() -> None:
    """Starts counting the peak again, as each job of a sweep does. Where the system cannot, nothing happens."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        (PROCESS / "clear_refs").write_text("5", encoding="utf-8")
