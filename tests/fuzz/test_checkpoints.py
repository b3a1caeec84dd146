"""Folders of weights, static datasets, checkpoints and runs: read, or refused in one line."""

import copy
import hashlib
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from stp.anchors.dataset import PARTS, StaticDataset
from stp.config import plain as plain_config
from stp.config import recorded
from stp.models.adapters import load_adapter
from stp.models.llada import save_llada
from stp.models.options import Lora, Model
from stp.models.policy import add_lora, load_policy
from stp.report.report import rows_of, runs_markdown
from stp.report.runs import load_runs, name_methods
from stp.train.resume import resume_point
from stp.types import Draws
from tests import fuzz
from tests.fuzz import inputs, outcome, tried
from tests.integration.runs import composed
from tests.models import TOKENIZER, small_model

HUGE = [
    0,
    -1,
    1,
    3,
    2**31,
    2**63,
    10**30,
    10**400,
    0.5,
    1e308,
    float("nan"),
    float("inf"),
    True,
    None,
    "",
    "x",
    "3",
    [],
    {},
    [[]],
    [3],
]
plain = st.sampled_from(HUGE) | st.text(max_size=4)
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


@st.composite
def damaged_json(draw, record):
    """The text of a JSON file with a value or two replaced or left out, or of something else."""
    if draw(st.integers(0, 9)) == 0:
        return draw(
            st.sampled_from(["", "{", "[]", "null", "3", '"x"', "[" * 5_000, "\0", "{}", "\ufeff{}", "NaN"])
            | values.map(json.dumps)
        )
    changed = dict(record)
    for name in draw(st.lists(st.sampled_from(sorted(record)), min_size=1, max_size=2)):
        if draw(st.booleans()) or draw(st.booleans()):
            changed[name] = draw(values)
        else:
            changed.pop(name, None)
    return json.dumps(changed)


@st.composite
def damaged_bytes(draw, content):
    """A file cut short, grown, overwritten in places, or replaced."""
    kind = draw(st.sampled_from(["cut", "grow", "head", "middle", "noise"]))
    noise = draw(st.binary(min_size=1, max_size=24))
    place = draw(st.integers(0, min(len(content), 4_000)))
    match kind:
        case "cut":
            return content[:place]
        case "grow":
            return content + noise
        case "head":
            return noise + content[len(noise) :]
        case "middle":
            return content[:place] + noise + content[place + len(noise) :]
    return noise


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """A small model in the stock layout and in LLaDA's, each with its tokenizer; one in files of an index."""
    folders = [tmp_path_factory.mktemp(name) for name in ("stock", "llada", "index")]
    model = small_model()
    model.save_pretrained(folders[0])
    save_llada(model, folders[1], TOKENIZER.mask_token_id)
    model.save_pretrained(folders[2])
    weights = {name: "model.safetensors" for name, _ in model.named_parameters()}
    (folders[2] / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weights}))
    for folder in folders:
        TOKENIZER.save_pretrained(folder)
    return folders


@st.composite
def damage(draw, folder, files):
    """(file, new content) of one file of a folder."""
    name = draw(st.sampled_from(files))
    content = (folder / name).read_bytes()
    if name.endswith(".json") and draw(st.integers(0, 3)):
        return name, draw(damaged_json(json.loads(content))).encode("utf-8", "surrogatepass")
    return name, draw(damaged_bytes(content))


def spoilt(folder, to, name, content):
    """A copy of a folder with one file changed."""
    shutil.copytree(folder, to)
    (to / name).write_bytes(content)
    return to


WEIGHT_FILES = ["config.json", "config.json", "model.safetensors", "model.safetensors.index.json"]


