"""`python -m stp.plan` tells what a configuration of stp.train needs, before a GPU is asked for."""

from stp.cli import run
from stp.plan.plan import Plan, main

if __name__ == "__main__":
    run(main, "plan", Plan)
