"""Structured configs: the component dataclasses are the schemas. Turns a composed config into checked objects."""

import dataclasses
import hashlib
import importlib
import json
import math
import os
import pkgutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stp import __version__
from stp.engine import Optimizer, Zero
from stp.errors import fail, require, require_choice
from stp.estimators import Spg
from stp.guards import Guards
from stp.models.policy import Model
from stp.objectives import PolicyGradient
from stp.tracking import Logging
from stp.trainer import Trainer

INVALID = (OmegaConfBaseException, yaml.YAMLError)  # in a file of settings
_PACKAGE = Path(__file__).resolve().parent
LENGTHS = ("length", "steps", "block_length", "temperature")  # what conf/sampling sets
CONF = str(next(folder for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if folder.is_dir()))  # installed; a checkout


@dataclass
class Config:
    """What `python -m stp.train` runs."""

    model: Any = MISSING
    task: Any = MISSING
    sampler: Any = MISSING
    estimator: Any = MISSING
    objective: Any = MISSING
    zero: Any = MISSING
    logging: Any = MISSING
    optimizer: Optimizer = field(default_factory=Optimizer)
    trainer: Trainer = field(default_factory=Trainer)
    guards: Guards = field(default_factory=Guards)
    seed: int = field(default=0, metadata={"help": "seed of every draw of the run"})

    def __post_init__(self) -> None:
        require(self.seed >= 0, "seed", self.seed, "choose a whole number from 0 on")


@dataclass
class Plan(Config):
    """What `python -m stp.plan` looks at: a configuration of stp.train, and the GPUs it should fit on."""

    ranks: int | None = field(default=None, metadata={"help": "GPUs; null compares 1, 2, 4 and 8"})
    gpu_memory: float = field(default=80.0, metadata={"help": "GiB of each GPU; exit code 2 where they do not suffice"})
    reserve: float = field(
        default=2.0, metadata={"help": "GiB of each GPU left to the CUDA context, NCCL, kernels' own buffers and fragmentation"}
    )
    gpu_tflops: float = field(
        default=989.0,
        metadata={"help": "peak TFLOP/s of a GPU in the model's dtype: an H100's dense bfloat16; A100, A800: 312"},
    )
    utilization: float = field(default=0.4, metadata={"help": "share of that peak that the hours are estimated with"})

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.ranks is None or self.ranks >= 1, "ranks", self.ranks, "at least 1 GPU is needed; null compares several")
        require(0 < self.gpu_memory < math.inf, "gpu_memory", self.gpu_memory, "give the GiB of a GPU, say 80")
        require(0 <= self.reserve < math.inf, "reserve", self.reserve, "give the GiB to keep free on a GPU, say 2")
        require(0 < self.gpu_tflops < math.inf, "gpu_tflops", self.gpu_tflops, "give the TFLOP/s of a GPU, say 989 for an H100")
        require(0 < self.utilization <= 1, "utilization", self.utilization, "a share of the peak lies in (0, 1]; 0.4 is usual")


@dataclass
class Pregeneration:
    """What `python -m stp.pregenerate` runs."""

    model: Any = MISSING
    task: Any = MISSING
    sampler: Any = MISSING
    checkpoint: str = field(
        default="base",
        metadata={"help": "a run folder: its model, task, data and lengths are taken (the anchors are the base's)"},
    )
    source: str = field(default="model", metadata={"help": "model (its own completions) | ground_truth (worked solutions)"})
    to: str | None = field(
        default=None, metadata={"help": "folder to write; null is where training looks, under outputs/static"}
    )
    rows: int | None = field(
        default=None,
        metadata={"help": "completions denoised at once, and then written; null is 128 for the tiny model, else 12"},
    )

    def __post_init__(self) -> None:
        require_choice("source", self.source, ("model", "ground_truth"))
        require(self.rows is None or self.rows >= 1, "rows", self.rows, "at least 1 completion is denoised at a time")


