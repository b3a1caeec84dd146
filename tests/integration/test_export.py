"""Exports: what is written loads again, to the bit, by this project's loaders and by the public ones."""

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from peft import PeftModel
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoTokenizer, LlamaForCausalLM

from stp import trained
from stp.config import recorded
from stp.errors import UserError
from stp.evaluation.intervals import accuracy, scored
from stp.export import Export, main, results
from stp.models.adapters import save_adapter
from stp.models.dream import load_dream
from stp.models.llada import load_llada
from stp.models.options import Lora, Model
from stp.models.policy import Policy, add_lora, load_policy
from stp.models.tiny import shipped
from stp.run.checkpoints import MANIFEST
from tests.commands import command
from tests.config import composed, told
from tests.integration.runs import run
from tests.models import TOKENIZER, random_ids
from tests.models.test_dream import MASK, write_dream
from tests.models.test_llada import random_llama, write_llada
from tests.tasks import shared

LORA = ["model.lora.rank=4", "optimizer.lr=1e-2", "optimizer.warmup=0", "trainer.updates=1", "trainer.eval_size=0"]


def export(checkpoint, to, model=None, **options):
    run_model = recorded(Path(checkpoint))[0] if (Path(checkpoint) / "config.yaml").exists() else Model()
    main(Export(model=model or run_model, checkpoint=str(checkpoint), to=to, **options))


@torch.no_grad()
def logits(model, vocabulary=None):
    return model(input_ids=random_ids(2, 9, vocabulary=vocabulary)).logits


@pytest.fixture(scope="module")
def lora_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora") / "run"
    run(folder, *LORA)
    return folder


@pytest.fixture(scope="module")
def adapted(lora_run):
    """The trained policy's own logits."""
    model = PeftModel.from_pretrained(load_llada(shipped("countdown")), str(lora_run / "adapter"))
    assert not torch.allclose(logits(model), logits(load_llada(shipped("countdown"))), atol=1e-3)
    return logits(model)


def test_an_adapter_reloads_exactly(lora_run, adapted):
    export(lora_run, "adapter")
    folder = lora_run / "export-adapter"
    assert torch.equal(logits(PeftModel.from_pretrained(load_llada(shipped("countdown")), str(folder))), adapted)
    before, after = (load_file(f / "adapter_model.safetensors") for f in (lora_run / "adapter", folder))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == TOKENIZER.get_vocab()


