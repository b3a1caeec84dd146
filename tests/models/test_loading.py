"""Loading: the model is exactly the file's, and host memory holds its weights once."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from stp.models.dream import load_dream
from stp.models.llada import load_llada
from stp.models.loading import stored_dtype
from tests.models import random_ids
from tests.models.test_dream import write_dream
from tests.models.test_llada import random_llama, write_llada


def mapped(path):
    """Address ranges of this process that are pages of a file."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    return [tuple(int(end, 16) for end in line[0].split("-")) for line in lines if line[-1] == str(path)]


def anonymous_mb():
    """Memory of this process that is no file's."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """A checkpoint of 100 MB in two files, nearly all of it embeddings."""
    folder = tmp_path_factory.mktemp("big")
    config = LlamaConfig(
        vocab_size=100_000, hidden_size=128, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, bos_token_id=None, eos_token_id=1,
    )  # fmt: skip
    config.save_pretrained(folder)
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in LlamaForCausalLM(config).named_parameters()}
    files = {name: f"{'head' if name == 'lm_head.weight' else 'trunk'}.safetensors" for name in shapes}
    for file in set(files.values()):
        save_file({n: torch.full(shapes[n], 0.5) for n in shapes if files[n] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    return folder


def test_weights_are_the_files_own_pages(big):
    before = anonymous_mb()
    model = load_llada(big)
    assert anonymous_mb() - before < 20  # of the 100 MB, none was copied
    for name, parameter in model.named_parameters():
        ranges = mapped(big / ("head.safetensors" if name == "lm_head.weight" else "trunk.safetensors"))
        assert any(a <= parameter.data_ptr() < b for a, b in ranges), name
        assert parameter.requires_grad and parameter.is_leaf


def test_another_dtype_is_one_copy(big):
    before = anonymous_mb()
    model = load_llada(big, torch.bfloat16)
    assert anonymous_mb() - before < 50 + 20
    assert not mapped(big / "trunk.safetensors")  # the file is closed again
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_training_leaves_the_file_alone(tmp_path):
    folder = write_llada(random_llama(), tmp_path / "llada")
    content = (folder / "model.safetensors").read_bytes()
    with torch.no_grad():
        for parameter in load_llada(folder).parameters():
            parameter.zero_()
    assert (folder / "model.safetensors").read_bytes() == content


@pytest.mark.parametrize("load", [load_llada, load_dream])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_stays_on_the_meta_device(load, dtype, tmp_path):
    """Rotary frequencies are in no file: they are computed, in float32 whatever the weights are in."""
    folder = write_llada(random_llama(), tmp_path / "m") if load is load_llada else write_dream(tmp_path / "m")
    model = load(folder, dtype)
    assert {t.device.type for t in [*model.parameters(), *model.buffers()]} == {"cpu"}
    theta = model.config.rope_parameters["rope_theta"]
    expected = 1 / theta ** (torch.arange(0, 8, 2, dtype=torch.float) / 8)
    assert {name.split(".")[-1] for name, _ in model.named_buffers()} == {"inv_freq", "original_inv_freq"}
    assert all(torch.equal(buffer, expected) and buffer.dtype == torch.float32 for buffer in model.buffers())


def test_tied_weights_stay_one_tensor(tmp_path):
    model = random_llama(tied=True)
    model.save_pretrained(tmp_path / "stock")
    for folder in (write_llada(model, tmp_path / "llada"), tmp_path / "stock"):
        loaded = load_llada(folder)
        assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
        ids_BS = random_ids(2, 9, vocabulary=50)
        with torch.no_grad():
            assert torch.equal(loaded(input_ids=ids_BS).logits, model(input_ids=ids_BS).logits)


def test_a_loaded_model_saves_what_was_loaded(tmp_path):
    folder = write_dream(tmp_path / "dream")
    load_dream(folder).save_pretrained(tmp_path / "again")
    before, after = (load_file(f / "model.safetensors") for f in (folder, tmp_path / "again"))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"dtype": "bfloat16"}, "bfloat16"),  # transformers 5
        ({"torch_dtype": "bfloat16"}, "bfloat16"),  # transformers 4
        ({"dtype": None, "torch_dtype": "torch.float32"}, "float32"),
        ({"precision": "amp_bf16"}, "bfloat16"),  # LLaDA's own config
        ({"dtype": "float32", "precision": "amp_bf16"}, "float32"),
        ({"torch_dtype": "float16"}, None),
        ({"dtype": ["bfloat16"]}, None),
        ({}, None),
    ],
)
def test_a_config_says_its_weights_precision(raw, expected):
    assert stored_dtype(raw) == expected
