"""What saves work changes no result: each saving against the straightforward path, and against the published loops."""

import pytest
import torch
from torch.testing import assert_close

from stp.bench import published_loops as plain
from stp.diffusion import until_eos
from stp.estimators import Elbo, OneStep
from stp.estimators.base import distinct, masked_log_probs
from stp.loop import update
from stp.models.live import Live
from stp.models.options import Lora
from stp.models.policy import Policy, add_lora
from stp.models.tiny import new_tiny, tiny_tokenizer
from stp.objectives import Grpo
from stp.roles import Learner, Run
from stp.samplers import Standard, Stp
from stp.samplers.generate import generate
from stp.tasks import Countdown
from stp.trainer import Trainer
from stp.types import Batch, Draws, Prompts, Rollout, Trajectory

TOKENIZER = tiny_tokenizer(Countdown.phrases)
ROWS, GROUP, LENGTH, WIDTHS = 6, 3, 8, [3, 3, 3, 7, 7, 7]


class Engine:
    """Plain gradient descent. forwards: the rows of each forward, by whether it is differentiated."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.mask_id, self.eos_id = policy, policy.mask_id, policy.eos_id
        self.forwards: dict[bool, list[int]] = {True: [], False: []}
        policy.llama.model.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, module, args, kwargs):
        self.forwards[torch.is_grad_enabled()].append(len(kwargs["input_ids"]))

    def __call__(self, *args):
        return self.policy(*args)

    def backward(self, loss, last):
        loss.backward()

    @torch.no_grad()
    def step(self):
        for parameter in self.policy.parameters():
            if parameter.grad is not None:
                parameter -= 0.5 * parameter.grad
                parameter.grad = None
        return 0.0, 0.0


def a_policy(seed=0, lora=False, chunk=8192):
    model = new_tiny(TOKENIZER, seed, width=16, layers=1)
    model = add_lora(model, Lora(rank=4)) if lora else model
    return Policy(model, TOKENIZER.mask_token_id, TOKENIZER.eos_token_id, logit_chunk=chunk).eval()


def some_prompts(widths=WIDTHS):
    """Left-padded random prompts, the same within a group."""
    generator = torch.Generator().manual_seed(0)
    ids_BP = torch.randint(3, 60, (len(widths) // GROUP, max(widths)), generator=generator).repeat_interleave(GROUP, dim=0)
    real_BP = torch.arange(max(widths)) >= max(widths) - torch.tensor(widths)[:, None]
    return Prompts(ids_BP, None if real_BP.all() else real_BP)


def a_rollout(rewards, objective, prompts=None):
    generator = torch.Generator().manual_seed(1)
    response_BL = torch.randint(3, 60, (ROWS, LENGTH), generator=generator)
    response_BL[1, 5] = TOKENIZER.eos_token_id
    fixed_BL = torch.zeros_like(response_BL, dtype=torch.bool)
    prompts = prompts or some_prompts()
    trajectory = Trajectory.given(prompts, response_BL, fixed_BL, until_eos(response_BL, TOKENIZER.eos_token_id))
    reward_B = torch.tensor(rewards)
    advantage_B = objective.advantages(reward_B, GROUP)
    return Rollout(
        [None] * ROWS, trajectory, [""] * ROWS, [{}] * ROWS, reward_B, advantage_B, reward_B >= 0, reward_B > 0, Draws(0, ROWS)
    )


ALL_TEACH, ONE_GROUP_TEACHES = [1.0, 0.0, 0.3, 0.1, 0.9, 0.4], [1.0, 0.0, 0.3, 0.1, 0.1, 0.1]


def trained(rewards, scored=False, beta=0.0, micro_batch=3, objective=None, estimator=None, **options):
    """Metrics, weights and forwards after one update of two inner ones. scored: theta_old gets a forward of its own."""
    policy, objective = a_policy(), objective or Grpo(beta=beta)
    policy.dropout = 0.1 if scored else 0.0  # said to have dropout, of which it has none
    engine, trainer = Engine(policy), Trainer(inner_updates=2, group_size=GROUP, micro_batch=micro_batch, **options)
    reference = Engine(a_policy(1)) if objective.needs_reference else None
    learner = Learner(engine, estimator or Elbo(samples=2), objective, trainer, reference)
    stats = update(learner, a_rollout(rewards, objective), Run())
    forwards = engine.forwards | {"reference": reference.forwards[False] if reference else []}
    return stats, torch.cat([p.flatten() for p in policy.parameters()]), forwards


@pytest.mark.parametrize("fresh_masks", [False, True])
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_theta_old_is_the_first_inner_updates_own_forward_bit_for_bit(fresh_masks, beta):
    stats, weights, forwards = trained(ALL_TEACH, beta=beta, fresh_masks=fresh_masks)
    expected, expected_weights, scored = trained(ALL_TEACH, scored=True, beta=beta, fresh_masks=fresh_masks)
    assert torch.equal(weights, expected_weights) and stats == expected
    assert forwards[True] == scored[True] == [6, 6, 6, 6]
    assert (len(forwards[False]), len(scored[False])) == ((2, 4) if fresh_masks else (0, 2))


def test_rows_that_teach_nothing_are_scored_for_the_statistics_alone():
    stats, weights, forwards = trained(ONE_GROUP_TEACHES)
    expected, expected_weights, scored = trained(ONE_GROUP_TEACHES, scored=True)
    assert_close(weights, expected_weights, rtol=1e-5, atol=1e-6)
    assert stats == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert forwards[True] == scored[True] == [6, 6] and forwards[False] == [6] and scored[False] == [6, 6]


def test_masks_that_would_be_the_same_again_are_scored_once():
    """At p_mask = 0 every one-step mask set is the first: theta_old and the reference are scored on that alone."""
    once, fresh = (trained(ALL_TEACH, beta=0.5, estimator=OneStep(), fresh_masks=fresh_masks) for fresh_masks in (False, True))
    assert once[0] == fresh[0] and torch.equal(once[1], fresh[1]) and once[2] == fresh[2]
    assert len(fresh[2]["reference"]) == 2 and not fresh[2][False]
    varied = trained(ALL_TEACH, beta=0.5, estimator=OneStep(p_mask=0.5), fresh_masks=True)[2]
    assert len(varied["reference"]) == 4 and len(varied[False]) == 2


class EqualWeighNothing(Grpo):
    """Trains groups of equal rewards, their tokens counting nothing."""

    def token_weights(self, trainable_BL, rows, tokens):
        weight_BL = super().token_weights(trainable_BL, rows, tokens)
        return weight_BL * (torch.arange(ROWS) < GROUP)[:, None]


@pytest.mark.parametrize("fresh_masks", [False, True])
def test_groups_of_equal_rewards_can_be_left_out_with_their_penalty(fresh_masks):
    _, weights, forwards = trained(ONE_GROUP_TEACHES, objective=Grpo(beta=0.5, skip_equal=True), fresh_masks=fresh_masks)
    _, expected, whole = trained(ONE_GROUP_TEACHES, objective=EqualWeighNothing(beta=0.5), fresh_masks=fresh_masks)
    assert_close(weights, expected, rtol=1e-5, atol=1e-6)
    assert forwards[True] == [6, 6] and whole[True] == [6, 6, 6, 6]
    sets = 2 if fresh_masks else 1
    assert forwards["reference"] == [6] * sets and whole["reference"] == [6, 6] * sets
    _, penalised, _ = trained(ONE_GROUP_TEACHES, objective=Grpo(beta=0.5), fresh_masks=fresh_masks)
    assert not torch.allclose(weights, penalised, rtol=1e-5, atol=1e-6)


def test_where_all_groups_teach_none_is_left_out():
    assert torch.equal(
        trained(ALL_TEACH, objective=Grpo(beta=0.5, skip_equal=True))[1], trained(ALL_TEACH, objective=Grpo(beta=0.5))[1]
    )


def test_an_update_without_any_lesson_changes_nothing():
    before = torch.cat([p.flatten() for p in a_policy().parameters()])
    stats, weights, _ = trained([0.5] * ROWS, objective=Grpo(beta=0.5, skip_equal=True))
    assert torch.equal(weights, before) and stats["grad_norm"] == 0 and stats["kl"] == 0


@pytest.fixture
def in_double():
    """Weights are float64: two ways to the same sum then differ by less than any processor's rounding in float32."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("in_double")
