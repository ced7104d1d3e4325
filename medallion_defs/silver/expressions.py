"""The little language of recipes: `"{Column|filter|filter:argument}"`, compiled once, evaluated per record.

Declarative on purpose: no arithmetic, no conditions, no eval. What these filters cannot say belongs into the
source's `transform.py`. The language is described in docs/reference/recipes.md.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from medallion_defs.silver.contract import InvalidRecord

Filter = Callable[[str], object]
Lookups = Mapping[str, Mapping[str, str]]

_PLACEHOLDER = re.compile(r"\{([^{}|]+)((?:\|[^{}|]+)*)\}")
_INTEGER = re.compile(r"[+-]?(\d{1,3}(,\d{3})+|\d+)", re.ASCII)
_NUMBER = re.compile(r"[+-]?((\d{1,3}(,\d{3})+|\d+)(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_NUL_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_NOT_WORD = re.compile(r"[^a-z0-9]+")
_NONE_SIGNS = ("", "-")
_MAX_DIGITS = 40
_CACHED = lru_cache(maxsize=4096)  # strptime costs 8 µs, and the days of a file repeat


@dataclass(frozen=True)
class Placeholder:
    """One `{column|filter|…}`: the cell or JSON value named `column`, sent through the filters."""

    column: str
    filters: tuple[Filter, ...]

    def evaluate(self, record: Mapping[str, object]) -> object:
        value = record.get(self.column)
        return apply_filters(value, self.filters) if self.filters else value


@dataclass(frozen=True)
class Expression:
    """A compiled template. One placeholder alone keeps its value's type; mixed with text, it makes text."""

    parts: tuple[str | Placeholder, ...]
    filters: tuple[Filter, ...] = ()

    @property
    def columns(self) -> frozenset[str]:
        """The columns that the template names."""
        return frozenset(part.column for part in self.parts if isinstance(part, Placeholder))

    def evaluate(self, record: Mapping[str, object]) -> object:
        """Return the value for one record; None when a placeholder has none.

        Raises:
            ValueError: a filter cannot read the value; the message quotes it.
        """
        first = self.parts[0] if len(self.parts) == 1 else ""
        value = self._join(record) if isinstance(first, str) else first.evaluate(record)
        return apply_filters(value, self.filters) if self.filters else value

    def _join(self, record: Mapping[str, object]) -> str | None:
        texts = []
        for part in self.parts:
            value = part if isinstance(part, str) else part.evaluate(record)
            if value is None:
                return None
            texts.append(value if type(value) is str else as_text(value))
        return "".join(texts)


def compile_expression(template: str, filters: tuple[str, ...] = (), lookups: Lookups | None = None) -> Expression:
    """Compile a template and the filters for its whole.

    Raises:
        ValueError: a brace does not pair, a filter is unknown, or its argument is not good.
    """
    parts: list[str | Placeholder] = []
    at = 0
    for found in _PLACEHOLDER.finditer(template):
        parts.append(template[at : found.start()])
        names = found[2].split("|")[1:]
        parts.append(Placeholder(found[1], tuple(compile_filter(name, lookups or {}) for name in names)))
        at = found.end()
    parts.append(template[at:])
    if any(isinstance(part, str) and ("{" in part or "}" in part) for part in parts):
        raise ValueError(f"'{template}' has a brace without its pair; a placeholder is {{column}} or {{column|filter:argument}}")
    kept = tuple(part for part in parts if part != "")
    return Expression(kept, tuple(compile_filter(name, lookups or {}) for name in filters))


def compile_filter(text: str, lookups: Lookups) -> Filter:
    """Compile `name` or `name:argument`; the argument is all that follows the first colon, blanks included."""
    name, colon, argument = text.partition(":")
    if name in _PLAIN_FILTERS and not colon:
        return _PLAIN_FILTERS[name]
    if name == "lookup" and argument in lookups:
        return partial(_look_up, lookups[argument])
    if name in _ARGUMENT_FILTERS and argument:
        return _ARGUMENT_FILTERS[name](argument)
    known = ", ".join(FILTER_NAMES)
    raise ValueError(f"'{text}' is no filter, lacks its argument, or has one too many; the filters are {known}")


def apply_filters(value: object, filters: tuple[Filter, ...]) -> object:
    """Send a value through filters; None and blank text are None and stay so."""
    for use in filters:
        if value is None:
            return None
        value = use(value if type(value) is str else as_text(value))
        if value == "":
            return None
    return value


