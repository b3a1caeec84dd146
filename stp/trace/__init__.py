"""`python -m stp.trace checkpoint=… task=…`: one HTML page that shows rollouts denoising, the standard sampler beside STP."""
