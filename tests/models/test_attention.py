"""Attention is never causal, whatever computes it, and the padding mask is made once."""

import pytest
import torch
import transformers.integrations.flash_attention as flash
import transformers.masking_utils as masking
from torch.testing import assert_close

from stp.models.dream import load_dream
from stp.models.llada import load_llada
from stp.models.policy import Policy
from stp.models.qwen3 import load_qwen3
from tests.models import random_ids
from tests.models.test_dream import write_dream
from tests.models.test_llada import random_llama, write_llada
from tests.models.test_qwen3 import write_qwen3

PADDED = torch.tensor([[i >= pad for i in range(9)] for pad in (0, 2, 5)])


@pytest.fixture(scope="module", params=["llada", "dream", "qwen3"])
def load(request, tmp_path_factory):
    """Loads one of the architectures with a given attention."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "dream":
        write_dream(folder)
        return lambda attention: load_dream(folder, attention=attention)
    if request.param == "qwen3":
        write_qwen3(folder)
        return lambda attention: load_qwen3(folder, attention=attention)
    write_llada(random_llama(kv_heads=2), folder)
    return lambda attention: load_llada(folder, attention=attention)


@torch.no_grad()
def logits(model, ids_BS, attend_BS):
    policy = Policy(model, 49, 1)
    return policy(ids_BS, attend_BS, torch.arange(ids_BS.numel())).view(*ids_BS.shape, -1)


@pytest.mark.parametrize("attend_BS", [None, PADDED], ids=["no padding", "padding"])
def test_flash_attention_is_never_causal(load, attend_BS, monkeypatch):
    """transformers' own path to FlashAttention, its kernel replaced by one that keeps what it is asked for."""
    calls = []

    def kernel(query, key, value, attention_mask, *, is_causal, softmax_scale, **kwargs):
        calls.append((is_causal, attention_mask, kwargs["dropout"], kwargs["sliding_window"]))
        heads = [t.transpose(1, 2) for t in (query, key, value)]
        mask = None if attention_mask is None else attention_mask[:, None, None]
        return torch.nn.functional.scaled_dot_product_attention(
            *heads, attn_mask=mask, is_causal=is_causal, scale=softmax_scale, enable_gqa=True
        ).transpose(1, 2)

    monkeypatch.setattr(flash, "_flash_attention_forward", kernel)
    ids_BS = random_ids(3, 9, vocabulary=47)
    expected_BSV = logits(load("sdpa"), ids_BS, attend_BS)
    model = load("sdpa")
    model.config._attn_implementation = "flash_attention_2"  # asked for at loading, it needs its package
    real_BS = torch.ones_like(PADDED) if attend_BS is None else attend_BS
    assert_close(logits(model, ids_BS, attend_BS)[real_BS], expected_BSV[real_BS], atol=1e-5, rtol=1e-5)
    assert len(calls) == 2  # one for each layer
    for is_causal, mask, dropout, window in calls:
        assert (is_causal, dropout, window) == (False, 0.0, None)
        assert (mask is None) if attend_BS is None else torch.equal(mask, attend_BS)  # 2-D: what it unpads by


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_ready_made_mask_is_transformers_own(load, attention):
    model, ids_BS = load(attention), random_ids(3, 9, vocabulary=47)
    positions_BS = (PADDED.long().cumsum(dim=1) - 1).clamp(min=0)
    with torch.no_grad():
        own_BSV = model(input_ids=ids_BS, attention_mask=PADDED, position_ids=positions_BS).logits
        policy = Policy(model, 49, 1)
        policy.shifted = False
        made_BSV = policy(ids_BS, PADDED, torch.arange(27)).view(3, 9, -1)
    assert torch.equal(made_BSV, own_BSV)


def test_a_forward_does_not_look_at_the_mask(load, monkeypatch):
    def looks(*args, **kwargs):
        pytest.fail("the values of the mask were read")

    for name in ("_ignore_bidirectional_mask_sdpa", "sdpa_mask", "eager_mask"):
        monkeypatch.setattr(masking, name, looks)
    monkeypatch.setitem(masking.ALL_MASK_ATTENTION_FUNCTIONS._global_mapping, "sdpa", looks)
    assert logits(load("sdpa"), random_ids(3, 9, vocabulary=47), PADDED).isfinite().all()
