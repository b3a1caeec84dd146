"""What an estimator shows the model: fixed tokens always, what follows EOS never; and what it scores."""

import pytest
import torch

from stp.anchors.dataset import token_confidence
from stp.estimators import Elbo
from stp.types import Draws
from tests.toys import EOS, MASK, PROMPT, Recording, context_free, in_context, joined, prompts, trajectory

LENGTH = 9
FIXED, AFTER_EOS_OPEN, AFTER_EOS_FIXED = [1, 4, 8], [6, 7], [8]
ROW = trajectory([2, 3, 4, 5, 6, EOS, 2, 3, 4], fixed=FIXED)
TRAINABLE = [0, 2, 3, 5]

ESTIMATORS = [
    Elbo(samples=40),
    Elbo(samples=40, times="stratified"),
    Elbo(samples=40, t_min=0.5),
    Elbo(samples=40, masks="bernoulli", t_min=0.1),
    Elbo(samples=40, weight="none"),
]


def test_trainable_is_until_eos_and_not_fixed():
    assert ROW.trainable_BL[0].nonzero().flatten().tolist() == TRAINABLE


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_fixed_tokens_stay_visible_the_tail_stays_masked_and_only_trainable_tokens_are_scored(estimator):
    denoise = Recording(in_context(LENGTH))
    estimate = estimator(denoise, ROW, estimator.draw(ROW, Draws(0, 1)))
    assert denoise.calls
    P = len(PROMPT)
    for call in denoise.calls:
        response_RL = call.ids_BS[:, P:]
        assert (call.ids_BS[:, :P] == torch.tensor(PROMPT)).all()
        assert (response_RL[:, FIXED] == ROW.response_BL[0, FIXED]).all()  # the one after the EOS as well
        assert (response_RL[:, AFTER_EOS_OPEN] == MASK).all()
        place_M = call.index_M % (P + LENGTH) - P
        assert set(place_M.tolist()) <= set(TRAINABLE)
        assert torch.equal(call.target_M, ROW.response_BL[0][place_M])
        assert (call.ids_BS.flatten()[call.index_M] == MASK).all()  # scored where masked, and nowhere else
    masked = sum(int((c.ids_BS[:, [P + k for k in TRAINABLE]] == MASK).sum()) for c in denoise.calls)
    assert masked == sum(len(c.index_M) for c in denoise.calls)
    scored = set((estimate.token_BL[0] != 0).nonzero().flatten().tolist())
    assert scored == set(TRAINABLE)


def test_what_stands_after_the_eos_does_not_change_the_estimate():
    other = trajectory([2, 3, 4, 5, 6, EOS, 5, 5, 4], fixed=FIXED)
    noise = Elbo(samples=10).draw(ROW, Draws(0, 1))
    denoise = in_context(LENGTH)
    assert torch.equal(Elbo(samples=10)(denoise, ROW, noise).draw_BK, Elbo(samples=10)(denoise, other, noise).draw_BK)


def test_fixed_tokens_are_context_wherever_they_stand():
    """Another fixed token, before or after the EOS, gives another estimate: it was seen."""
    noise = Elbo(samples=10).draw(ROW, Draws(0, 1))
    denoise = in_context(LENGTH)
    base = Elbo(samples=10)(denoise, ROW, noise).draw_BK
    for position in FIXED:
        response = ROW.response_BL[0].tolist()
        response[position] = 2 if response[position] != 2 else 3
        other = trajectory(response, fixed=FIXED)
        assert not torch.allclose(Elbo(samples=10)(denoise, other, noise).draw_BK, base)


def test_anchor_confidence_is_the_log_probability_with_the_whole_response_masked():
    denoise = Recording(in_context(LENGTH))
    confidence_BL = token_confidence(denoise, prompts(2), ROW.response_BL.repeat(2, 1))
    (call,) = denoise.calls  # one forward
    assert call.ids_BS.tolist() == [PROMPT + [MASK] * LENGTH] * 2
    logp_LV = denoise.inner.logits(call.ids_BS)[0, len(PROMPT) :].log_softmax(dim=1)
    expected_L = logp_LV.gather(1, ROW.response_BL[0][:, None])[:, 0].float()
    torch.testing.assert_close(confidence_BL, expected_L.repeat(2, 1))


def test_rows_do_not_mix():
    """Each row of a batch is estimated as it would be alone."""
    rows = [trajectory([2, 3, 4, 5, 6, EOS, 2, 3, 4], fixed=[1]), trajectory([6, 5, 4, 3, 2, 2, 3, EOS, 5], fixed=[0, 8])]
    both = joined(*rows)
    for denoise in (in_context(LENGTH), context_free(LENGTH)):
        estimator = Elbo(samples=4)
        noise = estimator.draw(both, Draws(0, 2))
        together = estimator(denoise, both, noise)
        for b, row in enumerate(rows):
            alone = estimator(denoise, row, noise.rows(slice(b, b + 1)))
            torch.testing.assert_close(together.token_BL[b], alone.token_BL[0])
            torch.testing.assert_close(together.draw_BK[b], alone.draw_BK[0])
