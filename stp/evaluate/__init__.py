"""`python -m stp.evaluate checkpoint=<run folder, adapter, weights or base>` measures accuracy, mean@k and pass@k."""
