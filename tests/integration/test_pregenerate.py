"""Making a static dataset: batch by batch, whatever stops it, whoever else does, and each anchor of its problem alone."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from stp.anchors import StaticDataset, make
from stp.anchors.make import Maker, named, static_dataset
from stp.errors import UserError
from stp.models.codec import Codec
from stp.models.policy import Policy
from stp.models.tiny import new_tiny, tiny_tokenizer
from stp.ranks import Ranks
from stp.run.tracking import Logging, Tracker
from stp.samplers import Stp
from stp.tasks import Countdown
from stp.tasks.base import Data
from tests.integration.runs import on_two_ranks

TOKENIZER = tiny_tokenizer(Countdown.phrases)
POLICY = Policy(new_tiny(TOKENIZER, 0, width=16, layers=1), TOKENIZER.mask_token_id, TOKENIZER.eos_token_id).eval()
ALONE = Ranks()
PROBLEMS = Countdown(data=Data(train_size=12)).problems("train")
NAMES = ("tokens_NKL", "eligible_NKL", "confidence_NKL", "reward_NK", "correct_NK")


def a_maker(rows=4, ranks=ALONE, task=None, **sampler):
    """Of a small random model, which writes two pre-generations of 12 tokens for each problem."""
    chosen = {"pregenerations": 2, "temperature": 1.0} | sampler
    config = SimpleNamespace(
        model=SimpleNamespace(name="small", path=None), task=task or Countdown(), sampler=Stp(12, 6, 6, **chosen)
    )
    return Maker(config, POLICY, Codec(TOKENIZER, "", 200), rows, ranks)


def of_problems(maker, problems):
    """The anchors of these problems, made in memory."""
    keys = [problem.key for problem in problems]
    return StaticDataset.joined(maker.provenance, list(maker.batches(problems))).of(keys)


def made(maker, folder, problems=PROBLEMS):
    """The static dataset of these problems in a folder."""
    return static_dataset(
        maker, problems, Tracker(folder.parent, Logging(wandb="disabled"), {}, maker.here.number == 0), folder
    )


def assert_same(found, expected):
    assert found.problems == expected.problems
    for name in NAMES:  # batches of other sizes round otherwise
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))


@pytest.fixture
def asked(monkeypatch):
    """The completions of each call of `generate`."""
    calls, generate = [], make.generate

    def counted(policy, sampler, batch, *arguments, **options):
        calls.append(len(batch.prompts))
        return generate(policy, sampler, batch, *arguments, **options)

    monkeypatch.setattr(make, "generate", counted)
    return calls


def test_an_anchor_depends_on_its_problem_alone():
    """Not on the others, their order, the batches or the ranks; the pre-generations of a problem are drawn apart."""
    whole = of_problems(a_maker(rows=24), PROBLEMS)
    assert len({tuple(row) for row in whole.tokens_NKL.flatten(0, 1).tolist()}) == 24
    some = [PROBLEMS[i] for i in (7, 2, 9)]
    expected = whole.of([problem.key for problem in some])
    for rows in (1, 3, 24):
        assert_same(of_problems(a_maker(rows=rows), some), expected)
    for found in on_two_ranks(lambda ranks: of_problems(a_maker(1, ranks), some)):
        assert_same(found, expected)


def test_what_is_there_is_taken_and_what_is_missing_is_made(tmp_path, asked, capsys):
    whole = of_problems(a_maker(), PROBLEMS)
    asked.clear()
    made(a_maker(), tmp_path / "static", PROBLEMS[:5])
    assert asked == [4, 4, 2]
    assert_same(made(a_maker(), tmp_path / "static"), whole)  # more problems
    assert asked[3:] == [4, 4, 4, 2]
    assert_same(made(a_maker(), tmp_path / "static", PROBLEMS[3:1:-1]), whole.rows([3, 2]))  # fewer
    assert len(asked) == 7
    said = capsys.readouterr().out
    assert f"static dataset: {tmp_path / 'static'} has 5 of 12 problems already" in said
    assert f"static dataset: {tmp_path / 'static'} has all problems already" in said


def test_a_job_that_is_stopped_goes_on_where_it_was(tmp_path, asked, monkeypatch):
    whole = of_problems(a_maker(), PROBLEMS)
    generate = make.generate

    def stopped(*arguments, **options):
        if len(asked) == 9:  # of these six batches the fourth
            raise KeyboardInterrupt
        return generate(*arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(make, "generate", stopped)
        made(a_maker(), tmp_path / "static")
    assert len(list((tmp_path / "static").glob("anchors-*"))) == 3 and len(asked) == 9
    assert_same(made(a_maker(), tmp_path / "static"), whole)
    assert asked[9:] == [4, 4, 4]


def test_two_jobs_at_once_both_have_all(tmp_path):
    jobs = [PROBLEMS[:9], PROBLEMS[4:]]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda problems: made(a_maker(), tmp_path / "static", problems), jobs))
    whole = of_problems(a_maker(), PROBLEMS)
    for dataset, problems in zip(found, jobs, strict=True):
        assert_same(dataset, whole.of([problem.key for problem in problems]))
    assert_same(StaticDataset.load(tmp_path / "static").of(whole.problems), whole)


def test_other_settings_and_other_words_are_other_anchors(tmp_path, asked):
    made(a_maker(), tmp_path / "static")
    for other in (a_maker(temperature=0.5), a_maker(task=Countdown(rewards="published"))):
        with pytest.raises(UserError, match=r"^to=.*static: made with (temperature 1\.0|rewards corrected), this run has "):
            made(other, tmp_path / "static")
    asked.clear()
    reworded = replace(PROBLEMS[0], question=PROBLEMS[0].question.replace("Numbers", "The numbers"))
    assert reworded.id == PROBLEMS[0].id and reworded.key != PROBLEMS[0].key
    made(a_maker(), tmp_path / "static", [reworded, *PROBLEMS[1:]])
    assert asked == [2]


def test_a_named_dataset_says_what_it_covers_and_must_cover_something(tmp_path, capsys):
    made(a_maker(), tmp_path / "static", PROBLEMS[:3])
    capsys.readouterr()
    maker = a_maker(static=str(tmp_path / "static"))
    found = static_dataset(maker, PROBLEMS, Tracker(tmp_path, Logging(wandb="disabled"), {}, True))
    assert found.problems == [problem.key for problem in PROBLEMS[:3]]
    assert "(3 of 12 problems, the others start fully masked, " in capsys.readouterr().out
    with pytest.raises(UserError, match=r"^sampler\.static=.*static: it has anchors for none of these 9 problems; make some"):
        named(tmp_path / "static", maker.provenance, PROBLEMS[3:])


def test_the_share_that_the_length_cuts_is_said(tmp_path, capsys):
    """Pre-generations without an end, and solutions that are longer, of the 12 tokens here."""
    dataset = made(a_maker(), tmp_path / "model")
    cut = (~(dataset.tokens_NKL == TOKENIZER.eos_token_id).any(dim=2)).float().mean()
    assert f", {100 * cut:.0f}% are cut at 12 tokens)" in capsys.readouterr().out and cut > 0
    maker = a_maker(anchors="ground_truth", pregenerations=1)
    short = replace(PROBLEMS[0], id="short", solution=("1+2=3", "1+2"))
    assert maker.codec.solution_ids(short.solution, 12) and not maker.codec.solution_ids(PROBLEMS[0].solution, 12)
    dataset = made(maker, tmp_path / "truth", [short, *PROBLEMS[:3]])
    said = "(4 problems, 25% of anchors have tokens to fix, 75% are left out, for want of a solution within 12 tokens)"
    assert said in capsys.readouterr().out
    assert dataset.eligible_NKL.any(dim=2).flatten().tolist() == [True, False, False, False]
