"""p_mask: every estimator hides prompt tokens in the same way, K times anew, and nothing else changes for it."""

import dataclasses

import pytest
import torch
from torch.testing import assert_close

from stp.config import options
from stp.diffusion import until_eos
from stp.errors import UserError
from stp.estimators import Coupled, Elbo, OneStep, Spg
from stp.models.policy import Policy
from stp.models.tiny import new_tiny, tiny_tokenizer
from stp.tasks import Countdown
from stp.types import Draws, Prompts, Trajectory
from tests.toys import EOS, MASK, Recording, in_context, log_probs, trajectory

ESTIMATORS = list(options("stp.estimators").values())
FIXED, L = [2, 7], 8
ROW = trajectory([2, 3, 4, 5, 6, EOS, 3, 4], fixed=FIXED)
ROW = dataclasses.replace(ROW, step_BL=torch.tensor([[1, 0, -1, 3, 2, 2, -1, -1]]))


def of(kind, samples=3, p_mask=0.0, **more):
    """An estimator with blocks shorter than the toy response, where it has them."""
    return kind(samples=samples, p_mask=p_mask, **({"block_length": 3} if kind is Spg else {}), **more)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_each_draw_masks_each_prompt_token_with_that_probability(kind):
    B, P, K, p = 200, 30, 5, 0.15
    row = trajectory([2, 3, 4, EOS], rows=B)
    row = dataclasses.replace(row, prompts=Prompts(torch.full((B, P), 5)), step_BL=torch.arange(4).expand(B, 4))
    estimator, draws = of(kind, K, p), Draws(0, B)
    mask_BKP = estimator.draw(row, draws).prompt_BKP
    copies = 2 * K if kind is Coupled else estimator.copies(4, 4)  # masked copies: each has a prompt mask of its own
    assert mask_BKP.shape == (B, copies, P)
    assert abs(float(mask_BKP.float().mean()) - p) < 4 * (p * (1 - p) / mask_BKP.numel()) ** 0.5
    for mean in (mask_BKP.float().mean(dim=(0, 1)), mask_BKP.float().mean(dim=(0, 2)), mask_BKP.float().mean(dim=(1, 2))):
        assert ((mean - p).abs() < 5 * (p * (1 - p) * len(mean) / mask_BKP.numel()) ** 0.5).all()
    different = p**2 + (1 - p) ** 2  # two independent draws agree this often
    for other in (mask_BKP.roll(1, 0), mask_BKP.roll(1, 1), mask_BKP.roll(1, 2), estimator.draw(row, draws, 1).prompt_BKP):
        agree = float((mask_BKP == other).float().mean())
        assert abs(agree - different) < 5 * (different * (1 - different) / mask_BKP.numel()) ** 0.5
    assert of(kind, K).draw(row, draws).prompt_BKP is None


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_the_response_is_masked_as_without_them(kind):
    """But for SPG's earlier blocks (see test_spg)."""
    with_p, without = (of(kind, 4, p).draw(ROW, Draws(0, 1)) for p in (0.5, 0.0))
    if kind is OneStep:
        assert torch.equal(with_p.masked_BKL, without.masked_BKL.expand(1, 4, L))
    elif kind is not Spg:
        assert torch.equal(with_p.masked_BKL, without.masked_BKL) and torch.equal(with_p.weight_BK, without.weight_BK)
    assert not (with_p.masked_BKL & ~ROW.trainable_BL[:, None]).any()


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("p_mask", [0.0, 0.5])
def test_the_estimate_is_that_of_the_drawn_masks(kind, p_mask):
    """token_BL is the mean of weight * log p over the masked copies, each with its prompt masked as drawn."""
    estimator = of(kind, 4, p_mask)
    noise, denoise = estimator.draw(ROW, Draws(2, 1)), Recording(in_context(L))
    copies = noise.masked_BKL.shape[1]
    expected, prompts = [0.0] * L, []
    for j in range(copies):
        masked = noise.masked_BKL[0, j].nonzero().flatten().tolist()
        hidden = [] if noise.hidden_BKL is None else noise.hidden_BKL[0, j].nonzero().flatten().tolist()
        if not masked:
            continue  # it is not run
        prompts.append([] if noise.prompt_BKP is None else noise.prompt_BKP[0, j].nonzero().flatten().tolist())
        logp = log_probs(denoise.inner, ROW, [k for k in (*masked, *hidden, 6) if k not in FIXED], prompts[-1])
        for k in masked:
            expected[k] += float(noise.weight_BK[0, j]) * logp[k] / copies
    assert_close(estimator(denoise, ROW, noise).token_BL[0], torch.tensor(expected), rtol=1e-5, atol=1e-5)
    (call,) = denoise.calls
    assert [(ids == MASK).nonzero().flatten().tolist() for ids in call.ids_BS[:, :2]] == prompts
    assert any(prompts) == (p_mask > 0)
    assert (call.index_M % (2 + L) >= 2).all()  # a masked prompt token is never scored


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_padding_is_not_seen_whether_masked_or_not(kind):
    """On the real architecture: a padded row is worth what it is worth alone, under the same masks."""
    tokenizer = tiny_tokenizer(Countdown.phrases)
    policy = Policy(new_tiny(tokenizer, 0, width=32, layers=2), tokenizer.mask_token_id, tokenizer.eos_token_id).eval()
    generator = torch.Generator().manual_seed(0)
    ids_BP = torch.randint(3, len(tokenizer), (2, 9), generator=generator)
    ids_BP[0, :5] = tokenizer.pad_token_id
    real_BP = torch.arange(9) >= torch.tensor([[5], [0]])
    response_BL = torch.randint(3, len(tokenizer), (2, 6), generator=generator)
    fixed_BL, until_BL = response_BL % 5 == 0, until_eos(response_BL, tokenizer.eos_token_id)
    rows = Trajectory.given(Prompts(ids_BP, real_BP), response_BL, fixed_BL, until_BL)
    rows = dataclasses.replace(rows, step_BL=torch.arange(6).expand(2, 6).masked_fill(fixed_BL, -1))
    estimator = of(kind, 4, 0.5)
    noise = estimator.draw(rows, Draws(0, 2))
    assert noise.prompt_BKP[0, :, :5].any() and noise.prompt_BKP[0, :, 5:].any()
    alone = dataclasses.replace(rows.rows(slice(0, 1)), prompts=Prompts(ids_BP[:1, 5:]))
    first = noise.rows(slice(0, 1))
    with torch.no_grad():
        together = estimator(policy, rows, noise)
        single = estimator(policy, alone, dataclasses.replace(first, prompt_BKP=first.prompt_BKP[..., 5:]))
        blind = estimator(policy, rows, dataclasses.replace(noise, prompt_BKP=None))
    assert_close(together.token_BL[0], single.token_BL[0], rtol=1e-4, atol=1e-5)
    assert_close(together.draw_BK[0], single.draw_BK[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together.draw_BK, blind.draw_BK, rtol=1e-4)  # the masks are felt


def test_a_certain_mask_or_a_negative_one_is_refused():
    for p_mask in (1.0, -0.1, float("nan")):
        with pytest.raises(UserError, match=r"^estimator\.p_mask=.*: a probability below 1"):
            Elbo(p_mask=p_mask)
