"""The lm-evaluation-harness on our checkpoints: completions are the sampler's, numbers those of stp.evaluate."""

import json
from pathlib import Path

import pytest
import torch

from stp.errors import UserError
from stp.evaluation.evaluator import Evaluator, standard_sampler
from stp.lm_eval.harness import Answers, composed
from stp.models.codec import Codec
from stp.ranks import Ranks
from tests.config import composed as command
from tests.models.test_qwen3 import write_qwen3

SMALL = {"sampler.length": 24, "sampler.steps": 12, "sampler.block_length": 12}
TASK = """
task: countdown_local
dataset_path: json
dataset_kwargs: {data_files: {test: <folder>/problems.jsonl}}
output_type: generate_until
test_split: test
doc_to_text: "{{question}}"
doc_to_target: ""
generation_kwargs: {until: ["<never>"], do_sample: false, top_p: 0.9}
process_results: !function grade.process_results
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
CHOICE = """
task: choice_local
dataset_path: json
dataset_kwargs: {data_files: {test: <folder>/few.jsonl}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{question}}"
doc_to_choice: ["1 + 2 = 3", "<answer>"]
doc_to_target: 0
metric_list: [{metric: acc}]
"""


@pytest.fixture(scope="module")
def answers():
    return Answers(composed(SMALL | {"estimator.samples": 64}), rows=32)


@pytest.fixture(scope="module")
def problems():
    return command("evaluate").task.problems("test")[:12]


def evaluated(answers, problems, temperature):
    """The completions of `stp.evaluate`."""
    task, codec = command("evaluate").task, Codec(answers.codec.tokenizer, "", None)
    evaluator = Evaluator(task, codec, problems, seed=0, rows=5)
    (*chunks,) = evaluator(answers.policy, standard_sampler(answers.config.sampler, temperature), Ranks())
    return [record for chunk in chunks for record in chunk]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_completions_are_those_of_an_evaluation(temperature, answers, problems):
    contexts = [answers.chat([{"role": "user", "content": p.question}], True) for p in problems]
    found = answers.completions(contexts, [temperature] * len(contexts), [None] * len(contexts))
    assert found == [record["completion"] for record in evaluated(answers, problems, temperature)]
    assert len(set(found)) > 1


def test_each_request_keeps_its_own_settings(answers, problems):
    contexts = [problem.question for problem in problems[:4]]
    cold, hot = (answers.completions(contexts, [t] * 4, [None] * 4) for t in (0.0, 1.0))
    assert answers.completions(contexts, [0.0, 1.0, 0.0, 1.0], [None] * 4) == [cold[0], hot[1], cold[2], hot[3]]
    ids = answers.encode(cold[0])
    (cut,) = answers.completions(contexts[:1], [0.0], [3])
    assert cut == answers.codec.tokenizer.decode(ids[:3]) and len(ids) > 3


def exact(policy, context, continuation):
    """log p of a continuation from left to right, a forward for each token."""
    ids, total = [*context, *continuation], 0.0
    for k, token in enumerate(continuation, len(context)):
        seen = torch.tensor([ids[:k] + [policy.mask_id] * (len(ids) - k)])
        total += float(policy(seen, None, torch.tensor([k]), torch.tensor([token])))
    return total


def test_the_causal_likelihood_is_exact_in_any_batch(answers, problems):
    """Contexts of unequal width are padded; continuations of unequal length never share a forward."""
    contexts = [answers.encode(text) for text in (problems[0].question, "1+2", "", problems[1].question)]
    pairs = [(c, answers.encode(t)) for c in contexts for t in ("1 + 2 = 3", "3", "<answer>5")] + [(contexts[0], [])]
    answers.config.estimator, elbo = (
        command("train", "estimator=causal", "estimator.samples=64").estimator,
        answers.config.estimator,
    )
    try:
        found = answers.log_likelihoods(pairs)
        answers.rows = 1
        assert [score for score, _ in answers.log_likelihoods(pairs)] == pytest.approx([score for score, _ in found], abs=1e-4)
    finally:
        answers.config.estimator, answers.rows = elbo, 32
    assert [score for score, _ in found] == pytest.approx([exact(answers.policy, *pair) for pair in pairs], abs=1e-4)
    assert found[-1] == (0.0, True)


def test_the_elbo_is_a_bound_whose_draws_depend_on_the_pair_alone(answers, problems):
    pairs = [(answers.encode(p.question), answers.encode("1 + 2 = 3")) for p in problems[:3]]
    found, turned = ([score for score, _ in answers.log_likelihoods(some)] for some in (pairs, pairs[::-1]))
    assert turned[::-1] == pytest.approx(found, abs=1e-4)
    single = [(answers.encode("1"), answers.encode("+"))]  # of one token, the bound is the likelihood
    assert answers.log_likelihoods(single)[0][0] == pytest.approx(exact(answers.policy, *single[0]), abs=1e-5)


def test_a_greedy_continuation_is_known(answers, problems):
    context = answers.encode(problems[0].question)
    mask = torch.tensor([[*context, answers.policy.mask_id]])
    best = int(answers.policy.draw(mask, None, torch.tensor([len(context)]))[0])
    found = answers.log_likelihoods([(context, [best]), (context, [(best + 1) % 50 + 3])])
    assert [greedy for _, greedy in found] == [True, False]


def test_long_contexts_lose_their_beginning(tmp_path, capsys):
    folder = write_qwen3(tmp_path / "m", max_position_embeddings=32)
    short = Answers(composed(SMALL | {"model.path": str(folder)}), rows=4)
    assert (
        short.completions(["7+" * 50 + "1", ("7+" * 50 + "1")[-8:]], [0.0] * 2, [None] * 2)
        == [short.completions(["+7+7+7+1"], [0.0], [None])[0]] * 2
    )
    pair = (short.encode("7+" * 50), short.encode("12"))
    (long,), (cut,) = short.log_likelihoods([pair]), short.log_likelihoods([(pair[0][-31:], pair[1])])
    assert long[0] == pytest.approx(cut[0], abs=1e-4)  # "12" is one token
    with pytest.raises(UserError, match=r"^sampler\.length=32: a continuation has that many tokens, the model 32 positions"):
        short.log_likelihoods([([], [5] * 32)])
    with pytest.raises(UserError, match=r"^sampler\.length=48: the model has 32 positions; leave some to the prompt"):
        Answers(composed({"model.path": str(folder)}), rows=4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            {"sampler.temperature": 0.5},
            "sampler.temperature=0.5: the task's generation settings decide; give --gen_kwargs do_sample",
        ),
        ({"estimator": "one_step"}, "estimator=onestep: a log-likelihood needs estimator=elbo .* or estimator=causal"),
        ({"estimator.weight": "none"}, "estimator=elbo: a log-likelihood needs estimator=elbo \\(with its weights\\)"),
        ({"seed": -1}, "seed=-1: choose a whole number"),
    ],
)
def test_refusals(arguments, said):
    with pytest.raises(UserError, match=f"^{said}"):
        composed(arguments)


def test_model_args_are_the_fields_of_a_command_line():
    path = "/a b/c=d,e"
    config = composed(
        {"sampler": "stp", "sampler.gamma": 0.25, "greedy": False, "checkpoint": "x/y", "model.path": path, "seed": 7}
    )
    assert (type(config.sampler).__name__, config.sampler.gamma, config.greedy, config.checkpoint) == (
        "Stp",
        0.25,
        False,
        "x/y",
    )
    assert (config.model.path, config.seed, config.estimator.samples, config.sampler.length) == (path, 7, 128, 48)


def local_tasks(folder: Path, problems):
    """A folder of tasks for the harness: the problems as a file, graded by the task's own rules."""
    rows = [json.dumps({"id": p.id, "question": p.question}) for p in problems]
    (folder / "problems.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "few.jsonl").write_text("\n".join(rows[:2]) + "\n")
    (folder / "countdown.yaml").write_text(TASK.replace("<folder>", str(folder)))
    (folder / "choice.yaml").write_text(CHOICE.replace("<folder>", str(folder)))
    (folder / "grade.py").write_text(
        "from stp.tasks import Countdown\n"
        "TASK = Countdown()\n"
        "KNOWN = {problem.id: problem for problem in TASK.problems('test')}\n"
        "def process_results(doc, results):\n"
        "    return {'acc': float(TASK.solves(KNOWN[doc['id']], results[0]))}\n"
    )


def test_the_harness_counts_what_an_evaluation_counts(answers, tmp_path, monkeypatch):
    """By its own command line, on local task files. Where the extra `eval` is installed."""
    pytest.importorskip("lm_eval")
    from lm_eval.__main__ import cli_evaluate

    from stp.lm_eval import adapter

    problems = command("evaluate").task.problems("test")[:24]
    local_tasks(tmp_path, problems)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(answers.config, "sampler", composed({}).sampler)
    monkeypatch.setattr(adapter, "Answers", lambda config, rows, device: answers)
    model = ["--model", "stp", "--model_args", "checkpoint=base", "--batch_size", "8", "--apply_chat_template"]
    tasks = ["--tasks", "countdown_local,choice_local", "--include_path", str(tmp_path), "--output_path", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["lm_eval", *model, *tasks])
    cli_evaluate()
    (file,) = (tmp_path / "out").rglob("results_*.json")
    results = json.loads(file.read_text())["results"]
    right = [record["correct"] for record in evaluated(answers, problems, 0.0)]
    assert results["countdown_local"]["acc,none"] == pytest.approx(sum(right) / 24) and 0 < sum(right) < 24
    assert 0 <= results["choice_local"]["acc,none"] <= 1
