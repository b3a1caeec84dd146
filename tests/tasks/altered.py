# ruff: noqa: E501 - a rule is a line
"""Gold answers in the style of MATH's seven subjects, usual ways to write each again, and ways to make each wrong.

A rewriting or an alteration is a function from a gold answer to another text, or None where it has nothing to change; its name
says what it does.
"""

import re

GOLDS = {
    "Algebra": r"""
\frac{14}{3} | -3 | x^3+3x-6 | 6+9i | \frac{\sqrt{3}}{3} | (-1,6) | \left(\frac{3}{5},\frac{8}{3}\right] | x \in [-2,7] | \$18.90 | 137 \frac{1}{2}
""",
    "Counting & Probability": r"""
144 | \frac{448}{15625} | 10,\!080 | \frac{1}{3} | 28800 | 58,500 | -125 | \frac14 | \binom{7}{2} | 0.35
""",
    "Geometry": r"""
3\sqrt{13} | 145^\circ | 28 | \frac{3840}{289} | 18+2\pi | 1\frac{4}{5} | 864 \mbox{ inches}^2 | (8,-2) | -\frac{24}{25} | 6\sqrt{2}
""",
    "Intermediate Algebra": r"""
p - q | 1,-2 | 3, 5, 7 | (6,31,-1) | 1 \pm \sqrt{19} | (a+5)(b+2) | (3,4] | (2,\infty) | \{1\pm\sqrt{5},-2\} | (0,9) \cup (9,36)
""",
    "Number Theory": r"""
2220 | 52_8 | 9901 | .0000672 | 4210_{5} | \frac{639}{40} | 11,\! 111,\! 111,\! 100 | 27 | .35625 | 1030
""",
    "Prealgebra": r"""
42 | 11\sqrt2 | 1.25 | 2k+2 | \frac 59 | 15\mbox{ cm}^2 | 5.4 \text{ cents} | \$36 | 7\pi | \frac{270}7\text{ degrees}
""",
    "Precalculus": r"""
\left( 3, \frac{\pi}{2} \right) | 90^\circ | 6 - 5i | \cot x | y = 2x + 3 | 5x - 7y + 11z + 4 = 0 | -\frac{\pi}{6} | 288 \pi
\begin{pmatrix} -1/3 \\ 2/3 \\ 5/3 \end{pmatrix} | \begin{pmatrix} -1 & 0 \\ 0 & -1 \end{pmatrix} | (-\infty, 0] | 3R^2
""",
}


def golds():
    """(subject, gold) pairs."""
    return [(name, gold.strip()) for name, text in GOLDS.items() for gold in re.split(r" \| |\n", text.strip())]


def replaced(pattern, by, gold):
    """The gold answer with every match replaced; None where nothing changes."""
    text = re.sub(pattern, by, gold)
    return None if text == gold else text


def _matrix(gold):
    return "begin" in gold


def _is_number(gold):
    return re.fullmatch(r"-?[0-9]*\.?[0-9]+", gold) is not None


def _ends_as_value(gold):
    return not re.search(r"text|mbox|circ|_|begin|[=\])}]\s*$", gold)


# Rewritings: equal by mathematics

