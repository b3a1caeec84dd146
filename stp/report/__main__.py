"""`python -m stp.report [runs]` makes the paper's Tables 2-7 and Figure 3 from runs, with learning curves and phases."""

from stp.report.report import main

if __name__ == "__main__":
    main()
