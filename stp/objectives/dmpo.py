"""DMPO (Zhu et al., 2025, arXiv 2510.08233): cross-entropy to the reward-tilted reference policy."""

from dataclasses import dataclass, field

from stp.objectives.wd1 import Wd1


@dataclass
class Dmpo(Wd1):
    """Matches p* ~ p_ref exp(r / alpha): -sum_i (w_i - w'_i) log p_i / n_i in each group of completions drawn from p_old.

    w = softmax(r / alpha + log p_ref - log p_old) are the self-normalised importance weights of p* within the group. The
    baseline w' = softmax(-r / alpha + log p_ref - log p_old) is subtracted, with strength 1. alpha is `temperature`. Both
    log-likelihoods are the estimator's, of whole completions, on the same masks, which are drawn for the weights alone.
    The weights hold for all inner updates.
    """

    normalize: str = field(
        default="sequence", metadata={"help": "mean over each completion's tokens (as published) | token: over all | sum"}
    )
    temperature: float = field(default=0.04, metadata={"help": "alpha, by which rewards are divided"})

    @property
    def tilts_reference(self) -> bool:
        return True
