"""Reads scalar expressions from tokens of LaTeX into a tree, and computes the exact value of a tree with a rational one.

The grammar reads only what has a single meaning. It refuses what may be read in two ways (`ReadingError`): separate digits
(`1 2`), a number after a letter or a bracket (`x2`), `1/2x`, `\\sin x/2`, towers of powers, and large powers.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from stp.tasks.latex import FUNCTIONS, Token
from stp.tasks.units import words

MAX_DIGITS = 30  # the most digits of a number
MAX_POWER = 999
MAX_FACTORIAL = 999
MAX_RESULT = 3_000  # the most digits of an exact power

_INVERSE = {"sin": "arcsin", "cos": "arccos", "tan": "arctan"}
_GREEK = words(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell"
)
_ACCENTS = words("mathbf vec hat bar overline overrightarrow boldsymbol bm mathcal widehat tilde")
_CLOSING = {"(": ")", "[": "]", "{": "}", "\\{": "\\}", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil", "\\langle": "\\rangle"}
OPENING = frozenset(_CLOSING)
CLOSED = frozenset(_CLOSING.values())


class ReadingError(Exception):
    """The text has no meaning here, or more than one."""


@dataclass(frozen=True)
class Node:
    """An operation on nodes. The argument of a number, a variable or a unit is text.

    op: number, variable, constant, add, negative, multiply, divide, power, root (index, radicand), call (function, argument),
    log (base, argument), factorial, binomial, absolute, floor, ceiling, based (digits, base), and the structures of `answers`.
    """

    op: str
    args: tuple["Node | str", ...]

    @property
    def nodes(self) -> tuple["Node", ...]:
        """The arguments that are nodes."""
        return tuple(arg for arg in self.args if isinstance(arg, Node))


def number(value: Fraction | int | str) -> Node:
    """Returns the node of a rational number."""
    return Node("number", (str(Fraction(value)),))


def variables(node: Node) -> frozenset[str]:
    """Returns the names of a tree's variables."""
    if node.op == "variable":
        return frozenset([str(node.args[0])])
    return frozenset().union(*map(variables, node.nodes))


def letters(tokens: Sequence[Token]) -> Iterator[Token]:
    """Splits each word into its letters, because in algebra `xy` is x times y."""
    for token in tokens:
        if token.kind == "word":
            for i, letter in enumerate(token.text):
                yield Token("letter", letter, token.apart and i == 0)
        else:
            yield token


def expression(tokens: Sequence[Token]) -> Node:
    """Returns the tree of a scalar expression. Raises ReadingError if the tokens have no meaning, or two."""
    reader = _Reader(list(letters(tokens)))
    node = reader.sum()
    if reader.peek() is not None:
        raise ReadingError
    return node