def test_a_folder_of_weights_is_loaded_or_refused(bases):
    @inputs(60)
    @given(st.data())
    def check(data):
        folder = data.draw(st.sampled_from(bases))
        name, content = data.draw(damage(folder, [file for file in WEIGHT_FILES if (folder / file).exists()]))
        with TemporaryDirectory() as aside:
            to = spoilt(folder, Path(aside) / "weights", name, content)
            loaded = outcome("checkpoints", lambda: load_policy(Model(path=str(to)), trainable=False))
            if loaded is not None:
                assert loaded[0](torch.tensor([[3, 4, 5]]), None, torch.tensor([1])).shape == (1, len(TOKENIZER))

    check()


def test_a_tokenizer_is_loaded_or_refused(bases):
    @inputs(30)
    @given(st.data())
    def check(data):
        name, content = data.draw(damage(bases[0], ["tokenizer.json", "tokenizer_config.json"]))
        with TemporaryDirectory() as aside:
            to = spoilt(bases[0], Path(aside) / "weights", name, content)
            outcome("checkpoints", lambda: load_policy(Model(path=str(to)), trainable=False))

    check()


@pytest.fixture(scope="module")
def static(tmp_path_factory):
    """A static dataset of two problems."""
    shape = (2, 1, 4)
    tensors = torch.ones(shape, dtype=torch.long), torch.ones(shape, dtype=torch.bool), torch.zeros(shape), torch.zeros(2, 1)
    tensors = *tensors, torch.zeros(2, 1, dtype=torch.bool)
    StaticDataset({"length": 4, "task": "countdown"}, ["a", "b"], *tensors).save(
        folder := tmp_path_factory.mktemp("s") / "static"
    )
    return folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """A LoRA adapter of rank 2 on the small model."""
    folder = tmp_path_factory.mktemp("adapter")
    add_lora(small_model(), Lora(rank=2)).save_pretrained(folder)
    return folder


def test_an_adapter_is_loaded_or_refused(adapter):
    model = small_model()
    assert load_adapter(adapter, copy.deepcopy(model))
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    @inputs(40)
    @given(st.data())
    def check(data):
        names = ["adapter_config.json", "adapter_config.json", "adapter_model.safetensors"]
        name, content = data.draw(damage(adapter, names))
        with TemporaryDirectory() as aside:
            to = spoilt(adapter, Path(aside) / "adapter", name, content)
            loaded = outcome("checkpoints", lambda: load_adapter(to, copy.deepcopy(model)))
            if loaded is not None:
                assert not any(parameter.requires_grad for name, parameter in loaded.named_parameters() if "lora_" in name)

    check()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_a_runs_config_is_read_or_refused():
    whole = plain_config(composed())

    @inputs(60)
    @given(st.data())
    def check(data):
        group = data.draw(st.sampled_from(["model", "sampler", "task", None]))
        text = data.draw(damaged_json(whole if group is None else whole[group]))
        if group is not None:
            try:
                text = json.dumps(whole | {group: json.loads(text)})
            except (ValueError, RecursionError):
                return
        with TemporaryDirectory() as aside:
            (Path(aside) / "config.yaml").write_text(text, errors="surrogatepass")
            found = outcome("checkpoints", lambda: recorded(Path(aside)))
            assert found is None or (isinstance(found[0], Model) and isinstance(found[1]["sampler"]["length"], int))

    check()


shapes = st.lists(st.integers(0, 5), max_size=4)
dtypes = st.sampled_from([torch.int64, torch.int32, torch.bool, torch.float32, torch.float16, torch.uint8])


def test_a_static_dataset_is_loaded_or_refused(static):
    @inputs(60)
    @given(st.data())
    def check(data):
        file = next(static.glob("anchors-*")).name
        name, content = data.draw(damage(static, ["anchors.json", file]))
        if data.draw(st.booleans()):
            made = {part: torch.zeros(data.draw(shapes), dtype=data.draw(dtypes)) for part in PARTS}
            name, content = file, save(made, {"problems": '["a", "b"]'})
        with TemporaryDirectory() as aside:
            to = spoilt(static, Path(aside) / "static", name, content)
            dataset = outcome("checkpoints", lambda: StaticDataset.load(to))
            for choose in ("first", "random", "best") if dataset is not None and dataset.problems else ():
                anchors = dataset.anchors(["a", "b", "c"], choose, Draws(0, 3))
                assert anchors.tokens_BL.shape == anchors.eligible_BL.shape == (3, dataset.tokens_NKL.shape[2])

    check()


