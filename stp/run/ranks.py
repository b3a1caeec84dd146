"""The process group: which ranks there are, and how they meet."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch

from stp.errors import UserError, require
from stp.ranks import Ranks
from stp.run import faults

LAUNCHED = ("LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what a launcher sets beside RANK


def choose_accelerator() -> bool:
    """Whether there is a CUDA GPU, and DeepSpeed told the same.

    Raises:
        UserError: DS_ACCELERATOR asks for another device.
    """
    cuda = torch.cuda.is_available()
    wanted = os.environ.setdefault("DS_ACCELERATOR", "cuda" if cuda else "cpu")
    rule = "no CUDA GPU can be used here; unset it, or DS_ACCELERATOR=cpu"
    rule = "there is a CUDA GPU; unset it, or hide the GPU with CUDA_VISIBLE_DEVICES=''" if cuda else rule
    require(wanted == ("cuda" if cuda else "cpu"), "DS_ACCELERATOR", wanted, rule)
    return cuda


def bootstrap(timeout: float = 30.0) -> None:
    """Join the process group (idempotent): nccl on GPUs, gloo on CPUs, alone when no launcher set the environment.

    timeout: minutes that a rank waits for the others before it gives them up.
    """
    env = os.environ
    if "RANK" in env:
        missing = [name for name in LAUNCHED if name not in env]
        rule = f"a launcher sets {', '.join(missing)} too; start with torchrun, or for a single process: unset RANK"
        require(not missing, "RANK", env["RANK"], rule)
    else:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        env.update(dict(zip(LAUNCHED, ("0", "1", "127.0.0.1", str(port)), strict=True)), RANK="0")
    cuda = choose_accelerator()
    import deepspeed
    import deepspeed.ops

    if cuda:
        torch.cuda.set_device(int(env["LOCAL_RANK"]))
    else:
        deepspeed.ops.__compatible_ops__ = {}  # no compiled shared-memory op, and no compiler probe of minutes
    if not deepspeed.comm.is_initialized():
        deepspeed.init_distributed("nccl" if cuda else "gloo", timeout=timedelta(minutes=timeout), verbose=False)


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


def current() -> Ranks:
    """This process among the others, as the loop sees it."""
    return Ranks(rank(), world_size(), gather)


def broadcast(value: Any) -> Any:
    """Rank 0's value, on every rank."""
    if world_size() == 1:
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


def gather(value: Any) -> list[Any]:
    """Every rank's value, in rank order, on every rank.

    Ranks meet here, so here they agree to stop: if one of them was asked to, `Interrupted` is raised on all.
    """
    if world_size() == 1:
        faults.stop_if_asked([faults.asked])
        return [value]
    values: list[Any] = [None] * world_size()
    torch.distributed.all_gather_object(values, (faults.asked, value))
    faults.stop_if_asked([asked for asked, _ in values])
    return [value for _, value in values]


def from_first(work: Callable[[], Any]) -> Any:
    """What `work` returns on rank 0, which alone does it, on every rank; its `UserError` is every rank's."""
    value = trouble = None
    if rank() == 0:
        try:
            value = work()
        except UserError as error:
            trouble = str(error)
    value, trouble = broadcast((value, trouble))
    if trouble is not None:
        raise UserError(trouble)
    return value


@contextlib.contextmanager
def interruptible(policy: Any) -> Iterator[None]:
    """Between any two forwards of the trunk this rank may stop. It does so by meeting the others where they gather next."""

    def before_forward(*_: Any) -> None:
        if faults.asked is not None:
            gather(None)

    handle = policy.llama.model.register_forward_pre_hook(before_forward)
    try:
        yield
    finally:
        handle.remove()
