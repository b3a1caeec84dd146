"""STP: reinforcement learning for masked diffusion language models with Spatio-Temporal Pruning."""

__version__ = "0.1.0"
