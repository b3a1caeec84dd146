"""Tests of the models: LLaDA's layout, the tiny model, the policy, and the codec between text and tokens."""

import torch

from stp.models.policy import Policy
from stp.models.tiny import new_tiny, tiny_tokenizer
from stp.tasks import Countdown

TOKENIZER = tiny_tokenizer(Countdown.phrases)


def small_model(seed=0):
    """A random bidirectional Llama of two narrow layers."""
    return new_tiny(TOKENIZER, seed, width=32, layers=2).eval()


def small_policy(seed=0, **options):
    return Policy(small_model(seed), TOKENIZER.mask_token_id, TOKENIZER.eos_token_id, **options)


def random_ids(rows, length, seed=0, vocabulary=None):
    """Token ids other than the special ones."""
    return torch.randint(3, vocabulary or len(TOKENIZER), (rows, length), generator=torch.Generator().manual_seed(seed))
