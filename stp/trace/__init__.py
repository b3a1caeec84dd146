"""`python -m stp.trace checkpoint=… task=…` writes an HTML page on which rollouts denoise, the standard sampler beside STP."""
