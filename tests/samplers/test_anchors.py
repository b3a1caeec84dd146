"""Fixed tokens come from outside the anchor's answer span; the static dataset they come from."""

import dataclasses
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from stp.anchors.dataset import VERSION, StaticDataset
from stp.errors import UserError
from stp.models.codec import Codec, answer_spans
from stp.models.tiny import tiny_tokenizer
from stp.samplers import Stp
from stp.tasks import Countdown
from stp.types import Draws

TOKENIZER = tiny_tokenizer(Countdown.phrases)
EOS = TOKENIZER.eos_token_id
CODEC = Codec(TOKENIZER, "", 50)


def spans(text: str) -> list[str]:
    return [text[a:b] for a, b in answer_spans(text)]


def encode(text: str, length: int | None = None) -> torch.Tensor:
    """Token ids of a text (one row), padded with EOS to `length`."""
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    return torch.tensor([ids + [EOS] * ((length or len(ids)) - len(ids))])


def eligible_text(text: str) -> str:
    """The text with every token that may not be fixed as a dot."""
    ids_BL = encode(text)
    tokens = TOKENIZER.batch_decode(ids_BL.T)
    allowed = CODEC.eligible(ids_BL)[0].tolist()
    return "".join(t if ok else "." for t, ok in zip(tokens, allowed, strict=True))


def test_answer_spans_include_their_tags():
    assert spans("a<answer>1+2</answer>b") == ["<answer>1+2</answer>"]
    assert spans(r"so \boxed{42}.") == [r"\boxed{42}"]
    assert spans("nothing here") == [] and spans("") == []


def test_nested_braces_belong_to_the_box():
    assert spans(r"x \boxed{\frac{1}{\sqrt{2}}} y}") == [r"\boxed{\frac{1}{\sqrt{2}}}"]
    assert spans(r"\boxed{a \boxed{b} c} d") == [r"\boxed{a \boxed{b} c}"]
    assert spans(r"\boxed {7} d") == [r"\boxed {7}"]


def test_an_unclosed_span_reaches_to_the_end():
    assert spans("a<answer>1+2") == ["<answer>1+2"]
    assert spans(r"a \boxed{1{2} b") == [r"\boxed{1{2} b"]
    assert spans(r"a \boxed{") == [r"\boxed{"]


def test_every_span_is_found():
    text = r"<answer>1</answer> then \boxed{2} then <answer>\boxed{3}</answer> end"
    assert spans(text) == ["<answer>1</answer>", r"\boxed{2}", r"<answer>\boxed{3}</answer>"]


def test_spans_are_found_in_linear_time():
    """A hundred thousand openings: anything quadratic would not come back."""
    assert len(answer_spans("<answer>" * 100_000)) == 1
    assert len(answer_spans(r"\boxed{" * 100_000)) == 1
    assert len(answer_spans(r"\boxed{}" * 100_000)) == 100_000


def test_tokens_of_an_answer_are_never_eligible_and_the_others_are():
    assert eligible_text("5*8=40\n<answer>40+2</answer>ok") == "5*8=40\n.....ok"
    assert eligible_text(r"so \boxed{\frac{1}{2}} done") == "so " + "." * len(r"\boxed{\frac{1}{2}}") + " done"
    assert eligible_text("all of it") == "all of it"
    assert eligible_text("a <answer>3*4") == "a ...."


def test_a_tag_that_ends_with_the_response_is_not_eligible():
    assert eligible_text("<answer>40</answer>") == "..."
    assert eligible_text("7<answer>") == "7."


def test_nothing_from_the_eos_on_is_eligible():
    ids_BL = encode("5*8=40")
    ids_BL = torch.cat([ids_BL[:, :3], torch.tensor([[EOS]]), ids_BL[:, 3:], torch.tensor([[EOS, EOS]])], dim=1)
    allowed = CODEC.eligible(ids_BL)[0].tolist()
    assert allowed == [True] * 3 + [False] * (len(allowed) - 3)


def test_an_empty_response_has_nothing_eligible():
    """An anchor that is EOS throughout: fixing its first EOS would end every completion before it began."""
    assert not CODEC.eligible(torch.full((2, 4), EOS)).any()


def test_an_answer_after_the_eos_is_no_answer():
    """The text ends at the EOS: a tag behind it closes nothing and opens nothing."""
    row = [*encode("<answer>7")[0].tolist(), EOS, *encode("</answer>8")[0].tolist()]
    assert not CODEC.eligible(torch.tensor([row])).any()
    row = [*encode("7+8")[0].tolist(), EOS, *encode("<answer>")[0].tolist()]
    assert CODEC.eligible(torch.tensor([row]))[0].tolist() == [True] * 3 + [False] * 2