@dataclass
class Evaluation:
    """What `python -m stp.evaluate` runs."""

    model: Any = MISSING
    task: Any = MISSING
    sampler: Any = MISSING
    protocol: Any = MISSING
    checkpoint: str = field(
        default="base",
        metadata={
            "help": "a run folder or one of its checkpoints (brings its model, task, data and lengths; what the command line"
            " names stays), an adapter or weights folder, or base"
        },
    )
    completions: str | None = field(
        default=None,
        metadata={
            "help": "grade these stored completions (question, completion, ground_truth; or an eval.jsonl) and load no model"
        },
    )
    temperatures: list[float] = field(default_factory=lambda: [0.0], metadata={"help": "0 is greedy; others are sampled"})
    samples: int = field(
        default=1, metadata={"help": "k, completions per problem at temperatures above 0; gives mean@k and pass@k"}
    )
    size: int | None = field(default=None, metadata={"help": "problems; null takes the whole split"})
    rows: int = field(default=128, metadata={"help": "completions denoised at once per rank, and then written"})
    to: str | None = field(
        default=None,
        metadata={
            "help": "folder to write; null is the run of this command; one that an interrupted evaluation left is continued"
        },
    )
    seed: int = field(default=0, metadata={"help": "seed of the sampled completions"})

    def __post_init__(self) -> None:
        require(bool(self.temperatures), "temperatures", self.temperatures, "give at least one, say [0.0]")
        for temperature in self.temperatures:
            require(0 <= temperature <= 10, "temperatures", temperature, "a temperature lies in [0, 10]")
        once = len(set(self.temperatures)) == len(self.temperatures)
        require(once, "temperatures", self.temperatures, "name each temperature once; samples= asks a problem several times")
        require(self.samples >= 1, "samples", self.samples, "at least 1 completion per problem is needed")
        require(self.rows >= 1, "rows", self.rows, "at least 1 completion is denoised at a time")
        require(self.size is None or self.size >= 1, "size", self.size, "at least 1 problem is needed")


@dataclass
class Tracing:
    """What `python -m stp.trace` shows: a few problems, each by the standard sampler and by the one given."""

    model: Any = MISSING
    task: Any = MISSING
    sampler: Any = MISSING
    checkpoint: str = field(
        default="base",
        metadata={
            "help": "a run folder or one of its checkpoints (brings its model, task, data and sampler; what the command"
            " line names stays), an adapter or weights folder, or base"
        },
    )
    problems: int = field(default=4, metadata={"help": "held-out problems on the page"})
    to: str | None = field(default=None, metadata={"help": "file to write; null is trace.html in the run of this command"})
    seed: int = field(default=0, metadata={"help": "seed of the drawn tokens, the same for both samplers"})

    def __post_init__(self) -> None:
        require(self.problems >= 1, "problems", self.problems, "at least 1 problem is needed")
        require(self.seed >= 0, "seed", self.seed, "choose a whole number from 0 on")


@dataclass
class Export:
    """What `python -m stp.export` runs."""

    model: Any = MISSING
    checkpoint: str = field(
        default="base",
        metadata={
            "help": "a run folder (brings its model), an adapter folder (model= says of what), a weights folder, or base"
        },
    )
    to: str = field(
        default="merged",
        metadata={
            "help": "adapter (PEFT) | adapter_llada (PEFT, on LLaDA's own names of modules) | merged (stock weights)"
            " | llada (LLaDA's own names and config)"
        },
    )
    folder: str | None = field(
        default=None, metadata={"help": "folder to write; null is export-<to> in the run, <name>-<to> beside other folders"}
    )
    dtype: str | None = field(
        default=None, metadata={"help": "float32 | bfloat16: of the merged weights; null is the run's or the weights' own"}
    )

    def __post_init__(self) -> None:
        require_choice("to", self.to, ("adapter", "adapter_llada", "merged", "llada"))
        if self.dtype is not None:
            require_choice("dtype", self.dtype, ("float32", "bfloat16"))


