"""How numbers and tables read."""

import math
import unicodedata
from collections.abc import Sequence

__all__ = ["align", "format_number", "is_whole", "parse_real", "printable"]


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligns the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def format_number(value: float | None) -> str:
    """Such as "0.65"."""
    return "not finite" if value is None or math.isnan(value) else f"{value:.2f}"


def printable(text: str) -> str:
    """Shows characters that control a terminal, other than line ends and tabs, as escapes.

    So neither a server's text nor the name of a file can change what a person sees.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(repr(letter)[1:-1] if _is_control(letter) else letter for letter in text)


def _is_control(letter: str) -> bool:
    """Whether a character is a control, a direction, a surrogate or unassigned."""
    category = unicodedata.category(letter)
    return letter not in "\n\t" and (category.startswith("C") or category in ("Zl", "Zp"))


def parse_real(text: str) -> float:
    """Reads a number; infinity only by its name, because lam = inf has a meaning of its own.

    Raises:
        ValueError: it is no number, or larger than any float.
    """
    value = float(text)
    if math.isinf(value) and text.strip().lstrip("+-").lower() not in ("inf", "infinity"):
        raise ValueError(f"{text[:20]} is larger than any number; inf is written inf")
    return value


def is_whole(text: str) -> bool:
    """Whether a text is a whole number of at least 0 that fits in 64 bits."""
    return text.isdecimal() and len(text) <= 18
