"""`python -m stp.train` is the main job. It composes the parts and runs the loop."""

from stp.train.job import execute, main
from stp.train.resume import finished, resume_point

__all__ = ["execute", "finished", "main", "resume_point"]
