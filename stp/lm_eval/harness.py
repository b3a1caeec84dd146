"""Answers what the lm-evaluation-harness asks: completions by a sampler, and log-likelihoods by an estimator."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import MISSING

from stp import trained
from stp.cli import quoted
from stp.config import CONF, build, register
from stp.errors import fail, require
from stp.estimators import Causal, Elbo
from stp.models.codec import Codec
from stp.models.policy import load_tokenizer, require_described
from stp.run import preflight, ranks
from stp.samplers import Standard
from stp.samplers.generate import generate
from stp.types import Batch, Draws, Trajectory

Ids = list[int]


@dataclass
class Harness:
    """What `--model_args` of `python -m stp.lm_eval` sets."""

    model: Any = MISSING
    sampler: Any = MISSING
    estimator: Any = MISSING
    checkpoint: str = field(
        default="base",
        metadata={
            "help": "a run folder or one of its checkpoints (brings its model and sampler settings; what is named beside it"
            " stays), an adapter or weights folder, or base"
        },
    )
    greedy: bool = field(
        default=True,
        metadata={"help": "find out whether a continuation is the greedy one, by a forward per token; false says no for all"},
    )
    seed: int = field(default=0, metadata={"help": "seed of the drawn tokens and masks"})

    def __post_init__(self) -> None:
        require(self.seed >= 0, "seed", self.seed, "choose a whole number from 0 on")


def composed(arguments: dict[str, Any]) -> Harness:
    """Returns the checked options of `--model_args`, whose values the harness has read as numbers, truth values and texts."""
    rule = "the task's generation settings decide; give --gen_kwargs do_sample=true,temperature=<value>"
    require("sampler.temperature" not in arguments, "sampler.temperature", arguments.get("sampler.temperature"), rule)
    given = [f"{name}={_written(value)}" for name, value in arguments.items()]
    register("lm_eval", Harness)
    with initialize_config_dir(CONF, version_base="1.3"):
        config: Harness = build(compose("lm_eval", given), given)
    likelihood = isinstance(config.estimator, Causal | Elbo) and getattr(config.estimator, "weight", "elbo") == "elbo"
    name = type(config.estimator).__name__.lower()
    require(likelihood, "estimator", name, "a log-likelihood needs estimator=elbo (with its weights) or estimator=causal")
    return config


def _written(value: Any) -> str:
    """Returns a value in Hydra's grammar."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value) if not isinstance(value, str) or re.fullmatch(r"[\w./-]+", value) else quoted(value)


