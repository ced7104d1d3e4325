"""The little language of recipes: `"{Column|filter|filter:argument}"`, compiled once, evaluated per record.

Declarative on purpose: no arithmetic, no conditions, no eval. What these filters cannot say belongs into the
source's `transform.py`. The language is described in docs/reference/recipes.md.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache, partial
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from medallion_defs.silver.contract import InvalidRecord
from medallion_defs.silver.exact_json import RenamedKeys, decode_exactly
from medallion_defs.silver.numbers import NumberStyle, parse_integer, parse_number, shorten

Filter = Callable[[str], object]
Lookups = Mapping[str, Mapping[str, str]]

# What a template may say of the record itself: its number in the file, and the file's name.
RECORD_FACTS = ("@record", "@filename")

_PLACEHOLDER = re.compile(r"\{([^{}|]+)((?:\|[^{}|]+)*)\}")
_NUL_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_OR = " or "
_NOT_WORD = re.compile(r"[^a-z0-9]+")
_HAS_HOUR = re.compile(r"%[HIcX]")
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

    def empty_columns(self, record: Mapping[str, object]) -> set[str]:
        """Return the columns that have no value for the template in one record."""
        return {part.column for part in self.parts if isinstance(part, Placeholder) and part.evaluate(record) is None}

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


def compile_expression(
    template: str, filters: tuple[str, ...] = (), lookups: Lookups | None = None, style: NumberStyle = "point"
) -> Expression:
    """Compile a template and the filters for its whole; `style` is how numbers are written where a filter does not say.

    Raises:
        ValueError: a brace does not pair, a filter is unknown, or its argument is not good.
    """
    parts: list[str | Placeholder] = []
    at = 0
    for found in _PLACEHOLDER.finditer(template):
        parts.append(template[at : found.start()])
        names = found[2].split("|")[1:]
        parts.append(Placeholder(_known_name(found[1]), tuple(compile_filter(name, lookups or {}, style) for name in names)))
        at = found.end()
    parts.append(template[at:])
    if any(isinstance(part, str) and ("{" in part or "}" in part) for part in parts):
        raise ValueError(f"'{template}' has a brace without its pair; a placeholder is {{column}} or {{column|filter:argument}}")
    kept = tuple(part for part in parts if part != "")
    return Expression(kept, tuple(compile_filter(name, lookups or {}, style) for name in filters))


def _known_name(column: str) -> str:
    if column.startswith("@") and column not in RECORD_FACTS:
        raise ValueError(f"{{{column}}} is not known; of the record itself there are {', '.join(f'{{{name}}}' for name in RECORD_FACTS)}")
    return column


def compile_filter(text: str, lookups: Lookups, style: NumberStyle = "point") -> Filter:
    """Compile `name` or `name:argument`; the argument is all that follows the first colon, blanks included."""
    name, colon, argument = text.partition(":")
    if name in _NUMBER_FILTERS and (not colon or argument in _NAMED_STYLES):
        return partial(_NUMBER_FILTERS[name], style=_NAMED_STYLES.get(argument, style))
    if name in _PLAIN_FILTERS and not colon:
        return _PLAIN_FILTERS[name]
    if name == "lookup" and argument in lookups:
        return partial(_look_up, lookups[argument])
    if name in _ARGUMENT_FILTERS and argument:
        return _ARGUMENT_FILTERS[name](argument)
    known = ", ".join(FILTER_NAMES)
    raise ValueError(f"'{text}' is no filter, lacks its argument, or has one too many; the filters are {known}")


def apply_filters(value: object, filters: tuple[Filter, ...]) -> object:
    """Send a value through filters; None and empty text are None and stay so, but for `default`."""
    for use in filters:
        if value is None or value == "":
            value = use.text if type(use) is _Default else None
        else:
            value = use(value if type(value) is str else as_text(value))
    return None if value == "" else value


def as_text(value: object) -> str:
    """Return a value as a filter sees it.

    Raises:
        ValueError: it is a list, an object or a truth value.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float, Decimal, datetime)) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{shorten(value)} is not text or a number")


def parse_timestamp(text: str) -> datetime:
    """Read RFC 3339 text, as in canonical JSON; one without an offset stays without.

    Raises:
        ValueError: it is not RFC 3339.
    """
    try:
        return msgspec.convert(text.strip(), datetime)
    except msgspec.ValidationError as error:
        raise ValueError(f"{shorten(text)} is not a timestamp such as 2026-01-31T12:00:00Z") from error


