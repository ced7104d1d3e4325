"""Which silver columns each gold column is computed from, read from the enrichment's own SELECT.

The SELECT is the one declaration, so nothing beside it can disagree with what runs. Understood is the form that `contract.py` asks
for: one plain SELECT over joined tables, every column written `alias.column`. What is not of that form is refused with a sentence,
never guessed. Nothing here knows a database.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from medallion_defs.core.errors import ConfigurationError

_TOKEN = re.compile(r"""--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|"(?:[^"]|"")+"|[A-Za-z_]\w*|\d[\w.]*|::|\S""", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_]\w*")
# Words that may stand alone in an expression. A column must not: `alias.column` says whose it is.
_WORDS = frozenset({
    "and", "as", "at", "between", "case", "collate", "distinct", "else", "end", "false", "filter", "from", "ilike", "in", "interval", "is",
    "like", "not", "null", "or", "similar", "then", "time", "to", "true", "using", "when", "zone",
})  # fmt: skip


class SourceColumn(NamedTuple):
    """A column of a silver table: `("driver_events", "event_id")`."""

    table: str
    column: str


def read_sources(query: str) -> dict[str, tuple[SourceColumn, ...]]:
    """Return, by output column and in order, the silver columns that its value is computed from.

    The join's condition is no source of a value: `company_name` comes from `companies.name` alone.

    Raises:
        ConfigurationError: the query is not one plain SELECT of `alias.column`s; the message says where.
    """
    tokens = [token for token in _TOKEN.findall(query) if not token.startswith(("--", "/*"))]
    if not tokens or tokens[0].lower() != "select" or "select" in map(str.lower, tokens[1:]):
        raise ConfigurationError("enrich.sql: 'rows' must be one SELECT, without WITH and without a SELECT inside.")
    at = _find_from(tokens)
    aliases = _read_aliases(tokens[at:])
    items = list(_split(tokens[1:at]))
    sources = {_name(item): _read_item(item, aliases) for item in items}
    if len(sources) != len(items):
        raise ConfigurationError(f"enrich.sql: 'rows' names a column twice: {', '.join(map(_name, items))}.")
    return sources


def _find_from(tokens: Sequence[str]) -> int:
    depth = 0
    for at, token in enumerate(tokens):
        depth += (token == "(") - (token == ")")
        # Not the FROM of IS DISTINCT FROM, nor that of extract(… FROM …).
        if depth == 0 and token.lower() == "from" and tokens[at - 1].lower() != "distinct":
            return at
    raise ConfigurationError("enrich.sql: 'rows' has no FROM.")


def _read_aliases(tokens: Sequence[str]) -> dict[str, str]:
    """Return the silver table behind each alias: of `FROM silver.driver_events AS event`, `{"event": "driver_events"}`."""
    aliases = {}
    for at, token in enumerate(tokens):
        if token.lower() in ("from", "join") and tokens[at - 1].lower() != "distinct":
            match [word.lower() for word in tokens[at + 1 : at + 6]]:
                case ["silver", ".", table, "as", alias]:
                    aliases[alias] = table
                case other:
                    raise ConfigurationError(f"enrich.sql: '{token} {' '.join(other)}': write '{token} silver.<table> AS <alias>'.")
    return aliases


def _split(tokens: Sequence[str]) -> Iterator[list[str]]:
    """Yield the items of the select list."""
    item: list[str] = []
    depth = 0
    for token in tokens:
        depth += (token == "(") - (token == ")")
        if token == "," and depth == 0:
            yield item
            item = []
        else:
            item.append(token)
    yield item


def _name(item: Sequence[str]) -> str:
    """Return the name that an item of the select list gets."""
    is_named = len(item) > 2 and item[-2].lower() == "as"
    is_column = len(item) == 3 and item[1] == "."
    if not (is_named or is_column) or not _NAME.fullmatch(item[-1]):
        raise ConfigurationError(f"enrich.sql: '{' '.join(item)}' has no name: write 'alias.column' or '<expression> AS <name>'.")
    return item[-1].lower()


def _read_item(item: Sequence[str], aliases: Mapping[str, str]) -> tuple[SourceColumn, ...]:
    expression = item[:-2] if item[-2].lower() == "as" else item
    padded = ["", "", *(token.lower() for token in expression), "", ""]
    found = []
    for before_that, before, token, after, column in zip(*(padded[shift:] for shift in range(5)), strict=False):
        is_function, is_type, is_part = after == "(", before == "::", before == "." or (before_that, before) == ("extract", "(")
        if not _NAME.fullmatch(token) or is_function or is_type or is_part or (after != "." and token in _WORDS):
            continue
        if token not in aliases or after != "." or not _NAME.fullmatch(column):
            raise ConfigurationError(f"enrich.sql: '{token}' in '{' '.join(item)}' is no column of a known table: write 'alias.column'.")
        found.append(SourceColumn(aliases[token], column))
    return tuple(dict.fromkeys(found))