@dataclass
class Pretraining:
    """What `python -m stp.pretrain` runs: a corpus of three styles, so that the base knows more than it shows."""

    task: Any = MISSING
    seed: int = field(default=0, metadata={"help": "seed of the weights, the corpus and the masks"})
    updates: int = field(default=6000, metadata={"help": "optimizer updates"})
    batch: int = field(default=32, metadata={"help": "sequences per update"})
    lr: float = field(default=2e-3, metadata={"help": "peak learning rate (AdamW, cosine)"})
    length: int = field(default=48, metadata={"help": "response length in tokens, padded with EOS"})
    problems: int = field(default=1600, metadata={"help": "training-split problems the corpus is about"})
    careful_until: float = field(default=0.8, metadata={"help": "fraction of training with careful responses alone"})
    careful: float = field(default=0.34, metadata={"help": "afterwards: share that works the answer out rightly"})
    guess: float = field(default=0.33, metadata={"help": "afterwards: share that answers at once; the rest works carelessly"})
    width: int = field(default=96, metadata={"help": "hidden size"})
    layers: int = field(default=4, metadata={"help": "transformer layers"})
    to: str | None = field(default=None, metadata={"help": "folder to write; null replaces the base in the package"})

    def __post_init__(self) -> None:
        for name in ("updates", "batch", "length", "problems", "width", "layers"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "choose at least 1")
        require(
            self.length >= 48 and self.length % 24 == 0,
            "length",
            self.length,
            "choose 48, 72, 96, …: blocks of 24, 40 forwards",
        )
        require(self.width % 8 == 0, "width", self.width, "four heads of even size share it; choose a multiple of 8")
        require(0 < self.lr < 1, "lr", self.lr, "the learning rate must lie in (0, 1)")
        require(0 <= self.careful_until <= 1, "careful_until", self.careful_until, "a fraction lies in [0, 1]")
        shares = (self.careful, self.guess)
        require(
            min(shares) >= 0 and sum(shares) <= 1, "careful + guess", shares, "shares are at least 0 and add up to at most 1"
        )


def options(package: str) -> dict[str, type]:
    """The classes of a package that are options of its group: file `one_step.py`, option `one_step`, class `OneStep`."""
    found = {}
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        name = "".join(word.capitalize() for word in module.name.split("_"))
        option = getattr(importlib.import_module(f"{package}.{module.name}"), name, None)
        if option is not None:
            found[module.name] = option
    return found


SCHEMAS: dict[str, dict[str, type]] = {
    "model": {"model": Model},
    "task": options("stp.tasks"),
    "sampler": options("stp.samplers"),
    "estimator": options("stp.estimators"),
    "objective": options("stp.objectives"),
    "zero": {"zero": Zero},
    "logging": {"logging": Logging},
    "protocol": options("stp.protocols"),
}


# entry points and what they run
ROOTS: dict[str, type] = {
    "train": Config,
    "plan": Plan,
    "pregenerate": Pregeneration,
    "evaluate": Evaluation,
    "trace": Tracing,
    "export": Export,
    "pretrain": Pretraining,
}


