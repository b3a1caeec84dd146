"""Micro-batches and ranks add up to the global batch, in loss and in gradients."""

import pytest
import torch
from torch.testing import assert_close

from stp.diffusion import until_eos
from stp.estimators import Coupled, Elbo, Estimator, OneStep, Spg, Unigrpo
from stp.loop import update
from stp.models.policy import Policy
from stp.models.tiny import new_tiny, tiny_tokenizer
from stp.objectives import Grpo, Objective, PolicyGradient
from stp.ranks import Ranks
from stp.roles import Learner, Run
from stp.tasks import Countdown
from stp.trainer import Trainer
from stp.types import Draws, Prompts, Rollout, Trajectory

ROWS, LENGTH, GROUP = 6, 8, 3
TOKENIZER = tiny_tokenizer(Countdown.phrases)


class Engine:
    """Accumulates gradients and never steps."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.mask_id, self.eos_id = policy, policy.mask_id, policy.eos_id

    def __call__(self, *args):
        return self.policy(*args)

    def backward(self, loss, last):
        loss.backward()

    def step(self):
        return 0.0, 0.0


class RankOfTwo(Ranks):
    """Ranks as one of two ranks would see them; `passes` is the larger rank's number of backward passes."""

    def __init__(self, tokens: int, passes: int) -> None:
        super().__init__(count=2)
        self.tokens, self.passes = tokens, passes

    def sum(self, values):
        return values | ({"tokens": float(self.tokens)} if set(values) == {"tokens"} else {})

    def largest(self, value):
        return self.passes


def a_policy(seed: int) -> Policy:
    policy = Policy(new_tiny(TOKENIZER, seed, width=16, layers=1), TOKENIZER.mask_token_id, TOKENIZER.eos_token_id)
    return policy.eval()


def a_rollout(reward_B: torch.Tensor, objective: Objective) -> Rollout:
    generator = torch.Generator().manual_seed(0)
    response_BL = torch.randint(3, len(TOKENIZER), (ROWS, LENGTH), generator=generator)
    response_BL[1, 4] = response_BL[2, 1] = TOKENIZER.eos_token_id
    fixed_BL = torch.rand(ROWS, LENGTH, generator=generator) < 0.2
    ids_BP = torch.randint(3, len(TOKENIZER), (ROWS, 4), generator=generator)
    real_BP = torch.ones_like(ids_BP, dtype=torch.bool)
    real_BP[3:, 0] = False
    until_BL = until_eos(response_BL, TOKENIZER.eos_token_id)
    trajectory = Trajectory.given(Prompts(ids_BP, real_BP), response_BL, fixed_BL, until_BL)
    draws = Draws(seed=0, batch=ROWS)
    advantage_B = objective.advantages(reward_B, GROUP)
    return Rollout(
        [None] * ROWS, trajectory, [""] * ROWS, [{}] * ROWS, reward_B, advantage_B, reward_B >= 0, reward_B > 0, draws
    )


def part_of(rollout: Rollout, rows: torch.Tensor) -> Rollout:
    """A rank's share of a rollout."""
    count = len(rows)
    tensors = [getattr(rollout, name)[rows] for name in ("reward_B", "advantage_B", "anchored_B", "correct_B")]
    return Rollout(
        [None] * count, rollout.trajectory.rows(rows), [""] * count, [{}] * count, *tensors, rollout.draws.select(rows)
    )


def gradients(rollout, objective, micro_batch, ranks, estimator: Estimator | None = None) -> tuple[dict, torch.Tensor]:
    """Metrics and the flat gradient of one update. The reference is another policy, so that the KL has a gradient too."""
    policy = a_policy(0)
    trainer = Trainer(updates=1, inner_updates=1, group_size=GROUP, micro_batch=micro_batch)
    reference = a_policy(1) if objective.needs_reference else None
    learner = Learner(Engine(policy), estimator or Elbo(samples=2), objective, trainer, reference)
    stats = update(learner, rollout, Run(ranks))
    return stats, torch.cat([p.grad.flatten() for p in policy.parameters()])