class _Reader:
    """Reads by recursive descent: a sum of products of signed factors with powers. Each method reads on from `at`."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens, self.at = tokens, 0

    def peek(self, ahead: int = 0) -> str | None:
        """Returns the text of a coming token, or its kind if it is a number, letter, text, or a matrix's begin or end."""
        if self.at + ahead >= len(self.tokens):
            return None
        token = self.tokens[self.at + ahead]
        return token.kind if token.kind in ("number", "letter", "text", "begin", "end") else token.text

    def next(self) -> Token:
        if self.at >= len(self.tokens):
            raise ReadingError
        self.at += 1
        return self.tokens[self.at - 1]

    def expect(self, text: str) -> None:
        token = self.next()
        if token.text != text or token.kind in ("number", "text"):
            raise ReadingError

    def sum(self, bars: int = 0) -> Node:
        node = self.product(bars)
        while self.peek() in ("+", "-"):
            minus = self.next().text == "-"
            term = self.product(bars)
            node = Node("add", (node, Node("negative", (term,)) if minus else term))
        return node

    def product(self, bars: int) -> Node:
        """Reads factors that stand side by side or have a sign between them.

        A number needs a sign before it (`1 2` and `x2` are refused). After a division every factor does, because it would be
        unclear what is divided.
        """
        negative = self.signs()
        node, loose = self.power(bars)
        while True:
            sign = self.peek()
            if sign in ("*", "\\cdot", "\\times", "/", "\\div"):
                self.next()
                minus = self.signs()
                if loose and sign in ("/", "\\div"):
                    raise ReadingError  # \sin x / 2
                right, loose = self.power(bars)
                node = Node("divide" if sign in ("/", "\\div") else "multiply", (node, right))
                node = Node("negative", (node,)) if minus else node
                if sign in ("/", "\\div") and self.begins_factor(bars):
                    raise ReadingError  # 1/2x
            elif self.begins_factor(bars):
                right, loose = self.power(bars)
                node = Node("multiply", (node, right))
            else:
                return Node("negative", (node,)) if negative else node

    def signs(self) -> bool:
        """Reads plus and minus signs. Says whether together they make a minus."""
        minus = False
        while self.peek() in ("+", "-"):
            minus ^= self.next().text == "-"
        return minus

    def begins_factor(self, bars: int) -> bool:
        token = self.peek()
        if token in ("letter", "begin", "(", "[", "{"):
            return True
        if token == "|":
            return bars == 0
        return token is not None and token.startswith("\\") and (token[1:] in _FACTORS or token in ("\\lfloor", "\\lceil"))

    def power(self, bars: int) -> tuple[Node, bool]:
        """Reads a factor with its powers. Returns it, and whether it is a function with an argument without brackets."""
        start = self.peek()
        node, loose = self.factor(bars)
        while True:
            sign = self.peek()
            if sign == "^" and self.peek(1) == "\\circ":
                self.at += 2
                node = Node("multiply", (node, Node("divide", (Node("constant", ("pi",)), number(180)))))
            elif sign == "^":
                self.next()
                if loose or start == "^":
                    raise ReadingError
                node = _power(node, self.exponent())
                if self.peek() == "^" and self.peek(1) != "\\circ":
                    raise ReadingError
            elif sign == "!":
                self.next()
                value = exact(node)
                if self.peek() == "!" or (value is not None and not 0 <= value <= MAX_FACTORIAL):
                    raise ReadingError
                node = Node("factorial", (node,))
            else:
                return node, loose

    def exponent(self) -> Node:
        minus = self.signs()
        node = self.argument(whole=True)
        return Node("negative", (node,)) if minus else node

    def argument(self, whole: bool = False) -> Node:
        """Reads a command's argument: a group in braces, or one token. whole: takes all of a number, not only its first digit.

        `\\frac12` takes one digit at a time.
        """
        token = self.next()
        if token.text == "{" and token.kind == "symbol":
            node = self.sum()
            self.expect("}")
            return node
        if token.kind == "number" and not whole and len(token.text) > 1:
            self.at -= 1
            self.tokens[self.at] = Token("number", token.text[1:])
            return _number(token.text[0])
        if token.kind in ("number", "letter") or token.text in ("\\frac", "\\sqrt", "\\pi") or token.text[1:] in _GREEK:
            self.at -= 1
            return self.factor(0, script=False)[0]
        raise ReadingError

    def factor(self, bars: int, script: bool = True) -> tuple[Node, bool]:
        token = self.next()
        if token.kind == "number":
            return (self.mixed(token) if script else _number(token.text)), False
        if token.kind == "letter":
            return (self.variable(token.text) if script else _letter(token.text)), False
        if token.kind == "symbol" and token.text in ("(", "[", "{"):
            node = self.sum()
            self.expect(_CLOSING[token.text])
            return node, False
        if token.text == "|" and token.kind == "symbol":
            node = self.sum(bars + 1)
            self.expect("|")
            return Node("absolute", (node,)), False
        if token.kind == "command":
            return self.command(token.text[1:])
        raise ReadingError

    def mixed(self, token: Token) -> Node:
        """Reads a number with its base, if it has one. A whole number before a proper fraction makes a mixed number."""
        node = _number(token.text)
        if self.peek() == "_":
            self.next()
            base = exact(self.argument(whole=True))
            if (
                base is None
                or base.denominator != 1
                or not 2 <= base <= 36
                or any(int(d) >= base for d in token.text if d != ".")
            ):
                raise ReadingError
            return node if base == 10 else Node("based", (token.text, str(base)))
        if not token.text.isdigit():
            return node
        if self.peek() == "\\frac":
            before, first = self.at, self.next()
            over, under = self.argument(), self.argument()
            if over.op == under.op == "number":
                part = exact(Node("divide", (over, under)))
                if part is None or not 0 < part < 1 or "/" in f"{over.args[0]}{under.args[0]}":
                    raise ReadingError  # 2\frac{3}{2}: a sum or a product?
                return Node("add", (node, number(part)))
            self.tokens[before], self.at = first, before
        elif self.peek() == "number" and self.peek(1) == "/" and self.peek(2) == "number":
            above, _, below = (self.next().text for _ in range(3))
            if not (above.isdigit() and below.isdigit() and 0 < int(above) < int(below)) or self.begins_factor(0):
                raise ReadingError
            return Node("add", (node, number(Fraction(int(above), int(below)))))
        return node

    def variable(self, name: str) -> Node:
        """Reads a letter with its index. Without an index, e and i are constants."""
        if self.peek() != "_":
            return _letter(name)
        self.next()
        if self.peek() != "{":
            return Node("variable", (f"{name}_{self.next().text}",))
        self.next()
        index = ""
        while self.peek() != "}":
            index += self.next().text
        self.next()
        return Node("variable", (f"{name}_{index}",))

    def command(self, name: str) -> tuple[Node, bool]:
        if name == "pi":
            return Node("constant", ("pi",)), False
        if name in _GREEK:
            return self.variable(f"\\{name}"), False
        if name in ("frac", "binom"):
            node = Node("divide" if name == "frac" else "binomial", (self.argument(), self.argument()))
            return node, False
        if name == "sqrt":
            index = number(2)
            if self.peek() == "[":
                self.next()
                index = self.sum()
                self.expect("]")
            elif self.peek() == "(":  # sqrt(5)
                return Node("root", (index, self.factor(0)[0])), False
            return Node("root", (index, self.argument(whole=True))), False
        if name in ("lfloor", "lceil"):
            node = self.sum()
            self.expect(_CLOSING[f"\\{name}"])
            return Node("floor" if name == "lfloor" else "ceiling", (node,)), False
        if name in _ACCENTS:
            self.expect("{")
            inside = ""
            while self.peek() != "}":
                inside += self.next().text
            self.next()
            return self.variable(f"\\{name}{{{inside}}}"), False
        if name in FUNCTIONS:
            return self.call(name)
        raise ReadingError

    def call(self, name: str) -> tuple[Node, bool]:
        """Reads a function's argument: what stands in brackets, or all factors up to a sign or function (`\\sin 2\\pi x`)."""
        base = power = None
        while self.peek() in ("_", "^"):
            if self.next().text == "_":
                base = self.argument(whole=True)
            else:
                power = self.exponent()
        if power is not None and power == Node("negative", (number(1),)):
            if name not in _INVERSE:
                raise ReadingError
            name, power = _INVERSE[name], None
        if base is not None and name != "log":
            raise ReadingError
        loose = self.peek() not in ("(", "[", "{", "|")
        argument, _ = self.power(0) if loose else self.factor(0)
        while loose and self.begins_factor(0) and (self.peek() or "")[1:] not in FUNCTIONS:
            argument = Node("multiply", (argument, self.power(0)[0]))
        if name == "log":
            node = Node("log", (number(10) if base is None else base, argument))
        else:
            node = Node("call", (name, argument))
        return (node if power is None else _power(node, power)), loose