def test_a_token_that_touches_a_span_is_not_eligible():
    """Where one token holds the last character of the text and the first of the tag."""

    class Pieces:
        eos_token_id, added_tokens_decoder = -1, {}
        words = ("ab", "c<", "answer>4", "2</answer", ">d", "e")

        def batch_decode(self, rows):
            return ["".join(self.words[i] for i in row) for row in rows]

    allowed = Codec(Pieces(), "", 50).eligible(torch.tensor([[0, 1, 2, 3, 4, 5]]))
    assert allowed[0].tolist() == [True, False, False, False, False, True]


def test_a_token_of_no_characters_inside_a_span_is_not_eligible():
    class Pieces:
        eos_token_id, added_tokens_decoder = -1, {}
        words = ("ab", "", "<answer>", "", "4", "</answer>", "", "e")

        def batch_decode(self, rows):
            return ["".join(self.words[i] for i in row) for row in rows]

    allowed = Codec(Pieces(), "", 50).eligible(torch.tensor([list(range(8))]))[0].tolist()
    assert allowed[0] and allowed[7] and not any(allowed[2:6])


@pytest.mark.parametrize("select", ["low_confidence", "random"])
def test_stp_fixes_nothing_of_the_anchors_answer(select):
    """The most confident tokens of all are the answer's; still none of them is fixed."""
    text = "5*8=40\n40+2=42\n<answer>5*8+2</answer>"
    ids_BL = encode(text, 24)
    eligible_BL = CODEC.eligible(ids_BL)
    confidence_BL = torch.where(eligible_BL, -5.0, -0.01)
    rows = torch.zeros(50, dtype=torch.long)
    static = StaticDataset(
        {}, ["p"], ids_BL[None], eligible_BL[None], confidence_BL[None], torch.ones(1, 1), torch.ones(1, 1) > 0
    )
    anchors = static.anchors(["p"] * 50, "first", Draws(0, 50))
    fixed_BL = Stp(24, 24, 24, gamma=0.9, t_cutoff=0.0, select=select).start(anchors, Draws(0, 50)).fixed_BL
    assert torch.equal(fixed_BL, eligible_BL[rows])  # 0.9 * 24 is more than there are: all of them, and only them
    inside = (ids_BL[0] == TOKENIZER.convert_tokens_to_ids("<answer>")).nonzero().item()
    assert not fixed_BL[:, inside:].any() and fixed_BL[:, :inside].all()


def a_dataset(k: int = 3, length: int = 6) -> StaticDataset:
    generator = torch.Generator().manual_seed(0)
    shape = (2, k, length)
    return StaticDataset(
        {"model": "tiny", "config_hash": "abc", "source": "model"},
        ["p0", "p1"],
        torch.randint(0, 50, shape, generator=generator),
        torch.ones(shape, dtype=torch.bool),
        -torch.rand(shape, generator=generator),
        torch.zeros(2, k),
        torch.arange(2 * k).view(2, k) % 2 == 1,
    )


def test_a_saved_dataset_loads_as_it_was(tmp_path):
    written = a_dataset()
    written.save(tmp_path / "deep" / "static")
    read = StaticDataset.load(tmp_path / "deep" / "static", {"model": "tiny", "config_hash": "abc"})
    assert (read.provenance, read.problems) == (written.provenance, written.problems)
    for name in ("tokens_NKL", "eligible_NKL", "confidence_NKL", "reward_NK", "correct_NK"):
        assert torch.equal(getattr(read, name), getattr(written, name))


def test_a_folder_grows_by_what_is_saved(tmp_path):
    """Of a problem that stands in two files one file's anchors count, whole."""
    first = a_dataset()
    more = dataclasses.replace(first, problems=["p1", "q0"], tokens_NKL=first.tokens_NKL + 1)
    for _ in range(2):  # the same again changes nothing
        first.save(tmp_path / "static")
        more.save(tmp_path / "static")
    read = StaticDataset.load(tmp_path / "static")
    assert sorted(read.problems) == ["p0", "p1", "q0"] and len(list((tmp_path / "static").iterdir())) == 3
    assert torch.equal(read.of(["p0"]).tokens_NKL, first.tokens_NKL[:1])
    assert torch.equal(read.of(["q0", "unknown"]).tokens_NKL, more.tokens_NKL[1:])
    shared = read.of(["p1"]).tokens_NKL
    assert torch.equal(shared, first.tokens_NKL[1:]) or torch.equal(shared, more.tokens_NKL[:1])