def register() -> None:
    """Give Hydra the schemas (group `schema/…`), the help pages and the resolvers of conf. Idempotent."""
    OmegaConf.register_new_resolver("half", lambda number: number // 2, replace=True)
    OmegaConf.register_new_resolver("zero_at", lambda scale: {"paper": "stage2"}.get(scale, "off"), replace=True)
    OmegaConf.register_new_resolver("by_task", _by_task, replace=True)
    store = ConfigStore.instance()
    for group, schemas in SCHEMAS.items():
        for name, schema in schemas.items():
            store.store(group=f"schema/{group}", name=name, node=schema)
    for name, root in ROOTS.items():
        store.store(name=f"{name}_schema", node=root)
        store.store(group="hydra/help", name=f"stp_{name}", node={"app_name": f"stp.{name}", "template": help_page(name, root)})


def _by_task(values: Mapping[str, Any], others: Any, *, _root_: DictConfig) -> Any:
    """`${by_task:{math:1000},1500}`: what is said of the task that was chosen, or of all others."""
    return values.get(getattr(OmegaConf.get_type(_root_.task), "__name__", "").lower(), others)


def build(config: DictConfig, given: Sequence[str] = ()) -> Any:
    """The composed config as an object of its dataclasses, each checked by its own rules.

    given: the command line's overrides, which a run folder's own settings leave as they are.
    """
    refuse_unknown(config)
    expand_home(config)
    run = run_folder(config.checkpoint) if isinstance(config.get("checkpoint"), str) else None
    if run is not None:
        bring(config, run, given)
    if "protocol" in config:  # before the sampler's own rules, which would speak of blocks where the length is at fault
        protocol: Any = OmegaConf.to_object(config.protocol)
        protocol.check(config)
    built = OmegaConf.to_object(config)
    model, task = getattr(built, "model", None), getattr(built, "task", None)
    if isinstance(model, Model) and model.path is None and model.base is None and task is not None:
        model.base = task.name
    if isinstance(built, Config):
        check(built)
    return built


def run_folder(checkpoint: str) -> Path | None:
    """Returns the run that a checkpoint is, or lies in (its weights, adapter, exports and checkpoints do); None elsewhere."""
    place = Path(checkpoint).expanduser().absolute()
    if checkpoint == "base" or (place / "config.yaml").exists():
        return None if checkpoint == "base" else Path(checkpoint).expanduser()
    above = [place.parent, *([place.parent.parent] if place.parent.name == "checkpoints" else [])]
    return next((run for run in above if (run / "config.yaml").exists() and (run / "metrics.jsonl").exists()), None)


def bring(config: DictConfig, run: Path, given: Sequence[str]) -> None:
    """Give a command's config the model, the task with its data, and the sampler's settings of a run.

    What the command line names stays: a field (`sampler.length=`); the source of the problems as a whole (`task.data.path=`);
    a task or a model other than the run's (`task=`), with its own settings. So does what a protocol decides.

    Raises:
        UserError: the run's task has no such field as the command line names.
    """
    record = recorded(run)[1]
    names = {override.partition("=")[0].lstrip("+~") for override in given}
    names |= set(getattr(OmegaConf.get_type(config.get("protocol")), "decides", ()))
    names |= {"task.data"} if names & {"task.data.source", "task.data.path", "task.data.hub"} else set()
    names |= {f"sampler.{name}" for name in LENGTHS} if "sampling" in names else set()
    for group in ("model", "task", "sampler"):
        if group not in config:
            continue
        own, theirs = config[group], record[group]
        schema = {option.__name__: option for option in SCHEMAS[group].values()}[record["classes"][group]]
        other = OmegaConf.get_type(own) is not schema or (group == "model" and own.name != theirs["name"])
        if group == "sampler":  # the class is the command's: what trains may be pruned, what evaluates is not
            brought = OmegaConf.merge(own, {name: value for name, value in theirs.items() if name in own})
        elif group in names and other:
            continue
        else:
            brought = OmegaConf.merge(OmegaConf.structured(schema), theirs)
        kept = {name: OmegaConf.select(config, name) for name in sorted(names) if name.startswith(f"{group}.")}
        config[group] = brought
        for name, value in kept.items():
            known = OmegaConf.select(config, name.rpartition(".")[0])
            has = isinstance(known, DictConfig) and name.rpartition(".")[2] in known
            require(has, name, value, f"the run in {run} has {group}={schema.__name__.lower()}, which has no such field")
            OmegaConf.update(config, name, value)


def refuse_unknown(config: DictConfig, prefix: str = "") -> None:
    """Refuse groups left empty, and keys that no schema has (Hydra lets `+key=value` add them)."""
    schema = OmegaConf.get_type(config)
    known = {f.name for f in dataclasses.fields(schema)} if dataclasses.is_dataclass(schema) else None
    for key, value in config.items_ex(resolve=False):
        name = f"{prefix}{key!s}"
        if known is None or key not in known:
            fail(name, value, "no such field; --help lists them")
        if key in SCHEMAS and not prefix:
            options = ", ".join(sorted(p.stem for p in (Path(CONF) / str(key)).glob("*.yaml")))
            require(isinstance(value, DictConfig) and value._is_none() is False, name, value, f"choose one of {options}")
        if isinstance(value, DictConfig) and not value._is_none():
            refuse_unknown(value, f"{name}.")


def expand_home(config: DictConfig, prefix: str = "") -> None:
    """Write out `~` at the beginning of a path: no other setting begins with it."""
    for key, value in config.items_ex(resolve=False):
        if isinstance(value, DictConfig) and not value._is_none():
            expand_home(value, f"{prefix}{key!s}.")
        elif isinstance(value, str) and value.startswith("~"):
            config[key] = os.path.expanduser(value)
            require(not config[key].startswith("~"), f"{prefix}{key!s}", value, "no such user has a home; write the path out")


def check(config: Config) -> None:
    """Rules that join several groups."""
    full = config.model.lora.rank == 0
    if config.model.dtype == "bfloat16" and config.zero.stage == 0:
        fail(
            "model.dtype", "bfloat16", "needs fp32 master weights, which zero=off does not keep; add zero=stage1 or zero=stage2"
        )
    if config.model.quantize != "none":
        require(not full, "model.quantize", config.model.quantize, "4-bit weights cannot be trained; add model.lora.rank=128")
        require(config.zero.stage < 3, "zero.stage", 3, "4-bit weights are not sharded; use zero=stage2 or model.quantize=none")
    if config.model.compile:
        require(config.zero.stage < 3, "model.compile", True, "ZeRO-3 gathers each layer's weights; use zero=stage2")
        require(
            config.sampler.cache == "none",
            "model.compile",
            True,
            "kept keys and values are not compiled; use sampler.cache=none",
        )
    if full and config.model.dtype == "bfloat16" and config.objective.beta > 0:
        require(
            config.zero.stage < 3,
            "objective.beta",
            config.objective.beta,
            "the reference would be a whole frozen copy on each GPU; use LoRA (model.lora.rank=128) or objective.beta=0",
        )
    if isinstance(config.estimator, Spg) and not isinstance(config.objective, PolicyGradient):
        fail("objective", type(config.objective).__name__.lower(), "SPG's bounds have no ratio; use objective=policy_gradient")
    if config.trainer.micro_batch > config.trainer.prompts_per_update * config.trainer.group_size:
        config.trainer.micro_batch = config.trainer.prompts_per_update * config.trainer.group_size
    if config.zero.stage == 3:
        scored = config.trainer.micro_batch * config.estimator.samples * config.sampler.length
        require(
            config.model.logit_chunk >= scored,
            "model.logit_chunk",
            config.model.logit_chunk,
            f"ZeRO-3 needs one run of the head per pass: set model.logit_chunk={scored}, or a smaller trainer.micro_batch",
        )


def check_ranks(config: Config, ranks: int) -> None:
    """Groups stay whole, so the prompts of an update must divide among the ranks."""
    prompts = config.trainer.prompts_per_update
    require(
        prompts % ranks == 0,
        "trainer.prompts_per_update",
        prompts,
        f"{ranks} ranks share the prompts of an update evenly; choose a multiple of {ranks}",
    )


def plain(config: Any) -> dict[str, Any]:
    """A config object as plain nested dicts, with the class of each group (options of a group may share their fields)."""
    chosen = {group: type(getattr(config, group)).__name__ for group in SCHEMAS if hasattr(config, group)}
    return dataclasses.asdict(config) | {"classes": chosen}


def config_hash(config: Any) -> str:
    """Short hash of everything that decides a run's results (not where it logs, nor how often it looks)."""
    return _digest(decisive(plain(config)))


def seedless_hash(record: dict[str, Any]) -> str:
    """`config_hash` without the seed, of a plain config (a run's config.yaml): equal for the seeds of one experiment."""
    return _digest({k: v for k, v in decisive(record).items() if k != "seed"})


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()[:12]


def preset_config(name: str) -> tuple[dict[str, Any], dict[str, str]] | None:
    """The plain config of `experiment=<name>`, and the option it takes of each group; None if conf has no such preset."""
    if not (Path(CONF) / "experiment" / f"{name}.yaml").exists():
        return None
    register()
    with initialize_config_dir(CONF, version_base="1.3"):
        config = build(compose("train", [f"experiment={name}"]))
    chosen = {
        group: option
        for group, schemas in SCHEMAS.items()
        for option, schema in schemas.items()
        if type(getattr(config, group, None)) is schema
    }
    return plain(config), chosen


def code_version() -> str:
    """The commit of the package's checkout, and `dirty` where code or conf differ from it; elsewhere the package's version."""
    package = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=package, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "config.py")  # the checkout may be another project's, around a virtual environment
        return git("rev-parse", "HEAD") + (" dirty" if git("status", "--porcelain", "--", ".", CONF) else "")
    except (OSError, subprocess.CalledProcessError):
        return __version__