REWARDS = torch.tensor([1.0, 0.0, 0.3, 0.1, 0.1, 0.1])  # the second group teaches nothing but its KL


@pytest.mark.parametrize("normalize", ["sequence", "token"])
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_every_micro_batch_size_gives_the_same_loss_and_gradient(normalize, beta):
    objective = Grpo(beta=beta, normalize=normalize)
    alone = Ranks()
    rollout = a_rollout(REWARDS, objective)
    whole, expected = gradients(rollout, objective, ROWS, alone)
    assert expected.norm() > 1e-3
    for micro_batch in (1, 2, 4, 5):
        stats, found = gradients(rollout, objective, micro_batch, alone)
        assert_close(found, expected, rtol=1e-4, atol=1e-6)
        for name in ("loss", "kl", "ratio/mean"):
            assert_close(stats[name], whole[name], rtol=1e-4, atol=1e-6)


PAIRS = [
    (Spg(samples=2, block_length=3, p_mask=0.15), PolicyGradient()),
    (Spg(samples=2, block_length=3), PolicyGradient(normalize="sequence", scale="std")),
    (Coupled(samples=1), PolicyGradient()),
    (Coupled(samples=2, p_mask=0.15), Grpo(beta=0.5)),
    (OneStep(samples=2, p_mask=0.15), Grpo(beta=0.5, normalize="token")),
    (Unigrpo(samples=3), Grpo(beta=0.5)),
]


def names(value) -> str:
    return type(value).__name__


@pytest.mark.parametrize(("estimator", "objective"), PAIRS, ids=names)
def test_every_estimator_gives_the_same_loss_and_gradient_in_micro_batches(estimator, objective):
    alone = Ranks()
    rollout = a_rollout(REWARDS, objective)
    whole, expected = gradients(rollout, objective, ROWS, alone, estimator)
    assert expected.norm() > 1e-3
    for micro_batch in (1, 2):
        stats, found = gradients(rollout, objective, micro_batch, alone, estimator)
        assert_close(found, expected, rtol=1e-4, atol=1e-6)
        assert set(stats) == set(whole)
        for name in set(stats) - {"grad_norm", "lr"}:
            assert_close(stats[name], whole[name], rtol=1e-4, atol=1e-5)


BY = [(Elbo(samples=2), Grpo(beta=0.5, normalize=normalize)) for normalize in ("sequence", "token")]


@pytest.mark.parametrize(("estimator", "objective"), BY + PAIRS, ids=names)
def test_two_ranks_average_to_the_gradient_of_one(estimator, objective):
    """Each rank holds whole groups, and backpropagates its share times the number of ranks; idle passes add nothing."""
    rollout = a_rollout(REWARDS, objective)
    _, expected = gradients(rollout, objective, ROWS, Ranks(), estimator)
    tokens = int(rollout.trajectory.trainable_BL.sum())
    shares = []
    for rows in (torch.arange(3), torch.arange(3, 6)):
        shares.append(gradients(part_of(rollout, rows), objective, 2, RankOfTwo(tokens, passes=3), estimator)[1])
    assert_close((shares[0] + shares[1]) / 2, expected, rtol=1e-4, atol=1e-6)


def test_at_theta_old_the_gradient_is_that_of_the_weighted_elbo():
    """With ratio 1 and no KL, Eq. 1's gradient is that of sum_b A_b / B * mean_k B^k, written out."""
    objective = Grpo(beta=0.0)
    rollout = a_rollout(REWARDS, objective)
    _, found = gradients(rollout, objective, 2, Ranks())
    policy, estimator = a_policy(0), Elbo(samples=2)
    trainable_BL = rollout.trajectory.trainable_BL
    noise = estimator.draw(rollout.trajectory, rollout.draws, step=0)
    token_BL = estimator(policy, rollout.trajectory, noise).token_BL
    mean_B = token_BL.sum(dim=1) / trainable_BL.sum(dim=1)
    (-(rollout.advantage_B * mean_B).sum() / ROWS).backward()
    assert_close(found, torch.cat([p.grad.flatten() for p in policy.parameters()]), rtol=1e-4, atol=1e-6)


