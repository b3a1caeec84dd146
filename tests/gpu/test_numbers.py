"""A GPU computes what the CPU computes, keeps the host from waiting, and runs each way to compute that is installed."""

import warnings
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from stp.config import SCHEMAS
from stp.errors import UserError
from stp.models.options import Lora, Model
from stp.models.policy import load_policy, require_available
from stp.types import Anchors, Draws, Prompts
from tests.integration.runs import composed
from tests.models import random_ids

ROWS, P, L = 4, 10, 24
SAMPLERS = sorted(SCHEMAS["sampler"])


def loaded(device, **options):
    """The shipped base on a device."""
    policy, _ = load_policy(Model(**options))
    return policy.to(device)


def prompts(device, width=P):
    return Prompts(random_ids(ROWS, width, vocabulary=60)).to(device)


def sampler(name, *overrides):
    return composed(f"sampler={name}", *overrides).sampler


def anchors():
    """Anchors whose tokens may all be fixed."""
    eligible_BL = torch.ones(ROWS, L, dtype=torch.bool)
    return Anchors(random_ids(ROWS, L, seed=1, vocabulary=60), eligible_BL, -Draws(0, ROWS).uniform("anchors", 0, L))


def rollout(made, policy, device):
    return made(policy, prompts(device), Draws(0, ROWS), anchors() if made.needs_anchors else None)


@torch.no_grad()
def logits(policy, device, attend_BS=None, ids_BS=None):
    """The float32 logits of every position, on the CPU."""
    ids_BS = random_ids(ROWS, P + L, vocabulary=60) if ids_BS is None else ids_BS
    attend_BS = None if attend_BS is None else attend_BS.to(device)
    return policy(ids_BS.to(device), attend_BS, torch.arange(ids_BS.numel(), device=device)).float().cpu()


@pytest.mark.parametrize(("dtype", "most"), [("float32", 1e-4), ("bfloat16", 2.0**-5)])
def test_logits_are_those_of_the_cpu_in_float32(device, found, dtype, most):
    """bfloat16 rounds to 8 bits, in each of a few layers."""
    exact, here = logits(loaded("cpu"), "cpu"), logits(loaded(device, dtype=dtype), device)
    off = float((here - exact).abs().max() / exact.abs().max())
    found(f"logits in {dtype} against the CPU's in float32", f"within {most:.1e} of the largest", f"{off:.1e}", off <= most)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_same_uniforms_give_the_same_tokens_in_float32(device, found, name):
    made = sampler(name)
    cpu, here = (rollout(made, loaded(place), place).response_BL.cpu() for place in ("cpu", device))
    same = float((cpu == here).float().mean())
    found(f"sampler={name}: tokens equal to the CPU's", "all", f"{same:.2%}", same == 1)


@contextmanager
def waits():
    """Collects the waits of the host for the GPU. On the CPU there are none."""
    if not torch.cuda.is_available():
        yield []
        return
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield caught
        finally:
            torch.cuda.set_sync_debug_mode("default")
    caught[:] = [each for each in caught if "called a synchronizing" in str(each.message)]


def places(caught):
    """Where in the code the host waited, and how often."""
    counted = Counter(f"{Path(each.filename).name}:{each.lineno}" for each in caught)
    return ", ".join(f"{place} x {count}" for place, count in counted.most_common())


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_host_waits_for_no_forward_of_a_schedule(device, found, name):
    """Three blocks: twice as many forwards bring no more waits. Without a schedule a forward needs to know the one before."""
    policy, forwards, counts = loaded(device), [], []
    policy.eos_id = -1  # no row ends early
    for steps in (6, 12):
        made = sampler(name, f"sampler.steps={steps}")
        rollout(made, policy, device)
        with waits() as caught:
            trajectory = rollout(made, policy, device)
        forwards.append(trajectory.nfe_run)
        counts.append(len(caught))
    most = counts[0] + (0 if trajectory.scheduled else forwards[1] - forwards[0])
    what = f"sampler={name}: waits of the host in {forwards[1]} forwards, {counts[0]} in {forwards[0]}"
    found(what, f"at most {most}", f"{counts[1]} ({places(caught)})", counts[1] <= most)


def test_a_left_padded_batch_has_the_logits_of_one_that_is_not(device, found):
    ids_BS = random_ids(ROWS, P + L, vocabulary=60)
    padded_BS = torch.cat([torch.zeros(ROWS, 5, dtype=torch.long), ids_BS], dim=1)
    attend_BS = torch.arange(P + L + 5).expand(ROWS, -1) >= 5
    policy = loaded(device)
    plain = logits(policy, device, ids_BS=ids_BS).view(ROWS, P + L, -1)
    padded = logits(policy, device, attend_BS, padded_BS).view(ROWS, P + L + 5, -1)[:, 5:]
    off = float((plain - padded).abs().max() / plain.abs().max())
    found("a left-padded batch against one that is not padded", "within 1.0e-04", f"{off:.1e}", off <= 1e-4)


@pytest.mark.parametrize("cache", ["prefix", "dual"])
def test_a_cache_is_exact_where_a_block_has_one_forward(device, found, cache):
    policy, made = loaded(device), sampler("standard", "sampler.steps=3")
    exact, kept = (rollout(replace(made, cache=each), policy, device).response_BL for each in ("none", cache))
    same = float((exact == kept).float().mean())
    found(f"sampler.cache={cache}, a forward a block: tokens equal to the exact sampler's", "all", f"{same:.2%}", same == 1)


def _tried(device, options):
    """Skips what cannot run here, with the reason that a user would read."""
    if device.type != "cuda":
        pytest.skip("there is no GPU")
    try:
        require_available(options)
    except UserError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("name", "options", "package", "least"),
    [
        ("model.quantize=nf4", {"quantize": "nf4", "lora": Lora(rank=4)}, "bitsandbytes", 0.5),
        ("model.attention=flash_attention_2", {"attention": "flash_attention_2"}, "flash_attn", 0.95),
    ],
)
def test_what_needs_a_package_is_close_to_what_does_not(device, found, name, options, package, least):
    """A tiny model's weights suffer more from 4 bits than a large one's."""
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    _tried(device, Model(dtype="bfloat16", **options))
    plain, other = (logits(loaded(device, dtype="bfloat16", **more), device) for more in ({}, options))
    same = float((plain.argmax(dim=1) == other.argmax(dim=1)).float().mean())
    found(f"{name}: most likely tokens as in bfloat16", f"{least:.0%} or more", f"{same:.1%}", same >= least)


def test_compiled_layers_are_the_same_layers(device, found):
    """Last of all, because compiling takes the longest."""
    _tried(device, Model(compile=True))
    plain, compiled = (logits(loaded(device, compile=each), device) for each in (False, True))
    off = float((plain - compiled).abs().max() / plain.abs().max())
    found("model.compile=true against plain layers", "within 1.0e-04", f"{off:.1e}", off <= 1e-4)
