"""A run in which rank 1 alone draws a reward that is not a number, in its second update: arguments are folder and overrides."""

import math
import os
import sys
from pathlib import Path
from typing import Any

from stp.cli import stop_at_once
from stp.tasks import Countdown
from tests.integration.runs import run

ROWS = 6  # completions of an update on each of two ranks

if __name__ == "__main__":
    stop_at_once()
    original, calls = Countdown.reward_parts, iter(range(10**9))

    def reward_parts(self: Countdown, problem: Any, text: str) -> dict[str, float]:
        return {"format": math.nan} if next(calls) == ROWS + 2 else original(self, problem, text)

    if os.environ["RANK"] == "1":
        Countdown.reward_parts = reward_parts  # type: ignore[method-assign]
    run(Path(sys.argv[1]), *sys.argv[2:])
