"""What two variants of a source make of the same items: the rows in which they differ, their flags, rejects and digests.

Reads only. The variant that silver uses is read from silver's table, every other from its table in `silver_experiments`.
How a comparison looks is `compare_report.py`'s.
"""

from typing import Any, NamedTuple

import msgspec
import psycopg
from psycopg import sql
from psycopg.rows import class_row
from sqlalchemy import Table

from medallion_defs.core import db
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.settings import Settings
from medallion_defs.core.sql import load_queries
from medallion_defs.ops.scope import code_params
from medallion_defs.silver.digest import digest_table
from medallion_defs.silver.experiments import experiment_table, has_table, rejects_name
from medallion_defs.silver.stage import own_columns
from medallion_defs.silver.tables import REJECTED_ROWS
from medallion_defs.silver.variants import VariantContent

QUERIES = load_queries(__package__, "compare.sql")
EXAMPLES = 20


class Difference(msgspec.Struct, frozen=True):
    """One row in which one column differs: both values as JSON, and the record of the bronze item that each is made of."""

    key: str
    a: Any
    b: Any
    file_a: str | None
    record_a: int
    file_b: str | None
    record_b: int


class OnlyRow(msgspec.Struct, frozen=True):
    """One row that only one side has."""

    key: str
    file: str | None
    record: int


class ColumnDifference(msgspec.Struct, frozen=True):
    """A column, in how many rows it differs, and the first of them by key."""

    column: str
    rows: int
    examples: list[Difference]


class SideReport(msgspec.Struct, frozen=True):
    """One side of a comparison.

    Attributes:
        table: where its rows are; `is_silver`: that is silver's own.
        items, failed: bronze items that it has loaded, and could not load.
        outdated: items that other code than the variant's present one loaded or tried; with any, the table is not what the variant makes.
        digest: of the whole table (`digest.py`).
        rows: in the whole table.
        rows_only: rows whose key the other side does not have, of items that both have read.
        rows_apart: rows that are not compared, for one of the sides has its row from an item that the other has not read.
        quality_flags, rejects: rows by flag and rejected records by code, of the items that both have read.
    """

    variant: str
    table: str
    is_silver: bool
    items: int
    failed: int
    outdated: int
    digest: str
    rows: int
    rows_only: int
    rows_apart: int
    quality_flags: dict[str, int]
    rejects: dict[str, int]
    examples_only: list[OnlyRow]


class Comparison(msgspec.Struct, frozen=True):
    """Two variants of a source. Rows are matched by key; every column counts but those that say when a row was written.

    Attributes:
        items: bronze items that both have read; only their rows are compared.
        rows_both, rows_different: rows that both have, and those of them that are not equal.
    """

    source: str
    a: SideReport
    b: SideReport
    items: int
    rows_both: int
    rows_different: int
    columns: list[ColumnDifference]

    @property
    def is_same(self) -> bool:
        return not (self.rows_different or self.a.rows_only or self.b.rows_only)


class Side(NamedTuple):
    """Where the rows and the rejected records of a variant are."""

    content: VariantContent
    table: Table
    rejects: sql.Identifier
    is_silver: bool

    @property
    def rows(self) -> sql.Identifier:
        return sql.Identifier(str(self.table.schema), self.table.name)


class _State(NamedTuple):
    items: int
    failed: int
    outdated: int


def compare_variants(settings: Settings, a: VariantContent, b: VariantContent) -> Comparison:
    """Compare two variants of a source, as one moment of the database shows them.

    Raises:
        ConfigurationError: nothing was loaded yet with one of them.
    """
    with db.connect(settings, "medallion_console") as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        sides = _side(connection, settings, a), _side(connection, settings, b)
        _create_compared(connection, *sides)
        ((items,),) = connection.execute(QUERIES["count_items"])
        ((both, only_a, only_b, different, apart_a, apart_b),) = connection.execute(_query("count_rows", *sides))
        return Comparison(
            a.source.name,
            _report(connection, sides, 0, only_a, apart_a),
            _report(connection, sides, 1, only_b, apart_b),
            items,
            both,
            different,
            [_column(connection, sides, name, rows) for name, rows in connection.execute(QUERIES["count_columns"]).fetchall()],
        )


