"""`python -m stp.generate checkpoint=… question="…"` answers a question, or each line of standard input."""
