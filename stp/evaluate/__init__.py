"""`python -m stp.evaluate checkpoint=<run folder, adapter, weights or base>`: accuracy with counts, mean@k and pass@k."""
