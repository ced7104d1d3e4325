"""What an enrichment declares: one folder below `enrichments/` with `enrichment.py` (`ENRICHMENT`), `tables.py` and `enrich.sql`.

An enrichment is one SELECT, the block `rows` of its `enrich.sql`: every row of its subject table with what its lookup
table knows of it, under the gold table's column names. The engine makes that SELECT incremental; nothing here runs it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import LiteralString

from psycopg import sql
from sqlalchemy import Table

from medallion_defs.core.errors import ConfigurationError
from medallion_defs.gold.columns import SourceColumn, read_sources
from medallion_defs.ops.lineage import LineageSpec, Parent

# When a row was written is the engine's to say; everything else is a function of silver.
_WRITTEN_BY_ENGINE = frozenset({"enriched_at", "updated_at"})


@dataclass(frozen=True)
class Input:
    """One silver table that gold rows are made of.

    Attributes:
        table: its name in schema `silver`.
        key: its key, a text column; the gold table and the subject table have a column of the same name.
        prefix: the gold columns `{prefix}_file_id`, `{prefix}_source_record` and `{prefix}_change_seq` say which version of
            which silver row was used.
    """

    table: str
    key: str
    prefix: str


@dataclass(frozen=True)
class Enrichment:
    """The facts of one enrichment: what its gold table is made of, not how it runs.

    Attributes:
        title: one line for a person.
        description: what one gold row is (Markdown).
        domain: the asset group.
        owners: Dagster owners (`team:…` or an address).
        table: the gold table; its primary key is the subject's key.
        subject: every row of this silver table gives one gold row.
        lookup: joined to it by `lookup.key`; a subject row whose lookup row is missing is kept, unmatched.
        rows: the SELECT that gives all gold columns but `enriched_at` and `updated_at`.
    """

    title: str
    description: str
    domain: str
    owners: tuple[str, ...]
    table: Table
    subject: Input
    lookup: Input
    rows: LiteralString

    @property
    def name(self) -> str:
        """The folder, the gold table and the last part of the asset key."""
        return self.table.name

    @property
    def qualified_name(self) -> str:
        """The gold table with its schema: `gold.driver_events_enriched`."""
        return f"gold.{self.name}"

    @property
    def inputs(self) -> tuple[str, str]:
        """The silver tables that it reads."""
        return self.subject.table, self.lookup.table

    @property
    def lineage(self) -> LineageSpec:
        """How a row of the gold table is traced to silver."""
        parents = tuple(Parent(f"silver.{side.table}", side.key, side.prefix) for side in (self.subject, self.lookup))
        return LineageSpec(self.qualified_name, self.subject.key, parents)

    @cached_property
    def sources(self) -> Mapping[str, tuple[SourceColumn, ...]]:
        """The silver columns that each gold column is computed from; none for what the engine writes.

        Raises:
            ConfigurationError: `rows` is not of the form that can be read, or does not give the table's columns.
        """
        read = read_sources(self.rows)
        wanted = {column.name for column in self.table.columns} - _WRITTEN_BY_ENGINE
        if read.keys() != wanted:
            raise ConfigurationError(
                f"{self.qualified_name}: enrich.sql and tables.py disagree about {', '.join(sorted(read.keys() ^ wanted))}."
            )
        return {column.name: read.get(column.name, ()) for column in self.table.columns}

    @cached_property
    def names(self) -> dict[str, sql.Composable]:
        """What the `{placeholders}` of the engine's queries stand for."""
        columns = [column.name for column in self.table.columns if column.name not in _WRITTEN_BY_ENGINE]
        return {
            "gold": sql.Identifier("gold", self.name),
            "subject": sql.Identifier("silver", self.subject.table),
            "lookup": sql.Identifier("silver", self.lookup.table),
            "subject_key": sql.Identifier(self.subject.key),
            "subject_seq": sql.Identifier(f"{self.subject.prefix}_change_seq"),
            "subject_file": sql.Identifier(f"{self.subject.prefix}_file_id"),
            "lookup_key": sql.Identifier(self.lookup.key),
            "lookup_seq": sql.Identifier(f"{self.lookup.prefix}_change_seq"),
            "lookup_file": sql.Identifier(f"{self.lookup.prefix}_file_id"),
            "rows": sql.SQL(self.rows),
            "columns": sql.SQL(", ").join(map(sql.Identifier, columns)),
            "gold_columns": _of("gold", columns),
            "source_columns": _of("source", columns),
            "present_columns": _of("present", columns),
            "excluded_columns": _of("excluded", columns),
        }

    def compose(self, query: LiteralString, **more: sql.Composable) -> sql.Composed:
        """Fill the placeholders of one of the engine's queries with the names of this enrichment."""
        return sql.SQL(query).format(**self.names, **more)


def _of(relation: str, columns: list[str]) -> sql.Composable:
    return sql.SQL(", ").join(sql.Identifier(relation, column) for column in columns)
