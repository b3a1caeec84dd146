"""A run's evaluations: of its base (the model before training), every `eval_every` updates, and of the result."""

import hashlib
import json
from pathlib import Path
from typing import Any

from stp.config import Config, plain
from stp.evaluation.evaluator import Evaluator, standard_sampler
from stp.evaluation.intervals import accuracy, beside, counts, scored
from stp.models.codec import Codec
from stp.models.policy import Policy
from stp.run import ranks
from stp.run.engine import Engine
from stp.run.files import write_atomically
from stp.run.tracking import Clock, Tracker
from stp.tasks.base import Problem, fingerprint

BASE = Path("outputs/base")  # evaluations of base models, named by a hash of what decides them


class Evaluations:
    """Measures accuracy when it is due. base and final: counts by temperature, before and after training.

    A call takes the number of finished updates and returns metrics, or none if no evaluation is due.
    """

    def __init__(
        self, config: Config, engine: Engine, evaluate: Evaluator, made_by: dict[str, Any], tracker: Tracker, clock: Clock
    ) -> None:
        """made_by: what decides the base's answers (`base_settings`)."""
        self.config, self.engine, self.evaluate, self.made_by = config, engine, evaluate, made_by
        self.tracker, self.clock = tracker, clock
        self.base: dict[str, Any] = {}
        self.final: dict[str, Any] | None = None

    def __call__(self, update: int) -> dict[str, float]:
        trainer = self.config.trainer
        if update != trainer.updates and not (trainer.eval_every and update % trainer.eval_every == 0):
            return {}
        self.final = self.measure(update)
        found: dict[str, float] = {}
        for temperature, score in self.final.items():
            for name, part in {"accuracy": score, **beside(score)}.items():
                found.setdefault(f"eval/{name}", part["accuracy"])
                found[f"eval/{name}_{temperature}"] = part["accuracy"]
        return found

    def measure_base(self, known: dict[str, Any] | None) -> None:
        """Takes the base's accuracy from a checkpoint (`known`), or else drops its old lines and measures it if wanted."""
        if known is None:
            self.tracker.drop_base()
        self.base = known or {}
        if self.config.trainer.eval_first and not self.base:
            self.base = self.measure(0)

    def measure(self, update: int) -> dict[str, Any]:
        """Measures accuracy at each temperature; the first one counts. Keeps the base's answers (update 0) for other runs."""
        scores = {}
        for temperature in self.config.trainer.eval_temperatures if self.evaluate.problems else []:
            with self.clock.phase("eval"):
                kept = KeptAnswers(self.made_by | {"temperature": temperature}) if update == 0 else None
                records = kept.load(self.tracker) if kept else None
                if records is None:
                    records = self.answers(temperature)
                    if kept and ranks.rank() == 0:
                        kept.save(records, self.tracker)
            self.tracker.append("eval", [{"update": update, "temperature": temperature, **r} for r in records])
            scores[f"T={temperature:g}"] = scored(records)
            self.tracker.say(f"update {update}: accuracy {counts(scores[f'T={temperature:g}'])} at T={temperature:g}")
        return scores

    def answers(self, temperature: float) -> list[dict[str, Any]]:
        """Returns the records of an evaluation on every rank."""
        records: list[dict[str, Any]] = []
        with self.tracker.progress() as progress, self.engine.generation() as policy:
            bar = progress.add_task(f"evaluating (T={temperature:g})", total=len(self.evaluate.problems), note="")
            for chunk in self.evaluate(policy, standard_sampler(self.config.sampler, temperature), ranks.current()):
                records += chunk
                progress.update(bar, advance=len(chunk))
        return records


def base_settings(config: Config, policy: Policy, codec: Codec, problems: list[Problem]) -> dict[str, Any]:
    """Returns the settings that decide a base model's answers, apart from the temperature. Batches and ranks do not."""
    sampler, model, task = config.sampler, config.model, config.task
    return {
        "version": 1,
        "weights": policy.fingerprint(),
        "tokenizer": codec.fingerprint(),
        "model": {name: getattr(model, name) for name in ("dtype", "quantize", "attention", "instructions")},
        "task": {"name": task.name, **{k: v for k, v in plain(config)["task"].items() if k != "data"}},
        "problems": fingerprint(problems),
        "sampler": {name: getattr(sampler, name) for name in ("length", "steps", "block_length")},
        "seed": config.seed,
    }


class KeptAnswers:
    """A base model's answers to a run's held-out problems, kept for every later run that asks the same."""

    def __init__(self, settings: dict[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
        self.settings, self.file = settings, BASE / f"{settings['task']['name']}-{digest}.json"

    def load(self, tracker: Tracker) -> list[dict[str, Any]] | None:
        """Returns the records that rank 0 reads, on every rank. None if there are none."""
        found: list[dict[str, Any]] | None = None
        if ranks.rank() == 0 and self.file.exists():
            try:
                record = json.loads(self.file.read_text(encoding="utf-8"))
                found = record["records"] if record["settings"] == self.settings else None
                accuracy(found or [])
            except (OSError, ValueError, KeyError, TypeError):
                tracker.say(f"{self.file}: not an evaluation that stp.train kept; it is measured again")
                found = None
        found = ranks.broadcast(found)
        if found is not None:
            tracker.say(f"the base's evaluation at T={self.settings['temperature']:g} is reused: {self.file}")
        return found

    def save(self, records: list[dict[str, Any]], tracker: Tracker) -> None:
        """Keeps the records, or tells if that is not possible."""
        try:
            BASE.mkdir(parents=True, exist_ok=True)
            write_atomically(self.file, json.dumps({"settings": self.settings, "records": records}) + "\n")
        except OSError as error:
            tracker.say(f"{self.file}: not kept ({error.strerror}); the next run measures its base again")
