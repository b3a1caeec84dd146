"""The whole method in one page: STP rollouts, the ELBO and GRPO on a toy model, with a plain torch optimizer.

The model reads a digit and writes twelve tokens; its reward is the share of them that repeat the digit. It starts from random
weights and reaches a mean reward above 0.9 in less than a minute. Run it with `python examples/minimal_loop.py`.
"""

import torch
from torch import Tensor, nn

from stp.diffusion import FromLogits
from stp.estimators import Elbo
from stp.objectives import Grpo
from stp.samplers import Stp
from stp.types import Anchors, Draws, Prompts

MASK, EOS, VOCAB = 0, 1, 10  # tokens 2 to 9 are the digits
PROMPTS, G, L = 8, 8, 12  # prompts, completions per prompt, response length


class Toy(nn.Module):
    """A small transformer without a causal mask: it sees the prompt and every token that is not masked."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(VOCAB, width), nn.Embedding(1 + L, width)
        self.mix = nn.TransformerEncoderLayer(width, nhead=2, dim_feedforward=64, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, VOCAB)

    def forward(self, ids_BS: Tensor) -> Tensor:
        return self.head(self.mix(self.token(ids_BS) + self.place.weight))


def train(updates: int = 60, inner_updates: int = 2, seed: int = 0) -> list[float]:
    """Returns the mean reward of each update."""
    torch.manual_seed(seed)
    model = Toy()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    denoise = FromLogits(model, MASK, EOS)  # the protocol that samplers and estimators speak
    sampler = Stp(length=L, steps=L, block_length=L, temperature=1.0, gamma=0.1, t_cutoff=0.1)
    estimator, objective = Elbo(samples=3), Grpo(clip=0.2, beta=0.0)
    digit_B = torch.arange(2, 2 + PROMPTS).repeat_interleave(G)
    prompts = Prompts(digit_B[:, None])
    stored_BL = torch.full((PROMPTS * G, L), EOS)  # an earlier response for each row; there is none yet
    rewards = []

    for update in range(updates):
        # Rollout: spatial pruning fixes a few tokens of the stored response, temporal pruning fills the last ones at once.
        draws = Draws(seed, batch=PROMPTS * G, update=update)
        anchors = Anchors(stored_BL, eligible_BL=stored_BL != EOS, confidence_BL=torch.zeros(PROMPTS * G, L))
        trajectory = sampler(denoise, prompts, draws, anchors)
        reward_B = (trajectory.response_BL == digit_B[:, None]).float().mean(dim=1)
        best_B = reward_B.view(PROMPTS, G).argmax(dim=1) + torch.arange(PROMPTS) * G
        stored_BL = trajectory.response_BL[best_B].repeat_interleave(G, dim=0)

        # Update: one set of masks serves the old and the new policy (Eqs. 3 and 4), then the clipped surrogate (Eq. 1).
        advantage_B = objective.advantages(reward_B, G)
        trainable_BL = trajectory.trainable_BL  # neither fixed tokens nor what follows the first EOS
        weight_BL = objective.token_weights(trainable_BL, rows=len(trainable_BL), tokens=int(trainable_BL.sum()))
        noise = estimator.draw(trajectory, draws)
        old = None
        for _ in range(inner_updates):
            new = estimator(denoise, trajectory, noise)
            old = new.detach() if old is None else old
            loss = objective(new, old, None, advantage_B, weight_BL)
            optimizer.zero_grad()
            loss.value.backward()
            optimizer.step()
        rewards.append(float(reward_B.mean()))
        if update % 10 == 9:
            print(f"update {update + 1}: mean reward {rewards[-1]:.2f}, {trajectory.nfe} forwards instead of {L}", flush=True)
    return rewards


if __name__ == "__main__":
    train()
