"""Finds the folder of option files."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
# inside the package if it is installed, beside it in a checkout
CONF = str(next(folder for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if folder.is_dir()))
