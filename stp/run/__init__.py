"""What keeps a run alive: ranks, DeepSpeed, files, W&B, checkpoints, guards, signals."""
