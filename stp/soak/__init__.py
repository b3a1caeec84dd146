"""`python -m stp.soak` kills and stops runs at random and lets them continue. Each must end as a run that was left alone."""
