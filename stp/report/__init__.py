"""`python -m stp.report [run folders]`: Tables 2-7 and Figure 3 of the paper from runs, with learning curves and phases."""
