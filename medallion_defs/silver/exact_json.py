"""JSON without silent loss: a key that stands twice in an object is seen, and a decimal keeps the digits that it came with.

Parsers take the last of two equal keys, and the nearest binary fraction, without a word. msgspec does so too, and stays
the parser here: that a key was lost shows in the number of quotes, and only then the slow parse finds out which.
Knows nothing of records, recipes or files.
"""

import json
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

_SAFE_DIGITS = 15  # any decimal of so few digits comes back from a float as it was
_MAX_DECIMAL_PLACES = 16_383  # what Postgres numeric holds


class ExactJson(NamedTuple):
    """A decoded JSON text.

    Attributes:
        value: with a `Decimal` where a float would lose digits. Of equal keys in an object the first keeps
            its name, and the others get `_2`, `_3` behind it.
        repeated_key: a key that stands twice in the outermost object.
        has_renamed: keys of an object further in were renamed.
    """

    value: Any
    repeated_key: str | None = None
    has_renamed: bool = False


class RenamedKeys(dict[str, Any]):
    """An object of which keys were renamed, as a filter returns it."""


def exact_number(text: str) -> float | Decimal:
    """Return a JSON fraction as a float, or as a `Decimal` where a float would be another number.

    Raises:
        ValueError: it is larger than a float can be, or has more decimal places than Postgres can keep.
    """
    if len(text) <= _SAFE_DIGITS and "e" not in text and "E" not in text:
        return float(text)
    value, exact = float(text), Decimal(text)
    if value in (float("inf"), float("-inf")) or int(exact.as_tuple().exponent) < -_MAX_DECIMAL_PLACES:
        raise ValueError(f"The number {text[:40]} is out of range")
    return value if Decimal(repr(value)) == exact else exact


_decode = msgspec.json.Decoder(float_hook=exact_number).decode


def decode_exactly(raw: bytes | str) -> ExactJson:
    """Decode one JSON text.

    Raises:
        msgspec.DecodeError: it is not JSON, or a number is out of range.
        RecursionError: it is nested too deep.
    """
    value = _decode(raw)
    quotes = raw.count('"') if isinstance(raw, str) else raw.count(b'"')
    return ExactJson(value) if quotes == count_quotes(value) else _decode_pairs(raw)


def count_quotes(value: object) -> int:
    """Return how many quotes the JSON text of a decoded value has, but for escaped ones in text. More of them are keys that were lost."""
    if type(value) is not dict:
        return _count_deep(value)
    quotes = 2 * len(value)
    for part in value.values():
        kind = type(part)
        if kind is str:
            quotes += 2
        elif kind is dict or kind is list:
            return _count_deep(value)
    return quotes


def _count_deep(value: object) -> int:
    quotes, parts = 0, [value]
    for part in parts:  # grows as it is gone through: nesting as deep as the parser's is no burden
        if type(part) is str:
            quotes += 2
        elif type(part) is dict:
            quotes += 2 * len(part)
            parts += part.values()
        elif type(part) is list:
            parts += part
    return quotes


def _decode_pairs(raw: bytes | str) -> ExactJson:
    # Only after msgspec took the text: json lets NaN and half surrogates pass.
    repeated: list[tuple[object, str]] = []

    def build(pairs: list[tuple[str, object]]) -> dict[str, object]:
        made = dict(pairs)
        if len(made) < len(pairs):
            made = _rename_repeated(pairs)
            repeated.append((made, _first_repeated(pairs)))
        return made

    value = json.loads(raw, object_pairs_hook=build, parse_float=exact_number)
    outermost = next((key for made, key in repeated if made is value), None)
    return ExactJson(value, outermost, has_renamed=len(repeated) > (outermost is not None))


def _first_repeated(pairs: list[tuple[str, object]]) -> str:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            break
        seen.add(key)
    return key


def _rename_repeated(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Number the repeated keys, past names that the object has itself. Each number is tried once, so that many are no burden."""
    taken = {key for key, _ in pairs}
    made: dict[str, object] = {}
    numbers: dict[str, int] = {}
    for key, value in pairs:
        name = key
        if key in made:
            while name in taken:
                numbers[key] = numbers.get(key, 1) + 1
                name = f"{key}_{numbers[key]}"
            taken.add(name)
        made[name] = value
    return made
