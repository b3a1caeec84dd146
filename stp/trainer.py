"""The options of the training loop."""

from dataclasses import dataclass, field

from stp.errors import require, require_choice


@dataclass
class Trainer:
    """The loop's numbers. One update is one rollout of the global batch, followed by inner_updates optimizer updates."""

    updates: int = field(default=1000, metadata={"help": "rollouts, each followed by inner_updates optimizer updates"})
    inner_updates: int = field(default=4, metadata={"help": "mu, optimizer updates per rollout"})
    prompts_per_update: int = field(default=2, metadata={"help": "prompts per rollout, over all ranks"})
    group_size: int = field(default=6, metadata={"help": "G, completions per prompt"})
    fresh_masks: bool = field(
        default=False, metadata={"help": "draw new masks for each inner update (the paper) or share one set"}
    )
    rollout_rows: int = field(default=64, metadata={"help": "completions denoised at once per rank: bounds rollout memory"})
    micro_batch: int = field(
        default=8, metadata={"help": "completions per backward pass and rank (each with its K draws): bounds memory"}
    )
    micro_draws: int = field(
        default=0,
        metadata={"help": "draws per backward pass; 0: all K. Bounds memory, for objectives that are linear in the draws"},
    )
    eval_every: int = field(
        default=0, metadata={"help": "updates between evaluations; 0 evaluates at the start and the end only"}
    )
    eval_first: bool = field(
        default=True, metadata={"help": "measure the base before training (once: it is kept under outputs/base and reused)"}
    )
    eval_size: int = field(default=512, metadata={"help": "held-out problems per evaluation; 0 turns evaluation off"})
    eval_split: str = field(
        default="test", metadata={"help": "test | validation (for tuning, so that the test problems stay unseen)"}
    )
    eval_temperatures: list[float] = field(
        default_factory=lambda: [0.0],
        metadata={"help": "the first one gives summary.json's accuracy; others are reported beside it"},
    )
    checkpoint_every: int = field(default=0, metadata={"help": "updates between checkpoints; 0: only on a signal"})
    keep_checkpoints: int = field(default=2, metadata={"help": "newest checkpoints kept"})
    resume: str | None = field(
        default=None, metadata={"help": "a run folder to continue, or auto for the newest one of this run name"}
    )
    probe_every: int = field(default=0, metadata={"help": "updates between ELBO variance probes; 0 makes none"})
    probe_draws: int = field(default=16, metadata={"help": "Monte Carlo estimates per probed trajectory"})
    probe_rows: int = field(default=24, metadata={"help": "trajectories per probe, over all ranks and spread over the prompts"})

    def __post_init__(self) -> None:
        for name in (
            "updates",
            "inner_updates",
            "prompts_per_update",
            "rollout_rows",
            "micro_batch",
            "keep_checkpoints",
            "probe_rows",
        ):
            value = getattr(self, name)
            require(value >= 1, f"trainer.{name}", value, "choose at least 1")
        require(
            self.group_size >= 2, "trainer.group_size", self.group_size, "an advantage compares completions; choose at least 2"
        )
        require(self.probe_draws >= 2, "trainer.probe_draws", self.probe_draws, "a variance needs at least 2 estimates")
        for name in ("micro_draws", "eval_every", "eval_size", "checkpoint_every", "probe_every"):
            value = getattr(self, name)
            require(value >= 0, f"trainer.{name}", value, "choose 0 (off) or more")
        require_choice("trainer.eval_split", self.eval_split, ("test", "validation"))
        require(
            bool(self.eval_temperatures), "trainer.eval_temperatures", self.eval_temperatures, "give at least one, say [0.0]"
        )
        for value in self.eval_temperatures:
            require(0 <= value <= 10, "trainer.eval_temperatures", value, "a temperature lies in [0, 10]")

    def draws_at_once(self, draws: int) -> int:
        """Returns how many of a completion's draws share a pass."""
        return min(draws, self.micro_draws or draws)
