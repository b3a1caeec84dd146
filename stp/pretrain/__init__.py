"""`python -m stp.pretrain`: make the tiny base again, by masked-diffusion pretraining on generated text about a task."""
