"""Tasks: where problems come from, how they are asked, and how a completion is rewarded."""

from stp.tasks.base import Problem, Task, format_response, last_answer
from stp.tasks.countdown import Countdown

__all__ = ["Countdown", "Problem", "Task", "format_response", "last_answer"]