def test_a_folder_without_a_finished_file_holds_no_problems(tmp_path):
    a_dataset().save(tmp_path / "static")
    next((tmp_path / "static").glob("anchors-*")).unlink()
    empty = StaticDataset.load(tmp_path / "static")
    assert empty.problems == [] and StaticDataset.joined({}, [empty]).problems == []


def test_what_a_killed_writer_left_is_not_read_and_goes_after_an_hour(tmp_path):
    a_dataset().save(tmp_path / "static")
    for name, age in (("new", 0), ("old", 7200)):
        left = tmp_path / "static" / f".writing-{name}"
        left.write_bytes(b"half")
        os.utime(left, (time.time() - age,) * 2)
    assert StaticDataset.load(tmp_path / "static").problems == ["p0", "p1"]
    a_dataset().save(tmp_path / "static")
    assert [p.name for p in (tmp_path / "static").glob(".*")] == [".writing-new"]


def test_many_threads_save_into_one_folder(tmp_path):
    datasets = [dataclasses.replace(a_dataset(), problems=[f"p{i % 4}", f"q{i % 4}"]) for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda dataset: dataset.save(tmp_path / "static"), datasets))
    assert sorted(StaticDataset.load(tmp_path / "static").problems) == [f"{x}{i}" for x in "pq" for i in range(4)]
    assert len(list((tmp_path / "static").iterdir())) == 5


def test_files_of_several_shapes_are_refused(tmp_path):
    a_dataset(k=3).save(tmp_path / "static")
    dataclasses.replace(a_dataset(k=2), problems=["q0", "q1"]).save(tmp_path / "static")
    with pytest.raises(UserError, match="its files hold anchors of several shapes"):
        StaticDataset.load(tmp_path / "static")


def test_a_dataset_of_another_run_is_refused_and_the_difference_named(tmp_path):
    a_dataset().save(tmp_path / "static")
    with pytest.raises(UserError, match="made with config_hash abc, this run has xyz"):
        StaticDataset.load(tmp_path / "static", {"model": "tiny", "config_hash": "xyz"})
    with pytest.raises(UserError, match="made with seed None, this run has 3"):
        StaticDataset.load(tmp_path / "static", {"seed": 3})


def test_a_missing_or_broken_dataset_is_a_users_error(tmp_path):
    with pytest.raises(UserError, match="no static dataset there"):
        StaticDataset.load(tmp_path / "nowhere")
    for name, content in (("anchors-*", b"junk"), ("anchors.json", b"{")):
        folder = tmp_path / name.strip("-*")
        a_dataset().save(folder)
        file = next(folder.glob(name))
        file.write_bytes(content)
        with pytest.raises(UserError, match="not a readable static dataset") as error:
            StaticDataset.load(folder)
        assert name == "anchors.json" or f"({file.name}: " in str(error.value)


def test_choose_first_takes_the_first_of_each_problem():
    data = a_dataset()
    anchors = data.anchors(["p1", "p0", "p1"], "first", Draws(0, 3))
    assert torch.equal(anchors.tokens_BL, data.tokens_NKL[[1, 0, 1], 0])
    assert torch.equal(anchors.confidence_BL, data.confidence_NKL[[1, 0, 1], 0])


def test_choose_random_draws_each_pregeneration_alike_for_each_completion():
    data, B = a_dataset(), 3_000
    anchors = data.anchors(["p1"] * B, "random", Draws(0, B))
    count = torch.tensor([int((anchors.tokens_BL == data.tokens_NKL[1, j]).all(dim=1).sum()) for j in range(3)])
    assert int(count.sum()) == B
    assert ((count - B / 3).abs() < 4 * (B * 2 / 9) ** 0.5).all()
    again = data.anchors(["p1"] * B, "random", Draws(0, B, update=1))
    assert not torch.equal(again.tokens_BL, anchors.tokens_BL)


def numbered(reward: list[float], eligible: list[int], length: int, correct: list[bool] | None = None) -> StaticDataset:
    """Pre-generations of one problem, each of which repeats its number, with these numbers of eligible tokens."""
    k = len(reward)
    tokens_NKL = torch.arange(k)[None, :, None].expand(1, k, length)
    eligible_NKL = (torch.arange(length) < torch.tensor(eligible)[:, None])[None]
    correct_NK = torch.tensor([correct or [False] * k])
    return StaticDataset({}, ["p"], tokens_NKL, eligible_NKL, torch.zeros(1, k, length), torch.tensor([reward]), correct_NK)


def best(reward: list[float], eligible: list[int], length: int) -> int:
    """Which pre-generation `best` takes, given each one's reward and number of eligible tokens."""
    return int(numbered(reward, eligible, length).anchors(["p"], "best", Draws(0, 1)).tokens_BL[0, 0])