def test_the_published_loops_learn_the_same():
    """Their work is more, their losses and weights are the same: on masks of its own for each inner update."""
    _, weights, forwards = trained(ONE_GROUP_TEACHES, beta=0.5, fresh_masks=True)
    policy, objective = a_policy(), Grpo(beta=0.5)
    engine, rollout = Engine(policy), a_rollout(ONE_GROUP_TEACHES, objective)
    plain.update(Learner(engine, Elbo(samples=2), objective, Trainer(inner_updates=2, micro_batch=3), a_policy(1)), rollout)
    assert_close(torch.cat([p.flatten() for p in policy.parameters()]), weights, rtol=1e-4, atol=1e-6)
    assert (len(engine.forwards[False]), len(forwards[False])) == (4, 2)


@pytest.mark.parametrize("steps", [4, 6, 8])
def test_the_published_sampler_is_this_one_at_temperature_0(steps):
    policy, prompts = a_policy(), some_prompts([5] * ROWS)
    policy.eos_id = -1
    found = Standard(LENGTH, steps, 4, 0.0)(policy, prompts, Draws(0, ROWS))
    assert torch.equal(plain.sample(policy, prompts, Standard(LENGTH, steps, 4, 0.0)).response_BL, found.response_BL)


def test_the_published_sampler_draws_from_the_same_distribution():
    policy, rows = a_policy(), 3000
    policy.eos_id = -1
    prompts = Prompts(torch.full((rows, 2), 7))
    counts = []
    for response_BL in (
        Standard(1, 1, 1, 0.7)(policy, prompts, Draws(0, rows)).response_BL,
        plain.sample(policy, prompts, Standard(1, 1, 1, 0.7), torch.Generator().manual_seed(0)).response_BL,
    ):
        counts.append(torch.bincount(response_BL[:, 0], minlength=len(TOKENIZER)) / rows)
    with torch.no_grad():
        ids_BS = torch.tensor([[7, 7, policy.mask_id]])
        logits_V = policy(ids_BS, None, torch.tensor([2]))[0]
    logits_V[policy.mask_id] = -torch.inf
    p_V = (logits_V / 0.7).softmax(dim=0)
    noise = (p_V * (1 - p_V) / rows).sqrt()
    assert all(((count_V - p_V).abs() <= 5 * noise + 1e-9).all() for count_V in counts)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("kind", [Standard, Stp])
