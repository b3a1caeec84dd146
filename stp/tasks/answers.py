"""Decides what kind of answer a LaTeX text is, before any algebra, and when two answers are the same.

The kinds are words, a number with its unit, a list, tuple, interval, set, matrix, relation or equation. They are compared
element by element; only scalar expressions go to `stp.tasks.verifier`.

- `x = 5` is 5 with a name. A name is a single letter, alone, with an index or as `f(x)` or `f(2)`. If both answers have names,
  these must be equal. `2x = 10` stays an equation. Two equations are the same if one is a multiple of the other by a number
  that is not zero. The number must be positive for inequalities; if it is negative, their sides change places.
- `a = b = c` is c if all are equal. If not, it has no meaning.
- `x > 2` is `(2, \\infty)`, `-2 \\le x \\le 7` is `[-2, 7]`, `\\mathbb{R}` is `(-\\infty, \\infty)`.
- A list without brackets and a set in braces have no order; a tuple has one. Elements that stand twice count twice.
- `x = 8, y = -2` is a tuple in the order of the letters, `(p, q) = (1, 2)` is one in the order of the left side.
- `1 \\pm 2` is the list of both values.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

from stp.tasks import units, verifier
from stp.tasks.expressions import CLOSED, OPENING, Node, ReadingError, exact, expression, number, variables
from stp.tasks.latex import FUNCTIONS, Token, rewritten, tokens
from stp.tasks.units import words

Tokens = Sequence[Token]

_RELATIONS = {"=": "=", "<": "<", ">": ">", "\\leq": "<=", "\\geq": ">=", "\\neq": "!=", "\\in": "in", "\\approx": "~"}
_TURNED = {"=": "=", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
_JOINS = {"and": "and", "or": "or", "and/or": "or"}
_SHORT_WORDS = words("a an i no on up is it in at by of the to us we")
_ALL_REALS = frozenset(("all real numbers", "all reals", "all real x", "reals", "real numbers"))
_INFINITE = {"\\infty": "+", "+\\infty": "+", "-\\infty": "-"}
MAX_SIGNS = 4  # the most \pm in one answer


def read(answer: str, gold: Node | None = None) -> Node | None:
    """Returns the structure of an answer, or None if it has no meaning here, or more than one.

    gold: the gold answer's structure. If it has no variables, a single letter after a number may be a unit: `15 m`.
    """
    try:
        return _Reader(gold is not None and not variables(gold)).answer(tokens(rewritten(answer)))
    except (ReadingError, ValueError, IndexError, ZeroDivisionError, RecursionError):
        return None


class _Reader:
    """Reads the parts of an answer, outermost first."""

    def __init__(self, short_units: bool) -> None:
        self.short_units = short_units

    def answer(self, said: Tokens) -> Node:
        """Reads a list of items, or a single one."""
        parts, joins = _split(said, _join)
        items = [self.item(variant) for part in parts if part for variant in _variants(part)]  # `5, and 7` has an empty part
        if not items:
            raise ReadingError
        if len(items) == 1:
            return items[0]
        return _joined(items, "or" in joins, "and" in joins)

    def item(self, said: Tokens) -> Node:
        """Reads a value, a named value, or a relation."""
        if not said:
            raise ReadingError
        members, signs = _split(said, lambda token: _RELATIONS.get(token.text) if token.kind in ("symbol", "command") else None)
        if "~" in signs:  # `\sqrt{2} \approx 1.41`: keep the exact value
            return self.item(said[: len(said) - 1 - [t.text for t in reversed(said)].index("\\approx")])
        if not signs:
            return self.value(said)
        if signs == ["in"]:
            where = self.value(members[1])
            if where.op not in _STRUCTURES:
                raise ReadingError  # x \in 3
            return Node("named", (_name(members[0]), where))
        if set(signs) == {"="}:
            return self.equation(members)
        return self.inequality(members, signs)

    def equation(self, members: list[Tokens]) -> Node:
        if not members[0] and len(members) == 2:  # = 5
            return self.value(members[1])
        names = _names(members[0])
        if names is not None and len(members) == 2:  # (p, q) = (1, 2)
            right = self.value(members[1])
            if right.op != "tuple" or len(right.nodes) != len(names):
                raise ReadingError
            return Node("record", tuple(Node("named", pair) for pair in zip(names, right.nodes, strict=True)))
        name = _name_of(members[0])
        if name is None and len(members) == 2 and (name := _name_of(members[1])) is not None:  # 5 = x
            members = members[::-1]
        values = [self.value(member) for member in (members if name is None else members[1:])]
        if name is None and len(values) == 2 and variables(values[0]) | variables(values[1]):
            return Node("relation", ("=", *values))
        if not all(same(value, values[-1]) for value in values[:-1]):
            raise ReadingError
        return values[-1] if name is None else Node("named", (name, values[-1]))

    def inequality(self, members: list[Tokens], signs: list[str]) -> Node:
        if len(members) == 2 and signs[0] == "!=" and (name := _name_of(members[0])) is not None:
            return Node("named", (name, _without(_REALS, Node("set", (self.value(members[1]),)))))
        if len(members) == 2 and signs[0] != "!=":
            for name, bound, sign in (
                (_name_of(members[0]), members[1], signs[0]),
                (_name_of(members[1]), members[0], _TURNED[signs[0]]),
            ):
                if name is not None and not variables(value := self.value(bound)):
                    ends = (value, _INFINITY) if sign[0] == ">" else (_MINUS_INFINITY, value)
                    return Node("named", (name, _interval(*ends, sign in (">=",), sign in ("<=",))))
        if len(members) == 3 and signs[0][0] == signs[1][0] in "<>":
            low, high, low_sign, high_sign = members[0], members[2], signs[0], signs[1]
            if signs[0][0] == ">":
                low, high, low_sign, high_sign = high, low, high_sign, low_sign
            name = _name_of(members[1])
            ends = self.value(low), self.value(high)
            if name is not None and not variables(ends[0]) | variables(ends[1]):
                return Node("named", (name, _interval(*ends, low_sign.endswith("="), high_sign.endswith("="))))
        values = [self.value(member) for member in members]
        if not {"=", "in", "~"}.isdisjoint(signs):
            raise ReadingError
        relations = [Node("relation", (s, a, b)) for s, a, b in zip(signs, values, values[1:], strict=False)]
        return relations[0] if len(relations) == 1 else Node("system", tuple(relations))

    def value(self, said: Tokens) -> Node:
        if not said:
            raise ReadingError
        pieces, joins = _split(said, lambda token: token.text if token.text in ("\\cup", "\\setminus", ":") else None)
        if joins:
            values = tuple(self.value(piece) for piece in pieces)
            if set(joins) == {"\\cup"}:
                return Node("union", values)
            if len(values) != 2:
                raise ReadingError
            if any(len(piece) == 1 and re.fullmatch("0[0-9]", piece[0].text) for piece in pieces):
                raise ReadingError  # 3:05, a time of day, is not 3:5
            return _without(*values) if joins == ["\\setminus"] else Node("tuple", (":", *values, ":"))
        words = _words(said)
        if words is not None:
            return _REALS if words in _ALL_REALS else Node("text", (words,))
        texts = [token.text for token in said]
        if "".join(texts) in ("\\mathbb{R}", "\\mathbbR"):
            return _REALS
        if texts == ["\\emptyset"]:
            return Node("set", ())
        if "".join(texts) in _INFINITE:
            return Node("infinity", (_INFINITE["".join(texts)],))
        if texts[0] in OPENING and _closing(said) == len(said) - 1:
            inside = said[1:-1]
            parts, commas = _split(inside, lambda token: token.text if token.text in (",", ";") else None)
            if texts[0] == "\\{" or (commas and texts[0] == "{"):
                return self.set(inside, parts)
            if texts[0] == "\\langle" or (commas and texts[0] in "([" and texts[-1] in ")]"):
                left, right = ("(", ")") if texts[0] == "\\langle" else (texts[0], texts[-1])
                return Node("tuple", (left, *map(self.item, parts), right))
        if any(token.kind == "begin" for token in said):
            return self.matrix(said)
        return self.quantity(said)

    def set(self, inside: Tokens, parts: list[Tokens]) -> Node:
        """Reads the elements of a set in braces, or the condition of `\\{x : x > 2\\}`."""
        for i, token in enumerate(inside):
            if token.text in (":", "|") and token.kind == "symbol":
                name, *real = _split(inside[:i], lambda token: token.text if token.text == "\\in" else None)[0]
                if _name_of(name) is not None and all(self.value(field) == _REALS for field in real):
                    return self.item(inside[i + 1 :])
        return Node("set", tuple(self.item(v) for part in parts for v in _variants(part)) if inside else ())

    def matrix(self, said: Tokens) -> Node:
        """Reads a matrix row by row, times the number in front of it."""
        begin = next(i for i, token in enumerate(said) if token.kind == "begin")
        kind = said[begin].text
        if said[-1].kind != "end" or said[-1].text != kind or kind not in ("pmatrix", "matrix", "vmatrix"):
            raise ReadingError
        rows, _ = _split(said[begin + 1 : -1], lambda token: "row" if token.text == "\\\\" else None)
        cells = [_split(row, lambda token: "cell" if token.text == "&" else None)[0] for row in rows if row]
        if not cells or len({len(row) for row in cells}) != 1 or (kind == "vmatrix" and begin):
            raise ReadingError
        front = list(said[:begin])
        front = front[:-1] if front and front[-1].text in ("\\cdot", "\\times", "*") else front
        front = [*front, Token("number", "1")] if [t.text for t in front] in (["-"], ["+"]) else front
        factor = expression(front) if front else None

        def cell(said: Tokens) -> Node:
            return expression(said) if factor is None else Node("multiply", (factor, expression(said)))

        return Node("matrix", ("v" if kind == "vmatrix" else "p", *(Node("row", tuple(map(cell, row))) for row in cells)))

    def quantity(self, said: Tokens) -> Node:
        """Reads a scalar expression with its unit or currency. A word such as `million` multiplies it."""
        said, tail = self.without_unit(list(said))
        price = [i for i, token in enumerate(said[:2]) if token.text.lstrip("\\") in units.CURRENCIES]
        currency = ((units.CURRENCIES[said.pop(price[0]).text.lstrip("\\")], 1),) if price else ()
        measured = units.measured(tail)
        if measured is None or (currency and measured[1] not in ((), currency)):
            raise ReadingError
        factor, unit = measured
        value = expression(said)
        value = value if factor == 1 else Node("multiply", (number(factor), value))
        unit = currency or unit
        return Node("measured", (value, " ".join(f"{name}^{power}" for name, power in unit))) if unit else value

    def without_unit(self, said: list[Token]) -> tuple[list[Token], str]:
        """Splits off the unit: all tokens from the first one that can begin a unit. Returns the others, and the unit's text."""
        for i in range(1, len(said)):
            if self.begins_unit(said, i):
                tail = said[i:]
                fits = all(
                    token.kind in ("text", "word")
                    or token.text in ("^", "\\circ", "%", "\\%", "/", "{", "}", "\\cdot", "¢", ".", "2", "3")
                    or (
                        token.kind == "letter"
                        and (token.text in units.LETTERS or tail[j - 1].text == "/" or token.text in "aCF")
                    )
                    for j, token in enumerate(tail)
                )
                if fits:
                    return said[:i], " ".join(token.text for token in tail)
        return said, ""

    def begins_unit(self, said: list[Token], i: int) -> bool:
        token, before = said[i], said[i - 1]
        if before.text in ("+", "-", "*", "/", "^", "_", "(", "[", "{", "\\cdot", "\\times", "\\frac", "\\sqrt", "\\$"):
            return False
        if token.kind == "text" or token.text in ("%", "\\%", "¢"):
            return True
        if token.text == "^":  # but \\sin 30^\\circ has an angle, not a unit
            angle = any(other.text[1:] in FUNCTIONS for other in said[:i])
            return i + 1 < len(said) and said[i + 1].text == "\\circ" and not angle
        if token.kind == "word":
            attached = before.kind == "number" or before.text in (")", "}")
            return (token.text in units.KNOWN and (token.apart or attached)) or (token.apart and units.plain_word(token.text))
        bare = not any(other.kind in ("letter", "word") for other in said[:i])
        return token.kind == "letter" and token.apart and token.text in units.LETTERS and self.short_units and bare