def test_groups_of_equal_rewards_still_feel_the_kl():
    """Skipping rows without an advantage saves time only where there is no penalty: here is Eq. 1 over all rows at once."""
    objective = Grpo(beta=0.5)
    rollout = a_rollout(REWARDS, objective)
    stats, found = gradients(rollout, objective, 2, Ranks())
    policy, estimator = a_policy(0), Elbo(samples=2)
    trajectory, trainable_BL = rollout.trajectory, rollout.trajectory.trainable_BL
    noise = estimator.draw(rollout.trajectory, rollout.draws, step=0)
    new_BL = estimator(policy, trajectory, noise).token_BL
    away_BL = (estimator(a_policy(1), trajectory, noise).token_BL.detach() - new_BL).clamp(-2, 2)
    k3_BL = (away_BL.exp() - away_BL - 1) * trainable_BL
    share_BL = trainable_BL / trainable_BL.sum(dim=1, keepdim=True) / ROWS
    gain_BL = (new_BL - new_BL.detach()).exp() * rollout.advantage_B[:, None]
    loss = -(share_BL * (gain_BL - 0.5 * k3_BL)).sum()
    loss.backward()
    assert_close(found, torch.cat([p.grad.flatten() for p in policy.parameters()]), rtol=1e-4, atol=1e-6)
    assert_close(stats["loss"], float(loss.detach()), rtol=1e-4, atol=1e-6)
    assert_close(stats["kl"], float(k3_BL.detach().sum() / trainable_BL.sum()), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("normalize", ["token", "sequence"])
def test_spg_is_the_policy_gradient_of_its_bounds(normalize, monkeypatch):
    """-sum A Lhat |o| / sum |o| as published (or the mean over completions of -A Lhat), with Lhat the lower bound per token
    where A > 0 and the mixture elsewhere; no old and no reference policy is ever scored."""
    import stp.loop

    objective, estimator = PolicyGradient(normalize=normalize), Spg(samples=3, block_length=3, p_mask=0.15)
    rollout = a_rollout(REWARDS, objective)
    with monkeypatch.context() as patched:
        patched.setattr(stp.loop, "score", None)
        stats, found = gradients(rollout, objective, 2, Ranks(), estimator)
    policy, trajectory = a_policy(0), rollout.trajectory
    bounds = estimator(policy, trajectory, estimator.draw(trajectory, rollout.draws, step=0))
    n_B = trajectory.trainable_BL.sum(dim=1)
    loss = 0.0
    for b, advantage in enumerate((REWARDS.view(-1, GROUP) - REWARDS.view(-1, GROUP).mean(dim=1, keepdim=True)).flatten()):
        per_token = (bounds.token_BL if advantage > 0 else bounds.upper_BL)[b].sum() / n_B[b]
        loss = loss - advantage * per_token * (n_B[b] / n_B.sum() if normalize == "token" else 1 / ROWS)
    loss.backward()
    assert_close(found, torch.cat([p.grad.flatten() for p in policy.parameters()]), rtol=1e-4, atol=1e-6)
    assert_close(stats["loss"], float(loss.detach()), rtol=1e-4, atol=1e-6)
    learning = rollout.advantage_B != 0  # the group of equal rewards is left out
    assert_close(stats["bound/lower"], float(bounds.token_BL[learning].sum() / n_B[learning].sum()), rtol=1e-4, atol=1e-6)
    assert_close(stats["bound/upper"], float(bounds.upper_BL[learning].sum() / n_B[learning].sum()), rtol=1e-4, atol=1e-6)
    variance_B = bounds.draw_BK[learning].detach().var(dim=1)
    assert_close(stats["elbo/variance"], float(variance_B.mean()), rtol=1e-4, atol=1e-6)
    assert not {"kl", "ratio/mean", "elbo/delta_max"} & set(stats)
