"""The tiny model: its tokenizer loses no text, its weights come from a seed."""

import random
import re

import pytest
import torch

from stp.errors import UserError
from stp.models.llada import load_llada
from stp.models.policy import load_tokenizer
from stp.models.tiny import BASES, EOS, MASK, new_tiny, shipped, tiny_tokenizer
from stp.tasks import Countdown, Gsm8k, Math, Sudoku, format_response
from stp.tasks.base import Data
from stp.tasks.countdown import attempts
from tests.models import TOKENIZER, small_model

TASKS = {"countdown": Countdown, "gsm8k": Gsm8k, "math": Math, "sudoku": Sudoku}
PRINTABLE = "".join(map(chr, range(32, 127))) + "\n"


def ids(text):
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


def decoded(text):
    return TOKENIZER.batch_decode([ids(text)])[0]


def test_text_survives_the_round_trip():
    rng = random.Random(0)
    texts = [
        PRINTABLE,
        "",
        " ",
        "  two  spaces \n\n x",
        "a, b",
        "it 's",
        "Numbers: [3, 7]\nTarget: 10",
        "<answer>(7*3)-9</answer>",
    ]
    texts += ["".join(rng.choices(PRINTABLE, k=rng.randint(1, 40))) for _ in range(300)]
    texts += ["".join(rng.choices("0123456789+ ", k=rng.randint(1, 20))) for _ in range(100)]
    for text in texts:
        assert decoded(text) == text
        assert TOKENIZER.unk_token_id not in ids(text)


def test_a_whole_number_up_to_100_is_one_token():
    singles = [ids(str(n)) for n in range(101)]
    assert all(len(single) == 1 for single in singles)
    assert len({single[0] for single in singles}) == 101
    assert [len(ids(f"{n}+{n}")) for n in (7, 42, 100)] == [3, 3, 3]
    assert [TOKENIZER.decode([i]) for i in ids("1005")] == ["100", "5"]
    assert [TOKENIZER.decode([i]) for i in ids("007")] == ["0", "0", "7"]


def test_phrases_are_one_token():
    for phrase in ("Numbers: [", "]\nTarget: ", "<reasoning>", "</reasoning>", "<answer>", "</answer>", "\n", ", "):
        assert len(ids(phrase)) == 1


def test_every_prompt_has_the_same_number_of_tokens():
    problems = Countdown(data=Data(train_size=100)).problems("train")
    assert len({len(ids(p.question)) for p in problems}) == 1


def test_special_tokens():
    assert TOKENIZER.eos_token == TOKENIZER.pad_token == EOS
    assert TOKENIZER.mask_token == MASK
    assert len({TOKENIZER.eos_token_id, TOKENIZER.mask_token_id, TOKENIZER.unk_token_id}) == 3
    assert ids("é") == [TOKENIZER.unk_token_id]
    assert ids(f"1{EOS}") == [*ids("1"), TOKENIZER.eos_token_id]


def test_the_tokenizer_saves_and_loads(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.get_vocab() == TOKENIZER.get_vocab()
    assert (again.mask_token_id, again.eos_token_id) == (TOKENIZER.mask_token_id, TOKENIZER.eos_token_id)
    assert again(PRINTABLE)["input_ids"] == ids(PRINTABLE)
    assert again.batch_decode([ids("1, 2 <answer>")]) == ["1, 2 <answer>"]


def test_weights_come_from_the_seed_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    a, b, c = (new_tiny(TOKENIZER, seed, width=32, layers=1) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.lm_head.weight, c.lm_head.weight)
    assert small_model().config.is_causal is False


@pytest.mark.parametrize("task", TASKS)
def test_the_shipped_base_belongs_to_the_tokenizer(task):
    tokenizer = tiny_tokenizer(TASKS[task].phrases, TASKS[task].largest_token)
    assert load_tokenizer(shipped(task)).backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    model = load_llada(shipped(task))
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.mask_token_id == tokenizer.mask_token_id


def test_the_shipped_bases_are_those_of_the_tasks_and_of_the_testbed_and_small():
    stops, others = ("testbed", "testbed_1500", "testbed_4000"), ("testbed_gsm8k", "testbed_math", "testbed_sudoku")
    assert {folder.name for folder in BASES.iterdir()} == {*TASKS, *stops, *others}
    assert sum(file.stat().st_size for file in BASES.rglob("*")) < 11 * 2**20


def test_a_task_without_a_base_is_told_how_to_get_one():
    with pytest.raises(
        UserError, match=r"model.base=chess: .*countdown, gsm8k, math, sudoku.*python -m stp.pretrain task=chess"
    ):
        shipped("chess")


@pytest.mark.parametrize("task", ["gsm8k", "math"])
def test_a_word_problem_is_told_in_a_few_tokens_and_a_name_or_number_is_one(task):
    tokenizer = tiny_tokenizer(TASKS[task].phrases)
    for problem in TASKS[task](data=Data(train_size=200)).problems("train"):
        tokens = tokenizer.convert_ids_to_tokens(tokenizer(problem.question)["input_ids"])
        assert "".join(tokens) == problem.question and len(tokens) <= 24
        assert re.findall("[0-9]+", problem.question) == [token for token in tokens if token.isdigit()]


@pytest.mark.parametrize("task", TASKS)
def test_an_example_is_right_if_and_only_if_it_is_careful(task):
    """Countdown's guesses may hit; what is careless or guessed elsewhere is always wrong, and well formed."""
    rng = random.Random(0)
    options, tokenizer = TASKS[task](), tiny_tokenizer(TASKS[task].phrases, TASKS[task].largest_token)
    for problem in TASKS[task](data=Data(train_size=100)).problems("train"):
        for style in ("careful", "careless", "guess"):
            text = options.example(problem, style, rng)
            assert text.count("<answer>") == 1 and len(tokenizer(text)["input_ids"]) <= 48
            assert text.startswith("<answer>") == (style == "guess")
            if (task, style) != ("countdown", "guess"):
                assert options.solves(problem, text) == (style == "careful")


@pytest.mark.parametrize("lines", [1, 3, 4])
def test_examples_of_so_many_tries_all_have_one_length(lines):
    """Only the number of tries is fixed: the last one still hits the target if and only if the example is careful."""
    rng, lengths = random.Random(0), set()
    for problem in Countdown(data=Data(train_size=200)).problems("train"):
        for style in ("careful", "careless"):
            text = Countdown().example(problem, style, rng, lines)
            lengths.add(len(ids(text)))
            assert text.count("=") == 2 * lines  # a try shows the value after each number but the first
            always = len(attempts(problem.gold["numbers"], rng)) == 1  # every way gives the target: no try can miss
            assert Countdown().solves(problem, text) == (style == "careful" or always)
    assert len(lengths) == 1


@pytest.mark.parametrize("tagged", [True, False])
def test_a_response_survives_the_round_trip(tagged):
    text = format_response("13+7=20-4=16", "13+7-4", tagged)
    assert decoded(text) == text
