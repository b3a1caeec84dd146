"""Keyed randomness: a draw depends on its key and its place in the global batch, and on nothing else."""

import dataclasses

import pytest
import torch

from stp.estimators import Coupled, Elbo, OneStep, Spg, Unigrpo
from stp.loop import prompt_order
from stp.samplers import Standard, Stp
from stp.samplers.generate import generate
from stp.types import Batch, Draws
from tests.toys import EOS, anchors, in_context, open_at, prompts, trajectory


def test_sliced_draws_are_the_rows_of_the_whole_batch():
    whole = Draws(seed=3, batch=6, update=2)
    full_BL = whole.uniform("masks", 4, 5)
    rows = torch.tensor([4, 1])
    assert torch.equal(whole.select(rows).uniform("masks", 4, 5), full_BL[rows])
    keep_B = torch.tensor([True, False, True, True, False, True])
    assert torch.equal(whole.select(keep_B).uniform("masks", 4, 5), full_BL[keep_B])
    # a slice of a slice counts in the slice: rows [5, 3] of [0, 2, 3, 5]
    assert torch.equal(whole.select(keep_B).select(torch.tensor([3, 2])).uniform("masks", 4, 5), full_BL[[5, 3]])


def test_named_rows_draw_by_their_name_wherever_they_stand():
    names = ("a", "b", "c")
    whole, part = Draws(3, 3, names=names), Draws(3, 2, names=("c", "a"))
    full_BL = whole.uniform("tokens", 1, 5)
    assert torch.equal(part.uniform("tokens", 1, 5), full_BL[[2, 0]])
    assert torch.equal(whole.select(torch.tensor([2, 0])).uniform("tokens", 1, 5), full_BL[[2, 0]])
    assert len({tuple(row) for row in full_BL.tolist()}) == 3 and whole.uniform("times", 1).shape == (3,)
    assert not torch.equal(whole.uniform("tokens", 2, 5), full_BL)


def test_every_part_of_the_key_matters_and_the_order_of_calls_does_not():
    base = Draws(seed=1, batch=8, update=12)
    keys = [
        base.uniform("times", 3, 4),
        base.uniform("masks", 3, 4),
        base.uniform("times", 4, 4),
        dataclasses.replace(base, update=13).uniform("times", 3, 4),
        dataclasses.replace(base, seed=2).uniform("times", 3, 4),
        Draws(seed=11, batch=8, update=2).uniform("times", 3, 4),  # the same digits, divided otherwise
    ]
    for i, a in enumerate(keys):
        assert not any(torch.equal(a, b) for b in keys[:i])
    assert torch.equal(base.uniform("times", 3, 4), keys[0])


def test_uniforms_are_uniform_in_the_half_open_interval():
    x = Draws(seed=0, batch=20_000).uniform("tokens", 0)
    assert x.dtype == torch.float32 and float(x.min()) >= 0 and float(x.max()) < 1
    assert abs(float(x.mean()) - 0.5) < 4 / (12 * 20_000) ** 0.5


ESTIMATORS = [
    Elbo(),
    Elbo(times="stratified", p_mask=0.5),
    Elbo(masks="bernoulli", t_min=0.1),
    OneStep(samples=3, p_mask=0.5),
    Spg(block_length=2),
    Spg(block_length=4, p_mask=0.5),
    Unigrpo(p_mask=0.5),
    Coupled(p_mask=0.5),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_micro_batches_draw_the_same_noise(estimator):
    whole = Draws(seed=0, batch=5)
    trainable_BL = torch.rand(5, 9, generator=torch.Generator().manual_seed(1)) < 0.7
    noise = estimator.draw(open_at(trainable_BL), whole, step=2)
    for rows in torch.arange(5).split(2):
        part = estimator.draw(open_at(trainable_BL[rows]), whole.select(rows), step=2)
        for field in dataclasses.fields(noise):
            drawn, expected = getattr(part, field.name), getattr(noise.rows(rows), field.name)
            assert torch.equal(drawn, expected) if isinstance(drawn, torch.Tensor) else drawn == expected, field.name
    for key in ((whole, 3), (Draws(seed=4, batch=5, update=2), 2)):
        other = estimator.draw(open_at(trainable_BL), *key)
        assert isinstance(estimator, OneStep) or not torch.equal(other.masked_BKL, noise.masked_BKL)
        assert noise.prompt_BKP is None or not torch.equal(other.prompt_BKP, noise.prompt_BKP)


def test_rollouts_in_parts_give_the_tokens_of_the_whole_batch():
    """Nor does which rows a rank holds: each row's tokens follow from its place in the global batch."""
    denoise = in_context(12, seed=5, eos=0.5)
    sampler = Stp(12, 12, 4, 1.0, gamma=0.25, t_cutoff=0.1, select="random")
    earlier = anchors(5, 12, [list(range(9)), [], [1, 2], list(range(12)), [0, 5, 6, 7]])
    batch = Batch(prompts(5), Draws(seed=0, batch=5), earlier)
    whole = generate(denoise, sampler, batch, rows=5)
    for rows in (1, 2, 3):
        parts = generate(denoise, sampler, batch, rows=rows)
        assert torch.equal(parts.response_BL, whole.response_BL) and torch.equal(parts.fixed_BL, whole.fixed_BL)
    share = generate(denoise, sampler, batch, rows=2, local=slice(2, 5))
    assert torch.equal(share.response_BL, whole.response_BL[2:])


def test_rollouts_and_estimates_leave_the_global_generator_alone():
    torch.manual_seed(123)
    before = torch.get_rng_state()
    draws = Draws(seed=0, batch=2)
    denoise = in_context(8)
    Standard(8, 8, 4, 1.0)(denoise, prompts(2), draws)
    Stp(8, 8, 4, 1.0, gamma=0.25, select="random")(denoise, prompts(2), draws, anchors(2, 8, [[0, 1, 2], [5]]))
    row = trajectory([2, 3, 4, 5, 6, 2, EOS, 3])
    for estimator in ESTIMATORS:
        estimator(denoise, row, estimator.draw(row, Draws(seed=0, batch=1)))
    prompt_order(10, 4, update=1, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_global_generator_does_not_change_a_rollout():
    runs = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        runs.append(Standard(8, 8, 4, 1.0)(in_context(8), prompts(3), Draws(seed=0, batch=3)).response_BL)
    assert torch.equal(*runs)


def test_prompt_order_visits_every_problem_once_per_epoch_and_shuffles_each_anew():
    seen = [i for update in range(10) for i in prompt_order(10, 3, update, seed=0)]
    epochs = [seen[:10], seen[10:20], seen[20:30]]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert prompt_order(10, 3, 4, seed=1) != prompt_order(10, 3, 4, seed=0)
