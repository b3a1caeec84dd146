"""`python -m stp.trace checkpoint=… task=…` writes an HTML page on which rollouts denoise, the standard sampler beside STP."""

from stp.cli import run
from stp.trace.trace import Tracing, main

if __name__ == "__main__":
    run(main, "trace", Tracing)
