"""`python -m stp.bench` compares rollouts and updates with their bare forwards and with the published loops."""

from stp.bench.bench import main

if __name__ == "__main__":
    main()
