"""The model `stp` of the lm-evaluation-harness. Importing this module registers it."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from lm_eval import utils
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from tqdm import tqdm

from stp.lm_eval.harness import Answers, Ids, composed

AUTO = 64  # sequences in a forward for --batch_size auto
USED = {"until", "max_gen_toks", "do_sample", "temperature"}


@register_model("stp")
class DiffusionLM(TemplateLM):
    """A checkpoint of ours. Its arguments are those of `Harness`, as on a command line: `sampler=stp,sampler.length=128`."""

    def __init__(
        self, batch_size: int | str = 1, max_batch_size: int | None = None, device: str | None = None, **arguments: Any
    ):
        super().__init__()
        rows = (max_batch_size or AUTO) if str(batch_size).startswith("auto") else int(batch_size)
        # the harness names a GPU unless it is told otherwise, whether or not there is one
        self.answers = Answers(composed(arguments), rows, device if torch.cuda.is_available() else None)
        self.tokenizer = self.answers.codec.tokenizer
        self.told: set[str] = set()

    @property
    def eot_token_id(self) -> int:
        return self.answers.policy.eos_id

    @property
    def max_length(self) -> int:
        """The model's positions, as tasks ask for them."""
        return self.answers.positions or 2**31

    @property
    def max_gen_toks(self) -> int:
        """The most tokens of a completion."""
        return self.answers.config.sampler.length

    @property
    def tokenizer_name(self) -> str:
        return self.tokenizer.name_or_path.replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> Ids:
        """Returns the tokens of a text. None are added: a chat template writes its own."""
        return self.answers.encode(string)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Returns the text of a conversation in the tokenizer's chat template."""
        return self.answers.chat(chat_history, add_generation_prompt)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Completes each context, and cuts the completion at the first of its stop texts."""
        contexts, settings = (
            [request.args[0] for request in requests],
            [self._settings(request.args[1]) for request in requests],
        )
        temperatures, most = ([one[name] for one in settings] for name in ("temperature", "max_gen_toks"))
        with tqdm(total=len(requests), disable=disable_tqdm, desc="generate_until") as bar:
            found = self.answers.completions(contexts, temperatures, most, bar.update)
        for i, (request, setting) in enumerate(zip(requests, settings, strict=True)):
            ends = [at for stop in setting["until"] if stop and (at := found[i].find(stop)) >= 0]
            found[i] = found[i][: min(ends, default=None)]
            self.cache_hook.add_partial("generate_until", request.args, found[i])
        return found

    def _settings(self, given: dict[str, Any]) -> dict[str, Any]:
        """Returns a request's settings under one name each, and warns once of each that has no meaning here."""
        settings: dict[str, Any] = dict(normalize_gen_kwargs(given, self.max_gen_toks))
        for name in sorted(settings.keys() - USED - self.told):
            self.told.add(name)
            logging.getLogger(__name__).warning(f"generation setting {name}={settings[name]} has no effect on model=stp")
        return settings

    def _loglikelihood_tokens(self, requests: list[Any], disable_tqdm: bool = False, **_: Any) -> list[tuple[float, bool]]:
        with tqdm(total=len(requests), disable=disable_tqdm, desc="loglikelihood") as bar:
            found = self.answers.log_likelihoods([(context, continuation) for _, context, continuation in requests], bar.update)
        for (texts, *_), result in zip(requests, found, strict=True):
            self.cache_hook.add_partial("loglikelihood", texts, result)
        return found

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Returns the log-likelihood of whole texts after an EOS, in windows of the model's positions."""
        windows: list[list[tuple[Ids, Ids]]] = []
        make: Callable[..., Any] = utils.get_rolling_token_windows
        for request in requests:
            rolled = make(self.tok_encode(request.args[0]), self.prefix_token_id, self.max_length - 1, 1)
            windows.append([utils.make_disjoint_window(pair) for pair in rolled])
        scored = iter(self.answers.log_likelihoods([pair for some in windows for pair in some]))
        found = [sum(next(scored)[0] for _ in some) for some in windows]
        for request, result in zip(requests, found, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, result)
        return found
