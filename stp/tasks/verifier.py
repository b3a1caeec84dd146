"""Compares scalar expressions in a process of its own, so that no answer can delay, break or kill the caller.

`stp.tasks.comparison` is that process: it says how expressions are compared and how long that may take. Any thread may ask.
"""

from typing import TYPE_CHECKING

from stp.tasks import comparison
from stp.tasks.comparison import Tree
from stp.tasks.processes import START, Servant

if TYPE_CHECKING:
    from stp.tasks.expressions import Node


class Judge(Servant):
    """Asks the process that compares expressions. An expired question counts as no."""

    def __init__(self) -> None:
        super().__init__([comparison.__file__], "mpmath does not start: is it installed? (pip install 'mpmath>=1.3,<1.5')")

    def equal(self, answer: "Node", gold: "Node") -> bool:
        """Says whether two expressions have the same value."""
        return self._compare("equal", answer, gold) == 1

    def ratio_sign(self, answer: "Node", gold: "Node") -> int:
        """Returns the sign (1 or -1) of the constant by which one expression is a multiple of the other, or 0 if it is none."""
        return self._compare("ratio", answer, gold)

    def _compare(self, question: str, answer: "Node", gold: "Node") -> int:
        return int(self.ask([question, packed(answer), packed(gold)], START) or 0)


def packed(node: "Node") -> Tree:
    """Turns a tree into nested lists, for JSON."""
    return [node.op, *(arg if isinstance(arg, str) else packed(arg) for arg in node.args)]


_JUDGE = Judge()
equal, ratio_sign, start = _JUDGE.equal, _JUDGE.ratio_sign, _JUDGE.start