FREE = (
    *("trainer.micro_batch", "trainer.rollout_rows", "trainer.eval_"),
    *("zero.stage", "zero.offload"),
    *("model.logit_chunk", "model.gradient_checkpointing"),
)
PLACE = ("task.data.source", "task.data.path", "task.data.hub")


def decisive(record: dict[str, Any]) -> dict[str, Any]:
    """The part of a config that decides a run's results, given the number of updates."""
    trainer = {
        k: v
        for k, v in record["trainer"].items()
        if not k.startswith(("eval_every", "eval_first", "probe_", "checkpoint_", "keep_", "resume", "updates"))
    }
    return {k: v for k, v in record.items() if k not in ("logging", "guards")} | {"trainer": trainer}


def unplaced(record: dict[str, Any]) -> dict[str, Any]:
    """The settings of `decisive` by their names, without where the problems lie, for when their contents are compared."""
    return {name: value for name, value in leaves(decisive(record)).items() if name not in PLACE}


def binding(record: dict[str, Any]) -> dict[str, Any]:
    """The settings, by their names, that may not change while a run is continued: they decide its draws or its updates.

    Left out is what changes memory and rounding alone, how the run is evaluated, and where its problems lie (their contents are
    compared). LoRA's dropout is drawn per micro-batch, so with dropout its size stays.
    """
    settings = unplaced(record)
    free = FREE if not settings.get("model.lora.dropout") else tuple(name for name in FREE if name != "trainer.micro_batch")
    return {name: value for name, value in settings.items() if not name.startswith(free)}