_FACTORS = FUNCTIONS | _GREEK | _ACCENTS | {"frac", "sqrt", "binom", "pi"}


def _number(text: str) -> Node:
    if len(text) > MAX_DIGITS:
        raise ReadingError
    return number(text)


def _letter(name: str) -> Node:
    return Node("constant", (name,)) if name in ("e", "i") else Node("variable", (name,))


def _power(base: Node, exponent: Node) -> Node:
    """Makes a power that can be computed. A rational exponent must be small, and any other must hold no power."""
    value = exact(exponent)
    if (abs(value) > MAX_POWER or value.denominator > MAX_POWER) if value is not None else _has_power(exponent):
        raise ReadingError
    node = Node("power", (base, exponent))
    if exact(base) is not None and value is not None and value.denominator == 1 and exact(node) is None:
        raise ReadingError  # 0^0, or too many digits
    return node


def _has_power(node: Node) -> bool:
    return node.op in ("power", "factorial") or any(map(_has_power, node.nodes))


def exact(node: Node) -> Fraction | None:
    """Computes a tree of rationals with the four operations, whole powers, roundings, factorials and binomials; else None."""
    if node.op == "number":
        return Fraction(str(node.args[0]))
    values = [exact(child) for child in node.nodes]
    if not values or any(value is None for value in values):
        return None
    first, second = Fraction(values[0] or 0), Fraction(values[-1] or 0)
    match node.op:
        case "add":
            return first + second
        case "negative":
            return -first
        case "multiply":
            return first * second
        case "divide":
            return first / second if second else None
        case "power":
            return _exact_power(first, second)
        case "factorial" if first.denominator == 1 and 0 <= first <= MAX_FACTORIAL:
            return Fraction(math.factorial(int(first)))
        case "binomial" if first.denominator == second.denominator == 1 and 0 <= second <= first <= MAX_POWER:
            return Fraction(math.comb(int(first), int(second)))
        case "absolute":
            return abs(first)
        case "floor" | "ceiling":
            return Fraction(math.floor(first) if node.op == "floor" else math.ceil(first))
    return None


def _exact_power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1 or (not base and exponent <= 0):
        return None
    digits = max(len(str(base.numerator)), len(str(base.denominator)))
    return base ** int(exponent) if digits * abs(exponent) <= MAX_RESULT else None
