"""Translates between text and tokens: encodes prompts, decodes completions, and finds the spans of their answers."""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from stp.errors import fail
from stp.tasks.base import ANSWER_CLOSE, ANSWER_OPEN, Problem, format_response
from stp.types import Prompts, Trajectory

_ANSWER_MARKS = re.compile(r"</?answer>|\\boxed\s*\{")


@dataclass(frozen=True)
class Codec:
    """A tokenizer and the way in which a model is asked.

    instruction: the text before each question ('' for none). prompt_tokens: longer prompts lose their left end; None never
    cuts. prefill: the beginning of the assistant's turn, which belongs to the prompt and not to the completion.
    """

    tokenizer: PreTrainedTokenizerBase
    instruction: str
    prompt_tokens: int | None
    prefill: str = ""

    @cached_property
    def special(self) -> dict[int, str]:
        """The special tokens, each with its text. The tokenizer reads this text as the token wherever it stands."""
        return {i: token.content for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}

    def encode_prompt(self, question: str) -> list[int]:
        """Returns the tokens of one user turn in the chat template, followed by the prefill, cut on the left.

        Raises:
            UserError: the question spells out one of the tokenizer's special tokens (its mask, for instance), or the template
                fails.
        """
        spelled = [mark for mark in self.special.values() if mark in question]
        if spelled:
            fail("task.data", f"{question:.80}", f"it spells out the special token {spelled[0]}; remove it from the question")
        content = f"{self.instruction}\n\n{question}" if self.instruction else question
        messages = [{"role": "user", "content": content}]
        if self.tokenizer.chat_template:
            try:
                text = str(self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
            except Exception as error:  # a template is a program that comes with the checkpoint and may raise anything
                reason = " ".join(str(error).split()) or type(error).__name__
                rule = f"its chat template fails ({reason:.200}); mend chat_template.jinja or tokenizer_config.json there"
                fail("model.path", self.tokenizer.name_or_path, rule)
        else:
            text = content + "\n"
        ids: list[int] = self.tokenizer(text + self.prefill, add_special_tokens=False)["input_ids"]  # type: ignore[assignment]
        return ids if self.prompt_tokens is None else ids[-self.prompt_tokens :]

    def prompts(self, problems: list[Problem]) -> Prompts:
        """Returns the prompts of these problems."""
        return self.padded([self.encode_prompt(p.question) for p in problems])

    def padded(self, encoded: list[list[int]]) -> Prompts:
        """Returns left-padded prompts of these tokens. Their real_BP is None if nothing is padded."""
        width = max(len(ids) for ids in encoded)
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        ids_BP = torch.tensor([[pad] * (width - len(ids)) + ids for ids in encoded])
        real_BP = torch.tensor([[False] * (width - len(ids)) + [True] * len(ids) for ids in encoded])
        return Prompts(ids_BP, None if bool(real_BP.all()) else real_BP)

    def completions(self, trajectory: Trajectory) -> list[str]:
        """Returns the text of each completion up to its EOS, without special tokens."""
        rows = zip(trajectory.response_BL.tolist(), trajectory.until_eos_BL.sum(dim=1).tolist(), strict=True)
        return self.tokenizer.batch_decode([row[:n] for row, n in rows], skip_special_tokens=True)

    def solution_ids(self, solution: tuple[str, str] | None, length: int) -> list[int] | None:
        """Returns the tokens of a response that holds a ground-truth solution.

        None if there is no solution, if it does not fit into `length`, or if it spells out a special token.
        """
        if solution is None:
            return None
        text = format_response(*solution, tagged_reasoning=bool(self.instruction))
        if any(mark in text for mark in self.special.values()):
            return None
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return None if len(ids) > length else ids  # type: ignore[arg-type,return-value]

    def eligible(self, response_BL: Tensor) -> Tensor:
        """Returns eligible_BL: the tokens that spatial pruning may fix.

        They lie before EOS, are not special, and touch no answer span (`<answer>…</answer>`, `\\boxed{…}`). Special tokens are
        out because a fixed end of turn (`<|eot_id|>`, `<|im_end|>`) would decide where the new completion ends.
        """
        eos = self.tokenizer.eos_token_id
        eligible_BL = torch.zeros_like(response_BL, dtype=torch.bool)
        for b, row in enumerate(response_BL.tolist()):
            ids = row[: row.index(eos)] if eos in row else row
            prefixes = self.tokenizer.batch_decode([ids[:i] for i in range(1, len(ids) + 1)]) if ids else []
            ends = [len(text) for text in prefixes]
            spans = answer_spans(prefixes[-1]) if prefixes else []
            begin = 0
            for i, end in enumerate(ends):
                touches = any(begin < b1 and a1 < max(end, begin + 1) for a1, b1 in spans)
                eligible_BL[b, i] = not touches and ids[i] not in self.special
                begin = end
        return eligible_BL

    def fingerprint(self) -> str:
        """Returns a short hash of the vocabulary and the way of asking."""
        vocabulary = sorted(self.tokenizer.get_vocab().items(), key=lambda item: item[1])
        asked = self.encode_prompt("question")
        return hashlib.sha256(repr((vocabulary, asked, self.prompt_tokens)).encode()).hexdigest()[:16]


def answer_spans(text: str) -> list[tuple[int, int]]:
    """Returns the character span of every answer: `<answer>…</answer>` with its tags, `\\boxed{…}` with balanced braces.

    An `<answer>` reaches to the last closing tag before the next opening one, or to the end of the text if nothing closes it.
    A closing tag that nothing opened is a span of its own.
    """
    spans = []
    position = 0
    while match := _ANSWER_MARKS.search(text, position):
        end = match.end()
        if match.group() == ANSWER_OPEN:
            following = text.find(ANSWER_OPEN, end)
            close = text.rfind(ANSWER_CLOSE, end, len(text) if following < 0 else following)
            end = len(text) if close < 0 else close + len(ANSWER_CLOSE)
        elif match.group() != ANSWER_CLOSE:
            depth = 1
            while end < len(text) and depth:
                if text[end] == "\\":
                    end += 1  # skip an escaped brace
                else:
                    depth += {"{": 1, "}": -1}.get(text[end], 0)
                end += 1
        spans.append((match.start(), min(end, len(text))))
        position = end
    return spans
