"""The policy as a denoiser: padding, chunks, LoRA and its reference, fingerprints."""

import copy
import json
from pathlib import Path

import huggingface_hub
import pytest
import torch
from peft import PeftModel
from torch.testing import assert_close

from stp.diffusion import token_log_probs
from stp.errors import UserError
from stp.models.loading import require_finite
from stp.models.policy import (
    AdapterOff,
    Lora,
    Model,
    Policy,
    add_lora,
    checkpoint_folder,
    load_policy,
    load_tokenizer,
    require_described,
)
from stp.models.tiny import shipped
from tests.models import TOKENIZER, random_ids, small_model, small_policy


def lora_policy(rank=4, **options):
    """A policy with fresh adapters on every kind of linear layer."""
    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = add_lora(small_model(), Lora(rank=rank, target_modules=modules))
    return Policy(model, TOKENIZER.mask_token_id, TOKENIZER.eos_token_id, **options).eval()


def disturb(policy, seed=0):
    """Noise on every trainable weight."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


@torch.no_grad()
def everywhere(denoise, ids_BS, attend_BS=None):
    """Logits at every position, logits_BSV."""
    return denoise(ids_BS, attend_BS, torch.arange(ids_BS.numel())).view(*ids_BS.shape, -1)


def test_logits_at_the_chosen_positions_are_the_models():
    policy, ids_BS = small_policy(), random_ids(3, 7)
    with torch.no_grad():
        expected_MV = policy.model(input_ids=ids_BS).logits.flatten(0, 1)
    index_M = torch.tensor([20, 0, 7, 7, 13])
    with torch.no_grad():
        assert_close(policy(ids_BS, None, index_M), expected_MV[index_M], atol=1e-5, rtol=0)
        target_M = random_ids(1, 5, seed=1)[0]
        assert_close(
            policy(ids_BS, None, index_M, target_M), token_log_probs(expected_MV[index_M], target_M), atol=1e-5, rtol=0
        )
        assert policy(ids_BS, None, torch.tensor([], dtype=torch.long)).shape == (0, len(TOKENIZER))


@pytest.mark.parametrize("pad", [1, 5])
def test_left_padding_changes_nothing_at_real_positions(pad):
    policy, ids_BS = small_policy(), random_ids(3, 7)
    alone_BSV = everywhere(policy, ids_BS)
    attend_BS = torch.ones(3, pad + 7, dtype=torch.bool)
    attend_BS[:, :pad] = False
    for seed in (1, 2):  # whatever the padding holds
        padded_BS = torch.cat([random_ids(3, pad, seed=seed), ids_BS], dim=1)
        assert_close(everywhere(policy, padded_BS, attend_BS)[:, pad:], alone_BSV, atol=1e-5, rtol=0)
    assert not torch.allclose(everywhere(policy, padded_BS)[:, pad:], alone_BSV, atol=1e-3)  # the mask matters


def test_rows_with_different_padding_do_not_touch_each_other():
    policy, ids_BS = small_policy(), random_ids(3, 9)
    pads = [0, 2, 4]
    attend_BS = torch.tensor([[i >= pad for i in range(9)] for pad in pads])
    together_BSV = everywhere(policy, ids_BS, attend_BS)
    for b, pad in enumerate(pads):
        assert_close(together_BSV[b, pad:], everywhere(policy, ids_BS[b : b + 1, pad:])[0], atol=1e-5, rtol=0)
    assert_close(everywhere(policy, ids_BS, torch.ones(3, 9, dtype=torch.bool)), everywhere(policy, ids_BS), atol=1e-5, rtol=0)


@pytest.mark.parametrize("make", [small_policy, lora_policy])
@pytest.mark.parametrize("logit_chunk", [1, 3, 11])
def test_chunks_change_neither_log_probabilities_nor_gradients(make, logit_chunk):
    ids_BS, index_M, target_M = random_ids(3, 7), torch.arange(0, 33, 3) % 20, random_ids(1, 11, seed=1)[0]
    weight_M = torch.linspace(-1, 1, 11)
    results = []
    for chunk in (4096, logit_chunk):
        policy = make(logit_chunk=chunk)
        disturb(policy)
        logp_M = policy(ids_BS, None, index_M, target_M)
        (logp_M * weight_M).sum().backward()
        results.append((logp_M.detach(), {n: p.grad for n, p in policy.named_parameters() if p.grad is not None}))
    (logp_M, gradients), (chunked_M, chunked) = results
    assert_close(chunked_M, logp_M, atol=1e-6, rtol=1e-5)
    assert gradients and gradients.keys() == chunked.keys()
    for name, gradient in gradients.items():
        assert_close(chunked[name], gradient, atol=1e-5 * float(gradient.abs().max()), rtol=1e-4)
        assert gradient.abs().sum() > 0


def test_a_fresh_adapter_changes_nothing():
    ids_BS = random_ids(2, 7)
    assert torch.equal(everywhere(lora_policy(), ids_BS), everywhere(small_policy(), ids_BS))


def test_the_reference_ignores_the_adapter():
    policy, ids_BS = lora_policy(), random_ids(2, 7)
    base_BSV = everywhere(small_policy(), ids_BS)
    reference = AdapterOff(policy)
    disturb(policy)
    assert not torch.allclose(everywhere(policy, ids_BS), base_BSV, atol=1e-2)
    assert torch.equal(everywhere(reference, ids_BS), base_BSV)
    assert not torch.allclose(everywhere(policy, ids_BS), base_BSV, atol=1e-2)  # and the adapter is on again
    assert (reference.mask_id, reference.eos_id) == (policy.mask_id, policy.eos_id)


def test_only_adapters_are_trained_and_their_draw_is_fixed():
    before = torch.get_rng_state()
    a, b = lora_policy(), lora_policy()
    assert torch.equal(torch.get_rng_state(), before)
    trained = {name: p for name, p in a.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 7 * 2 and all("lora_" in name for name in trained)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert isinstance(a.model, PeftModel) and a.llama is a.model.get_base_model()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adapters_have_the_precision_of_the_base_from_the_start(dtype):
    """Else rollouts before training compute in float32, and compiled layers keep doing so when DeepSpeed has cast them."""
    adapted = add_lora(small_model().to(dtype), Lora(rank=4))
    assert {parameter.dtype for parameter in adapted.parameters()} == {dtype}


def test_unknown_target_modules_are_named():
    with pytest.raises(UserError, match=r"^model\.lora\.target_modules=\['attn_out'\]: "):
        add_lora(small_model(), Lora(rank=2, target_modules=["attn_out"]))


@pytest.mark.parametrize("target", ["lm_head", "model.embed_tokens"])
def test_an_adapter_on_one_of_two_tied_matrices_is_refused(target):
    model = small_model()
    model.config.tie_word_embeddings = True
    with pytest.raises(UserError, match=r"^model\.lora\.target_modules=.* are one matrix.* leave them out"):
        add_lora(model, Lora(rank=2, target_modules=["q_proj", target]))


def test_an_adapter_names_its_base(tmp_path):
    folder = checkpoint_folder(Model())
    policy, _ = load_policy(Model(path=str(folder), lora=Lora(rank=2)))
    policy.model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == str(folder)


def test_the_frozen_copy_stays_where_it_was():
    policy, ids_BS = small_policy(), random_ids(2, 7)
    reference = policy.frozen_copy()
    before_BSV = everywhere(policy, ids_BS)
    disturb(policy)
    assert torch.equal(everywhere(reference, ids_BS), before_BSV)
    assert not torch.allclose(everywhere(policy, ids_BS), before_BSV, atol=1e-2)
    assert not any(p.requires_grad for p in reference.parameters())


def test_the_fingerprint_tells_weights_apart():
    policy = small_policy()
    prints = {policy.fingerprint()}
    assert small_policy().fingerprint() in prints
    for name in [name for name, _ in policy.named_parameters()]:
        other = copy.deepcopy(policy)
        with torch.no_grad():
            other.get_parameter(name).mul_(1.001)
        prints.add(other.fingerprint())
    prints.add(small_policy(seed=1).fingerprint())
    assert len(prints) == 2 + len(list(policy.parameters()))


def test_the_fingerprint_is_the_bases():
    """Training with LoRA and `stp.pregenerate`, which loads no adapter, must agree on what made a static dataset."""
    policy, base = lora_policy(), small_policy().fingerprint()
    assert policy.fingerprint() == base
    disturb(policy)
    assert policy.fingerprint() == base


def test_an_adapter_counts_in_the_fingerprint_where_it_is_asked_for():
    policy = lora_policy()
    prints = {small_policy().fingerprint(), policy.fingerprint(adapter=True)}
    assert lora_policy().fingerprint(adapter=True) in prints and small_policy().fingerprint(adapter=True) in prints
    policy.model.peft_config["default"].lora_alpha *= 2
    prints.add(policy.fingerprint(adapter=True))
    disturb(policy)
    prints.add(policy.fingerprint(adapter=True))
    assert len(prints) == 4


def test_the_tiny_policy_loads():
    policy, tokenizer = load_policy(Model())
    assert (policy.mask_id, policy.eos_id) == (tokenizer.mask_token_id, tokenizer.eos_token_id)
    assert not policy.training and all(p.requires_grad for p in policy.parameters())
    frozen, _ = load_policy(Model(lora=Lora(rank=4)), trainable=False)
    assert not any(p.requires_grad for p in frozen.parameters())
    assert not isinstance(frozen.model, PeftModel)
    adapted, _ = load_policy(Model(lora=Lora(rank=4)))
    assert {n.split(".")[-3] for n, p in adapted.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}


def test_a_folder_without_mask_token_or_tokenizer(tmp_path):
    model = small_model()
    model.config.mask_token_id = None
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match=r"^model\.path=.*: no tokenizer can be loaded there"):
        load_tokenizer(tmp_path / "model")
    tokenizer = copy.deepcopy(TOKENIZER)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match=r"names a mask token \(mask_token_id\)$"):
        load_policy(Model(path=str(tmp_path / "model")))


def test_paths_that_lead_nowhere(monkeypatch):
    def unreachable(*args, **kwargs):
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    for path in ("/nowhere", "./nowhere", "nowhere", "a/b/c"):
        with pytest.raises(UserError, match=f"^model.path={path}: no such folder; give a checkpoint folder or a hub id"):
            checkpoint_folder(Model(path=path))
    with pytest.raises(UserError, match=r"^model\.path=some/model: not a local folder, .* \(no route\)$"):
        checkpoint_folder(Model(path="some/model"))


def saved(folder, tokenizer=TOKENIZER):
    small_model().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_run_folder_is_no_model(tmp_path):
    """What to give in its place is said."""
    (tmp_path / "config.yaml").touch()
    (tmp_path / "metrics.jsonl").touch()
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").touch()
    for folder, said in ((tmp_path, "a run folder without weights"), (adapter, "an adapter")):
        with pytest.raises(UserError) as error:
            checkpoint_folder(Model(path=str(folder)))
        assert str(error.value).startswith(f"model.path={folder}: that is {said}")
        assert f"python -m stp.export checkpoint={folder} to=merged" in str(error.value)
    saved(tmp_path / "weights")
    with pytest.raises(UserError, match=rf"give its weights with model.path={tmp_path / 'weights'}$"):
        checkpoint_folder(Model(path=str(tmp_path)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(tmp_path, value):
    model = small_model()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 5] = value
    model.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    rule = r"1 of \d+ values of model.layers.1.mlp.up_proj.weight are not finite; give other weights$"
    with pytest.raises(UserError, match=rf"^model.path={tmp_path}: {rule}"):
        load_policy(Model(path=str(tmp_path)))


def test_a_sum_that_overflows_is_no_broken_weight():
    require_finite("model.path", Path("here"), "large", torch.full((4,), 3e38))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_pointer_of_git_lfs(tmp_path, name):
    (saved(tmp_path) / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(UserError, match=rf"^model.path={tmp_path / name}: it is a Git LFS pointer.*git lfs pull$"):
        load_policy(Model(path=str(tmp_path)))


def test_why_no_tokenizer_can_be_loaded_is_said_to_the_end(tmp_path, monkeypatch):
    def listing(*_, **__):
        raise ValueError("needs one of:\n (1) this\n (2) that")

    monkeypatch.setattr("stp.models.policy.AutoTokenizer.from_pretrained", listing)
    with pytest.raises(UserError, match=r"\(needs one of: \(1\) this \(2\) that\)$"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"d_model": 4096, "vocab_size": 126464, "embedding_size": 126464}, "llada_8b"),
        ({"model_type": "llama", "vocab_size": 126464}, "llada_8b"),
        ({"model_type": "Dream", "vocab_size": 152064}, "dream_7b"),
        ({"model_type": "a2d-qwen3", "vocab_size": 151936}, "qwen3_a2d"),
    ],
)
def test_a_large_model_is_not_described_as_the_tiny_one(tmp_path, config, named):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=rf"^checkpoint={tmp_path}: .*add model={named}, or"):
        require_described("checkpoint", tmp_path, Model())
    require_described("checkpoint", tmp_path, Model(name=named))
    require_described("checkpoint", shipped("countdown"), Model())