def test_choose_best_takes_the_highest_reward_then_the_shortest():
    assert best([0.1, 1.0, 0.5], [2, 8, 2], length=8) == 1
    assert best([0.0, 0.0, 0.0], [5, 3, 4], length=8) == 1
    assert best([1.0, 1.0, 0.0], [5, 3, 1], length=8) == 1
    assert best([-1.0, -0.5], [1, 8], length=8) == 1


def test_choose_best_breaks_ties_of_any_reward_by_length():
    """One token's difference counts at every reward and length."""
    for reward in (0.0, 0.1, 1.0, 1.1, 3.0):
        for length in (8, 64, 256):
            assert best([reward] * 3, [length, length - 1, length - 2], length) == 2, (reward, length)


def test_a_problem_without_an_anchor_has_nothing_eligible():
    data = a_dataset()
    for choose in ("first", "random", "best"):
        anchors = data.anchors(["p0", "unknown", "p1"], choose, Draws(0, 3))
        assert anchors.eligible_BL.any(dim=1).tolist() == anchors.anchored_B.tolist() == [True, False, True]
        fixed_BL = Stp(6, 6, 6, gamma=0.5, t_cutoff=0.0).start(anchors, Draws(0, 3)).fixed_BL
        assert fixed_BL.sum(dim=1).tolist() == [3, 0, 3]


@pytest.mark.parametrize(("choose", "taken"), [("first", {1}), ("best", {2}), ("random", {1, 2, 4})])
def test_only_right_pregenerations_are_chosen_where_anchors_are_to_be_correct(choose, taken):
    """Of five the second, third and fifth are right; the fourth is wrong and has the highest reward of all."""
    data = numbered([0.0, 0.1, 0.5, 9.0, 0.1], [6] * 5, 6, [False, True, True, False, True])
    sampler, B = Stp(6, 6, 6, gamma=0.5, t_cutoff=0.0, anchors="correct", choose=choose, pregenerations=5), 300
    anchors = sampler.anchors_from(data, ["p"] * B, Draws(0, B))
    assert set(anchors.tokens_BL[:, 0].tolist()) == taken and bool(anchors.anchored_B.all())
    if choose == "random":
        count = anchors.tokens_BL[:, 0].bincount(minlength=5)[[1, 2, 4]]
        assert ((count - B / 3).abs() < 4 * (B * 2 / 9) ** 0.5).all()
    for choose, number in (("first", 0), ("best", 3)):  # anchors=model takes wrong ones, too
        every = Stp(6, 6, 6, gamma=0.5, choose=choose, pregenerations=5).anchors_from(data, ["p"], Draws(0, 1))
        assert int(every.tokens_BL[0, 0]) == number


def test_a_prompt_without_a_right_pregeneration_starts_with_nothing_fixed():
    data = numbered([0.1, 0.1], [6, 6], 6)
    for choose in ("first", "random", "best"):
        sampler = Stp(6, 6, 6, gamma=0.5, t_cutoff=0.0, anchors="correct", choose=choose, pregenerations=2)
        anchors = sampler.anchors_from(data, ["p", "p"], Draws(0, 2))
        assert not anchors.anchored_B.any() and not sampler.start(anchors, Draws(0, 2)).fixed_BL.any()
        assert (anchors.solved_B.tolist(), anchors.tries_B.tolist()) == ([0, 0], [2, 2])  # it has been tried all the same


def test_what_is_counted_of_a_prompt_are_its_pregenerations():
    data = a_dataset()  # wrong, right, wrong of p0; right, wrong, right of p1
    anchors = data.anchors(["p1", "p0", "unknown"], "first", Draws(0, 3))
    assert (anchors.solved_B.tolist(), anchors.tries_B.tolist()) == ([2, 1, 0], [3, 3, 0])
    written = dataclasses.replace(data, provenance={"source": "ground_truth"})
    anchors = written.anchors(["p1", "p0"], "first", Draws(0, 2))
    assert (anchors.solved_B.tolist(), anchors.tries_B.tolist()) == ([0, 0], [0, 0])


def test_a_dataset_of_an_older_version_is_refused_with_the_fix(tmp_path):
    """It does not say which anchors are right, so nothing in it can be taken."""
    dataclasses.replace(a_dataset(), provenance={"version": 2, "source": "model"}).save(tmp_path)
    with pytest.raises(UserError, match=r"made with version 2, this run has 3; make another with python -m stp\.pregenerate"):
        StaticDataset.load(tmp_path, {"version": VERSION})
