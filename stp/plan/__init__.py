"""`python -m stp.plan` tells what a configuration of stp.train needs, before a GPU is asked for."""
