"""An option is a file: the classes are found in the packages, and agree with the files of conf/."""

import importlib
import sys

import pytest

from stp.config import SCHEMAS, options
from stp.estimators.base import Estimator
from tests.config.test_options import FILES

PACKAGES = {
    "task": "stp.tasks",
    "sampler": "stp.samplers",
    "estimator": "stp.estimators",
    "objective": "stp.objectives",
    "rescue": "stp.rescue",
    "protocol": "stp.protocols",
}


@pytest.mark.parametrize("group", PACKAGES)
def test_the_classes_of_a_package_are_the_option_files_of_its_group(group):
    found = options(PACKAGES[group])
    assert sorted(found) == FILES[group]
    assert found == SCHEMAS[group]
    for name, option in found.items():
        assert option.__module__ == f"{PACKAGES[group]}.{name}"
        assert option.__name__ == "".join(word.capitalize() for word in name.split("_")) + "_" * (name == "none")


def test_the_design_names_these():
    assert {"elbo", "one_step", "spg", "unigrpo", "coupled"} <= set(options("stp.estimators"))
    assert {"grpo", "policy_gradient"} <= set(options("stp.objectives"))
    assert {"standard", "stp"} <= set(options("stp.samplers")) and "countdown" in options("stp.tasks")


def test_a_new_file_is_a_new_option(tmp_path, monkeypatch):
    (tmp_path / "twice_over.py").write_text(
        "from stp.estimators.base import Estimator\n\n\nclass TwiceOver(Estimator):\n    pass\n\n\nclass Other:\n    pass\n"
    )
    (tmp_path / "tools.py").write_text("def helper():\n    pass\n")  # a module without its class is no option
    before = options("stp.estimators")
    package = importlib.import_module("stp.estimators")
    with monkeypatch.context() as patched:
        patched.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
        after = options("stp.estimators")
        for name in ("twice_over", "tools"):
            patched.delitem(sys.modules, f"stp.estimators.{name}")
            patched.delattr(package, name)
    assert set(after) - set(before) == {"twice_over"}
    assert issubclass(after["twice_over"], Estimator) and after["twice_over"].__name__ == "TwiceOver"
    assert options("stp.estimators") == before
