"""`python -m stp.pretrain` makes the tiny base again, by masked-diffusion pretraining on generated text about a task."""
