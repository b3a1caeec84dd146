"""The forward process (Eqs. 2, 7) and the draw of one reverse step."""

import torch
from torch.testing import assert_close

from stp.diffusion import FromLogits, draw_tokens, forward_process, token_log_probs, top_per_row, until_eos
from tests.toys import EOS, MASK, PROMPT, trajectory

NEVER = -torch.inf


def test_until_eos_keeps_the_first_eos_and_nothing_after_it():
    response_BL = torch.tensor([[5, EOS, 5, EOS], [EOS, 5, 5, 5], [5, 5, 5, EOS], [5, 5, 5, 5]])
    assert until_eos(response_BL, EOS).int().tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]


def test_top_per_row_takes_each_rows_count_of_the_allowed_best():
    score_BL = torch.tensor([[0.9, 0.1, 0.5, 0.7], [0.2, 0.2, 0.2, 0.1], [0.3, 0.2, 0.1, 0.0]])
    allowed_BL = torch.tensor([[False, True, True, True], [True, True, True, True], [True, True, False, False]])
    chosen_BL = top_per_row(score_BL, allowed_BL, torch.tensor([2, 2, 0]))
    # row 0: the best is not allowed; row 1: ties go to the left; row 2: nothing asked
    assert chosen_BL.int().tolist() == [[0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]]


def test_top_per_row_never_takes_what_is_not_allowed_even_when_asked_for_too_many():
    chosen_BL = top_per_row(torch.tensor([[0.5, 0.9, 0.1]]), torch.tensor([[True, False, True]]), torch.tensor([3]))
    assert chosen_BL.tolist() == [[True, False, True]]


def test_forward_process_masks_what_is_drawn_and_the_tail_but_never_a_fixed_token():
    row = trajectory([2, 3, 4, EOS, 5, 6], fixed=[1, 5])
    masked_BL = torch.tensor([[True, True, False, False, False, True]])  # asks for two fixed positions as well
    ids_BS = forward_process(row, masked_BL, MASK)
    assert ids_BS.tolist() == [[*PROMPT, MASK, 3, 4, EOS, MASK, 6]]


def test_token_log_probs_are_the_log_softmax():
    logits_MV = torch.tensor([[0.0, 0.0], [0.0, torch.tensor(3.0).log()]])
    assert_close(token_log_probs(logits_MV, torch.tensor([0, 1])), torch.tensor([0.5, 0.75]).log())


def test_from_logits_reads_the_flat_positions_it_is_asked_for():
    def logits(ids_BS):
        return torch.arange(ids_BS.numel() * 2.0).view(*ids_BS.shape, 2)

    denoise = FromLogits(logits, MASK, EOS)
    assert denoise(torch.zeros(2, 3, dtype=torch.long), None, torch.tensor([4, 1])).tolist() == [[8.0, 9.0], [2.0, 3.0]]


def chi_square(token_M, p_V):
    """(statistic, bound): five standard deviations above the mean of its distribution."""
    count_V = torch.bincount(token_M, minlength=len(p_V)).double()
    possible = p_V > 0
    assert not count_V[~possible].any()
    expected_V = p_V[possible].double() * len(token_M)
    freedom = int(possible.sum()) - 1
    return float(((count_V[possible] - expected_V) ** 2 / expected_V).sum()), freedom + 5 * (2 * freedom) ** 0.5


LOGITS_V = torch.tensor([4.0, 1.0, 0.0, NEVER, -1.0, 2.0, 1.5])  # the mask, token 0, would be the most likely


def test_draws_follow_softmax_at_temperature_1_and_at_others():
    M = 40_000
    uniform_M = torch.rand(M, generator=torch.Generator().manual_seed(0))
    no_mask_V = LOGITS_V.index_fill(0, torch.tensor([MASK]), NEVER)
    for temperature in (1.0, 0.7, 2.5):
        token_M, _ = draw_tokens(LOGITS_V.repeat(M, 1), temperature, uniform_M, MASK)
        statistic, bound = chi_square(token_M, (no_mask_V / temperature).softmax(dim=0))
        assert statistic < bound
        wrong, bound = chi_square(token_M, (no_mask_V / (temperature + 0.15)).softmax(dim=0))
        assert wrong > bound, "the test could not tell this temperature from another"


def test_confidence_is_the_untempered_probability_of_the_drawn_token():
    p_V = LOGITS_V.index_fill(0, torch.tensor([MASK]), NEVER).softmax(dim=0)
    uniform_M = torch.linspace(0, 0.999, 50)
    for temperature in (0, 0.7, 1.0):
        token_M, confidence_M = draw_tokens(LOGITS_V.repeat(50, 1), temperature, uniform_M, MASK)
        assert_close(confidence_M, p_V[token_M])


def test_temperature_0_takes_the_argmax_other_than_the_mask():
    logits_MV = torch.tensor([[9.0, 1.0, 2.0], [0.0, 1.0, -2.0]])
    assert draw_tokens(logits_MV, 0, None, MASK)[0].tolist() == [2, 1]


def test_extreme_uniforms_never_pick_an_impossible_token():
    last = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0))
    uniform_M = torch.stack([torch.tensor(0.0), last])
    for row in ([9.0, NEVER, 0.0, 1.0, NEVER], [9.0, 0.0, NEVER, NEVER, NEVER], [0.0, NEVER, NEVER, NEVER, -30.0]):
        for temperature in (1.0, 0.7):
            token_M, confidence_M = draw_tokens(torch.tensor([row, row]), temperature, uniform_M, MASK)
            possible = [i for i, x in enumerate(row) if x > NEVER and i != MASK]
            assert token_M.tolist() == [possible[0], possible[-1]]
            assert (confidence_M > 0).all()


def test_extreme_uniforms_stay_in_a_large_vocabulary():
    """A float32 cumulative sum over many tokens need not end at 1."""
    logits_MV = torch.randn(64, 20_000, generator=torch.Generator().manual_seed(0))
    logits_MV[:, -5_000:] = NEVER
    uniform_M = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0)).expand(64)
    token_M, confidence_M = draw_tokens(logits_MV, 1.0, uniform_M, MASK)
    assert (token_M < 15_000).all() and (confidence_M > 0).all()
