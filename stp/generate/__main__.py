"""`python -m stp.generate checkpoint=… question="…"` answers a question, or each line of standard input."""

from stp.cli import run
from stp.generate.generate import Generation, main

if __name__ == "__main__":
    run(main, "generate", Generation)