STATE = {
    "update": 1,
    "optimizer_updates": 2,
    "ranks": 1,
    "unlogged": {},
    "base": {},
    "problems": {},
    "clock": {},
    "config": {"trainer": {}},
    "code": [],
    "visits": {"p": [1, 2]},
    "wandb_id": None,
}


def test_a_checkpoints_state_is_read_or_refused(tmp_path):
    config = composed("trainer.resume=x")

    @inputs(40)
    @given(damaged_json(STATE).filter(lambda text: not text.startswith("[[")))
    def check(text):
        with TemporaryDirectory() as aside:
            run = Path(aside)
            config.trainer.resume = aside
            folder = run / "checkpoints" / "update-000001"
            folder.mkdir(parents=True)
            (run / "checkpoints" / "latest").write_text(folder.name)
            (folder / "state.json").write_text(text, errors="surrogatepass")
            written = hashlib.sha256((folder / "state.json").read_bytes()).hexdigest()
            (folder / "manifest.json").write_text(json.dumps({"state.json": written}))
            assert outcome("checkpoints", lambda: resume_point(config, tmp_path / "fresh", {})) is None

    check()


SCORE = {"temperature": 0.0, "correct": 2, "total": 4, "accuracy": 0.5}
SUMMARY = {
    "task": "countdown", "model": "tiny", "sampler": "stp", "estimator": "elbo", "objective": "grpo", "experiment": None,
    "seed": 0, "updates": 2, "base": SCORE, "final": SCORE, "time": {"train_s": 1.0}, "forwards_per_rollout": 37.0,
    "finished": "2026-01-01T00:00:00", "elbo_variance": {"median": 1.0, "draws": 3},
}  # fmt: skip
CONFIG = {"trainer": {"eval_split": "test", "updates": 2}, "seed": 0, "logging": {}, "sampler": {"length": 24}, "classes": {}}
FILES = {
    "summary.json": SUMMARY,
    "config.yaml": CONFIG,
    "metrics.jsonl": {"update": 1, "reward/mean": 0.5},
    "eval.jsonl": {"update": 2, "temperature": 0.0, "problem": "p", "correct": True},
    "variance.jsonl": {"update": 1, "variance": 1.0, "variance_per_token": 0.1},
    "calibration.jsonl": {"update": 1, "bin": [9], "count": [2.0], "confidence": [1.9], "correct": [1.0], "reward": [0.4]},
}


@inputs(120)
@given(st.data())
def test_a_run_is_reported_or_left_out(data):
    """Beside a whole one, which is reported in any case."""
    contents = {name: json.dumps(record) + "\n" for name, record in FILES.items()}
    name = data.draw(st.sampled_from(sorted(contents)))
    damage = data.draw(
        damaged_json(FILES[name]) | st.sampled_from(["!!python/object/apply:os.system [exit]", "&a [*a]", "a: b: c", "\x1b"])
    )
    with TemporaryDirectory() as aside:
        for folder, texts in (("whole", contents), ("broken", contents | {name: damage})):
            (Path(aside) / folder).mkdir()
            for file, text in texts.items():
                (Path(aside) / folder / file).write_text(text, errors="surrogatepass")
        runs, damaged = load_runs([Path(aside) / "whole", Path(aside) / "broken"])
        tried["checkpoints", "refused" if damaged else "accepted"] += 1
        assert (Path(aside) / "whole").resolve() in [run["folder"].resolve() for run in runs] and len(damaged) < 2
        assert all(fuzz.plain(line) for line in damaged)
        assert runs_markdown([row for run in name_methods(runs) for row in rows_of(run)])
