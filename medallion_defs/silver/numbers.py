"""Numbers as people write them: which sign groups thousands, which one is decimal, and when that cannot be told.

A wrong guess here is wrong by a factor of a thousand and looks like data, so what can be read in two ways is an error.
"""

import re
from typing import Literal

# point: 1,234.5. comma: 1.234,5. either: the file's delimiter says that the comma is decimal, yet people write both.
NumberStyle = Literal["point", "comma", "either"]
NUMBER_STYLES: tuple[NumberStyle, ...] = ("point", "comma", "either")

# A group of thousands never begins with 0 and has its three digits; anything else with that sign is something else.
_EXPONENT = r"(?:[eE][+-]?\d{1,3})?"
_POINT = re.compile(r"[+-]?(?:(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)" + _EXPONENT, re.ASCII)
_COMMA = re.compile(r"[+-]?(?:(?:[1-9]\d{0,2}(?:\.\d{3})+|\d+)(?:,\d*)?|,\d+)" + _EXPONENT, re.ASCII)
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_USUAL = re.compile(r"-?\d{1,15}(?:\.\d{1,15})?", re.ASCII)
_INFINITE = (float("inf"), float("-inf"))
_COMMA_TO_POINT = str.maketrans({".": None, ",": "."})
_NONE_SIGNS = ("", "-")
_MAX_DIGITS = 40


def parse_integer(text: str, style: NumberStyle = "point") -> int | None:
    """Read `1,137`, ` 26 ` or `-` (none).

    Raises:
        ValueError: it is not a whole number, or longer than any that is meant.
    """
    bare = text.strip()
    if bare in _NONE_SIGNS:
        return None
    plain = _plain(bare, style)
    if plain is None or not _WHOLE.fullmatch(plain) or len(plain) > _MAX_DIGITS:
        raise ValueError(f"{shorten(text)} is not a whole number{_hint(bare, style)}")
    return int(plain)


def parse_number(text: str, style: NumberStyle = "point") -> float | None:
    """Read `1,137.5`, `6e3` or `-` (none). Never NaN and never infinite.

    Raises:
        ValueError: it is not a number. In style `point`, `1,5` and `0,250` are not: the comma groups thousands.
    """
    if style == "point" and _USUAL.fullmatch(text):  # half the time, and most numbers are
        return float(text)
    bare = text.strip()
    if bare in _NONE_SIGNS:
        return None
    plain = _plain(bare, style)
    if plain is None:
        raise ValueError(f"{shorten(text)} is not a number{_hint(bare, style)}")
    value = float(plain)
    if value in _INFINITE:
        raise ValueError(f"{shorten(text)} is too large a number")
    if value == 0 and plain.strip("+-").lower().partition("e")[0].strip("0."):
        raise ValueError(f"{shorten(text)} is too small a number")
    return value


def shorten(value: object) -> str:
    """Return a value as a message quotes it."""
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "…"


def _plain(bare: str, style: NumberStyle) -> str | None:
    """Return the number without groups and with a decimal point; None if it is not a number."""
    by_point = bare.replace(",", "") if style != "comma" and _POINT.fullmatch(bare) else None
    by_comma = bare.translate(_COMMA_TO_POINT) if style != "point" and _COMMA.fullmatch(bare) else None
    if by_point is None or by_comma is None or by_point == by_comma:
        return by_point or by_comma
    if "," in bare:
        return by_comma
    raise ValueError(f"{shorten(bare)} may be {by_point} or {by_comma}. Say in the recipe which sign is decimal (csv.decimal)")


def _hint(bare: str, style: NumberStyle) -> str:
    if style == "point" and "," in bare and _COMMA.fullmatch(bare):
        return ". If its comma is decimal, say so in the recipe (csv.decimal, or a filter such as number:comma)"
    return ""
