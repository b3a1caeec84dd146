"""`python -m stp.trace checkpoint=… task=…` writes an HTML page on which rollouts denoise, the standard sampler beside STP.

The samplers run unchanged, on a denoiser that compares the tokens of each call with those of the call before.
"""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

import torch
from omegaconf import MISSING
from torch import Tensor

from stp import trained
from stp.anchors.dataset import StaticDataset
from stp.anchors.make import Maker
from stp.diffusion import Denoiser, Observed, draw
from stp.errors import fail, require
from stp.evaluation.evaluator import Subject, held_out, standard_sampler, trained_on
from stp.models.codec import Codec
from stp.models.policy import load_tokenizer, require_described
from stp.ranks import Ranks
from stp.run import preflight, ranks
from stp.run.files import write_atomically
from stp.run.memory import move
from stp.run.tracking import Logging, Tracker
from stp.samplers import Adaptive, Pruned, Standard, Stp
from stp.samplers.reveal import Start
from stp.samplers.schedule import Window
from stp.text import visible, visible_lines
from stp.types import Draws, Prompts

TEMPLATE = Path(__file__).with_name("trace.html")


@dataclass
class Tracing:
    """What `python -m stp.trace` shows: a few problems, each by the standard sampler and by the given one."""

    model: Any = MISSING
    task: Any = MISSING
    sampler: Any = MISSING
    checkpoint: str = field(
        default="base",
        metadata={
            "help": "a run folder or one of its checkpoints (brings its model, task, data and sampler; what the command"
            " line names stays), an adapter or weights folder, or base"
        },
    )
    problems: int = field(default=4, metadata={"help": "held-out problems on the page"})
    to: str | None = field(default=None, metadata={"help": "file to write; null is trace.html in the run of this command"})
    seed: int = field(default=0, metadata={"help": "seed of the drawn tokens, the same for both samplers"})

    def __post_init__(self) -> None:
        require(self.problems >= 1, "problems", self.problems, "at least 1 problem is needed")
        require(self.seed >= 0, "seed", self.seed, "choose a whole number from 0 on")