REWRITINGS = {
    "dollars": lambda gold: f"${gold}$",
    "two dollars": lambda gold: f"$$ {gold} $$",
    "parentheses of LaTeX": lambda gold: f"\\( {gold} \\)",
    "brackets of LaTeX": lambda gold: f"\\[{gold}\\]",
    "a box": lambda gold: f"\\boxed{{{gold}}}",
    "a box with a space": lambda gold: f"so \\boxed {{ {gold} }} it is",
    "bold": lambda gold: f"**{gold}**",
    "lines": lambda gold: f"\n\n{gold}\n",
    "LaTeX's spaces": lambda gold: f"\\quad {gold}\\,",
    "a full stop": lambda gold: gold + ".",
    "white space": lambda gold: replaced(r"(?<=[-+=,])(?![0-9]{3})(?!\\!)(?! )", " ", gold),
    "no white space": lambda gold: replaced(r" (?![0-9A-Za-z\\])|(?<=[,+=(]) (?!\\!)", "", gold) if "[" not in gold else None,
    "line breaks": lambda gold: replaced(r"\\\\ ", "\\\\\\\\\n", gold),
    "dfrac": lambda gold: replaced(r"\\frac", r"\\dfrac", gold),
    "left and right": lambda gold: (
        replaced(r"([(\[])(.*)([)\]])$", r"\\left\1\2\\right\3", gold) if "left" not in gold and gold[0] in "([" else None
    ),
    "display style": lambda gold: f"\\displaystyle {gold}",
    "a root without braces": lambda gold: replaced(r"\\sqrt\{([0-9a-z])\}", r"\\sqrt \1", gold),
    "a root with a space": lambda gold: replaced(r"\\sqrt\{", r"\\sqrt {", gold),
    "Unicode": lambda gold: replaced(
        r"\\pi(?![a-z])|\\sqrt(?=[0-9])|\\pm|\\infty|\^\\circ|-|\\cup",
        lambda m: {"pi": "π", "sqrt": "√", "pm": "±", "infty": "∞", "-": "−", "cup": "∪"}.get(m[0].strip("\\"), "°"),
        gold,
    ),
    "a slash": lambda gold: replaced(r"^(-?)\\frac\{(-?[0-9]+)\}\{([0-9]+)\}$", r"\1\2/\3", gold),
    "bare fractions": lambda gold: replaced(r"\\frac\{([0-9])\}\{([0-9])\}", r"\\frac\1\2", gold),
    "a name": lambda gold: f"t = {gold}" if not re.search(r"=|\\in(?![a-z])|,|\\pm|cup", gold) else None,
    "no unit": lambda gold: replaced(r"\s*\\(?:text|mbox)\{[^}]*\}(?:\^2)?|\^\\circ|\\\$", "", gold),
    "a unit": lambda gold: f"{gold} \\text{{ units}}" if _is_number(gold) else None,
    "thousands": lambda gold: f"{int(gold):,}" if gold.isdigit() and len(gold) > 3 else replaced(r",\\! ?", "", gold),
    "a trailing zero": lambda gold: gold + ("0" if "." in gold else ".0") if _is_number(gold) else None,
    "and": lambda gold: replaced(r", ?", r" \\text{ and } ", gold) if re.fullmatch(r"[-0-9, ]+", gold) and not re.search(r",[0-9]{3}", gold) else None,
    "the other order": lambda gold: ", ".join(reversed(re.split(", ?", gold))) if re.fullmatch(r"(?:-?[0-9], ?)+-?[0-9]", gold) else None,
    "a doubled equation": lambda gold: replaced(r"^y = 2x \+ 3$", "2y - 4x = 6", gold),
    "sides swapped": lambda gold: " = ".join(reversed(gold.split(" = "))) if gold.count(" = ") == 1 else None,
    "an inequality": lambda gold: {"(3,4]": "3 < x \\le 4", "(2,\\infty)": "x > 2", "(-\\infty, 0]": "x \\leq 0"}.get(gold),
    "brackets of matrices": lambda gold: replaced("pmatrix", "bmatrix", gold),
    "a product with one": lambda gold: f"1 \\cdot {gold}" if re.match(r"[0-9.]|\\frac\{", gold) and _ends_as_value(gold) and "," not in gold and " " not in gold else None,
}  # fmt: skip


# Alterations: not equal to the gold answer


def _one_more(match):
    """The next digit."""
    return str((int(match[0]) + 1) % 10) if match[0] != "9" else "8"


