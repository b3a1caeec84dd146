"""How hard a prompt is: how often it has been solved, in the static dataset and then in every visit of the run."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from stp.ranks import Ranks
from stp.types import Anchors, Rollout


class Visits:
    """Counts the completions of each prompt in a run, and how many were right. It is the same on every rank.

    A prompt's solve rate is a mean over its pre-generations and all these completions, in which each of them counts alike.
    """

    def __init__(self, counts: dict[str, list[int]] | None = None) -> None:
        """counts: [right completions, completions] by the problem's key, as `counts` of an earlier object."""
        self.counts = {key: list(pair) for key, pair in (counts or {}).items()}

    def add(self, rollout: Rollout, ranks: Ranks) -> None:
        """Adds the completions of all ranks' shares of a rollout. All ranks call it together."""
        keys = [problem.key for problem in rollout.problems]
        every = ranks.lists({"key": keys, "correct": rollout.correct_B.tolist()})
        for key, correct in zip(every["key"], every["correct"], strict=True):
            solved, tries = self.counts.get(key, (0, 0))
            self.counts[key] = [solved + int(correct), tries + 1]

    def onto(self, anchors: Anchors | None, problem_keys: Sequence[str]) -> Anchors | None:
        """Returns the anchors of these problems' rows with the completions so far added to what was counted before."""
        if anchors is None:
            return None
        counts = torch.tensor([self.counts.get(key, (0, 0)) for key in problem_keys]).unbind(dim=1)
        before = (anchors.solved_B, anchors.tries_B)
        solved_B, tries_B = (new if old is None else old + new for old, new in zip(before, counts, strict=True))
        return replace(anchors, solved_B=solved_B, tries_B=tries_B)