def parse_object(text: str) -> dict[str, object]:
    """Read a JSON object from a cell; a `RenamedKeys` if a key stands twice in it.

    Raises:
        ValueError: it is not a JSON object.
        InvalidRecord: it contains an escaped NUL.
    """
    if _NUL_ESCAPE.search(text):
        raise InvalidRecord("nul_character", "A JSON cell contains a NUL character, which Postgres cannot store.")
    try:
        document = decode_exactly(text)
    except msgspec.DecodeError as error:
        raise ValueError(f"{shorten(text)} is not a JSON object: {error}") from error
    if not isinstance(document.value, dict):
        raise ValueError(f"{shorten(text)} is not a JSON object")
    return RenamedKeys(document.value) if document.has_renamed or document.repeated_key is not None else document.value


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


def _parse_with(layouts: tuple[str, ...], text: str) -> datetime:
    """Parse by the layout that fits. Two that give different instants are an error: which one is meant is not known."""
    fitting = {found for layout in layouts if (found := _strptime(layout, text.strip()))}
    if len(fitting) == 1:
        return fitting.pop()
    if fitting:
        readings = " or ".join(str(instant) for instant in sorted(fitting, key=str))
        raise ValueError(f"{shorten(text)} fits several forms and may be {readings}")
    raise ValueError(f"{shorten(text)} does not have the form {' or '.join(layouts)}")


def _strptime(layout: str, text: str) -> datetime | None:
    try:
        return datetime.strptime(text, layout)  # noqa: DTZ007 - the recipe names the zone, or wants the day alone
    except ValueError:
        return None


def _date(argument: str) -> Filter:
    layouts = tuple(argument.split(_OR))
    return _CACHED(lambda text: _parse_with(layouts, text).date().isoformat())


def _datetime(argument: str) -> Filter:
    layout, at, zone_name = argument.rpartition("@")
    if not at:
        raise ValueError(f"datetime:{argument} names no time zone; write datetime:{argument}@UTC, or another zone of the IANA database")
    try:
        zone = ZoneInfo(zone_name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"datetime:{argument}: '{zone_name}' is no time zone of the IANA database on this machine") from error
    layouts = tuple(layout.split(_OR))
    is_day = not _HAS_HOUR.search(layout)  # the start of a day is its first instant, whatever the clocks do
    return _CACHED(lambda text: _to_utc(_parse_with(layouts, text), zone, is_day=is_day))


def _to_utc(parsed: datetime, zone: ZoneInfo, *, is_day: bool) -> datetime:
    """Return the instant; `zone` is for what came without an offset of its own.

    Raises:
        ValueError: the local time does not exist or exists twice, as when the clocks change; or it is outside of the years.
    """
    try:
        instant = parsed if parsed.tzinfo else parsed.replace(tzinfo=zone)
        made = instant.astimezone(UTC)
        if not is_day and not parsed.tzinfo and instant.utcoffset() != instant.replace(fold=1).utcoffset():
            exists = made.astimezone(zone).replace(tzinfo=None) == parsed
            raise ValueError(f"the local time {parsed} {'exists twice' if exists else 'does not exist'} in {zone}: the clocks change")
    except OverflowError as error:
        raise ValueError(f"{parsed.isoformat()} is outside of the years 1 to 9999 in UTC") from error
    return made


@dataclass(frozen=True)
class _Default:
    """The filter `default:TEXT`: the one that sees that there is no value."""

    text: str

    def __call__(self, text: str) -> str:
        return text


def _look_up(table: Mapping[str, str], text: str) -> str:
    return table.get(text.strip(), text)


_NUMBER_FILTERS: dict[str, Callable[..., object]] = {"integer": parse_integer, "number": parse_number}
_NAMED_STYLES: dict[str, NumberStyle] = {"point": "point", "comma": "comma"}
_PLAIN_FILTERS: dict[str, Filter] = {
    "strip": str.strip,
    "upper": str.upper,
    "lower": str.lower,
    "snake": _snake,
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
    "default": _Default,
}
FILTER_NAMES = (*_PLAIN_FILTERS, *_NUMBER_FILTERS, *_ARGUMENT_FILTERS, "lookup")
