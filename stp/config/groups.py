"""The groups of the command line and their options: an option is a file is a class."""

import importlib
import pkgutil
from keyword import iskeyword

from stp.models.options import Model
from stp.run.engine import Zero
from stp.run.tracking import Logging


def options(package: str) -> dict[str, type]:
    """Returns a package's classes that are options of its group: file `one_step.py`, option `one_step`, class `OneStep`.

    A name that Python keeps for itself gets an underscore: file `none.py`, option `none`, class `None_`.
    """
    found = {}
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        name = "".join(word.capitalize() for word in module.name.split("_"))
        name += "_" * iskeyword(name)
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
    "rescue": options("stp.rescue"),
    "zero": {"zero": Zero},
    "logging": {"logging": Logging},
    "protocol": options("stp.protocols"),
}