_INFINITY, _MINUS_INFINITY = Node("infinity", ("+",)), Node("infinity", ("-",))


def _interval(low: Node, high: Node, closed_low: bool, closed_high: bool) -> Node:
    return Node("tuple", ("[" if closed_low else "(", low, high, "]" if closed_high else ")"))


_REALS = _interval(_MINUS_INFINITY, _INFINITY, False, False)


def _without(whole: Node, points: Node) -> Node:
    """Returns the reals without some numbers as a union of intervals. For other sets it returns a difference."""
    ends = sorted(((value, node) for node in points.nodes if (value := exact(node)) is not None), key=lambda end: end[0])
    if whole != _REALS or points.op != "set" or (len(points.nodes) > 1 and len(ends) < len(points.nodes)):
        return Node("difference", (whole, points))
    bounds = [_MINUS_INFINITY, *([node for _, node in ends] or points.nodes[:1]), _INFINITY]
    return Node("union", tuple(_interval(low, high, False, False) for low, high in pairwise(bounds)))


# Parts of tokens


def _split(said: Tokens, mark: Callable[[Token], str | None]) -> tuple[list[Tokens], list[str]]:
    """Splits tokens at marked ones outside of all brackets. Returns the parts and the marks."""
    parts: list[Tokens] = []
    marks: list[str] = []
    depth = start = 0
    for i, token in enumerate(said):
        if token.kind in ("begin", "end"):
            depth += 1 if token.kind == "begin" else -1
        elif token.kind in ("symbol", "command"):
            depth += (token.text in OPENING) - (token.text in CLOSED)
        found = mark(token) if depth == 0 else None
        if found is not None:
            parts.append(said[start:i])
            marks.append(found)
            start = i + 1
    return [*parts, said[start:]], marks


