"""Makes text from elsewhere (a model, a file, a command line) safe to show on a terminal or a page."""

import functools
import os
import unicodedata


def visible(text: str) -> str:
    """Makes every character of a text visible: line breaks become ⏎, other controls and invisible marks show their code."""
    return text if text.isascii() and text.isprintable() else "".join(map(_visible, text))


def visible_lines(text: str) -> str:
    """Makes a text `visible`, but keeps its line breaks."""
    return "\n".join(map(visible, text.split("\n")))


@functools.cache
def tell_once(line: str) -> None:
    """Prints a line only once per process and only on the first rank, because problems are read again and again."""
    if os.environ.get("RANK", "0") == "0":
        print(visible_lines(line), flush=True)


def _visible(character: str) -> str:
    if character == "\n":
        return "⏎"
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if unicodedata.category(character) in ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"):
        return f"⟨U+{code:04X}⟩"  # this includes marks that reverse the direction of text
    return character
