"""`python -m stp.train` is the main job."""

from stp.cli import run
from stp.config import Config


def main(config: Config) -> float:
    """Does one run. What trains is loaded when the settings are known to be right, since that takes most of the start."""
    from stp.train import job

    return job.main(config)


if __name__ == "__main__":
    run(main, "train", Config)