def _join(token: Token) -> str | None:
    """Returns `,`, `or` or `and` if a token separates the items of a list, else None."""
    if token.text in (",", ";", "\\\\") and token.kind in ("symbol", "command"):
        return ","
    said = token.text.strip(" ,;").casefold()
    return _JOINS.get(said) if token.kind in ("word", "text") and said else None


def _closing(said: Tokens) -> int:
    """Returns the place at which the bracket closes that opens the tokens."""
    depth = 0
    for i, token in enumerate(said):
        if token.kind in ("symbol", "command"):
            depth += (token.text in OPENING) - (token.text in CLOSED)
        if depth == 0:
            return i
    raise ReadingError


def _words(said: Tokens) -> str | None:
    """Returns an answer in words in lower case, without punctuation and article. None if the answer is mathematics."""
    for i, token in enumerate(said):
        word = token.kind == "word" and (units.plain_word(token.text) or token.text.lower() in _SHORT_WORDS)
        small = i > 0 and (token.kind in ("number", "letter", "word") or token.text in ("-", "'", '"', ".", "!", "?", ":"))
        if not (token.kind == "text" or word or small or (token.text.lower() in ("a", "i") and len(said) > 1)):
            return None
    if said[0].kind == "letter" and (len(said) == 1 or said[1].kind not in ("word", "text")):
        return None
    if said[0].kind != "text" and not any(token.kind in ("text", "word") for token in said):
        return None
    text = re.sub(r"[\"'.,!?]", "", " ".join(token.text for token in said)).casefold()
    return re.sub(r"^(?:an?|the) ", "", " ".join(text.split()))


