"""`python -m stp.evaluate checkpoint=<run folder, adapter, weights or base>` measures accuracy, mean@k and pass@k."""

from stp.cli import run
from stp.evaluate.evaluate import Evaluation, main

if __name__ == "__main__":
    run(main, "evaluate", Evaluation)
