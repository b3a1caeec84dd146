"""`python -m stp.pretrain` makes the tiny base again, by masked-diffusion pretraining on generated text about a task."""

from stp.cli import run
from stp.pretrain.pretrain import Pretraining, main

if __name__ == "__main__":
    run(main, "pretrain", Pretraining)
