"""Which GPU a rank takes, and what is refused of one: CUDA's own answers are stood in for."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from stp.cli import unexpected
from stp.errors import UserError
from stp.models.options import Model
from stp.models.policy import require_available
from stp.plan.plan import Plan
from stp.run import memory, ranks
from stp.run.ranks import bootstrap, choose_card, refuse_shared_cards


@pytest.fixture
def cards(monkeypatch):
    """Makes CUDA show this number of GPUs, the first of which is the current one."""
    bootstrap()  # with the device that there is: DeepSpeed keeps the one that it is first imported with

    def show(count, gib=16.0, visible=None):
        card = SimpleNamespace(total_memory=int(gib * 2**30), uuid="GPU-0")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Tesla V100")
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        else:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return show


@pytest.mark.parametrize(("local_rank", "count", "card"), [("0", 4, 0), ("3", 4, 3), ("0", 1, 0), ("3", 1, 0)])
def test_a_rank_takes_its_own_card_also_where_it_sees_no_other(cards, local_rank, count, card):
    cards(count)
    assert choose_card(local_rank) == card


@pytest.mark.parametrize(
    ("local_rank", "count", "visible", "said"),
    [
        ("2", 2, None, r"LOCAL_RANK=2: this process sees 2 GPUs; start at most 2 processes on this machine"),
        ("4", 3, "5,6,7", r"sees 3 GPUs \(CUDA_VISIBLE_DEVICES=5,6,7\); .*--nproc_per_node 3"),
        ("-1", 2, None, r"LOCAL_RANK=-1: a launcher sets it to 0, 1"),
    ],
)
def test_a_rank_without_a_card_is_refused(cards, local_rank, count, visible, said):
    cards(count, visible=visible)
    with pytest.raises(UserError, match=said):
        choose_card(local_rank)


def test_deepspeed_is_told_which_card_was_taken(cards, monkeypatch):
    """A launcher shows the process its own GPU alone, which is number 0 there, whatever the local rank."""
    cards(1)
    for name, value in {"RANK": "3", "LOCAL_RANK": "3", "WORLD_SIZE": "1", "MASTER_ADDR": "x", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DS_ACCELERATOR", "cuda")
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr("deepspeed.comm.is_initialized", lambda: True)
    bootstrap()
    assert taken == [0] and ranks.os.environ["LOCAL_RANK"] == "0"


@pytest.mark.parametrize(("others", "ok"), [({"1": "node GPU-1"}, True), ({"1": "node GPU-0"}, False)])
def test_two_ranks_do_not_share_a_card(cards, monkeypatch, others, ok):
    cards(1)
    monkeypatch.setattr(ranks.socket, "gethostname", lambda: "node")
    monkeypatch.setattr(ranks, "world_size", lambda: 2)
    held = {f"stp/card/{rank}": card.encode() for rank, card in others.items()}
    store = SimpleNamespace(set=lambda key, value: held.update({key: value.encode()}), get=held.__getitem__)
    if ok:
        return refuse_shared_cards(store)
    with pytest.raises(UserError, match="WORLD_SIZE=2: ranks 0, 1 have the same GPU; start no more processes"):
        refuse_shared_cards(store)


def test_bfloat16_is_refused_on_a_card_that_only_emulates_it(cards, monkeypatch):
    cards(1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    with pytest.raises(UserError, match=r"^model\.dtype=bfloat16: Tesla V100 does not compute in it.*use model\.dtype=float32"):
        require_available(Model(dtype="bfloat16"))
    require_available(Model(dtype="float32"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    require_available(Model(dtype="bfloat16"))


class FourBit(nn.Parameter):
    """Stands in for bitsandbytes' weights, which are held in 16 bits until they are on the GPU."""


@pytest.mark.parametrize(("kind", "fits"), [(nn.Parameter, False), (FourBit, True)])
def test_weights_larger_than_the_card_are_not_moved_there(cards, monkeypatch, kind, fits):
    cards(1, gib=2)
    policy = nn.Module()
    policy.weight = kind(torch.empty(2**30, dtype=torch.bfloat16, device="meta"), requires_grad=False)  # 2 GiB
    moved = []
    monkeypatch.setattr(policy, "to", moved.append)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**30, 2**31))
    if not fits:
        with pytest.raises(UserError, match=r"^model=2\.0 GiB of weights: 1\.0 of the 2\.0 GiB of this GPU \(Tesla V100\) are"):
            memory.move(policy, torch.device("cuda", 0))
    else:
        memory.move(policy, torch.device("cuda", 0))
    assert moved == ([torch.device("cuda", 0)] if fits else [])


def test_a_full_card_is_told_in_one_line_with_a_way_out():
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB. Of the allocated memory 1 GiB is")
    assert unexpected(error) == (
        "CUDA out of memory. Tried to allocate 3 GiB. python -m stp.plan, with the same overrides, says what makes it fit"
    )


def test_a_plan_is_made_for_the_card_at_hand(cards, monkeypatch):
    default = next(field for field in Plan.__dataclass_fields__.values() if field.name == "gpu_memory").default_factory
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert default() == 80.0
    cards(1, gib=15.77)
    assert default() == 15.7
