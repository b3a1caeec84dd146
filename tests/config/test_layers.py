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
LAYERS = [
    {"errors"},
    {"types", "ranks", "trainer", "memory"},
    {"diffusion"},
    {"samplers", "estimators", "objectives"},
    {"roles", "batches"},
    {"metrics", "probe"},
    {"loop"},
]
CORE = set().union(*LAYERS) - {"errors"}
ENTRY_POINTS = {"train", "plan", "evaluate", "trace", "export", "pregenerate", "pretrain", "report"}


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
    return next((i for i, parts in enumerate(LAYERS) if name in parts), len(LAYERS))


def test_the_sources_are_found():
    assert {"stp/loop.py", "stp/engine.py", "stp/samplers/stp.py"} <= set(SOURCES)
    assert {part(name) for name in SOURCES} >= CORE


def test_only_the_engine_imports_deepspeed():
    assert importers("deepspeed") == {"stp/engine.py"}


def test_only_tracking_imports_wandb():
    assert importers("wandb") == {"stp/tracking.py"}


def test_hydra_stays_in_config_and_the_entry_points():
    assert {part(name) for name in importers("hydra", "omegaconf")} <= {"config", "cli", *ENTRY_POINTS}


@pytest.mark.parametrize("name", [name for name in SOURCES if part(name) in CORE])
def test_the_core_imports_torch_only(name):
    assert outside(SOURCES[name]) <= {"torch"}


@pytest.mark.parametrize("name", [name for name in SOURCES if layer(part(name)) < len(LAYERS)])
def test_imports_point_downwards(name):
    own = part(name)
    inside = {part(module) for module in imports(SOURCES[name]) if module.startswith("stp.")} - {own}
    assert all(layer(other) <= layer(own) for other in inside), inside
    if layer(own) == 3:  # samplers, estimators and objectives know nothing of each other
        assert all(layer(other) < layer(own) for other in inside), inside


def test_tasks_need_no_model():
    for name in (n for n in SOURCES if part(n) == "tasks"):
        assert not outside(SOURCES[name]) & {"torch", "transformers", "hydra", "omegaconf"}
        assert {part(m) for m in imports(SOURCES[name]) if m.startswith("stp.")} <= {"tasks", "errors", "text"}