def _variants(said: Tokens) -> Iterator[Tokens]:
    """Yields both readings of each `\\pm`. If there is a `\\mp` too, all signs change together.

    Signs inside a set stay, because the set reads its elements itself.
    """
    places, braces = [], 0
    for i, token in enumerate(said):
        braces += (token.text == "\\{") - (token.text == "\\}")
        if token.text in ("\\pm", "\\mp") and not braces:
            places.append(i)
    if not places:
        yield said
        return
    if len(places) > MAX_SIGNS:
        raise ReadingError
    together = any(said[i].text == "\\mp" for i in places)
    for choice in range(2 if together else 2 ** len(places)):
        changed = list(said)
        for bit, i in enumerate(places):
            minus = (choice >> (0 if together else bit)) & 1 == (said[i].text == "\\pm")
            changed[i] = Token("symbol", "-" if minus else "+")
        yield changed


def _name_of(said: Tokens) -> str | None:
    """Returns the name that `=` may give to a value: a letter, alone, with an index or as `f(x)`, `f(2)`; else None.

    The letter may be in a vector's or matrix's style, `\\mathbf{A}`.
    """
    text = re.sub(r"\\(?:mathbf|boldsymbol|bm|vec)\{([A-Za-z])\}", r"\1", "".join(token.text for token in said))
    greek = r"\\(?:alpha|beta|gamma|delta|theta|lambda|mu|phi|varphi|omega|sigma|rho|tau|epsilon)"
    if (
        re.fullmatch(
            rf"(?:[A-Za-z]|{greek})(?:_[A-Za-z0-9]|_\{{[A-Za-z0-9]+\}})?(?:(?:\^\{{?-1\}}?)?\((?:[A-Za-z]|-?[0-9]+)\))?", text
        )
        is None
    ):
        return None
    return re.sub("[{}]", "", text) if not any(token.kind in ("word", "text") for token in said) else None


