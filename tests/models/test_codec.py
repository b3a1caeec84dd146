"""Between text and tokens: prompts, completions, and what of an anchor may be fixed."""

import copy
from dataclasses import replace

import pytest
import torch

from stp.diffusion import until_eos
from stp.errors import UserError
from stp.models.codec import Codec, answer_spans
from stp.protocols import Clean, Published
from stp.tasks import Countdown, Gsm8k, Math, format_response
from stp.tasks.base import Problem
from stp.types import Prompts, Trajectory
from tests.models import TOKENIZER

EOS = TOKENIZER.eos_token_id
CODEC = Codec(TOKENIZER, "", 200)


def response(text, length=40):
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    return torch.tensor([ids + [EOS] * (length - len(ids))])


def eligible(text, length=40):
    """The eligible tokens of a response, as texts."""
    response_BL = response(text, length)
    return [TOKENIZER.decode([i]) for i in response_BL[0][CODEC.eligible(response_BL)[0]]]


def problem(question):
    return Problem(question, question, None)


def test_prompts_are_padded_on_the_left():
    prompts = CODEC.prompts([problem("Numbers: [3, 7]"), problem("7")])
    assert prompts.real_BP.tolist() == [[True] * 5, [False] * 4 + [True]]
    texts = TOKENIZER.batch_decode([row[real].tolist() for row, real in zip(prompts.ids_BP, prompts.real_BP, strict=True)])
    assert texts == ["Numbers: [3, 7]", "7"]
    assert CODEC.prompts([problem("7"), problem("8")]).real_BP is None


def test_long_prompts_are_cut_on_the_left():
    whole = CODEC.encode_prompt("1+2+3")
    assert Codec(TOKENIZER, "", 2).encode_prompt("1+2+3") == whole[-2:]


@pytest.mark.parametrize("token", ["<|mdm_mask|>", "<|endoftext|>"])
def test_a_question_with_a_special_token_is_refused(token):
    """As tokens it would be a mask to fill, or an end."""
    with pytest.raises(UserError, match=r"^task\.data=Numbers: .*: it spells out the special token <\|\w+\|>; remove it"):
        CODEC.encode_prompt(f"Numbers: [3, {token}7]")
    assert CODEC.solution_ids((f"3{token}", "7"), 40) is None and CODEC.solution_ids(("3", "7"), 40)


def test_an_added_token_that_is_not_special_is_text():
    tokenizer = copy.deepcopy(TOKENIZER)
    tokenizer.add_tokens(["<tool_call>"])
    assert Codec(tokenizer, "", 200).encode_prompt("3 <tool_call>")


def test_the_instruction_stands_before_the_question():
    asked = Codec(TOKENIZER, "Do this.", 200).encode_prompt("7")
    assert TOKENIZER.batch_decode([asked])[0].startswith("Do this.\n\n7")


@pytest.mark.parametrize("task", [Countdown(), Gsm8k(), Math()])
def test_the_published_protocol_begins_the_assistants_turn_and_asks_for_a_box(task):
    tokenizer = copy.deepcopy(TOKENIZER)
    tokenizer.chat_template = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[assistant]"
    codec = Codec(tokenizer, Published().instruction(task), None, Published.prefill)
    question = "Numbers: [3, 7]\n" * 50  # never cut
    (asked,) = tokenizer.batch_decode([codec.encode_prompt(question)])
    assert asked == f"[user]{codec.instruction}\n\n{question}[assistant]<reasoning>"
    form = "<reasoning>\nYour reasoning\n</reasoning>\n<answer>\n\\boxed{...}\n</answer>"
    assert codec.instruction.endswith(form) and "\\boxed{}" in codec.instruction.removesuffix(form)
    assert Clean().instruction(task) == task.instruction == task.wording
    own = replace(task, instruction="As published, word for word.")
    assert Published().instruction(own) == Clean().instruction(own) == "As published, word for word."


def test_completions_end_at_eos():
    response_BL = torch.cat([response("1+2", 6), response("1+2+3+", 6), response("", 6)])
    response_BL[0, 4:] = TOKENIZER("9")["input_ids"][0]  # after the first EOS: never read
    none_BL = torch.zeros_like(response_BL, dtype=torch.bool)
    trajectory = Trajectory.given(Prompts(response_BL), response_BL, none_BL, until_eos(response_BL, EOS))
    assert CODEC.completions(trajectory) == ["1+2", "1+2+3+", ""]


