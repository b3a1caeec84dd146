"""Where the option files lie."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
LENGTHS = ("length", "steps", "block_length", "temperature")  # what conf/sampling sets
CONF = str(next(folder for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if folder.is_dir()))  # installed; a checkout
