"""`python -m stp.lm_eval --model stp --model_args checkpoint=… --tasks …` evaluates with the lm-evaluation-harness."""
