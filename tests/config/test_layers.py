"""Who may import whom: the design's layers, read from the source."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {
    path.relative_to(ROOT).as_posix(): path for folder in ("stp", "scripts") for path in sorted((ROOT / folder).rglob("*.py"))
}

# from the bottom up; what is not here (tasks, models, engine, tracking, config, entry points) lies above
# from the bottom up: a part imports those below it, and of its own layer only where that is said
METHOD = [
    {"errors"},
    {"types", "ranks", "trainer"},
    {"diffusion"},
    {"samplers", "estimators", "objectives", "rescue"},
    {"roles", "batches"},
    {"metrics", "probe"},
    {"loop"},
]
ROOMS = [
    {"text"},
    {"tasks"},
    {"models", "protocols"},
    {"evaluation"},
    {"run"},
    {"config"},
    {"trained", "anchors", "cli"},
]
DOORS = {
    *("train", "evaluate", "pregenerate", "pretrain", "export", "plan", "trace", "generate", "lm_eval"),  # through Hydra
    *("report", "theory", "bench", "soak"),
}
CORE = set().union(*METHOD) - {"errors"}
ORDER = [*METHOD, *ROOMS, DOORS]


def imports(path):
    """Every module that a file imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(module):
    """`stp.samplers.stp` and `stp/samplers/stp.py` belong to the part `samplers`; `stp` itself to none."""
    names = module.removesuffix(".py").replace("/", ".").split(".")
    return names[1] if len(names) > 1 and names[0] == "stp" else None


def outside(path):
    """Top-level names of the packages that a file imports from outside the project and the standard library."""
    return {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - {"stp"}


def importers(*packages):
    return {name for name, path in SOURCES.items() if outside(path) & set(packages)}


def layer(name):
    return next(i for i, parts in enumerate(ORDER) if name in parts)


def inside(path):
    """The other parts of the package that a file imports."""
    found = {part(module) for module in imports(SOURCES[path]) if module.startswith("stp.")}
    return found - {part(path), None, "__version__"}


PACKAGE = [name for name in SOURCES if part(name) not in (None, "__init__") and name.startswith("stp/")]


def test_the_sources_are_found():
    assert {"stp/loop.py", "stp/run/engine.py", "stp/samplers/stp.py"} <= set(SOURCES)
    assert {part(name) for name in PACKAGE} == set().union(*ORDER)


def test_only_run_imports_deepspeed():
    assert importers("deepspeed") == {"stp/run/engine.py", "stp/run/ranks.py"}


def test_only_tracking_imports_wandb():
    assert importers("wandb") == {"stp/run/tracking.py"}


def test_hydra_stays_in_config_and_the_doors():
    assert {part(name) for name in importers("hydra", "omegaconf")} <= {"config", "cli", *DOORS}


@pytest.mark.parametrize("name", [name for name in SOURCES if part(name) in CORE])
def test_the_core_imports_torch_only(name):
    assert outside(SOURCES[name]) <= {"torch"}


@pytest.mark.parametrize("name", PACKAGE)
def test_imports_point_downwards(name):
    """No part imports one above it. Samplers, estimators and objectives know nothing of each other, nor do commands."""
    own = layer(part(name))
    assert all(layer(other) <= own for other in inside(name)), inside(name)
    if part(name) in DOORS or part(name) in METHOD[3]:
        assert all(layer(other) < own for other in inside(name)), inside(name)


def test_the_loop_names_what_it_needs():
    """`Any` hides no part of a run in the loop: it stands for numbers of a record alone."""
    text = SOURCES["stp/loop.py"].read_text(encoding="utf-8")
    assert text.count("Any") <= 4


def test_few_files_lie_flat():
    assert len(list((ROOT / "stp").glob("*.py"))) <= 16


def test_tasks_need_no_model():
    for name in (n for n in SOURCES if part(n) == "tasks"):
        assert not outside(SOURCES[name]) & {"torch", "transformers", "hydra", "omegaconf"}
        assert {part(m) for m in imports(SOURCES[name]) if m.startswith("stp.")} <= {"tasks", "errors", "text"}
