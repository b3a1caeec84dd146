"""Measures accuracy: asks questions of a policy with the standard sampler, and grades and counts the answers."""
