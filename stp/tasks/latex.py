"""Reads LaTeX as models and MATH write it: a few rewritings to a common spelling, and then tokens.

A rewriting changes the spelling of an answer and never its mathematical meaning. None joins separate parts or drops a part with
a meaning: row ends, spaces between numbers, relations and signs stay. Each is a function of its own, with examples.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from stp.tasks.units import LETTERS, words

_SYMBOLS = {
    "−": "-",
    "–": "-",
    "—": "-",
    "×": "\\times ",
    "·": "\\cdot ",
    "⋅": "\\cdot ",
    "÷": "\\div ",
    "∞": "\\infty ",
    "±": "\\pm ",
    "∓": "\\mp ",
    "≤": "\\leq ",
    "≥": "\\geq ",
    "≠": "\\neq ",
    "≈": "\\approx ",
    "∪": "\\cup ",
    "∩": "\\cap ",
    "∈": "\\in ",
    "∅": "\\emptyset ",
    "ℝ": "\\mathbb{R}",
    "π": "\\pi ",
    "θ": "\\theta ",
    "α": "\\alpha ",
    "β": "\\beta ",
    "λ": "\\lambda ",
    "°": "^\\circ ",
    "º": "^\\circ ",
    "˚": "^\\circ ",
    "′": "'",
    "’": "'",
    "\u00a0": " ",
    "\u2009": " ",
    "\u202f": " ",
}
_FRACTIONS = {
    "½": "12",
    "⅓": "13",
    "⅔": "23",
    "¼": "14",
    "¾": "34",
    "⅕": "15",
    "⅖": "25",
    "⅗": "35",
    "⅘": "45",
    "⅙": "16",
    "⅛": "18",
}
_POWERS = {"²": "2", "³": "3", "⁴": "4"}
_NAMES = {
    "\\dfrac": "\\frac",
    "\\tfrac": "\\frac",
    "\\cfrac": "\\frac",
    "\\dbinom": "\\binom",
    "\\tbinom": "\\binom",
    "\\le": "\\leq",
    "\\leqslant": "\\leq",
    "\\ge": "\\geq",
    "\\geqslant": "\\geq",
    "\\lt": "<",
    "\\gt": ">",
    "\\ne": "\\neq",
    "\\lvert": "|",
    "\\rvert": "|",
    "\\vert": "|",
    "\\mid": "|",
    "\\lbrace": "\\{",
    "\\rbrace": "\\}",
    "\\lbrack": "[",
    "\\rbrack": "]",
    "\\colon": ":",
    "\\varnothing": "\\emptyset",
    "\\backslash": "\\setminus",
    "\\sp": "^",
    "\\R": "\\mathbb{R}",
    "\\Reals": "\\mathbb{R}",
    "\\degree": "^\\circ",
    "\\to": "\\rightarrow",
    "\\dots": "\\ldots",
    "\\cdots": "\\ldots",
    "\\dotsc": "\\ldots",
    "\\land": "\\text{and}",
    "\\lor": "\\text{or}",
    "\\wedge": "\\text{and}",
    "\\vee": "\\text{or}",
    "\\tg": "\\tan",
    "\\thinspace": " ",
    "\\quad": " ",
    "\\qquad": " ",
    "\\enspace": " ",
    "\\limits": "",
    "\\displaystyle": "",
    "\\textstyle": "",
    "\\left": "",
    "\\right": "",
    "\\bigl": "",
    "\\bigr": "",
    "\\Bigl": "",
    "\\Bigr": "",
    "\\big": "",
    "\\Big": "",
    "\\bigg": "",
    "\\Bigg": "",
}
FUNCTIONS = words("sin cos tan cot sec csc sinh cosh tanh arcsin arccos arctan ln log exp")
_TEXT = r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mbox|operatorname)\s*\{([^{}]*)\}"
_DIGITS = r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+"


# Rewritings


def symbols(text: str) -> str:
    r"""Turns Unicode signs into LaTeX commands.

    >>> symbols("√5 – 3"), symbols("√(x+1)"), symbols("2½ × 10²")
    ('\\sqrt{5} - 3', '\\sqrt{x+1}', '2\\frac{1}{2} \\times  10^{2}')
    """
    if text.isascii():
        return text
    text = re.sub(rf"√\s*({_DIGITS}|[A-Za-z])", r"\\sqrt{\1}", text)
    text = re.sub(r"√\s*\(([^()]*)\)", r"\\sqrt{\1}", text).replace("√", "\\sqrt ")
    for sign, parts in _FRACTIONS.items():
        text = text.replace(sign, f"\\frac{{{parts[0]}}}{{{parts[1]}}}")
    text = re.sub("[²³⁴]", lambda match: f"^{{{_POWERS[match.group()]}}}", text)
    for sign, command in _SYMBOLS.items():
        text = text.replace(sign, command)
    return text


def undelimited(text: str) -> str:
    r"""Removes the marks around mathematics and the full stop, comma or semicolon at the end.

    >>> undelimited("$x+1$."), undelimited(r"\[ 5 \]"), undelimited(r"\$5"), undelimited(r"$1$ and $-2$"), undelimited("1, ...")
    ('x+1', '5', '\\$5', '1 and -2', '1, ...')
    """
    text = re.sub(r"(?<!\\)\\\s*\Z", "", text.strip()).strip()
    if re.fullmatch(r"\*\*[^*]+\*\*", text):
        text = text[2:-2]
    text = re.sub(r"(?<!\\)\\[\[\]()]", " ", text)
    text = re.sub(r"(?<!\\)\$(?=\s*[0-9.])", r"\\$", text) if text.count("$") == 1 else text  # a price
    text = re.sub(r"(?<!\\)\$", "", text).strip()
    return re.sub(r"(?<![\\.,;])\s*[.,;]\Z", "", text)


def thousands(text: str) -> str:
    r"""Removes separators between groups of three digits. A plain comma inside brackets stays, because it may part a list.

    >>> thousands(r"10,\!080"), thousands("58,500"), thousands("1{,}250"), thousands(r"385\,000"), thousands(r"1,\! 111,\! 100")
    ('10080', '58500', '1250', '385000', '1111100')
    >>> thousands("1, 250"), thousands("(1,250)"), thousands("1,25"), thousands("1,2500"), thousands("1 250")
    ('1, 250', '(1,250)', '1,25', '1,2500', '1 250')
    """

    def joined(match: re.Match[str]) -> str:
        return re.sub("[^0-9.]", "", match.group())

    text = re.sub(
        r"(?<![0-9.,])[1-9][0-9]{0,2}(?:(?:\\!\s*,\s*\\!|,\s*\\!\s*|\\!\s*,\s*|\{,\}|\\,)[0-9]{3})+(?![0-9])", joined, text
    )
    parts, depth = [], 0
    for part in re.split(r"([()\[\]]|\\[{}])", text):
        depth += (part in ("(", "[", "\\{")) - (part in (")", "]", "\\}"))
        parts.append(part if depth else re.sub(r"(?<![0-9.,])[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9]|,[0-9])", joined, part))
    return "".join(parts)


def repeating(text: str) -> str:
    r"""Turns a repeating decimal into a fraction.

    >>> repeating(r"0.\overline{3}"), repeating(r"-0.1\overline{6}"), repeating(r"\overline{AB}")
    ('{\\frac{3}{9}}', '-{\\frac{15}{90}}', '\\overline{AB}')
    """

    def fraction(match: re.Match[str]) -> str:
        whole, fixed, again = match.groups()
        over = int(whole + fixed + again) - int(whole + fixed)
        return f"{{\\frac{{{over}}}{{{'9' * len(again)}{'0' * len(fixed)}}}}}"

    return re.sub(r"([0-9]{1,9})\.([0-9]{0,9})\\(?:overline|bar|dot)\s*\{([0-9]{1,9})\}", fraction, text)


def named_alike(text: str) -> str:
    r"""Replaces commands with the same meaning by a single one, and removes sizes and styles.

    >>> named_alike(r"\left(\dfrac{1}{2}\right]"), named_alike(r"x \le 5"), named_alike(r"1\\[2pt]2"), named_alike("1 and/or 2")
    ('(\\frac{1}{2}]', 'x \\leq 5', '1\\\\ 2', '1 or 2')
    """
    text = re.sub(r"\band ?/ ?or\b", "or", text).replace("<=", "\\leq ").replace(">=", "\\geq ")
    text = re.sub(r"\\\\\s*\[[0-9.]+\s*[a-z]{2}\]", r"\\\\ ", text).replace("\\cr", "\\\\")
    text = re.sub(r"\\(left|right)\s*\.|\{\s*\}(?=\s*\^)", "", text)
    text = re.sub(r"\\[A-Za-z]+", lambda match: _NAMES.get(match.group(), match.group()), text)
    return re.sub(r"\^\s*\{\s*\\circ\s*\}|(?<=[0-9])\^\{?o\}?(?![A-Za-z])", r"^\\circ", text).replace("...", "\\ldots")


def spaced(text: str) -> str:
    r"""Turns LaTeX's spaces into plain spaces, and removes those of negative width.

    >>> spaced(r"1\ 1/2"), spaced(r"3\!\sqrt{2}"), spaced(r"1\\ 2"), spaced(r"5~\text{cm}")
    ('1 1/2', '3\\sqrt{2}', '1\\\\ 2', '5 \\text{cm}')
    """
    return re.sub(r"(\\\\)|\\!|\\[,;:> ]|~", lambda match: match[1] or ("" if match.group() == "\\!" else " "), text)


def arrays(text: str) -> str:
    r"""Turns arrays and matrices in parentheses or brackets into one kind of matrix.

    >>> arrays(r"(\begin{array}{c} 1 \\ 2 \end{array})"), arrays(r"\begin{bmatrix} 1 \\ 2 \end{bmatrix}")
    ('\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}', '\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}')
    """
    text = re.sub(r"\\begin\s*\{array\}\s*\{[clr| ]*\}", r"\\begin{matrix}", text).replace("\\end{array}", "\\end{matrix}")
    text = re.sub(r"\\(begin|end)\s*\{(?:bmatrix|smallmatrix)\}", r"\\\1{pmatrix}", text)
    return re.sub(
        r"[(\[]\s*\\begin\{matrix\}(.*?)\\end\{matrix\}\s*[)\]]", r"\\begin{pmatrix}\1\\end{pmatrix}", text, flags=re.S
    )


def unwrapped(text: str) -> str:
    r"""Takes numbers, signs, functions' names and single letters out of text commands, except letters that are units.

    >>> unwrapped(r"\text{12}"), unwrapped(r"\mathbf{5}"), unwrapped(r"\text{cm}"), unwrapped(r"\text{12 cm}")
    ('12', '5', '\\text{cm}', '12 cm')
    >>> unwrapped(r"2\mathrm{i}"), unwrapped(r"2\text{ m}"), unwrapped(r"\operatorname{sin} x")
    ('2 i ', '2\\text{ m}', '\\sin  x')
    """
    text = re.sub(rf"{_TEXT}", _letter_or_function, text)
    text = re.sub(rf"{_TEXT}", lambda m: m[1] if re.match(r"\s*[-+0-9.,=<>%$]", m[1]) else m.group(), text)
    return re.sub(r"\\(?:mathbf|boldsymbol|bm|mathit|mathsf|emph)\s*\{([-+0-9.,\s]*)\}", r"\1", text)


def _letter_or_function(match: re.Match[str]) -> str:
    name = match[1].strip()
    if name in FUNCTIONS:
        return f"\\{name} "
    return f" {name} " if len(name) == 1 and name.isalpha() and name not in LETTERS | set("ACFJKNVW") else match.group()


REWRITINGS: tuple[Callable[[str], str], ...] = (
    symbols,
    undelimited,
    thousands,
    spaced,
    repeating,
    named_alike,
    arrays,
    unwrapped,
)


def rewritten(text: str) -> str:
    r"""Applies all rewritings to a LaTeX answer.

    >>> rewritten(r"$\left[ -2,\, 7 \right]$"), rewritten(r"\dfrac{10,\!080}{√2}.")
    ('[ -2,  7 ]', '\\frac{10080}{\\sqrt{2}}')
    """
    for rewriting in REWRITINGS:
        text = rewriting(text)
    return text.strip()


# Tokens

_TOKEN = re.compile(
    rf"(?P<number>{_DIGITS})|(?P<text>{_TEXT})|(?P<begin>\\begin\s*\{{([a-z]+)\*?\}})|(?P<end>\\end\s*\{{([a-z]+)\*?\}})"
    r"|(?P<command>\\[A-Za-z]+|\\.)|(?P<word>[A-Za-z]{2,})|(?P<letter>[A-Za-z])|(?P<symbol>\S)",
    re.DOTALL,
)
_PLAIN_NAMES = FUNCTIONS | words("sqrt pi theta infty infinity")


@dataclass(frozen=True)
class Token:
    """A number, letter, word (letters in a row), text (`\\text{…}`), command, symbol, or a matrix's begin or end.

    text: the token itself, or the content of a text, or the kind of a matrix. apart: whether a space stands before it.
    """

    kind: str
    text: str
    apart: bool = False


def tokens(text: str) -> tuple[Token, ...]:
    r"""Returns the tokens of a rewritten answer. Function names without a backslash become commands.

    >>> [t.text for t in tokens(r"2x \leq 5 \text{ cm}")], [t.kind for t in tokens("sin x")]
    (['2', 'x', '\\leq', '5', 'cm'], ['command', 'letter'])
    """
    found, end = [], 0
    for match in _TOKEN.finditer(text):
        kind, said, apart = match.lastgroup or "", match.group(), match.start() > end
        groups = [group for group in match.groups()[1:] if group is not None]
        if kind in ("text", "begin", "end"):
            said = groups[-1].strip()
        elif kind == "word" and said in _PLAIN_NAMES:
            kind, said = "command", "\\infty" if said == "infinity" else f"\\{said}"
        found.append(Token(kind, said, apart))
        end = match.end()
    return tuple(found)
