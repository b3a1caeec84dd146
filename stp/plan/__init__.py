"""`python -m stp.plan`: what a configuration of stp.train needs, counted on the meta device, before a GPU is asked for."""
