"""`python -m stp.train` is the main job. It composes the parts and runs the loop."""
