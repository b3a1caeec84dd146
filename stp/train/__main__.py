"""`python -m stp.train` is the main job."""

from stp.cli import run
from stp.config import Config
from stp.train import main

if __name__ == "__main__":
    run(main, "train", Config)