class Watch(Observed):
    """A denoiser over one row that notes which positions each forward revealed, and how sure it was of their tokens.

    revealed: position in the sequence -> (forward, counted from 1; the token's probability at temperature 1).
    """

    def __init__(self, inner: Denoiser) -> None:
        super().__init__(inner)
        self.forwards = 0
        self.revealed: dict[int, tuple[int, float]] = {}
        self.drawn: dict[int, float] = {}  # what the last forward drew: position -> confidence

    def seen(self, inner: Denoiser, ids_BS: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
        assert len(ids_BS) == 1, "one row at a time, so that a flat position is its place in the row"
        self.settle(ids_BS[0])
        token_M, confidence_M = draw(inner, ids_BS, *args)
        self.forwards += 1
        _, index_M, *_ = args
        self.drawn = dict(zip(index_M.tolist(), confidence_M.tolist(), strict=True))
        return token_M, confidence_M

    def settle(self, ids_S: Tensor) -> None:
        """Notes what the last forward revealed: the drawn positions that are no longer masked."""
        ids = ids_S.tolist()
        self.revealed |= {place: (self.forwards, p) for place, p in self.drawn.items() if ids[place] != self.mask_id}
        self.drawn = {}


@dataclass(frozen=True)
class Denoised:
    """One completion and how it came about, position by position.

    forward_L: the forward that revealed the token, counted from 1; 0 if it was fixed, None if the row ended first.
    confidence_L: the token's probability at temperature 1, None if no forward revealed it.
    fill: the forward that filled every remaining mask by argmax, if one did. nfe: the schedule's count of forwards. windows:
    (begin, end, forwards) of the schedule; by threshold, forwards is 0.
    """

    ids_L: list[int]
    forward_L: list[int | None]
    confidence_L: list[float | None]
    until_eos: int
    nfe: int
    nfe_run: int
    fill: int | None
    windows: list[tuple[int, int, int]]


def denoise_row(denoise: Denoiser, sampler: Standard, prompts: Prompts, start: Start, draws: Draws, row: int) -> Denoised:
    """Rolls out and watches a single row of a batch. It gets the same tokens as in the whole batch."""
    one, watch = torch.tensor([row]), Watch(denoise)
    trajectory = sampler.run(watch, prompts.rows(one), start.rows(one), draws.select(one)).to("cpu")
    width = prompts.ids_BP.shape[1]
    watch.settle(torch.cat([prompts.ids_BP[row].cpu(), trajectory.response_BL[0]]))
    fixed_L = trajectory.fixed_BL[0].tolist()
    last = trajectory.step_BL[0] == trajectory.nfe_B[0] - 1
    masks = int((last | ((trajectory.step_BL[0] < 0) & ~trajectory.fixed_BL[0])).sum())  # what the last forward found masked
    # a row that ends before the schedule, or with more masks than a fill takes, leaves nothing to fill
    filled = watch.forwards == trajectory.nfe if trajectory.scheduled else masks <= start.keep
    windows = start.windows if trajectory.scheduled else blocks(sampler)
    shown = [watch.revealed.get(width + place, (None, None)) for place in range(sampler.length)]
    return Denoised(
        trajectory.response_BL[0].tolist(),
        [0 if fixed else forward for fixed, (forward, _) in zip(fixed_L, shown, strict=True)],
        [confidence for _, confidence in shown],
        int(trajectory.until_eos_BL[0].sum()),
        trajectory.nfe,
        trajectory.nfe_run,
        watch.forwards if start.fill and filled else None,
        [(window.begin, window.end, window.forwards) for window in windows],
    )


def blocks(sampler: Standard) -> list[Window]:
    """Returns the blocks through which a row goes at its own pace."""
    W = sampler.block_length
    return [Window(begin, begin + W, 0) for begin in range(0, sampler.length, W)]


def _shown(value: Any) -> Any:
    """Makes all texts in some data visible, and keeps their line breaks."""
    if isinstance(value, str):
        return visible_lines(value)
    if isinstance(value, dict):
        return {_shown(name): _shown(item) for name, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, list | tuple) else value


def record(
    name: str, done: Denoised, text_of: Callable[[int], str], completion: str, rewards: dict[str, float], correct: bool
) -> dict[str, Any]:
    """Returns what the page shows of one rollout."""
    kept = asdict(done)
    tokens = [visible(text_of(token)) for token in kept.pop("ids_L")]
    return kept | {
        "name": name,
        "tokens": tokens,
        "completion": completion,
        "rewards": rewards,
        "correct": correct,
    }


def page(title: str, facts: list[str], problems: list[dict[str, Any]]) -> str:
    """Returns the whole page. It needs no other file and no address, and holds all text as data."""
    shown = _shown({"title": title, "facts": facts, "problems": problems})
    data = json.dumps(shown, ensure_ascii=True, allow_nan=False)
    for character in "<>&":  # nothing in the data can end the script element, or open another
        data = data.replace(character, f"\\u{ord(character):04x}")
    filled = {"{{title}}": escape(visible(title)), "{{data}}": data}
    # one pass, because the data itself may look like a place to fill
    return re.sub(r"\{\{(title|data)\}\}", lambda place: filled[place.group()], TEMPLATE.read_text(encoding="utf-8"))


def main(config: Tracing) -> None:
    """Denoises the problems with both samplers and writes the page."""
    from hydra.core.hydra_config import HydraConfig

    file = Path(config.to) if config.to is not None else Path(HydraConfig.get().runtime.output_dir) / "trace.html"
    preflight.writable("to", file.parent)
    require(not file.is_dir(), "to", file, "that is a folder; give the name of a file, say trace.html")
    weights, options, run_config = trained.locate(config.checkpoint, config.model)
    sampler, device, task = config.sampler, ranks.device(), config.task
    split, problems = held_out(task, trained_on(run_config))
    problems = problems[: config.problems]
    base = trained.base_folder(weights, options)
    require_described("model.path" if weights is None else "checkpoint", base, options)
    instruction = task.instruction if options.instructions else ""
    preflight.positions(base, Codec(load_tokenizer(base), instruction, options.prompt_tokens), sampler.length, problems)
    policy, tokenizer = trained.load(weights, options)
    move(policy, device)
    codec = Codec(tokenizer, instruction, options.prompt_tokens)
    tracker = Tracker(file.parent, Logging(wandb="disabled"), {}, True)
    subject = Subject.of(task, split, problems)
    tracker.say(preflight.told(subject, base))

    anchors, draws = None, Draws(f"{config.seed}/trace", len(problems))
    if sampler.needs_anchors:
        made_for = replace(config, model=options, sampler=sampler)
        maker = Maker(made_for, policy, codec, len(problems), Ranks())
        keys, given = [problem.key for problem in problems], []
        if sampler.static is not None:  # its anchors are of training problems; the page may show others
            given = [StaticDataset.load(Path(sampler.static), maker.provenance).of(keys)]
        missing = [problem for problem in problems if not given or problem.key not in given[0].row_of]
        static = StaticDataset.joined(maker.provenance, [*given, *maker.batches(missing)])
        anchors = sampler.anchors_from(static, keys, draws)

    prompts = codec.prompts(problems)
    shown: list[dict[str, Any]] = [{"id": problem.id, "question": problem.question, "runs": []} for problem in problems]
    pair = {"Standard": replace(standard_sampler(sampler, sampler.temperature), cache=sampler.cache)}
    if isinstance(sampler, Pruned):
        pair["Adaptive" if isinstance(sampler, Adaptive) else "STP"] = sampler
    elif sampler.threshold is not None:
        pair["By threshold"] = sampler
    for name, one in pair.items():
        start = one.start(anchors, draws)
        for row, problem in enumerate(problems):
            done = denoise_row(policy, one, prompts.to(device), start, draws, row)
            text = tokenizer.decode(done.ids_L[: done.until_eos], skip_special_tokens=True)
            parts, solved = task.judge(problem, text)
            rewards = {part: float(value) for part, value in parts.items()}

            def text_of(token: int) -> str:
                return "EOS" if token == policy.eos_id else tokenizer.decode([token])

            shown[row]["runs"].append(record(name, done, text_of, text, rewards, bool(solved)))
    facts = [
        f"{options.name}, {config.checkpoint}",
        str(subject),
        f"temperature {sampler.temperature:g}",
        f"{sampler.length} tokens",
    ]
    facts += [f"{sampler.steps} steps", f"blocks of {sampler.block_length}"]
    if isinstance(sampler, Stp):
        facts += [f"gamma {sampler.gamma:g}", f"t_cutoff {sampler.t_cutoff:g}", f"anchors: {sampler.anchors}"]
    if sampler.threshold is not None:
        facts += [f"tau {sampler.threshold:g}, at least {sampler.floor} a forward"]
    try:
        write_atomically(file, page(f"{type(task).__name__}: rollouts step by step", facts, shown))
    except OSError as error:
        fail("to", file, f"the page cannot be written there ({error.strerror})")
    for one_problem in shown:
        numbers = [
            f"{run['name']} {run['nfe_run']} forwards, reward {sum(run['rewards'].values()):g}" for run in one_problem["runs"]
        ]
        tracker.say(f"{one_problem['id']}: {'; '.join(numbers)}")
    tracker.say(f"page in {file}")
