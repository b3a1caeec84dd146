"""Keys and values kept within a block: exactly those of the block's first forward, in a model of any depth and padding."""

import pytest
import torch
from torch.testing import assert_close

from stp.diffusion import FromLogits, within
from stp.errors import UserError
from stp.models.policy import Policy
from stp.models.tiny import new_tiny
from stp.models.within import KeysValues
from stp.samplers import Standard, Stp
from stp.types import Anchors, Draws, Prompts
from tests.models import TOKENIZER, random_ids

ROWS, WIDTH, LENGTH = 4, 7, 12
BEGIN, END = WIDTH + 4, WIDTH + 8


def a_policy(layers, shifted=False):
    policy = Policy(new_tiny(TOKENIZER, 0, width=32, layers=layers).eval(), TOKENIZER.mask_token_id, TOKENIZER.eos_token_id)
    with torch.no_grad():
        for p in policy.parameters():  # so that attention matters
            p.mul_(4.0 if p.dim() == 2 else 1.0)
    policy.shifted = shifted
    return policy


def test_what_a_release_of_transformers_passes_beside_keys_and_values_is_left_aside():
    """A layer calls `update(keys, values, layer)`, since 5.24 with its other arguments as `kwargs`."""
    keys, values = torch.zeros(2, ROWS, 1, WIDTH, 4)
    kept = KeysValues(BEGIN, END).update(keys, values, 0, kwargs={"position_ids": None})
    assert kept[0] is keys and kept[1] is values


def padding(padded):
    real_BP = torch.arange(WIDTH) >= torch.tensor([0, 3, 5, 1])[:, None]
    return real_BP if padded else None


def attend(padded):
    return Prompts(random_ids(ROWS, WIDTH), padding(padded)).attend(LENGTH)


def substituted(policy, first_BS, ids_BS, attend_BS, index_M, begin, end):
    """Logits of a whole forward on ids_BS whose keys and values outside the block are those of one on first_BS."""
    kept: dict[str, torch.Tensor] = {}

    def hook(name):
        def replace(module, _inputs, output):
            if name not in kept:
                kept[name] = output.clone()
                return output
            return torch.cat([kept[name][:, :begin], output[:, begin:end], kept[name][:, end:]], dim=1)

        return replace

    named = [(n, m) for n, m in policy.named_modules() if n.endswith(("k_proj", "v_proj"))]
    handles = [module.register_forward_hook(hook(name)) for name, module in named]
    with torch.no_grad():
        policy(first_BS, attend_BS, index_M)
        logits_MV = policy(ids_BS, attend_BS, index_M)
    for handle in handles:
        handle.remove()
    return logits_MV


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("end", [END, WIDTH + LENGTH])
def test_later_forwards_see_the_first_ones_keys_and_values(shifted, padded, end):
    policy, attend_BS = a_policy(3, shifted), attend(padded)
    first_BS, changed = random_ids(ROWS, WIDTH + LENGTH), random_ids(ROWS, 4, seed=1)
    ids_BS = torch.cat([first_BS[:, :BEGIN], changed, first_BS[:, END:]], dim=1)
    index_M = (torch.arange(ROWS)[:, None] * (WIDTH + LENGTH) + torch.arange(BEGIN, END)).flatten()
    block = within(policy, BEGIN, end)
    with torch.no_grad():
        assert block.draw(first_BS, attend_BS, index_M)[0].equal(policy.draw(first_BS, attend_BS, index_M)[0])
        for _ in range(2):  # the second time what the first one renewed is renewed again
            block.draw(random_ids(ROWS, WIDTH + LENGTH, seed=2), attend_BS, index_M)
            token_M, confidence_M = block.draw(ids_BS, attend_BS, index_M)
    kept_from = max(BEGIN - shifted, 0)
    logits_MV = substituted(policy, first_BS, ids_BS, attend_BS, index_M, kept_from, end)
    logits_MV[:, policy.mask_id] = -torch.inf
    assert_close(confidence_M, logits_MV.softmax(dim=1).amax(dim=1), atol=1e-5, rtol=1e-4)
    assert token_M.equal(logits_MV.argmax(dim=1))
    with torch.no_grad():
        assert not torch.allclose(confidence_M, policy.draw(ids_BS, attend_BS, index_M)[1], atol=1e-4)


