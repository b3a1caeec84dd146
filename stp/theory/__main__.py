"""`python -m stp.theory` counts, enumerates and measures what the paper's theorems say (read it with docs/theory.md)."""

from stp.theory.theory import main

if __name__ == "__main__":
    main()
