"""model.compile: the same model to rounding, with gradients, padding, adapters and a frozen copy."""

import shutil

import pytest
import torch
from torch.testing import assert_close

from stp.errors import UserError
from stp.models.options import Lora, Model
from stp.models.policy import AdapterOff, load_policy
from stp.models.tiny import new_tiny
from stp.types import Prompts
from tests.models import TOKENIZER, random_ids

COMPILER = shutil.which("g++") or shutil.which("clang++")


def test_it_is_refused_without_a_compiler(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(
        UserError, match=r"^model\.compile=True: torch\.compile needs a C\+\+ compiler here; install g\+\+ or use"
    ):
        load_policy(Model(compile=True))


@pytest.mark.skipif(not COMPILER, reason="no C++ compiler, which torch.compile needs on the CPU")
def test_compiled_layers_are_the_same_layers(monkeypatch, tmp_path):
    traced = torch.nn.Module.compile  # without machine code, which is made below
    monkeypatch.setattr(torch.nn.Module, "compile", lambda layer, **how: traced(layer, backend="eager", **how))
    new_tiny(TOKENIZER, 0, width=16, layers=1).save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", torch._dynamo.config.recompile_limit)
    options = {"lora": Lora(rank=4), "gradient_checkpointing": True}
    (plain, _), (compiled, _) = (load_policy(Model(path=str(tmp_path), compile=c, **options)) for c in (False, True))
    with torch.no_grad():
        for policy in (plain, compiled):
            for i, p in enumerate(p for p in policy.parameters() if p.requires_grad):
                p += 0.01 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
    for policy, is_compiled in ((plain, False), (compiled, True), (compiled.frozen_copy(), True)):
        assert all((layer._compiled_call_impl is not None) == is_compiled for layer in policy.llama.model.layers)
    assert plain.fingerprint(adapter=True) == compiled.fingerprint(adapter=True)
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    index_M, target_M = torch.tensor([20, 3, 17]), random_ids(1, 3, vocabulary=60)[0]
    for attend_BS in (None, Prompts(random_ids(2, 5), torch.arange(5) >= torch.tensor([[0], [3]])).attend(6)):
        found = []
        for policy in (plain, compiled):
            logp_M = policy.train()(random_ids(2, 11, vocabulary=60), attend_BS, index_M, target_M)
            logp_M.sum().backward()
            with torch.no_grad():
                reference_M = AdapterOff(policy.eval())(random_ids(2, 11, vocabulary=60), attend_BS, index_M, target_M)
                copied_M = policy.frozen_copy()(random_ids(2, 11, vocabulary=60), attend_BS, index_M, target_M)
            found.append([logp_M.detach(), reference_M, copied_M, *(p.grad for p in policy.parameters() if p.requires_grad)])
            policy.zero_grad()
        assert_close(found[1], found[0], atol=1e-4, rtol=1e-3)
        assert not torch.allclose(found[0][0], found[0][1], atol=1e-3)


@pytest.mark.skipif(not COMPILER, reason="no C++ compiler, which torch.compile needs on the CPU")
def test_the_machine_code_computes_the_same(tmp_path):
    """Of one narrow layer, without gradients: compiling more takes minutes of a processor."""
    new_tiny(TOKENIZER, 0, width=16, layers=1).save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    plain, compiled = (load_policy(Model(path=str(tmp_path), compile=c), trainable=False)[0] for c in (False, True))
    given = random_ids(2, 11, vocabulary=60), None, torch.tensor([20, 3, 17]), random_ids(1, 3, vocabulary=60)[0]
    with torch.no_grad():
        assert_close(compiled(*given), plain(*given), atol=1e-4, rtol=1e-3)
