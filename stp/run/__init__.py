"""What keeps a run going: ranks, DeepSpeed, files, W&B, checkpoints, guards, signals."""