ALTERATIONS = {
    "another last digit": lambda gold: replaced(r"[0-9](?=[^0-9]*$)", _one_more, re.sub(r"(\{[a-z ]*\})\^2$", r"\1", gold)),
    "another first digit": lambda gold: re.sub(r"[0-9]", _one_more, gold, count=1) if re.search("[1-9]", gold) else None,
    "a digit more": lambda gold: re.sub(r"[0-9](?![0-9])", lambda m: m[0] + "7", gold, count=1) if re.search(r"[0-9]", gold) and not re.search(r"[0-9]_|sqrt[0-9]|\\frac ?[0-9]|,\\?!?", gold) else None,
    "the other sign": lambda gold: f"-{gold}" if re.match(r"[0-9.\\]", gold) and not re.search(r"[-+,=]|cup|pm|begin|\\\{|left|\\\$|\\in", gold) else None,
    "one more": lambda gold: f"{gold} + 1" if _ends_as_value(gold) and not re.search(r"[,=]|\\pm", gold) else None,
    "doubled": lambda gold: f"2({gold})" if _ends_as_value(gold) and not re.search(r"[,=]|\\pm|\\\$|_", gold) else None,
    "an element more": lambda gold: f"{gold}, 77" if not re.search(r"=", gold) else None,
    "an element less": lambda gold: replaced(r", ?[^,]+$", "", gold) if re.fullmatch(r"[-0-9, ]+", gold) and not re.search(r",[0-9]{3}", gold) else None,
    "elements joined": lambda gold: replaced(r", ?", "", gold) if re.fullmatch(r"\(?[0-9, ]+\)?", gold) and not re.search(r",[0-9]{3}", gold) else None,
    "elements swapped": lambda gold: replaced(r"^(\\left)?([(\[]) ?(.*?), ?(.*?) ?(\\right)?([)\]])$", r"\1\2\4, \3\5\6", gold) if "cup" not in gold else None,
    "one bracket closed": lambda gold: replaced(r"^(\\left)?\(", r"\1[", gold) if "," in gold and "(b" not in gold else None,
    "no brackets": lambda gold: replaced(r"^\((.*)\)$", r"\1", gold) if "," in gold and "cup" not in gold else None,
    "rows joined": lambda gold: replaced(r" \\\\ ", " ", gold) if _matrix(gold) else None,
    "rows as columns": lambda gold: replaced(r"\\\\", "&", gold) if _matrix(gold) else None,
    "another variable": lambda gold: replaced(r"(?<![\\a-zA-Z{])[xpakRyqb](?![a-zA-Z{])", "w", gold) if "in [" not in gold else None,
    "a variable behind": lambda gold: f"{gold}x" if _is_number(gold) else None,
    "at most": lambda gold: f"x \\le {gold}" if _is_number(gold) else None,
    "more than": lambda gold: f"\\text{{more than }} {gold}" if _is_number(gold) else None,
    "another relation": lambda gold: replaced("=", r"\\neq", gold),
    "an equation": lambda gold: f"2x = {gold}" if not re.search(r"=|,|\\in|pm|cup", gold) else None,
    "one of two": lambda gold: replaced(r"\\pm", "+", gold),
    "or another": lambda gold: f"{gold} \\text{{ or }} 77" if not re.search("=", gold) else None,
    "a million": lambda gold: f"{gold} \\text{{ million}}" if _is_number(gold) else None,
    "another unit": lambda gold: replaced(r"inches|cm|cents|degrees", "miles", gold),
    "another base": lambda gold: replaced(r"_\{?[0-9]\}?", "_9", gold),
    "no base": lambda gold: replaced(r"_\{?[0-9]\}?", "", gold),
    "without its root": lambda gold: replaced(r"\\sqrt", "", gold),
    "without pi": lambda gold: replaced(r"\\pi", "", gold) if re.fullmatch(r"[0-9]+ ?\\pi|.*\+2\\pi", gold) else None,
    "turned over": lambda gold: replaced(r"^(-?)\\frac\{([0-9]+)\}\{([0-9]+)\}$", r"\1\\frac{\3}{\2}", gold),
    "digits apart": lambda gold: f"{gold[0]} {gold[1:]}" if gold.isdigit() and len(gold) > 1 else None,
    "turned round": lambda gold: gold[::-1] if gold.isdigit() and gold != gold[::-1] else None,
    "a tenth": lambda gold: f"0.{gold}" if gold.isdigit() else None,
    "in brackets with nought": lambda gold: f"({gold}, 0)" if not re.search(r"=|,", gold) else None,
    "squared": lambda gold: f"({gold})^2" if not re.search(r"=|,|\\pm|_|text|mbox|circ|\\\$|begin|cup", gold) else None,
    "not": lambda gold: f"\\text{{not }} {gold}",
    "not closed": lambda gold: f"{gold}{{",
    "from there on": lambda gold: f"[{gold}, \\infty)",
    "infinity": lambda gold: "\\infty",
    "nothing": lambda gold: "",
    "words": lambda gold: "\\text{none of these}",
}  # fmt: skip