@pytest.mark.parametrize(
    ("text", "open_parts"),
    [
        ("no answer", ["no answer"]),
        ("a<answer>1</answer>b", ["a", "b"]),
        ("<answer>1</answer>", []),
        ("a<answer>1", ["a"]),  # never closed: to the end
        ("a<answer>1</answer>b<answer>2</answer>c", ["a", "b", "c"]),
        ("a<answer><answer>1</answer>b", ["a"]),  # the first is never closed
        ("a<answer>1</answer>b</answer>c", ["a", "c"]),  # to the last closing tag
        ("a</answer>b", ["a", "b"]),  # a closing tag alone is a span too
        (r"a\boxed{1}b", ["a", "b"]),
        (r"a\boxed {1+{2}}b", ["a", "b"]),
        (r"a\boxed{1", ["a"]),
        (r"a\boxed b", [r"a\boxed b"]),
        (r"a<answer>\boxed{1</answer>b", ["a", "b"]),
        (r"a\boxed{<answer>}b</answer>c", ["a", "b", "c"]),
        (r"a\boxed{\}1}b", ["a", "b"]),
        ("a\\boxed{1\\", ["a"]),
    ],
)
def test_answer_spans(text, open_parts):
    parts, position = [], 0
    for begin, end in [*answer_spans(text), (len(text), len(text))]:
        parts += [text[position:begin]] if begin > position else []
        position = end
    assert parts == open_parts


def test_spans_are_linear_in_the_text():
    assert len(answer_spans("<answer>" * 100_000)) == 1
    assert len(answer_spans("<answer></answer>" * 20_000)) == 20_000
    assert len(answer_spans("</answer>" * 20_000)) == 20_000
    assert len(answer_spans("\\boxed{" * 50_000)) == 1


def test_eligible_tokens_lie_before_eos_and_outside_the_answer():
    assert eligible("13+7=20\n<answer>13+7</answer>") == ["13", "+", "7", "=", "20", "\n"]
    assert eligible("<answer>13+7</answer>") == []
    assert eligible("1<answer>2</answer>3") == ["1", "3"]
    assert eligible("1<answer>2+3") == ["1"]
    assert eligible("1+2") == ["1", "+", "2"]
    assert eligible(r"1\boxed{23}4") == ["1", "4"]
    after = response("1+2<answer>", 8)
    after[0, 6:] = after[0, 0]
    assert CODEC.eligible(after)[0].tolist() == [True] * 3 + [False] * 5


@pytest.fixture
def chat():
    """A codec whose tokenizer ends a turn with a special token of its own, as LLaDA's and Dream's do."""
    tokenizer = copy.deepcopy(TOKENIZER)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|eot_id|>"]})
    return Codec(tokenizer, "", 200)


def test_special_tokens_are_never_eligible(chat):
    """Fixed, an end of turn would say where the new completion must end."""
    ids = chat.tokenizer("1+2<answer>3</answer><|eot_id|>4", add_special_tokens=False)["input_ids"]
    end = chat.tokenizer.convert_tokens_to_ids("<|eot_id|>")
    for row in (ids, [*ids[:3], end, *ids[3:]], [end, *ids], [TOKENIZER.mask_token_id, *ids]):
        allowed = chat.eligible(torch.tensor([[*row, EOS]]))[0].tolist()
        assert [i for i, may in zip(row, allowed, strict=False) if may] == [*ids[:3], ids[-1]]


def test_a_completion_ends_at_the_tokenizers_eos_whatever_turn_ended_before(chat):
    """As in d1 and SPG: an end of turn is a token of the loss, and no part of the text."""
    ids = chat.tokenizer("1+2<|eot_id|>7", add_special_tokens=False)["input_ids"]
    response_BL = torch.tensor([[*ids, EOS, EOS]])
    open_BL, until_BL = torch.zeros_like(response_BL, dtype=torch.bool), until_eos(response_BL, EOS)
    assert until_BL[0].tolist() == [True] * (len(ids) + 1) + [False]
    done = Trajectory.given(Prompts(response_BL), response_BL, open_BL, until_BL)
    assert chat.completions(done) == ["1+27"]


def test_rows_do_not_touch_each_other():
    rows = torch.cat([response("1<answer>2"), response("1+2"), response("<answer>2</answer>7")])
    assert torch.equal(CODEC.eligible(rows), torch.cat([CODEC.eligible(row[None]) for row in rows]))


@pytest.mark.parametrize("instruction", ["", "Do this."])
def test_solutions_are_what_a_response_would_hold(instruction):
    codec = Codec(TOKENIZER, instruction, 200)
    solved = next(p for p in Countdown().problems("train") if p.solution)
    ids = codec.solution_ids(solved.solution, 200)
    assert TOKENIZER.batch_decode([ids])[0] == format_response(*solved.solution, tagged_reasoning=bool(instruction))
    assert codec.solution_ids(solved.solution, len(ids)) == ids
    assert codec.solution_ids(solved.solution, len(ids) - 1) is None
    assert codec.solution_ids(problem("7").solution, 200) is None


def test_the_fingerprint_tells_ways_of_asking_apart():
    ways = (("", 200), ("Do this.", 200), ("", 100), ("", None), ("", 200, "<reasoning>"))
    prints = {Codec(TOKENIZER, *options).fingerprint() for options in ways}
    assert len(prints) == 5 and CODEC.fingerprint() in prints


def test_a_chat_template_that_fails_is_named():
    tokenizer = copy.deepcopy(TOKENIZER)
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(UserError, match=r"^model\.path=.*: its chat template fails \(roles must alternate\); mend"):
        Codec(tokenizer, "", None).encode_prompt("6 + 12?")
