"""A package that was built and installed works away from the checkout: it holds conf/, the tiny bases and the trace page."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.config import ROOTS

ROOT = Path(__file__).parents[2]
HYDRA = {name: f"{options.__module__}:{options.__name__}" for name, options in ROOTS.items()}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The content of a wheel built from an sdist of the checkout's files, unpacked into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in tracked.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())

    def build(kind, cwd):
        code = f"import setuptools.build_meta as build; build.build_{kind}({str(folder)!r})"
        subprocess.run([sys.executable, "-c", code], cwd=cwd, check=True, capture_output=True)

    build("sdist", source)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    build("wheel", folder / "unpacked" / sdist.name.removesuffix(".tar.gz"))
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def python(installed, cwd, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def test_the_wheel_holds_every_file_that_the_package_reads(installed):
    assert files(installed / "stp" / "conf") == files(ROOT / "conf")
    assert files(installed / "stp" / "models" / "tiny_base") == files(ROOT / "stp" / "models" / "tiny_base")
    assert {path.relative_to(ROOT / "stp") for path in (ROOT / "stp").rglob("*.html")} <= {
        path.relative_to(installed / "stp") for path in (installed / "stp").rglob("*.html")
    }


def test_every_command_composes_its_config_away_from_the_checkout(installed, tmp_path):
    code = f"""
import importlib, pathlib, sys, stp.cli, stp.config
from hydra import compose, initialize_config_dir
roots = {HYDRA!r}
assert pathlib.Path(stp.config.__file__).is_relative_to({str(installed)!r}), stp.config.__file__
assert pathlib.Path(stp.config.CONF).is_relative_to({str(installed)!r}), stp.config.CONF
for name, root in roots.items():
    module, _, options = root.partition(":")
    stp.config.register(name, getattr(importlib.import_module(module), options))
with initialize_config_dir(stp.config.CONF, version_base="1.3"):
    for name in roots:
        stp.config.build(compose(name))
    stp.config.build(compose("train", ["experiment=table5_stp"]))
for name in set(stp.cli.commands()) - set(roots):
    try:
        sys.argv = ["stp", name, "--help"]
        stp.cli.main()
    except SystemExit as ended:
        assert ended.code == 0
print("commands:", *stp.cli.commands(), flush=True)
sys.argv = ["stp", "train", "sampler.gamma=2"]
stp.cli.main()
"""
    done = python(installed, tmp_path, "-c", code)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("error: sampler.gamma=2"), done.stderr
    assert {"train", "export", "report", "bench", "soak", "theory"} <= set(done.stdout.splitlines()[-1].split())
    (scripts,) = installed.glob("*.dist-info/entry_points.txt")
    assert "stp = stp.cli:main" in scripts.read_text().splitlines()  # what the code calls


def test_a_users_own_presets_are_found_and_outputs_lie_where_the_command_runs(installed, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "own.yaml").write_text("# @package _global_\nsampler:\n  gamma: 0.125\n")
    done = python(installed, tmp_path, "-m", "stp.train", "--config-dir", "mine", "experiment=own", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert "gamma: 0.125" in done.stdout
