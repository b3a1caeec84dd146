"""Accuracy: questions asked of a policy by the standard sampler, and what the answers are worth."""
