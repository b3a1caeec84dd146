"""Padding and the order of a batch change nothing, on the real architecture."""

import pytest
import torch
from torch.testing import assert_close

from stp.diffusion import until_eos
from stp.estimators import Elbo
from stp.models.policy import Policy
from stp.models.tiny import new_tiny, tiny_tokenizer
from stp.samplers import Standard, Stp
from stp.tasks import Countdown
from stp.types import Anchors, Draws, Prompts, Trajectory

TOKENIZER = tiny_tokenizer(Countdown.phrases)
LENGTH = 12
WIDTHS = [3, 9, 5, 9]  # prompt lengths: two rows are padded


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy(new_tiny(TOKENIZER, 0, width=32, layers=2), TOKENIZER.mask_token_id, TOKENIZER.eos_token_id).eval()


def questions() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(3, len(TOKENIZER), (1, n), generator=generator) for n in WIDTHS]


def padded(pad: int) -> Prompts:
    width = max(WIDTHS)
    ids_BP = torch.cat([torch.nn.functional.pad(q, (width - q.shape[1], 0), value=pad) for q in questions()])
    real_BP = torch.arange(width) >= width - torch.tensor(WIDTHS)[:, None]
    return Prompts(ids_BP, real_BP)


def some_anchors() -> Anchors:
    generator = torch.Generator().manual_seed(1)
    shape = (len(WIDTHS), LENGTH)
    tokens_BL = torch.randint(3, len(TOKENIZER), shape, generator=generator)
    return Anchors(tokens_BL, torch.ones(shape, dtype=torch.bool), -torch.rand(shape, generator=generator))


class Brief:
    """The policy with a taste for EOS, so that some rows end early."""

    def __init__(self, policy: Policy, eos: float) -> None:
        self.policy, self.eos, self.mask_id, self.eos_id = policy, eos, policy.mask_id, policy.eos_id

    def __call__(self, *args):
        logits_MV = self.policy(*args)
        logits_MV[:, self.eos_id] += self.eos
        return logits_MV


SAMPLERS = [Standard(LENGTH, LENGTH, 4, 0.0), Stp(LENGTH, LENGTH, 4, 0.0, gamma=0.25, t_cutoff=0.2)]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)
def test_padded_rows_get_the_greedy_tokens_they_get_alone(policy, sampler):
    draws, anchors = Draws(0, len(WIDTHS)), some_anchors()
    together = sampler(policy, padded(TOKENIZER.pad_token_id), draws, anchors)
    start = sampler.start(anchors, draws)
    for row, ids_BP in enumerate(questions()):
        i = torch.tensor([row])
        alone = sampler.run(policy, Prompts(ids_BP), start.rows(i), draws.select(i))
        assert torch.equal(alone.response_BL[0], together.response_BL[row])
    assert len(together.response_BL.unique(dim=0)) == len(WIDTHS), "rows that agree anyway would show nothing"


def test_padding_leaves_the_batch_with_its_row(policy):
    """Two rows end early; the others still ignore their own padding and no one else's."""
    denoise, sampler, draws = Brief(policy, 2.5), SAMPLERS[0], Draws(0, len(WIDTHS))
    together = sampler(denoise, padded(17), draws)
    start = sampler.start(None, draws)
    ended = []
    for row, ids_BP in enumerate(questions()):
        i = torch.tensor([row])
        alone = sampler.run(denoise, Prompts(ids_BP), start.rows(i), draws.select(i))
        assert torch.equal(alone.response_BL[0], together.response_BL[row])
        ended.append(alone.nfe_run < alone.nfe)
    assert ended == [True, False, True, False], "nothing is shown unless padded rows leave before others"


def test_what_the_padding_holds_does_not_matter(policy):
    draws = Draws(0, len(WIDTHS))
    runs = [SAMPLERS[0](policy, padded(pad), draws).response_BL for pad in (TOKENIZER.pad_token_id, 17)]
    assert torch.equal(*runs)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)
def test_the_order_of_the_batch_does_not_change_a_row(policy, sampler):
    order = torch.tensor([2, 0, 3, 1])
    draws, anchors, prompts = Draws(0, len(WIDTHS)), some_anchors(), padded(TOKENIZER.pad_token_id)
    straight = sampler(policy, prompts, draws, anchors)
    shuffled = sampler(policy, prompts.rows(order), draws, anchors.rows(order))
    assert torch.equal(shuffled.response_BL, straight.response_BL[order])


def test_padding_does_not_change_an_estimate(policy):
    response_BL = some_anchors().tokens_BL.clone()
    response_BL[1, 7] = TOKENIZER.eos_token_id
    fixed_BL = torch.zeros_like(response_BL, dtype=torch.bool)
    fixed_BL[:, [2, 10]] = True
    until_BL = until_eos(response_BL, TOKENIZER.eos_token_id)
    together = Trajectory.given(padded(TOKENIZER.pad_token_id), response_BL, fixed_BL, until_BL)
    estimator = Elbo(samples=2)
    noise = estimator.draw(together, Draws(0, len(WIDTHS)))
    with torch.no_grad():
        estimate = estimator(policy, together, noise)
        for row, ids_BP in enumerate(questions()):
            part = slice(row, row + 1)
            one = Trajectory.given(Prompts(ids_BP), response_BL[part], fixed_BL[part], until_BL[part])
            assert_close(estimator(policy, one, noise.rows(part)).token_BL[0], estimate.token_BL[row], rtol=1e-4, atol=1e-4)


def test_attention_runs_both_ways(policy):
    """A later token changes what is predicted earlier; with a causal mask it could not."""
    ids_BS = torch.randint(3, len(TOKENIZER), (1, 6), generator=torch.Generator().manual_seed(2))
    other_BS = ids_BS.clone()
    other_BS[0, 5] = 3 + (int(ids_BS[0, 5]) - 2) % (len(TOKENIZER) - 3)
    index_M = torch.tensor([0, 4])
    with torch.no_grad():
        difference_MV = policy(ids_BS, None, index_M) - policy(other_BS, None, index_M)
    assert (difference_MV.abs().amax(dim=1) > 1e-3).all()


def test_chunked_scoring_gives_the_same_log_probabilities_and_gradients(policy):
    """logit_chunk bounds memory and nothing else."""
    ids_BS = torch.randint(3, len(TOKENIZER), (2, 6), generator=torch.Generator().manual_seed(2))
    index_M, target_M = torch.arange(7), torch.arange(3, 10)
    results = []
    for chunk in (100, 3):
        chunked = Policy(policy.model, policy.mask_id, policy.eos_id, logit_chunk=chunk)
        logp_M = chunked(ids_BS, None, index_M, target_M)
        chunked.zero_grad()
        (logp_M * torch.arange(7)).sum().backward()
        results.append((logp_M.detach(), policy.llama.lm_head.weight.grad.clone()))
    policy.zero_grad()
    assert_close(results[0][0], results[1][0])
    assert_close(results[0][1], results[1][1])