def completions(policy, cache, padded, temperature=1.0, stp=False, block_length=4):
    prompts = Prompts(random_ids(ROWS, WIDTH), padding(padded))
    if not stp:
        return Standard(LENGTH, 8, block_length, temperature, cache=cache)(policy, prompts, Draws(0, ROWS)).response_BL
    sampler = Stp(LENGTH, 8, block_length, temperature, cache=cache, gamma=0.25, t_cutoff=0.2)
    eligible_BL = torch.ones(ROWS, LENGTH, dtype=torch.bool)
    start = Anchors(random_ids(ROWS, LENGTH, seed=3), eligible_BL, -Draws(0, ROWS).uniform("anchors", 0, LENGTH))
    return sampler(policy, prompts, Draws(0, ROWS), start).response_BL


@pytest.mark.parametrize("cache", ["prefix", "dual"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("stp", [False, True])
@pytest.mark.parametrize("shifted", [False, True])
def test_one_layer_keeps_what_it_would_compute(cache, padded, stp, shifted):
    """Its keys and values depend on their own token alone, so nothing that is kept is ever out of date."""
    policy = a_policy(1, shifted)
    policy.eos_id = 20  # which some rows draw
    assert torch.equal(completions(policy, cache, padded, stp=stp), completions(policy, "none", padded, stp=stp))


class Asked(FromLogits):
    """A denoiser that notes which blocks it is asked for."""

    def __init__(self):
        super().__init__(lambda ids_BS: torch.arange(8.0).expand(*ids_BS.shape, 8), 0, 99)
        self.blocks = []

    def within(self, begin, end):
        self.blocks.append((begin, end))
        return self


@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
def test_each_window_of_the_schedule_has_its_own(cache):
    """Before it, with prefix; before it and after it, with dual. Fewer forwards than blocks join two."""
    for sampler in (Standard(12, 8, 4, 0.0, cache=cache), Stp(12, 4, 3, 0.0, cache=cache, gamma=0.0, t_cutoff=0.3)):
        denoise, draws = Asked(), Draws(0, 2)
        sampler(denoise, Prompts(random_ids(2, WIDTH)), draws)
        windows = [(w.begin, w.end) for w in sampler.start(None, draws).windows]
        expected = [(WIDTH + a, WIDTH + (b if cache == "dual" else LENGTH)) for a, b in windows]
        assert len(windows) > 1 and denoise.blocks == ([] if cache == "none" else expected)


def test_several_layers_drift():
    policy = a_policy(3)
    exact, prefix, dual = (completions(policy, cache, True) for cache in ("none", "prefix", "dual"))
    assert not torch.equal(prefix, exact) and not torch.equal(dual, exact)


@pytest.mark.parametrize("cache", ["prefix", "dual"])
def test_a_forward_for_each_block_is_exact(cache):
    """Nothing is kept from one block to the next."""
    policy = a_policy(3)
    prompts = Prompts(random_ids(ROWS, WIDTH))
    found, exact = (Standard(LENGTH, 3, 4, 1.0, cache=c)(policy, prompts, Draws(0, ROWS)).response_BL for c in (cache, "none"))
    assert torch.equal(found, exact)


def test_a_denoiser_without_keys_and_values_is_refused():
    denoise = FromLogits(lambda ids_BS: torch.zeros(*ids_BS.shape, 8), 0, 1)
    with pytest.raises(UserError, match=r"sampler\.cache=none"):
        Standard(4, 4, 4, 1.0, cache="dual")(denoise, Prompts(random_ids(1, 3)), Draws(0, 1))
