"""The page that shows the whole method runs, learns, and needs nothing but the core."""

import ast
import importlib.util
from pathlib import Path

FILE = Path(__file__).parents[2] / "examples" / "minimal_loop.py"
CORE = {"stp.diffusion", "stp.types", "stp.samplers", "stp.estimators", "stp.objectives"}


def test_it_learns():
    spec = importlib.util.spec_from_file_location("minimal_loop", FILE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    rewards = example.train(seed=1)  # by a processor's rounding seed 0 ends anywhere from .7 to .95, and this one at .9
    assert rewards[0] < 0.2  # eight digits and EOS are equally likely at first
    assert min(rewards[-5:]) > 0.8


def test_it_uses_the_core_and_torch_alone():
    imported = {
        node.module for node in ast.walk(ast.parse(FILE.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)
    }
    assert {name for name in imported if name.startswith("stp")} == CORE
    assert all(name == "torch" or name in CORE for name in imported)
