"""The process group: which ranks there are, and how they exchange values."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
from torch.distributed import distributed_c10d

from stp.errors import UserError, require
from stp.ranks import Ranks
from stp.run import faults

LAUNCHED = ("LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # variables that a launcher sets besides RANK


def choose_accelerator() -> bool:
    """Says whether there is a CUDA GPU, and tells DeepSpeed.

    Raises:
        UserError: DS_ACCELERATOR asks for another device.
    """
    cuda = torch.cuda.is_available()
    wanted = os.environ.setdefault("DS_ACCELERATOR", "cuda" if cuda else "cpu")
    rule = "no CUDA GPU can be used here; unset it, or DS_ACCELERATOR=cpu"
    rule = "there is a CUDA GPU; unset it, or hide the GPU with CUDA_VISIBLE_DEVICES=''" if cuda else rule
    require(wanted == ("cuda" if cuda else "cpu"), "DS_ACCELERATOR", wanted, rule)
    return cuda


def choose_card(local_rank: str) -> int:
    """Returns the index of this rank's GPU among those that it sees.

    Some launchers show each process all GPUs of the machine (torchrun), others only its own (a Slurm task with one GPU).

    Raises:
        UserError: there are fewer GPUs than processes on this machine.
    """
    require(local_rank.isdecimal(), "LOCAL_RANK", local_rank, "a launcher sets it to 0, 1, …; start with torchrun")
    count, visible = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if count == 1:
        return 0
    shown = f"{count} GPUs" + ("" if visible is None else f" (CUDA_VISIBLE_DEVICES={visible})")
    rule = f"this process sees {shown}; start at most {count} processes on this machine (--nproc_per_node {count})"
    require(int(local_rank) < count, "LOCAL_RANK", local_rank, rule)
    return int(local_rank)


def refuse_shared_cards(store: Any) -> None:
    """Refuses two ranks on one GPU, of which NCCL would tell late and at length. store: the process group's.

    Raises:
        UserError: another rank has this rank's GPU.
    """
    mine = f"{socket.gethostname()} {torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
    store.set(f"stp/card/{rank()}", mine)
    cards = [store.get(f"stp/card/{other}").decode() for other in range(world_size())]
    sharing = [other for other, card in enumerate(cards) if card == mine]
    rule = f"ranks {', '.join(map(str, sharing))} have the same GPU; start no more processes on a machine than it has GPUs"
    require(len(sharing) == 1, "WORLD_SIZE", world_size(), rule)


def bootstrap(timeout: float = 30.0) -> None:
    """Joins the process group: by nccl on GPUs, gloo on CPUs, and alone if no launcher set the environment. Idempotent.

    timeout: how many minutes a rank waits for the others before it gives up.
    """
    env = os.environ
    if "RANK" in env:
        missing = [name for name in LAUNCHED if name not in env]
        rule = f"a launcher sets {', '.join(missing)} too; start with torchrun, or for a single process: unset RANK"
        require(not missing, "RANK", env["RANK"], rule)
    else:
        env.update(dict(zip(LAUNCHED, ("0", "1", "127.0.0.1", "0"), strict=True)), RANK="0")  # port 0: any that is free
    cuda = choose_accelerator()
    import deepspeed
    import deepspeed.ops

    if cuda:
        card = choose_card(env["LOCAL_RANK"])
        torch.cuda.set_device(card)
        env["LOCAL_RANK"] = str(card)  # DeepSpeed takes its device from there
    else:
        deepspeed.ops.__compatible_ops__ = {}  # else DeepSpeed looks for a compiler for minutes
    if not deepspeed.comm.is_initialized():
        deepspeed.init_distributed("nccl" if cuda else "gloo", timeout=timedelta(minutes=timeout), verbose=False)
        if cuda and world_size() > 1:
            refuse_shared_cards(distributed_c10d._get_default_store())


def rank() -> int:
    """Returns this process's rank; 0 before `bootstrap`."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def world_size() -> int:
    """Returns the number of ranks; 1 before `bootstrap`."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def device_name() -> str:
    """Names this rank's GPU, or the instructions that torch uses of the processor: other ones round otherwise."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu {torch.backends.cpu.get_cpu_capability()}"


def device() -> torch.device:
    """Returns this rank's device."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def barrier() -> None:
    """Waits for every rank."""
    if world_size() > 1:
        torch.distributed.barrier()


def current() -> Ranks:
    """Returns this process among the others, as the loop sees it."""
    return Ranks(rank(), world_size(), gather)


def broadcast(value: Any) -> Any:
    """Returns rank 0's value on every rank."""
    if world_size() == 1:
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


def gather(value: Any) -> list[Any]:
    """Returns every rank's value, in rank order, on every rank.

    Because ranks meet here, they also agree here to stop. If one of them was asked to, `Interrupted` is raised on all.
    """
    if world_size() == 1:
        faults.stop_if_asked([faults.asked])
        return [value]
    values: list[Any] = [None] * world_size()
    torch.distributed.all_gather_object(values, (faults.asked, value))
    faults.stop_if_asked([asked for asked, _ in values])
    return [value for _, value in values]


def from_first(work: Callable[[], Any]) -> Any:
    """Calls `work` on rank 0 only, and returns its result on every rank. If it raises a `UserError`, every rank does."""
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
    """Lets a signal stop this rank between two forwards of the trunk.

    If a signal has arrived, the rank gathers with the others before its next forward, so that all stop together.
    """

    def before_forward(*_: Any) -> None:
        if faults.asked is not None:
            gather(None)

    handle = policy.llama.model.register_forward_pre_hook(before_forward)
    try:
        yield
    finally:
        handle.remove()
