"""What a run folder brings to the other commands, and what of it the command line replaces."""

import pytest
from omegaconf import OmegaConf

from stp.config import plain, run_folder
from stp.errors import UserError
from tests.config import composed

LENGTHS = ["sampler.length=24", "sampler.steps=12", "sampler.block_length=8", "sampler.temperature=0.5"]


@pytest.fixture
def folder(tmp_path):
    """What decides a GSM8K run on a file, with instructions and an adapter."""
    model = ["model.instructions=true", "model.lora.rank=4", "model.name=mine", "model.path=/base", "model.prompt_tokens=99"]
    config = composed(
        "train", "task=gsm8k", "task.data.path=/data", "task.data.test_size=7", *model, *LENGTHS, "sampler.gamma=0.3"
    )
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(plain(config))))
    (tmp_path / "run" / "metrics.jsonl").touch()
    return tmp_path / "run"


def lengths(config):
    return [config.sampler.length, config.sampler.steps, config.sampler.block_length]


@pytest.mark.parametrize("entry", ["evaluate", "trace", "pregenerate"])
@pytest.mark.parametrize("place", ["", "weights", "export-merged", "checkpoints/update-000001"])
def test_a_run_brings_its_model_task_data_and_lengths(folder, entry, place):
    """So does what lies in it. The sampler's class is the command's."""
    config, alone = composed(entry, f"checkpoint={folder / place}"), composed(entry)
    assert (config.task.name, config.task.data.path, config.task.data.source) == ("gsm8k", "/data", "file")
    assert config.task.data.test_size == 7
    assert (config.model.name, config.model.path, config.model.instructions) == ("mine", "/base", True)
    assert (config.model.lora.rank, config.model.prompt_tokens) == (4, 99)
    assert lengths(config) == [24, 12, 8] and config.sampler.temperature == 0.5
    assert type(config.sampler) is type(alone.sampler) and getattr(config.sampler, "gamma", 0.3) == 0.3


def test_an_export_brings_the_model(folder):
    assert composed("export", f"checkpoint={folder}").model.lora.rank == 4


def test_the_runs_own_task_named_again_is_the_runs(folder):
    config = composed("evaluate", f"checkpoint={folder}", "task=gsm8k", "protocol=published")
    assert config.task.data.path == "/data"
    assert config.task.grading == "published" and lengths(config) == [256, 128, 32]  # which the protocol decides


def test_another_task_is_the_command_lines_alone(folder):
    config = composed("evaluate", f"checkpoint={folder}", "task=math")
    assert (config.task.name, config.task.data.path, config.task.data.source) == ("math", None, "generate")
    assert config.model.name == "mine" and lengths(config) == [24, 12, 8]


@pytest.mark.parametrize("source", ["task.data.path=/other", "task.data.source=generate", "task.data.hub=some/set"])
def test_another_source_is_the_command_lines_whole(folder, source):
    config = composed("evaluate", f"checkpoint={folder}", source)
    name, _, value = source.rpartition("=")
    assert getattr(config.task.data, name.removeprefix("task.data.")) == value
    assert config.task.name == "gsm8k" and config.task.data.path != "/data" and config.task.data.test_size is None


def test_a_field_of_the_command_line_stays(folder):
    given = ["sampler.length=48", "task.data.test_size=3", "model.path=/moved", "model.lora.alpha=1", "task.grading=published"]
    config = composed("evaluate", f"checkpoint={folder}", *given)
    assert lengths(config) == [48, 12, 8]
    assert (config.task.data.path, config.task.data.test_size, config.task.grading) == ("/data", 3, "published")
    assert (config.model.path, config.model.lora.alpha, config.model.lora.rank) == ("/moved", 1, 4)


def test_lengths_chosen_as_a_group_stay(folder):
    config = composed("evaluate", f"checkpoint={folder}", "sampling=llada_8b")
    assert [*lengths(config), config.sampler.temperature] == [256, 128, 32, 0.9]


def test_a_model_of_another_name_replaces_the_runs(folder):
    assert composed("evaluate", f"checkpoint={folder}", "model=llada_8b").model.lora.rank == 128
    with pytest.raises(UserError, match=r"^task\.numbers=4: the run in .* has task=gsm8k, which has no such field"):
        composed("evaluate", f"checkpoint={folder}", "task.numbers=4")


def test_what_is_no_run_brings_nothing(folder, tmp_path):
    assert run_folder("base") is None and run_folder(str(tmp_path)) is None
    (folder / "metrics.jsonl").unlink()  # some other program's config.yaml
    assert run_folder(str(folder / "weights")) is None and run_folder(str(folder)) == folder
    assert composed("evaluate", f"checkpoint={tmp_path}").task.name == "countdown"


@pytest.mark.parametrize("value", ["[0,100]", "[0,-1]", "[nan]", "[0,0.0]", "[]"])
def test_temperatures_are_refused_at_once(value):
    with pytest.raises(UserError, match=r"^temperatures="):
        composed("evaluate", f"temperatures={value}")