def _name(said: Tokens) -> str:
    name = _name_of(said)
    if name is None:
        raise ReadingError
    return name


def _names(said: Tokens) -> list[str] | None:
    """Returns the names in `(p, q, r)`, or None if the tokens are something else."""
    if not said or said[0].text != "(" or said[-1].text != ")":
        return None
    names = [_name_of(part) for part in _split(said[1:-1], lambda token: token.text if token.text == "," else None)[0]]
    return [name for name in names if name] if len(names) > 1 and all(names) else None


def _joined(items: list[Node], union: bool, both: bool) -> Node:
    """Joins several items. Named values of one letter make its list or union, those of several letters a record.

    All other items make a list.
    """
    if items and items[0].op == "named" and all(item.op not in ("named", "relation", "system", "record") for item in items[1:]):
        items = [items[0], *(Node("named", (items[0].args[0], item)) for item in items[1:])]  # x = 1, 2
    if all(item.op == "named" for item in items):
        names = [str(item.args[0]) for item in items]
        values = tuple(item.nodes[0] for item in items)
        if len(set(names)) == 1:
            ranges = all(value.op == "tuple" for value in values)
            if ranges and both and not union:
                return Node("named", (names[0], _intersection(values)))
            return Node("named", (names[0], Node("union" if ranges and union else "list", values)))
        if len(set(names)) == len(names) and not union:
            return Node("record", tuple(item for _, item in sorted(zip(names, items, strict=True), key=lambda pair: pair[0])))
    return Node("list", tuple(items))


def _intersection(ranges: tuple[Node, ...]) -> Node:
    """Returns the interval between two rays that face each other: `x > 2 and x < 5`."""
    if len(ranges) == 2:
        for low, high in (ranges, ranges[::-1]):
            if low.nodes[1] == _INFINITY and high.nodes[0] == _MINUS_INFINITY:
                return Node("tuple", (low.args[0], low.nodes[0], high.nodes[1], high.args[-1]))
    raise ReadingError


# Comparison


def same(a: Node, b: Node) -> bool:
    """Says whether two structures are the same answer. The order of the two does not matter."""
    if a == b:
        return True
    ops = {a.op, b.op}
    if "named" in ops:
        return _same_named(a, b)
    if ops == {"relation"}:
        return _same_relation(a, b)
    if ops == {"record"}:
        left, right = ({str(item.args[0]): item.nodes[0] for item in node.nodes} for node in (a, b))
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    if "record" in ops:
        record, other = (a, b) if a.op == "record" else (b, a)
        values = [item.nodes[0] for item in record.nodes]
        if other.op == "list" and len({str(item.args[0]).partition("_")[0] for item in record.nodes}) == 1:
            return _unordered(values, other.nodes)  # x_1 = 3, x_2 = -2
        brackets = other.op == "tuple" and (other.args[0], other.args[-1]) == ("(", ")")
        return (brackets or other.op == "list") and _all_same(values, other.nodes)
    if ops in ({"list"}, {"set"}, {"list", "set"}, {"system"}):
        return _unordered(a.nodes, b.nodes)
    if ops == {"union"}:
        return _unordered(_pieces(a), _pieces(b))
    if ops == {"difference"}:
        return _all_same(a.nodes, b.nodes)
    if ops == {"tuple"}:
        return (a.args[0], a.args[-1]) == (b.args[0], b.args[-1]) and _all_same(a.nodes, b.nodes)
    if ops == {"matrix"}:
        return a.args[0] == b.args[0] and len(a.nodes) == len(b.nodes) and all(map(_same_row, a.nodes, b.nodes))
    if "measured" in ops:
        return _same_quantity(a, b)
    if ops & _STRUCTURES:
        return False
    return _same_scalar(a, b)


