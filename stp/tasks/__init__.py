"""Tasks: where problems come from, how they are asked, and how a completion is rewarded."""

from stp.tasks.base import Problem, Task, format_response, last_answer
from stp.tasks.countdown import Countdown
from stp.tasks.custom import Custom
from stp.tasks.gsm8k import Gsm8k
from stp.tasks.math import Math
from stp.tasks.sudoku import Sudoku

__all__ = ["Countdown", "Custom", "Gsm8k", "Math", "Problem", "Sudoku", "Task", "format_response", "last_answer"]
