"""Reads the words beside a number: some multiply it, some name its unit, and some change what it says.

GSM8K and MATH share one rule. A word of SCALES multiplies (`2 million` is 2,000,000, `2 dozen` is 24). A word of CHANGING makes
`18` say something else (`not 18`, `18 or less`, `half of 18`), so there is no number. The same goes for parts
(`18 tenths`) and bounds (`18 at most`). Any other word is a unit, and so are currency signs, `%` and `°`. Two units must agree,
apart from plurals, usual abbreviations and the writing of powers: `15 cm^2` is `15 square centimetres`, but not `15 cm` or
`15 m`. If only one side has a unit, it does not count, because problems ask "how many centimetres?".
"""

import itertools
import re


def words(text: str) -> frozenset[str]:
    """Returns the words of a text as a set."""
    return frozenset(text.split())


SCALES = {
    "hundred": 100,
    "thousand": 1_000,
    "lakh": 100_000,
    "million": 10**6,
    "mln": 10**6,
    "crore": 10**7,
    "billion": 10**9,
    "bn": 10**9,
    "trillion": 10**12,
    "dozen": 12,
}
NUMBERS = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"
)
CHANGING = NUMBERS | words(
    "about almost approximately around between double except factorial half halves inverse ish mil minus nearly negative "
    "neither no nor not or plus reciprocal roughly squared cubed triple twice without"
)

_PART = re.compile(  # `3 tenths`, `1 fifth`, `3 quarters of`, but not `18 fifth graders` or `3 quarters`, which are coins
    r"\b(?:(?:third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|twelfth|sixteenth|hundredth|thousandth|millionth)"
    r"(?:s\b|\s+of\b|\W*\Z)|quarters?\s+of\b)",
    re.IGNORECASE,
)
_BOUND = re.compile(r"\bat (?:least|most)\b|\band change\b", re.IGNORECASE)

_ABBREVIATIONS = {
    "centimeter": "cm centimetre",
    "millimeter": "mm millimetre",
    "kilometer": "km kilometre",
    "meter": "m metre",
    "inch": "in inches",
    "foot": "ft feet",
    "yard": "yd yds",
    "mile": "mi",
    "gram": "g gramme",
    "kilogram": "kg kilo kilos kgs",
    "milligram": "mg",
    "pound": "lb lbs",
    "ounce": "oz",
    "liter": "L l litre",
    "milliliter": "mL ml millilitre",
    "gallon": "gal",
    "second": "s sec secs",
    "minute": "min mins",
    "hour": "h hr hrs",
    "dollar": "$ usd buck",
    "cent": "¢",
    "degree": "° deg",
    "percent": "% percentage",
    "person": "people",
    "child": "children",
    "man": "men",
    "woman": "women",
    "mouse": "mice",
    "goose": "geese",
    "tooth": "teeth",
}
_FULL = {short: name for name, shorts in _ABBREVIATIONS.items() for short in (name, *shorts.split())}
CURRENCIES = {"$": "dollar", "€": "euro", "£": "pound"}
_COMPOUND = {"mph": {"mile": 1, "hour": -1}, "kph": {"kilometer": 1, "hour": -1}, "kmh": {"kilometer": 1, "hour": -1}}
_SQUARE = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
KNOWN = frozenset(_FULL) | frozenset(f"{name}s" for name in _ABBREVIATIONS) | frozenset(_COMPOUND) | frozenset(_SQUARE)
LETTERS = frozenset(unit for unit in _FULL if len(unit) == 1 and unit.isalpha())  # m, g, s, h, L, l, which algebra uses too

Unit = tuple[tuple[str, int], ...]  # sorted pairs of a name and its power


def plain_word(word: str) -> bool:
    """Says whether letters after a space are a word that may name a unit (`people`), and not a product (`xyz`, `abc`)."""
    row = sorted(word.lower())
    in_a_row = all(ord(b) - ord(a) == 1 for a, b in itertools.pairwise(row))
    return word in KNOWN or (len(word) >= 3 and not in_a_row and bool(re.search("[aeiou]", word.lower())))


def named(word: str) -> str:
    """Returns a unit's name in the singular, spelled out.

    >>> named("cm"), named("inches"), named("eggs"), named("People"), named("boxes")
    ('centimeter', 'inch', 'egg', 'person', 'box')
    """
    for form in (word, word.lower(), word.lower().removesuffix("s")):
        if form in _FULL:
            return _FULL[form]
    word = word.lower()
    for ending, singular in (
        ("ies", "y"),
        ("sses", "ss"),
        ("xes", "x"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("ss", "ss"),
        ("s", ""),
    ):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word.removesuffix(ending) + singular
    return word


def measured(text: str) -> tuple[int, Unit] | None:
    """Reads the text after a number. Returns its factor and its unit, or None if it changes the meaning or is no unit.

    >>> measured("million dollars"), measured("dozen"), measured("or less"), measured("and 3 cents")
    ((1000000, (('dollar', 1),)), (12, ()), None, None)
    >>> measured("tenths"), measured("at most"), measured("fifth graders")
    (None, None, (1, (('fifth', 1), ('grader', 1))))
    >>> measured("cm^2") == measured("square centimeters"), measured("miles per hour") == measured("mi/h") == measured("mph")
    (True, True)
    """
    if _PART.search(text) or _BOUND.search(text):
        return None
    factor, sign, each = 1, 1, 1
    powers: dict[str, int] = {}
    last = ""
    for piece in re.findall(r"\^\s*\\circ|\^\s*-?[0-9](?![0-9])|\\?[%$]|[A-Za-z¢]+|\S", re.sub(r"[{}()]|\\cdot", " ", text)):
        word = piece.lower().lstrip("\\")
        if word in CHANGING:
            return None
        if (times := SCALES.get(word, SCALES.get(word.removesuffix("s")))) is not None and not powers:
            factor *= times
        elif word in ("/", "per", "a", "an", "each"):
            sign = -1
        elif word in _SQUARE:
            each = _SQUARE[word]
        elif word.startswith("^") and not word.endswith("circ"):
            if not last:
                return None
            powers[last] *= int(word[1:])
        elif word in (".", "-", "of", "the"):
            continue
        elif word in _COMPOUND:
            powers |= _COMPOUND[word]
        elif word[0].isalpha() or word in ("%", "$", "¢") or word.startswith("^"):
            last = "degree" if word.startswith("^") else named(piece.lstrip("\\"))
            powers[last] = powers.get(last, 0) + sign * each
            each = 1
        else:
            return None
    return factor, tuple(sorted((name, power) for name, power in powers.items() if power))