def test_prompts_of_like_width_run_together_and_nothing_changes(kind, temperature):
    """Whatever order and padding the rows get, row b's completion is row b's."""
    policy, prompts, draws = a_policy(), some_prompts([7, 7, 7, 3, 3, 3]), Draws(3, ROWS)
    sampler = kind(LENGTH, LENGTH, 4, temperature) if kind is Standard else kind(LENGTH, LENGTH, 4, temperature, 0.0, 0.2)
    widths = []
    policy.llama.model.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append((kwargs["input_ids"].shape[1], kwargs["attention_mask"] is None)),
        with_kwargs=True,
    )
    whole = sampler(policy, prompts, draws)
    assert set(widths) == {(7 + LENGTH, False)}
    widths.clear()
    parts = generate(policy, sampler, Batch(prompts, draws), rows=3)
    assert set(widths) == {(3 + LENGTH, True), (7 + LENGTH, True)}
    assert torch.equal(parts.response_BL, whole.response_BL)
    assert torch.equal(parts.prompts.ids_BP, prompts.ids_BP) and torch.equal(parts.prompts.real_BP, prompts.real_BP)


@pytest.mark.parametrize("lora", [False, True])
def test_completions_of_a_prompt_share_their_one_step_forward(lora):
    results = []
    for share in (True, False):
        policy, estimator = a_policy(lora=lora), OneStep()
        engine, trajectory = Engine(policy), a_rollout(ALL_TEACH, Grpo()).trajectory
        noise = estimator.draw(trajectory, Draws(0, ROWS))
        logp_BKL = masked_log_probs(engine, trajectory, noise, share)
        assert engine.forwards[True] == ([2] if share else [ROWS])
        if share:
            assert torch.equal(estimator(policy, trajectory, noise).token_BL, logp_BKL[:, 0])
        (logp_BKL * torch.arange(1.0, LENGTH + 1)).sum().backward()
        results.append((logp_BKL.detach(), [p.grad for p in policy.parameters() if p.grad is not None]))
    (shared_BKL, shared), (logp_BKL, gradients) = results
    assert_close(shared_BKL, logp_BKL, rtol=1e-5, atol=1e-5)
    for a, b in zip(shared, gradients, strict=True):
        assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()) + 1e-7)


def test_equal_rows_are_found_in_their_order():
    first_U, same_R = distinct(torch.tensor([[5, 1], [2, 2], [5, 1], [0, 9], [2, 2]]))
    assert first_U.tolist() == [0, 1, 3] and same_R.tolist() == [0, 1, 0, 2, 1]


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_a_chunk_of_logits_is_all_there_is(temperature):
    """The sampler's tokens do not depend on the chunk, and its logits grow neither with rows nor with the length."""
    prompts, found = some_prompts([5] * ROWS), {}
    for length, chunk in [(8, 4), (8, 1000), (16, 4)]:
        policy = a_policy(chunk=chunk)
        policy.eos_id = -1
        with Live(policy, len(TOKENIZER)) as live:
            sampler = Standard(length, 2, length // 2, temperature)
            found[length, chunk] = sampler(policy, prompts, Draws(0, ROWS)).response_BL, live.most["logits"]
    assert torch.equal(found[8, 4][0], found[8, 1000][0])
    assert found[8, 4][1] == found[16, 4][1] <= 4 * 4 * len(TOKENIZER) * 4 < found[8, 1000][1]


@pytest.mark.parametrize("lora", [False, True])
def test_a_gradient_needs_one_buffer_of_logits(lora):
    """Forward, softmax and gradient share it; under a frozen head it is one chunk's and gone before the backward pass."""
    policy, chunk, positions = a_policy(lora=lora, chunk=10), 10, 30
    one = len(TOKENIZER) * 4
    with Live(policy, len(TOKENIZER)) as live:
        index_M = torch.arange(positions)
        logp_M = policy(torch.full((3, 12), 7), None, index_M, index_M % 50)
        assert live.now["logits"] == 0
        logp_M.sum().backward()
    assert live.most["logits"] <= chunk * one
