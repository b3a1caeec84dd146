"""`python -m stp.generate`: answers on the terminal, alone or line by line, the same whether or not one watches."""

import io
import re

import pytest
from rich.console import Console

from stp.cli import arguments
from stp.errors import UserError
from stp.generate import generate
from stp.models.codec import Codec
from tests.config import composed, told
from tests.models import TOKENIZER

SMALL = ["sampler.length=24", "sampler.steps=12", "sampler.block_length=12"]
ASKED = "Numbers: [6, 4, 1] Target: 3"


def answers(capsys, *overrides):
    """What the command prints, (completion, forwards) for each question, and the lines of a show before them."""
    generate.main(composed("generate", *arguments([*SMALL, *overrides])))
    printed = capsys.readouterr().out
    found = re.findall(r"((?:forward .*\n)*)((?:.*\n)*?)\[(\d+) forwards, \d+\.\d\d s\]\n", printed)
    assert found, printed
    return [(completion.rstrip("\n"), int(forwards), show.splitlines()) for show, completion, forwards in found]


@pytest.fixture(scope="module")
def policy():
    """The tiny base is loaded once."""
    return generate.trained.load(None, composed("generate").model)


@pytest.fixture(autouse=True)
def loaded(policy, monkeypatch):
    monkeypatch.setattr(generate.trained, "load", lambda *_: policy)


def test_lines_of_standard_input_are_answered_as_alone(capsys, monkeypatch):
    (alone,) = answers(capsys, f"question={ASKED}")
    assert alone[0] and 0 < alone[1] <= 12
    monkeypatch.setattr("sys.stdin", io.StringIO(f"Numbers: [1, 2, 3] Target: 6\n\n  {ASKED} \n"))
    first, second = answers(capsys)
    assert second == alone and first != alone
    (other,) = answers(capsys, f"question={ASKED}", "seed=1")
    assert other[0] != alone[0]


@pytest.mark.parametrize("sampler", ["sampler=standard", "sampler=stp", "sampler.cache=dual"])
def test_watching_changes_nothing(sampler, capsys):
    (quiet,), (watched,) = (answers(capsys, f"question={ASKED}", sampler, f"show={show}") for show in ("false", "true"))
    assert watched[:2] == quiet[:2] and not quiet[2] and len(watched[2]) == watched[1]
    masks = [line.count("·") for line in watched[2]]
    assert masks[0] == 24 and masks == sorted(masks, reverse=True) and watched[2][1].startswith("forward   1  ")


def test_on_a_terminal_tokens_appear_in_place():
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    texts = iter(["··", "\x1b[2J·", "ab"])  # what a model writes must not steer the terminal
    with generate.display(console, lambda _: next(texts)) as show:
        for _ in range(3):
            show(None)
    written = console.file.getvalue()
    assert "ab" in written and "forward" not in written and "\x1b[2J" not in written and "␛[2J·" in written


def test_an_unfinished_text_ends_at_eos():
    codec = Codec(TOKENIZER, "", None)
    one, two = TOKENIZER("1+", add_special_tokens=False)["input_ids"]
    mask, eos = TOKENIZER.mask_token_id, TOKENIZER.eos_token_id
    assert generate.unfinished(codec, [one, mask, mask, two, eos, mask, one], mask) == "1··+"


@pytest.mark.parametrize("asked", ["a, b = c? it's {x} [y ${x}^2$ \\frac{1}{2}\\", "~5\nü", "'quoted", "7"])
def test_any_question_can_be_asked(asked):
    assert composed("generate", *arguments([f"question={asked}"])).question == asked


def test_refusals(capsys):
    assert "question= : it is empty; ask something" in told("generate", *arguments(["question= "]))
    with pytest.raises(UserError, match=r"^question=a<\|mdm_mask\|>: it spells out the special token <\|mdm_mask\|>"):
        answers(capsys, "question=a<|mdm_mask|>")
    with pytest.raises(
        UserError, match=r"^sampler\.length=24: after a prompt of \d+ tokens that leaves the model's 512 positions"
    ):
        answers(capsys, f"question={'1+' * 300}")
    with pytest.raises(UserError, match=r"^checkpoint=nowhere: no such folder"):
        answers(capsys, "question=1", "checkpoint=nowhere")