def test_a_runs_adapter_names_its_base(lora_run):
    settings = json.loads((lora_run / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(shipped("countdown"))
    card = (lora_run / "adapter" / "README.md").read_text()
    assert "- Base: `countdown`\n- Task: Countdown (problems: generate)\n- Method: " in card


def test_lladas_names_of_an_adapter(lora_run, adapted):
    export(lora_run, "adapter_llada")
    folder = lora_run / "export-adapter_llada"
    before, after = (load_file(f / "adapter_model.safetensors") for f in (lora_run / "adapter", folder))
    name = "base_model.model.model.{}.lora_B.weight"
    assert len(after) == len(before)
    assert torch.equal(after[name.format("transformer.blocks.0.q_proj")], before[name.format("layers.0.self_attn.q_proj")])
    export(folder, "adapter", folder=str(folder.with_name("back")))  # and an adapter in LLaDA's names is read
    back = load_file(folder.with_name("back") / "adapter_model.safetensors")
    assert back.keys() == before.keys() and all(torch.equal(before[name], back[name]) for name in before)
    export(folder, "merged", folder=str(folder.with_name("merged")))
    assert_close(logits(load_llada(folder.with_name("merged"))), adapted, atol=2e-5, rtol=1e-5)


def test_an_adapter_keeps_its_precision(tmp_path):
    half = add_lora(load_llada(shipped("countdown")), Lora(rank=2)).bfloat16()
    save_adapter(half, tmp_path / "half", "base")
    before = load_file(tmp_path / "half" / "adapter_model.safetensors")
    for to in ("adapter", "adapter_llada"):
        export(tmp_path / "half", to)
        after = load_file(tmp_path / f"half-{to}" / "adapter_model.safetensors")
        assert {t.dtype for t in after.values()} == {torch.bfloat16}
        assert sorted(t.sum().item() for t in after.values()) == sorted(t.sum().item() for t in before.values())


@pytest.mark.parametrize("to", ["merged", "llada"])
def test_weights_keep_the_precision_of_their_folder(to, tmp_path):
    original = write_llada(random_llama().bfloat16(), tmp_path / "original", precision="amp_bf16")
    TOKENIZER.save_pretrained(original)
    export(original, to)
    export("base", to, Model(path=str(original)), folder=str(tmp_path / "base"))
    export(original, to, folder=str(tmp_path / "whole"), dtype="float32")
    expected = {original.with_name(f"original-{to}"): "bfloat16", tmp_path / "base": "bfloat16", tmp_path / "whole": "float32"}
    for folder, dtype in expected.items():
        assert json.loads((folder / "config.json").read_text())["torch_dtype"] == dtype
        assert {t.dtype for t in load_file(folder / "model.safetensors").values()} == {getattr(torch, dtype)}


def test_an_adapter_in_half_precision_is_rounded_once(tmp_path):
    """The product of its factors is not: only the weights that it is added to."""
    base = random_llama().bfloat16()
    original = write_llada(base, tmp_path / "original", precision="amp_bf16")
    TOKENIZER.save_pretrained(original)
    adapted = add_lora(base, Lora(rank=2, alpha=3)).bfloat16()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(parameter.data, generator=generator)
    save_adapter(adapted, tmp_path / "adapter", "base")
    export(tmp_path / "adapter", "merged", Model(path=str(original), dtype="bfloat16"))
    layer = adapted.get_base_model().model.layers[0].self_attn.q_proj
    a, b = (layer.get_parameter(f"lora_{part}.default.weight").float() for part in "AB")
    expected = (layer.base_layer.weight.float() + b @ a * 1.5).bfloat16()
    merged = load_file(tmp_path / "adapter-merged" / "model.safetensors")
    assert torch.equal(merged["model.layers.0.self_attn.q_proj.weight"], expected)


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_an_adapter_on_one_of_two_tied_matrices_is_not_merged(target, tmp_path):
    original = write_llada(random_llama(tied=True), tmp_path / "original")
    TOKENIZER.save_pretrained(original)
    untied = add_lora(random_llama(), Lora(rank=2, target_modules=[target]))
    save_adapter(untied, tmp_path / "adapter", "base")
    for to in ("merged", "llada", "adapter_llada"):
        rule = f"^to={to}: the adapter is on the head or the embeddings, which are one matrix .*; use to=adapter$"
        with pytest.raises(UserError, match=rule):
            export(tmp_path / "adapter", to, Model(path=str(original)))
    export(tmp_path / "adapter", "adapter", Model(path=str(original)))
    assert len(load_file(tmp_path / "adapter-adapter" / "adapter_model.safetensors")) == 2


@pytest.mark.parametrize("to", ["merged", "llada"])
def test_merged_weights_are_base_plus_adapter(lora_run, adapted, to, tmp_path):
    export(lora_run, to, folder=str(tmp_path / "out"))
    loaded = load_llada(tmp_path / "out")
    assert_close(logits(loaded), adapted, atol=2e-5, rtol=1e-5)
    base, adapter = load_llada(shipped("countdown")), load_file(lora_run / "adapter" / "adapter_model.safetensors")
    name = "model.layers.0.self_attn.q_proj"
    delta = adapter[f"base_model.model.{name}.lora_B.weight"] @ adapter[f"base_model.model.{name}.lora_A.weight"] * 64 / 4
    assert_close(loaded.get_parameter(f"{name}.weight"), base.get_parameter(f"{name}.weight") + delta)
    assert torch.equal(loaded.lm_head.weight, base.lm_head.weight)  # what has no adapter is untouched
    policy, _ = load_policy(Model(path=str(tmp_path / "out")), trainable=False)
    assert (policy.mask_id, policy.eos_id) == (TOKENIZER.mask_token_id, TOKENIZER.eos_token_id)


def test_exports_of_exports_stay_exact(lora_run, tmp_path):
    """Stock to LLaDA's layout and back: every weight to the bit."""
    export(lora_run, "merged", folder=str(tmp_path / "a"))
    export(tmp_path / "a", "llada", folder=str(tmp_path / "b"))
    export(tmp_path / "b", "merged", folder=str(tmp_path / "c"))
    assert torch.equal(logits(load_llada(tmp_path / "b")), logits(load_llada(tmp_path / "a")))
    a, c = (load_file(tmp_path / name / "model.safetensors") for name in "ac")
    assert a.keys() == c.keys() and all(torch.equal(a[name], c[name]) for name in a)


@pytest.mark.parametrize("tied", [False, True])
def test_lladas_own_names_and_config(tied, tmp_path):
    """Against the table of names that the tests keep: what LLaDA's tools look for."""
    original = write_llada(random_llama(tied=tied), tmp_path / "original")
    TOKENIZER.save_pretrained(original)
    export(original, "llada")
    written = tmp_path / "original-llada"
    before, after = (load_file(f / "model.safetensors") for f in (original, written))
    assert set(after) == set(before) - ({"model.transformer.ff_out.weight"} if tied else set())
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
    asked, said = (json.loads((f / "config.json").read_text()) for f in (original, written))
    mask = {"mask_token_id": TOKENIZER.mask_token_id}  # the tokenizer's, which counts
    assert {key: said[key] for key in asked} == asked | mask
    assert (said["model_type"], said["architectures"]) == ("llada", ["LLaDAModelLM"])


def test_the_reference_checkpoint_comes_back(tmp_path):
    """LLaDA's modelling code wrote the fixture: config keys, names, weights and logits survive the round trip."""
    fixture = shared("fixtures/llada_tiny")
    (tmp_path / "original").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "original" / name).write_bytes((fixture / name).read_bytes())
    TOKENIZER.save_pretrained(tmp_path / "original")
    export(tmp_path / "original", "llada", folder=str(tmp_path / "again"))
    before, after = (load_file(f / "model.safetensors") for f in (fixture, tmp_path / "again"))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    asked, said = (json.loads((f / "config.json").read_text()) for f in (fixture, tmp_path / "again"))
    assert {key: said[key] for key in asked} == asked | {"mask_token_id": TOKENIZER.mask_token_id}
    expected = load_file(fixture / "expected.safetensors")
    with torch.no_grad():
        assert_close(
            load_llada(tmp_path / "again")(input_ids=expected["input_ids"]).logits, expected["logits"], atol=1e-4, rtol=0
        )


def test_a_dream_merges_to_a_stock_qwen2(tmp_path):
    dream = write_dream(tmp_path / "dream")
    TOKENIZER.save_pretrained(dream)
    model = add_lora(load_dream(dream), Lora(rank=2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.01)
    model.save_pretrained(tmp_path / "adapter")
    export(tmp_path / "adapter", "merged", Model(path=str(dream)), dtype="float32")  # the base says bfloat16
    merged = tmp_path / "adapter-merged"
    assert json.loads((merged / "config.json").read_text())["model_type"] == "qwen2"
    assert_close(logits(load_dream(merged), 47), logits(model, 47), atol=2e-5, rtol=1e-5)
    ids_BS, index_M = random_ids(2, 9, vocabulary=47), torch.arange(18)
    aligned, _ = load_policy(Model(path=str(merged)), trainable=False)
    with torch.no_grad():
        assert_close(aligned(ids_BS, None, index_M), Policy(model, MASK, 1)(ids_BS, None, index_M), atol=2e-5, rtol=1e-5)
    for to, instead in (("llada", "merged"), ("adapter_llada", "adapter")):
        with pytest.raises(UserError, match=rf"^to={to}: the model is a Qwen2ForCausalLM, not a LLaDA; use to={instead}$"):
            export(tmp_path / "adapter", to, Model(path=str(dream)))
    assert not (tmp_path / "adapter-llada").exists() and not list(tmp_path.glob("*.writing"))


def test_a_full_fine_tuned_run(tmp_path):
    run(tmp_path / "run", "trainer.updates=1", "trainer.eval_size=0")
    with pytest.raises(UserError, match=r"^to=adapter: .*has no adapter, .*; use to=merged$"):
        export(tmp_path / "run", "adapter")
    export(tmp_path / "run", "llada", dtype="float32")
    trained = logits(load_llada(tmp_path / "run" / "weights"))
    assert torch.equal(logits(load_llada(tmp_path / "run" / "export-llada")), trained)
    assert not torch.equal(trained, logits(load_llada(shipped("countdown"))))


def test_the_stock_class_reads_merged_weights(tmp_path):
    """Without this project: transformers' own loader, told not to mask causally."""
    export("base", "merged", folder=str(tmp_path / "out"))
    stock = LlamaForCausalLM.from_pretrained(tmp_path / "out")
    assert stock.config.is_causal is False
    assert torch.equal(logits(stock), logits(load_llada(shipped("countdown"))))
    export("base", "llada", folder=str(tmp_path / "half"), dtype="bfloat16")
    assert {t.dtype for t in load_file(tmp_path / "half" / "model.safetensors").values()} == {torch.bfloat16}


def test_an_adapter_trained_on_4_bit_weights_merges_into_whole_ones(lora_run, adapted, tmp_path):
    model = Model(quantize="nf4", dtype="bfloat16", lora=Lora(rank=4))  # what such a run's config.yaml says
    export(lora_run / "adapter", "merged", model, folder=str(tmp_path / "out"), dtype="float32")
    assert_close(logits(load_llada(tmp_path / "out")), adapted, atol=2e-5, rtol=1e-5)


def test_what_is_there_is_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.setattr(trained, "load", lambda *args: pytest.fail("it loaded before it looked"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"^folder=.*out: something is there already; remove it or give another folder="):
        export("base", "merged", folder=str(tmp_path / "out"))
    with pytest.raises(UserError, match=r"^folder=None: the base has no folder .* give folder=<folder>, or checkpoint="):
        export("base", "merged")
    with pytest.raises(UserError, match=r"^checkpoint=nowhere: no such folder; give a run folder"):
        export("nowhere", "merged")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["notes.txt"]


def test_the_command(tmp_path):
    (tmp_path / "out").mkdir()  # an empty folder is taken
    done = command("-m", "stp.export", "checkpoint=base", "to=llada", f"folder={tmp_path / 'out'}", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path / 'out'}\n", "")
    assert torch.equal(logits(load_llada(tmp_path / "out")), logits(load_llada(shipped("countdown"))))
    assert [p.name for p in tmp_path.iterdir()] == ["out"]  # and nothing else is left behind


def test_the_options_build():
    config = composed("export", "checkpoint=a", "to=llada", "model=dream_7b")
    assert (config.to, config.folder, config.model.path) == ("llada", None, "Dream-org/Dream-v0-Instruct-7B")
    assert dataclasses.replace(config, to="adapter").dtype is None


class Hub:
    """A stand-in for the hub: it remembers what it was asked, or fails in the way that a test wants."""

    asked: list = []
    failure: Exception | None = None

    def __init__(self, token):
        self.token = token

    def whoami(self):
        if self.failure is not None:
            raise self.failure

    def create_repo(self, name, exist_ok):
        Hub.asked.append((name, exist_ok, self.token))
        return f"https://hub.example/{name}"

    def upload_folder(self, repo_id, folder_path, commit_message):
        Hub.asked.append((repo_id, sorted(file.name for file in folder_path.iterdir()), commit_message))


TOKEN = "hf_ThisIsNoTokenButLooksLikeOne12345678"


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr("stp.run.hub.HfApi", Hub)
    monkeypatch.setattr("stp.run.hub.get_token", lambda: TOKEN)
    monkeypatch.setattr(Hub, "asked", [])
    return Hub


@pytest.fixture
def measured_run(lora_run, tmp_path):
    """The run, with scores in its summary: 29.5 and 53.5 % of 512 have Wilson's intervals."""
    folder = shutil.copytree(lora_run, tmp_path / "measured", ignore=shutil.ignore_patterns("export-*"))
    summary = json.loads((folder / "summary.json").read_text())
    for name, correct in (("base", 151), ("final", 274)):
        score = {"correct": correct, "total": 512, "accuracy": correct / 512}
        summary[name] = {**score, "temperature": 0.0, "T=1": score}
    summary["eval"] = {"split": "test", "source": "generated", "grading": "corrected"}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_an_upload_has_a_card_of_what_was_trained_and_measured(hub, measured_run, capsys):
    export(measured_run, "adapter", push="me/countdown-stp")
    files = sorted(["README.md", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json"])
    assert hub.asked == [("me/countdown-stp", True, TOKEN), ("me/countdown-stp", files, "Upload export-adapter")]
    folder = measured_run / "export-adapter"
    printed = capsys.readouterr().out
    assert printed == f"{folder}\nhttps://hub.example/me/countdown-stp\n"
    card = (folder / "README.md").read_text()
    assert "| T=0 | 29.5% (151/512) [25.7, 33.6] | 53.5% (274/512) [49.2, 57.8] |\n| T=1 | 29.5%" in card
    assert (
        "- Recipe: learning rate 0.01, prompts per update 2, completions per prompt 6, " in card and ", LoRA rank 4\n" in card
    )
    assert "- Task: Countdown (problems: generate)" in card and "- Base: `countdown`" in card
    assert 'PeftModel.from_pretrained(base.model, "me/countdown-stp")' in card
    assert TOKEN not in printed + card
    public = "".join(file.read_text() for file in folder.glob("*[nd]") if file.suffix in (".json", ".md"))
    assert str(shipped("countdown").parents[2]) not in public  # nor in the adapter's settings


def test_cells_of_a_puzzle_have_the_interval_over_puzzles(tmp_path):
    """Four puzzles of 8 cells, all right or all wrong: as little is known as of four answers. An older run kept no interval."""
    cells = [
        {"problem": str(i), "correct": i < 2, "counts": {"cells": [8 * (i < 2), 8], "puzzles": [int(i < 2), 1]}}
        for i in range(4)
    ]
    whole = {"task": "sudoku", "seed": 0, "updates": 1, "time": {"train_s": 1.0}, "finished": "2026-11-25T12:00:00"}
    about = {"split": "test", "source": "from /home/me/sudoku.csv", "grading": "published"}

    def card(score):
        both = {"temperature": 0.0, **score, "T=1": score}
        (tmp_path / "summary.json").write_text(json.dumps(whole | {"base": both, "final": both, "eval": about}))
        (tmp_path / "config.yaml").touch()
        return "\n".join(results(str(tmp_path), tmp_path / "weights"))

    lines = card(scored(cells))
    assert (
        "\n| T=0 | 50.0% (16/32 cells) [15.0, 85.0] | 50.0%" in lines and "\n| T=1, puzzles | 50.0% (2/4 puzzles) [15" in lines
    )
    assert "(from sudoku.csv; published grading)" in lines and "/home" not in lines
    assert "\n| T=0 | 50.0% (16/32 cells) | 50.0% (16/32 cells) |\n" in card(accuracy(cells))


def test_a_dry_run_shows_it_and_keeps_nothing(hub, measured_run, capsys):
    export(measured_run, "merged", push="me/x", dry_run=True)
    printed = capsys.readouterr().out
    assert not hub.asked and not list(measured_run.glob("export-*"))
    assert printed.startswith("me/x would get these files, and nothing was uploaded:\n  README.md  ")
    assert "model.safetensors  " in printed and "53.5% (274/512) [49.2, 57.8]" in printed


def test_results_are_those_of_the_final_weights_alone(measured_run):
    assert results(str(measured_run), measured_run / "adapter") and results(
        str(measured_run / "adapter"), measured_run / "adapter"
    )
    checkpoint = measured_run / "checkpoints" / "update-000001"
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / MANIFEST).touch()
    assert not results(str(checkpoint), checkpoint) and not results("base", None)


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (ConnectionError(f"no route\nfor {TOKEN}"), r"the hub cannot be reached \(no route for …\)$"),
        (OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE is set; unset it"),
        (None, "no token for the hub is here; log in with `hf auth login`, or set HF_TOKEN$"),
    ],
)
def test_an_upload_that_cannot_work_is_refused_before_the_work(failure, said, hub, lora_run, monkeypatch):
    monkeypatch.setattr(trained, "load", lambda *args: pytest.fail("it loaded before it asked the hub"))
    monkeypatch.setattr(hub, "failure", failure)
    if failure is None:
        monkeypatch.setattr("stp.run.hub.get_token", lambda: None)
    with pytest.raises(UserError, match=rf"^push=me/x: {said}") as error:
        export(lora_run, "merged", push="me/x", folder=str(lora_run / "never"))
    assert "\n" not in str(error.value) and TOKEN not in str(error.value)


def test_an_upload_that_breaks_leaves_the_export(hub, lora_run, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise HfHubHTTPError("Forbidden", response=SimpleNamespace(status_code=403, headers={}, request=None))

    monkeypatch.setattr(hub, "create_repo", refuse)
    rule = r"^push=me/x: the hub refuses it \(403\); the token must be allowed to write to me/x; the export is whole in "
    with pytest.raises(UserError, match=rule):
        export(lora_run, "adapter", push="me/x", folder=str(tmp_path / "out"))
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()


def test_places_on_the_hub():
    assert "push=alone: a place on the hub is <user or organisation>/<name>" in told("export", "push=alone")
    assert "push=a/b/c: a place on the hub" in told("export", "push=a/b/c")
    assert "dry_run=True: it shows an upload; add push=" in told("export", "dry_run=true")
