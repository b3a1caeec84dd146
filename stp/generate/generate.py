"""`python -m stp.generate checkpoint=… question="…"` answers a question, or each line of standard input.

It prints the completion, its forwards and its seconds. With `show=true` one watches the tokens appear: in place on a terminal,
and elsewhere a line for each forward.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING
from rich.console import Console
from rich.live import Live
from rich.text import Text
from torch import Tensor

from stp import trained
from stp.diffusion import Denoiser, Observed, draw
from stp.errors import fail, require
from stp.models.codec import Codec
from stp.models.policy import load_tokenizer, require_described
from stp.run import preflight, ranks
from stp.tasks.base import Problem
from stp.text import visible, visible_lines
from stp.types import Draws, Trajectory

HIDDEN = "·"  # a mask on the screen


@dataclass
class Generation:
    """What `python -m stp.generate` runs."""

    model: Any = MISSING
    task: Any = MISSING
    sampler: Any = MISSING
    checkpoint: str = field(
        default="base",
        metadata={
            "help": "a run folder or one of its checkpoints (brings its model, task and sampler settings; what the command line"
            " names stays), an adapter or weights folder, or base"
        },
    )
    question: str | None = field(default=None, metadata={"help": "the text to answer; null takes each line of standard input"})
    show: bool = field(default=False, metadata={"help": "show the tokens as forwards reveal them"})
    seed: int = field(default=0, metadata={"help": "seed of the drawn tokens, which depend on it and on the question alone"})

    def __post_init__(self) -> None:
        require(self.question is None or bool(self.question.strip()), "question", self.question, "it is empty; ask something")
        require(self.seed >= 0, "seed", self.seed, "choose a whole number from 0 on")


class Watched(Observed):
    """A denoiser that shows the sequences of each draw before it draws."""

    def __init__(self, inner: Denoiser, show: Callable[[Tensor], None]) -> None:
        super().__init__(inner)
        self.show = show

    def seen(self, inner: Denoiser, ids_BS: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
        self.show(ids_BS)
        return draw(inner, ids_BS, *args)


def unfinished(codec: Codec, ids: list[int], mask_id: int) -> str:
    """Returns the text of a response of which some tokens are still masked, up to its EOS."""
    eos, shown = codec.tokenizer.eos_token_id, ""
    known: list[int] = []
    for token in ids[: ids.index(eos)] if eos in ids else ids:
        if token == mask_id:  # tokens between two masks are decoded together, because they may be parts of one character
            shown += str(codec.tokenizer.decode(known)) + HIDDEN
            known = []
        else:
            known.append(token)
    return shown + str(codec.tokenizer.decode(known))


@contextmanager
def display(console: Console, text_of: Callable[[Tensor], str]) -> Iterator[Callable[[Tensor], None]]:
    """Yields a function that shows the sequences of a forward: in place on a terminal, as a line elsewhere."""
    if not console.is_terminal:
        forwards = iter(range(sys.maxsize))
        yield lambda ids_BS: console.print(f"forward {next(forwards):3}  {visible(text_of(ids_BS))}", markup=False)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield lambda ids_BS: live.update(Text(visible_lines(text_of(ids_BS))), refresh=True)


def lines() -> Iterator[str]:
    """Yields the lines of standard input that hold more than blanks."""
    if sys.stdin.isatty():
        print("a question per line; Ctrl-D ends", file=sys.stderr, flush=True)
    try:
        yield from (line.strip() for line in sys.stdin if line.strip())
    except UnicodeDecodeError as error:
        fail("question", "standard input", f"it is not UTF-8 ({error.reason}); convert it")


def refuse_special(codec: Codec, question: str) -> None:
    """Refuses a question that spells out a special token, the mask for instance."""
    spelled = [mark for mark in codec.special.values() if mark in question]
    require(not spelled, "question", f"{question:.80}", f"it spells out the special token {''.join(spelled[:1])}; leave it out")


def main(config: Generation) -> None:
    """Answers each question as soon as it is read."""
    weights, options, _ = trained.locate(config.checkpoint, config.model)
    base, sampler, console = trained.base_folder(weights, options), config.sampler, Console(highlight=False, soft_wrap=True)
    require_described("model.path" if weights is None else "checkpoint", base, options)
    codec = Codec(load_tokenizer(base), config.task.instruction if options.instructions else "", None)
    if config.question is not None:
        refuse_special(codec, config.question)  # before the weights are loaded
    policy, _ = trained.load(weights, options)
    policy.to(ranks.device())
    for question in lines() if config.question is None else [config.question]:
        refuse_special(codec, question)
        preflight.positions(base, codec, sampler.length, [Problem(question, question, None)])
        draws = Draws(f"{config.seed}/generate", 1, names=(question,))
        started = time.perf_counter()
        done = answer(config, policy, codec, draws, console)
        seconds = time.perf_counter() - started
        (completion,) = codec.completions(done)
        console.print(visible_lines(completion), markup=False)
        console.print(f"[{done.nfe_run} forwards, {seconds:.2f} s]", markup=False)


def answer(config: Generation, policy: Any, codec: Codec, draws: Draws, console: Console) -> Trajectory:
    """Returns the rollout for the question that `draws` names, which is shown if the config says so."""
    sampler = config.sampler
    (question,) = draws.names or ()
    prompts = codec.prompts([Problem(question, question, None)]).to(policy.device)

    def text_of(ids_BS: Tensor) -> str:
        return unfinished(codec, ids_BS[0, -sampler.length :].tolist(), policy.mask_id)

    if not config.show:
        return sampler(policy, prompts, draws).to("cpu")
    with display(console, text_of) as show:
        return sampler(Watched(policy, show), prompts, draws).to("cpu")