def _side(connection: psycopg.Connection, settings: Settings, content: VariantContent) -> Side:
    name = content.source.name
    if settings.source(name).variant == content.variant:
        return Side(content, content.table, sql.Identifier(str(REJECTED_ROWS.schema), REJECTED_ROWS.name), is_silver=True)
    if not has_table(connection, content):
        raise ConfigurationError(
            f"Nothing was loaded with variant {content.variant} of {name} yet. Run 'medallion variants run {name} {content.variant}' first."
        )
    return Side(content, experiment_table(content), rejects_name(content), is_silver=False)


def _create_compared(connection: psycopg.Connection, a: Side, b: Side) -> None:
    items = sql.SQL(QUERIES["create_items"]).format(a_items=_items_of(a), b_items=_items_of(b))
    for query in (sql.SQL(QUERIES["set_memory"]), items, sql.SQL(QUERIES["analyze_items"]), _query("create_rows", a, b)):
        connection.execute(query)


def _items_of(side: Side) -> sql.Composed:
    name = "silver_items" if side.is_silver else "experiment_items"
    values = {"source_type": sql.Literal(side.content.source.name), "variant": sql.Literal(side.content.variant)}
    return sql.SQL(QUERIES[name]).format(**values)


def _report(connection: psycopg.Connection, sides: tuple[Side, Side], place: int, rows_only: int, rows_apart: int) -> SideReport:
    side, content = sides[place], sides[place].content
    params = {
        "source_type": content.source.name,
        "variant": content.variant,
        "code_version": content.code.digest,
        **code_params(content.code),
    }
    with connection.cursor(row_factory=class_row(_State)) as cursor:
        [state] = cursor.execute(QUERIES["silver_state" if side.is_silver else "experiment_state"], params).fetchall()
    digest = digest_table(connection, side.table)
    return SideReport(
        variant=content.variant,
        table=f"{side.table.schema}.{side.table.name}",
        is_silver=side.is_silver,
        items=state.items,
        failed=state.failed,
        outdated=state.outdated,
        digest=digest,
        rows=int(digest.partition("-")[0]),
        rows_only=rows_only,
        rows_apart=rows_apart,
        quality_flags=dict(connection.execute(_one("count_flags", side)).fetchall()),
        rejects=dict(connection.execute(_one("count_rejects", side)).fetchall()),
        examples_only=_examples_only(connection, side, in_a=place == 0),
    )


def _examples_only(connection: psycopg.Connection, side: Side, *, in_a: bool) -> list[OnlyRow]:
    with connection.cursor(row_factory=class_row(OnlyRow)) as cursor:
        return cursor.execute(_one("show_only", side), {"in_a": in_a, "in_b": not in_a, "limit": EXAMPLES}).fetchall()


def _column(connection: psycopg.Connection, sides: tuple[Side, Side], name: str, rows: int) -> ColumnDifference:
    query = _query("show_differences", *sides, column=sql.Identifier(name))
    with connection.cursor(row_factory=class_row(Difference)) as cursor:
        return ColumnDifference(name, rows, cursor.execute(query, {"column": name, "limit": EXAMPLES}).fetchall())


def _query(name: str, a: Side, b: Side, **more: sql.Composable) -> sql.Composed:
    return sql.SQL(QUERIES[name]).format(a=a.rows, b=b.rows, key=_key(a.table), differing=_differing(a.table), **more)


def _one(name: str, side: Side) -> sql.Composed:
    return sql.SQL(QUERIES[name]).format(one=side.rows, one_rejects=side.rejects, key=_key(side.table))


def _key(table: Table) -> sql.Identifier:
    [key] = [column.name for column in table.primary_key]
    return sql.Identifier(key)


def _differing(table: Table) -> sql.Composed:
    """Return the expression for the names of the columns in which the rows `a` and `b` differ."""
    names = [name for name in own_columns(table) if name not in table.primary_key.columns]
    template = sql.SQL("CASE WHEN a.{column} IS DISTINCT FROM b.{column} THEN {name} END")
    # The file and the record as well: a row that another delivery supplies is another row, whatever it says.
    tests = [template.format(column=sql.Identifier(name), name=name) for name in (*names, "quality_flags", "file_id", "source_record")]
    return sql.SQL("array_remove(ARRAY[{tests}]::text[], NULL)").format(tests=sql.SQL(", ").join(tests))