class Answers:
    """A loaded checkpoint that completes texts and scores continuations. rows: sequences in one forward."""

    def __init__(self, config: Harness, rows: int, device: torch.device | str | None = None) -> None:
        weights, options, _ = trained.locate(config.checkpoint, config.model)
        self.config, self.rows = config, rows
        self.base = trained.base_folder(weights, options)
        require_described("model.path" if weights is None else "checkpoint", self.base, options)
        self.positions = preflight.known_positions(self.base)
        require(
            self.positions is None or config.sampler.length < self.positions,
            "sampler.length",
            config.sampler.length,
            f"the model has {self.positions} positions; leave some to the prompt",
        )
        self.policy, _ = trained.load(weights, options)
        self.policy.to(ranks.device() if device is None else device)
        self.codec = Codec(load_tokenizer(self.base), "", None)

    def encode(self, text: str) -> Ids:
        """Returns the tokens of a text, without any that the tokenizer would add."""
        return self.codec.tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[return-value]

    def chat(self, messages: list[dict[str, str]], answering: bool) -> str:
        """Returns the text of a conversation in the chat template. answering: a turn of the assistant begins."""
        tokenizer = self.codec.tokenizer
        if not tokenizer.chat_template:
            fail("--apply_chat_template", True, f"the tokenizer of {self.base} has no chat template; leave the flag out")
        return str(
            tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=answering, continue_final_message=not answering
            )
        )

    def completions(
        self,
        contexts: Sequence[str],
        temperature: Sequence[float],
        most: Sequence[int | None],
        advance: Callable[[int], None] = lambda n: None,
    ) -> list[str]:
        """Returns the text that follows each context, up to its EOS and of at most `most` tokens.

        Contexts that leave too little room for a response lose their beginning. Draws depend on the seed, the temperature and a
        context's place among all, as in `stp.evaluate`.
        """
        sampler, done = self.config.sampler, [""] * len(contexts)
        room = None if self.positions is None else self.positions - sampler.length
        prompts = self.codec.padded([self.encode(text)[-room:] if room else self.encode(text) for text in contexts])
        for degree in dict.fromkeys(temperature):
            index = torch.tensor([i for i, own in enumerate(temperature) if own == degree])
            batch = Batch(prompts, Draws(f"{self.config.seed}/evaluate/{degree}", len(contexts)))
            found = generate(self.policy, replace(sampler, temperature=degree), batch, self.rows, index, advance)
            kept_B = found.until_eos_BL.sum(dim=1).tolist()
            for i, ids, kept in zip(index.tolist(), found.response_BL.tolist(), kept_B, strict=True):
                longest = most[i]
                done[i] = str(self.codec.tokenizer.decode(ids[:kept][:longest], skip_special_tokens=True))
        return done

    def log_likelihoods(
        self, pairs: Sequence[tuple[Ids, Ids]], advance: Callable[[int], None] = lambda n: None
    ) -> list[tuple[float, bool]]:
        """Returns log p(continuation | context) for each pair of tokens, and whether the continuation is the greedy one.

        Continuations of equal length share forwards, because a response cannot be padded; contexts are padded. Draws depend on
        the seed and on the pair's tokens alone. Contexts that leave too little room lose their beginning.
        """
        found: list[tuple[float, bool]] = [(0.0, True)] * len(pairs)
        lengths = [len(continuation) for _, continuation in pairs]
        for length in sorted(set(lengths) - {0}):  # an empty continuation is certain
            require(
                self.positions is None or length < self.positions,
                "sampler.length",
                length,
                f"a continuation has that many tokens, the model {self.positions} positions; leave its question out",
            )
            room = None if self.positions is None else self.positions - length
            index = [i for i, own in enumerate(lengths) if own == length]
            prompts = self.codec.padded([pairs[i][0][-room:] if room else pairs[i][0] for i in index])
            response_BL = torch.tensor([pairs[i][1] for i in index])
            nothing_BL = torch.zeros_like(response_BL, dtype=torch.bool)
            whole = Trajectory.given(prompts, response_BL, nothing_BL, ~nothing_BL)
            draws = Draws(f"{self.config.seed}/likelihood", len(index), names=tuple(str(pairs[i]) for i in index))
            for part in prompts.by_width().split(self.rows):
                rows = whole.rows(part)
                scores_B = self._scores(rows, draws.select(part))
                greedy_B = self._greedy(rows)
                for i, score, greedy in zip(part.tolist(), scores_B, greedy_B, strict=True):
                    found[index[i]] = score, greedy
                advance(len(part))
        return found

    @torch.no_grad()
    def _scores(self, trajectory: Trajectory, draws: Draws) -> list[float]:
        """Returns the estimated log-likelihood of each response: the mean of its draws, `rows` sequences at a time."""
        estimator = self.config.estimator
        noise = estimator.draw(trajectory, draws)
        parts = noise.split(max(1, self.rows // len(trajectory.response_BL)))
        drawn = [estimator(self.policy, trajectory, part).draw_BK.double().cpu() for part in parts]
        return torch.cat(drawn, dim=1).mean(dim=1).tolist()

    def _greedy(self, trajectory: Trajectory) -> list[bool]:
        """Says whether the standard sampler, one token a forward at temperature 0, writes the same responses."""
        count, length = trajectory.response_BL.shape
        if not self.config.greedy:
            return [False] * count
        sampler = Standard(length, length, length, 0.0)
        prompts = trajectory.prompts.trimmed().to(self.policy.device)
        found_BL = sampler(self.policy, prompts, Draws(0, count)).response_BL.cpu()
        return (found_BL == trajectory.response_BL).all(dim=1).tolist()