def as_text(value: object) -> str:
    """Return a value as a filter sees it.

    Raises:
        ValueError: it is a list, an object or a truth value.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float, datetime)) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{_quoted(value)} is not text or a number")


def parse_integer(text: str) -> int | None:
    """Read `1,137`, ` 26 ` or `-` (none).

    Raises:
        ValueError: it is not a whole number, or longer than any that is meant.
    """
    bare = text.strip()
    if bare in _NONE_SIGNS:
        return None
    if not _INTEGER.fullmatch(bare) or len(bare) > _MAX_DIGITS:
        raise ValueError(f"{_quoted(text)} is not a whole number")
    return int(bare.replace(",", ""))


def parse_number(text: str) -> float | None:
    """Read `1,137.5`, `6e3` or `-` (none). Never NaN and never infinite.

    Raises:
        ValueError: it is not a number. `1,5` is not one: the comma groups thousands.
    """
    bare = text.strip()
    if bare in _NONE_SIGNS:
        return None
    if not _NUMBER.fullmatch(bare):
        raise ValueError(f"{_quoted(text)} is not a number")
    value = float(bare.replace(",", ""))
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{_quoted(text)} is too large a number")
    return value


def parse_timestamp(text: str) -> datetime:
    """Read RFC 3339 text, as in canonical JSON; one without an offset stays without.

    Raises:
        ValueError: it is not RFC 3339.
    """
    try:
        return msgspec.convert(text.strip(), datetime)
    except msgspec.ValidationError as error:
        raise ValueError(f"{_quoted(text)} is not a timestamp such as 2026-01-31T12:00:00Z") from error


def parse_object(text: str) -> dict[str, object]:
    """Read a JSON object from a cell.

    Raises:
        ValueError: it is not a JSON object.
        InvalidRecord: it contains an escaped NUL.
    """
    if _NUL_ESCAPE.search(text):
        raise InvalidRecord("nul_character", "A JSON cell contains a NUL character, which Postgres cannot store.")
    try:
        return msgspec.json.decode(text, type=dict[str, object])
    except msgspec.DecodeError as error:
        raise ValueError(f"{_quoted(text)} is not a JSON object: {error}") from error


def _quoted(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "…"


def _snake(text: str) -> str:
    return _NOT_WORD.sub("_", text.lower()).strip("_")


def _before(separator: str) -> Filter:
    return lambda text: text.partition(separator)[0].strip()


def _after_last(separator: str) -> Filter:
    return lambda text: text.rpartition(separator)[2].strip()


def _null_if(sign: str) -> Filter:
    return lambda text: None if text.strip() == sign else text


def _match(pattern: str) -> Filter:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"match:{pattern} is not a regular expression: {error}") from error
    return lambda text: found[0] if (found := compiled.search(text)) else None


def _parse_with(layout: str, text: str) -> datetime:
    try:
        return datetime.strptime(text.strip(), layout)  # noqa: DTZ007 - the recipe names the zone, or wants the day alone
    except ValueError as error:
        raise ValueError(f"{_quoted(text)} does not have the form {layout}") from error


def _date(layout: str) -> Filter:
    return _CACHED(lambda text: _parse_with(layout, text).date().isoformat())


def _datetime(argument: str) -> Filter:
    layout, at, zone_name = argument.rpartition("@")
    if not at:
        raise ValueError(f"datetime:{argument} names no time zone; write datetime:{argument}@UTC, or another zone of the IANA database")
    try:
        zone = ZoneInfo(zone_name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"datetime:{argument}: '{zone_name}' is no time zone of the IANA database on this machine") from error
    return _CACHED(lambda text: _to_utc(_parse_with(layout, text).replace(tzinfo=zone)))


def _to_utc(instant: datetime) -> datetime:
    try:
        return instant.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{instant.isoformat()} is outside of the years 1 to 9999 in UTC") from error


def _look_up(table: Mapping[str, str], text: str) -> str:
    return table.get(text.strip(), text)


_PLAIN_FILTERS: dict[str, Filter] = {
    "strip": str.strip,
    "upper": str.upper,
    "lower": str.lower,
    "snake": _snake,
    "integer": parse_integer,
    "number": parse_number,
    "timestamp": parse_timestamp,
    "json": parse_object,
}
_ARGUMENT_FILTERS: dict[str, Callable[[str], Filter]] = {
    "before": _before,
    "after_last": _after_last,
    "null_if": _null_if,
    "match": _match,
    "date": _date,
    "datetime": _datetime,
}
FILTER_NAMES = (*_PLAIN_FILTERS, *_ARGUMENT_FILTERS, "lookup")
