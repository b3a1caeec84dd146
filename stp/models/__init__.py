"""Models: LLaDA checkpoints, the tiny model, and the policy built from either."""
