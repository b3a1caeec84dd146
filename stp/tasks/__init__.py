"""Tasks: where problems come from, how they are asked, and how a completion is rewarded."""

from stp.tasks.base import Problem, Task, format_response, last_answer
from stp.tasks.countdown import Countdown
from stp.tasks.gsm8k import Gsm8k
from stp.tasks.math import Math

__all__ = ["Countdown", "Gsm8k", "Math", "Problem", "Task", "format_response", "last_answer"]
