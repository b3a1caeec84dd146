"""Numerical guards: keep updates that could not be applied for inspection, and raise alarms if a policy collapses."""

import json
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from stp.errors import RunError, require


@dataclass
class Guards:
    """When a run stops by itself, and what it warns of. No option changes an update whose values are all finite."""

    max_bad_updates: int = field(
        default=3,
        metadata={"help": "updates in a row with something not finite: back to the last checkpoint once, then stop"},
    )
    window: int = field(default=10, metadata={"help": "updates whose mean an alarm looks at; there is none before so many"})
    kl: float | None = field(default=1.0, metadata={"help": "alarm above this KL to the reference, per token; null: none"})
    clipped: float | None = field(default=0.3, metadata={"help": "alarm above this fraction of clipped ratios; null: none"})
    entropy: float | None = field(
        default=0.05, metadata={"help": "alarm below these nats per token, by the estimator (-elbo/elbo); null: none"}
    )
    length: float | None = field(default=4.0, metadata={"help": "alarm below this mean completion length, tokens; null: none"})
    equal_groups: float | None = field(
        default=0.95, metadata={"help": "alarm above this fraction of groups whose rewards are all equal; null: none"}
    )
    confidence: float | None = field(
        default=0.99, metadata={"help": "alarm above this mean confidence of the tokens that rollouts commit; null: none"}
    )
    grace: float = field(
        default=25.0, metadata={"help": "seconds after SIGTERM or SIGINT in which an update may end and be saved"}
    )
    rank_timeout: float = field(default=30.0, metadata={"help": "minutes that a rank waits for the others"})

    def __post_init__(self) -> None:
        for name in ("max_bad_updates", "window"):
            require(getattr(self, name) >= 1, f"guards.{name}", getattr(self, name), "choose at least 1")
        for name in ("kl", "clipped", "entropy", "length", "equal_groups", "confidence"):
            value = getattr(self, name)
            require(value is None or value >= 0, f"guards.{name}", value, "a threshold is 0 or more; null turns it off")
        for name in ("grace", "rank_timeout"):
            value = getattr(self, name)
            require(0 < value < math.inf, f"guards.{name}", value, "choose more than 0")


# alarm: (metric, sign that it is multiplied by, whether the alarm is on above or below its threshold)
ALARMS = {
    "kl": ("kl", 1, "above"),
    "clipped": ("ratio/clipped", 1, "above"),
    "entropy": ("elbo/elbo", -1, "below"),
    "length": ("completion/length", 1, "below"),
    "equal_groups": ("reward/equal_groups", 1, "above"),
    "confidence": ("confidence/mean", 1, "above"),
}


class DivergedError(RunError):
    """Too many updates in a row could not be applied. run: the run folder, whose last checkpoint to go back to."""

    def __init__(self, run: Path, message: str) -> None:
        super().__init__(message)
        self.run = run


class Guard:
    """Watches the metrics of a run. Metrics are summed over ranks first, so every rank reaches the same decision."""

    def __init__(
        self, options: Guards, run: Path, rank: int, lines: list[dict[str, Any]], say: Callable[[str], None] = print
    ) -> None:
        """lines: the lines of metrics.jsonl so far; with them a resumed run has the alarms of an uninterrupted one."""
        self.options, self.run, self.rank, self.say = options, run, rank, say
        self.in_a_row = 0
        self.alarms: dict[str, str] = {}
        self.recent: deque[dict[str, Any]] = deque(maxlen=options.window)
        for line in lines[-options.window :]:
            self._look(line)

    def keep(self, update: int, rollout: Any, inner: int, bad: dict[str, float], tensors: dict[str, Tensor]) -> None:
        """Writes a batch that was not applied to `bad/`: tensors (safetensors), and text, rewards and reasons (JSON)."""
        reasons = [name for name, count in bad.items() if count] or ["gradient"]
        folder = self.run / "bad"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"update-{update:06d}-rank{self.rank}"
        trajectory = rollout.trajectory
        names = ("response_BL", "fixed_BL", "until_eos_BL")
        tensors = tensors | {name: getattr(trajectory, name) for name in names} | {"prompt_BP": trajectory.prompts.ids_BP}
        tensors |= {"reward_B": rollout.reward_B, "advantage_B": rollout.advantage_B}
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, f"{file}.safetensors")
        rows = zip(rollout.problems, rollout.completions, rollout.reward_parts, strict=True)
        record = {
            "update": update,
            "inner_update": inner,
            "not_finite": reasons,
            "rows": [
                {"problem": p.id, "question": p.question, "completion": text, "rewards": parts} for p, text, parts in rows
            ],
        }
        Path(f"{file}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        self.say(f"update {update}: not finite: {', '.join(reasons)}; not applied, its batch is in {folder}")

    def watch(self, metrics: dict[str, Any]) -> dict[str, float]:
        """Checks an update's metrics and tells of new alarms. Returns how many alarms are on, as a metric."""
        before = set(self.alarms)
        self._look(metrics)
        for name in self.alarms.keys() - before:
            self.say(f"update {metrics['update']}: {self.alarms[name]} (mean of {self.options.window} updates)")
        return {"guard/alarms": len(self.alarms)}

    def _look(self, metrics: dict[str, Any]) -> None:
        self.in_a_row = self.in_a_row + 1 if metrics.get("guard/skipped") else 0
        self.recent.append(metrics)
        self.alarms = {}
        for name, (metric, sign, side) in ALARMS.items():
            threshold = getattr(self.options, name)
            values = [line[metric] for line in self.recent if line.get(metric) is not None and math.isfinite(line[metric])]
            if threshold is None or len(values) < self.options.window:
                continue
            mean = sign * sum(values) / len(values)
            if mean > threshold if side == "above" else mean < threshold:
                self.alarms[name] = f"ALARM {name} {mean:.3g} {side} {threshold:g}"

    def stop_if_diverged(self) -> None:
        """Raises `DivergedError` if `max_bad_updates` updates in a row were not applied."""
        if self.in_a_row >= self.options.max_bad_updates:
            last = self.recent[-1]["update"]
            raise DivergedError(
                self.run,
                f"{self.run}: {self.in_a_row} updates in a row up to {last} had values that are not finite; their batches and "
                f"what was wrong are in {self.run / 'bad'}; a smaller optimizer.lr or optimizer.max_grad_norm may help",
            )