_STRUCTURES = words("list set union difference tuple matrix row relation system record named text infinity based")


def _same_row(a: Node, b: Node) -> bool:
    return _all_same(a.nodes, b.nodes)


def _all_same(left: Sequence[Node], right: Sequence[Node]) -> bool:
    return len(left) == len(right) and all(map(same, left, right))


def _unordered(left: Sequence[Node], right: Sequence[Node]) -> bool:
    """Says whether the elements of both sides can be paired off as equal."""
    if len(left) != len(right):
        return False
    rest = list(right)
    for item in left:
        found = next((i for i, other in enumerate(rest) if same(item, other)), None)
        if found is None:
            return False
        del rest[found]
    return True


def _pieces(node: Node) -> list[Node]:
    return [piece for child in node.nodes for piece in _pieces(child)] if node.op == "union" else [node]


def _same_named(a: Node, b: Node) -> bool:
    """Compares named values. With equal names their values count. A name on one side only does not count.

    All others are compared as equations.
    """
    if a.op == b.op == "named" and a.args[0] == b.args[0]:
        return same(a.nodes[0], b.nodes[0])
    if a.op == b.op or "relation" in (a.op, b.op):
        equations = _equation(a), _equation(b)
        return None not in equations and _same_relation(*equations)  # type: ignore[arg-type]
    left, right = (node.nodes[0] if node.op == "named" else node for node in (a, b))
    return same(left, right)


def _equation(node: Node) -> Node | None:
    """Returns a relation unchanged, and a named expression as a relation: `y = 2x`, but not `y = 5`, which is a value."""
    if node.op == "relation":
        return node
    name, value = str(node.args[0]), node.nodes[0]
    if not variables(value) or value.op in _STRUCTURES or not re.fullmatch(r"\\?[A-Za-z]+(_[A-Za-z0-9]+)?", name):
        return None
    return Node("relation", ("=", Node("variable", (name,)), value))


def _same_relation(a: Node, b: Node) -> bool:
    """Says whether one relation is a multiple of the other by a number that is not zero. A negative one turns an inequality."""
    signs = str(a.args[0]), str(b.args[0])
    if any(child.op in _STRUCTURES | {"measured"} for child in (*a.nodes, *b.nodes)):
        return signs[0] == signs[1] and _all_same(a.nodes, b.nodes)
    left, right = (Node("add", (node.nodes[0], Node("negative", (node.nodes[1],)))) for node in (a, b))
    direction = verifier.ratio_sign(left, right)
    if direction == 0 or (signs[0] in ("=", "!=")) != (signs[1] in ("=", "!=")):
        return False
    return signs[0] == (signs[1] if direction > 0 else _TURNED[signs[1]])


def _same_quantity(a: Node, b: Node) -> bool:
    """Compares quantities. Two units must agree. A unit on one side only does not count.

    Such degrees and per cent may also count: `90^\\circ` equals π/2, and `25\\%` equals 0.25.
    """
    if a.op == b.op:
        return a.args[1] == b.args[1] and same(a.nodes[0], b.nodes[0])
    with_unit, other = (a, b) if a.op == "measured" else (b, a)
    value, unit = with_unit.nodes[0], with_unit.args[1]
    if same(value, other):
        return True
    if unit == "percent^1":
        return same(Node("divide", (value, number(100))), other)
    if unit == "degree^1" and other.op not in _STRUCTURES:
        half_turn = Node("divide", (Node("constant", ("pi",)), number(180)))
        return exact(other) is None and same(Node("multiply", (value, half_turn)), other)
    return False


def _same_scalar(a: Node, b: Node) -> bool:
    x, y = exact(a), exact(b)
    if isinstance(x, Fraction) and isinstance(y, Fraction):
        return x == y
    return not _based(a) and not _based(b) and verifier.equal(a, b)


def _based(node: Node) -> bool:
    """Says whether a node holds a number in another base. Such a number is a notation, so no value replaces it."""
    return node.op == "based" or any(map(_based, node.nodes))
