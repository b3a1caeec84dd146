"""`python -m stp.bench` compares rollouts and updates with their bare forwards and with the published loops."""