def recorded(folder: Path) -> tuple[Model, dict[str, Any]]:
    """The model of a run, and its whole config, by its config.yaml; the parts that others read are of their schemas' types.

    Raises:
        UserError: it cannot be read, or stp.train did not write it.
    """
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        parts: dict[str, Any] = {}
        for group in ("model", "sampler", "task"):
            schema = {option.__name__: option for option in SCHEMAS[group].values()}[config["classes"][group]]
            parts[group] = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), config[group]))
        return parts["model"], config | {group: dataclasses.asdict(part) for group, part in parts.items()}
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError, *INVALID) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        fail("checkpoint", folder, f"its config.yaml is not one that stp.train wrote ({reason:.200})")


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The settings of a plain config by their names on the command line."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def unknown(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Settings that only one of two plain configs has though they are of the same classes: another version wrote one."""
    if "classes" not in old:
        return ["classes"]
    same = [{k: v for k, v in c.items() if old["classes"].get(k) == new["classes"].get(k)} for c in (old, new)]
    return sorted(leaves(same[0]).keys() ^ leaves(same[1]).keys())


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """`key: old -> new` for every leaf that differs."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}: {a} -> {b}")
    return found


def help_page(name: str, root: type) -> str:
    """Text of `--help`: the groups with their options, and every field with its meaning and default."""
    lines = [f"python -m stp.{name} [group=option] [field=value]", ""]
    used = {f.name for f in dataclasses.fields(root)}
    conf = Path(CONF)
    groups = [g for g in SCHEMAS if g in used]
    groups += ["sampling", "scale"] if "sampler" in groups else []
    groups += ["training", "experiment", "search", "cluster"] if issubclass(root, Config) else []
    if groups:
        lines.append("Groups (choose with group=option)")
    for group in groups:
        lines.append(f"  {group}: " + ", ".join(sorted(p.stem for p in (conf / group).glob("*.yaml"))))
    own = [f for f in dataclasses.fields(root) if f.name not in SCHEMAS]
    lines += ["", "Fields (set with field=value; defaults here are the classes', option files and scale change them)"]
    lines += _describe(own, "")
    for group in groups:
        for option, schema in SCHEMAS.get(group, {}).items():
            title = f"{group}={option}" if len(SCHEMAS[group]) > 1 else group
            lines += ["", f"{title}: {(schema.__doc__ or '').strip().splitlines()[0]}"]
            lines += _describe(dataclasses.fields(schema), f"{group}.")
    lines += ["", "Also: --cfg job prints the composed config, --multirun sweeps comma-separated values.", ""]
    return "\n".join(lines).replace("$", "$$")


def _describe(fields: Any, prefix: str) -> list[str]:
    lines = []
    for f in fields:
        factory = f.default_factory
        default = f.default if factory is dataclasses.MISSING else factory()
        if dataclasses.is_dataclass(default):
            lines += _describe(dataclasses.fields(default), f"{prefix}{f.name}.")
        else:
            lines.append(f"  {prefix}{f.name} = {default}".ljust(44) + f"  {f.metadata.get('help', '')}".rstrip())
    return lines
