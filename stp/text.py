"""Text from elsewhere (a model, a file, a command line) as a terminal or a page may show it."""

import functools
import os
import unicodedata


def visible(text: str) -> str:
    """Text whose every character can be seen: line breaks as ⏎, other controls and invisible marks by their code."""
    return text if text.isascii() and text.isprintable() else "".join(map(_visible, text))


def visible_lines(text: str) -> str:
    """`visible`, where lines stay lines."""
    return "\n".join(map(visible, text.split("\n")))


@functools.cache
def tell_once(line: str) -> None:
    """Print a line, once per process and on the first rank alone: what was done to problems that are read again and again."""
    if os.environ.get("RANK", "0") == "0":
        print(visible_lines(line), flush=True)


def _visible(character: str) -> str:
    if character == "\n":
        return "⏎"
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if unicodedata.category(character) in ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"):
        return f"⟨U+{code:04X}⟩"  # among them the marks that turn the direction of text
    return character
