"""No rescue."""

from dataclasses import dataclass

from stp.rescue.base import Rescue, Retake
from stp.types import Rollout


@dataclass
class None_(Rescue):  # noqa: N801, Python reserves the name None
    """Keeps every rollout as it is."""

    @property
    def most(self) -> int:
        return 0

    def __call__(self, rollout: Rollout, retake: Retake) -> Rollout:
        return rollout
