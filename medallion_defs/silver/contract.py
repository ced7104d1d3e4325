"""What a source's `transform.py` and `tables.py` may know of silver: the common columns and the row contract.

A transform is pure: it gets one typed input record and the item's facts, and returns one row. It sees no clock,
no network and no database; what it needs of time is the item's `fetched_at`.

A source's `transform.py` has `Input` (a msgspec Struct: the canonical input record), `Row` (a msgspec Struct: the
table's own columns, in order) and `transform(record: Input, item: ItemFacts) -> tuple`: the values of `Row`, jsonb
columns as JSON text, then the quality flags joined by commas ("" = none). The engine puts `source_record` in front.

A source whose files are each one row has `Row` and `read_file(path: Path, item: FileFacts) -> tuple` instead: the same
values, made of the whole file. Reading that one file is its job; it is pure otherwise.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from sqlalchemy import BigInteger, Column, DateTime, Index, MetaData, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as PG_UUID

from medallion_defs.core.errors import TerminalError
from medallion_defs.storage.item import Artifact

RejectCode = Literal[
    "malformed_json", "malformed_csv", "repeated_key", "invalid_encoding", "invalid_value", "missing_key",
    "nul_character", "record_too_long", "record_too_deep",
    "empty_file", "not_html", "not_media",
]  # fmt: skip
EXCERPT_BYTES = 1024

_encode = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(frozen=True)
class ItemFacts:
    """What a transform may know of the item that a record came from."""

    file_id: UUID
    filename: str
    fetched_at: datetime


@dataclass(frozen=True)
class FileFacts(ItemFacts):
    """What `read_file` may know of its file besides. Of several artifacts, its file is the one named like the source's `artifact_type`.

    Attributes:
        external_id: the item's id as the source gave it (landing: the path below the source's folder).
        bronze_path: the item's directory below `data/bronze`.
        artifact: the file's name in that directory.
        bytes, sha256: of the file, as bronze recorded them when it was published.
        artifacts: all files of the directory, this one included.
    """

    external_id: str
    bronze_path: str
    artifact: str
    bytes: int
    sha256: str
    artifacts: tuple[Artifact, ...] = ()


class RejectedRecord(msgspec.Struct, frozen=True):
    """A record that cannot be a row.

    Attributes:
        source_record: 1-based number of the record in its file (CSV and JSONL: the line it starts on; JSON array: its position).
        error_code: stable word to group and test by.
        message: what is wrong with which field, for a person.
        excerpt: the start of the raw record, at most 1 KB, NUL shown as U+2400.
    """

    source_record: int
    error_code: RejectCode
    message: str
    excerpt: str


class InvalidRecord(TerminalError):  # noqa: N818 - a verdict on one record, caught by the engine, not a failure
    """Raised by a transform or a recipe for a record that cannot be a row; the engine turns it into a `RejectedRecord`."""

    def __init__(self, error_code: RejectCode, message: str) -> None:
        super().__init__(message)
        self.error_code = error_code


def reject(source_record: int, error_code: RejectCode, message: str, raw: str | bytes) -> RejectedRecord:
    """Make a `RejectedRecord`; `raw` is the record as it came, of which the excerpt is cut."""
    start = raw[:EXCERPT_BYTES]
    text = start.decode("utf-8", "replace") if isinstance(start, bytes) else start
    excerpt = text.replace("\0", "\u2400").encode("utf-8", "replace")[:EXCERPT_BYTES].decode("utf-8", "ignore")
    return RejectedRecord(source_record, error_code, message, excerpt)


def encode_attributes(attributes: dict[str, Any]) -> str:
    """Return the column `attributes` as JSON text. A `Decimal` in it, a number of too many digits for a float, keeps them."""
    return _encode(attributes).decode()


def normalized_id(raw: str) -> str:
    """Return an id as all sources write it: no blanks around it, upper case. Joins between sources rest on it."""
    return raw.strip().upper()


def silver_table(name: str, *columns: Column[object], key: str) -> Table:
    """Declare `silver.{name}`: the source's own columns, primary key `key`, then the columns every silver row has.

    Common columns: `file_id` and `source_record` say which record of which bronze item the row is made of;
    `bronze_at` is that item's `fetched_at` and, with the two, decides which of two rows is newer;
    `change_seq` is the row's position in the change feed (drawn under the table's advisory lock, so that
    order of numbers is order of commits).
    """
    table = Table(
        name,
        MetaData(),
        *columns,
        Column("file_id", PG_UUID(as_uuid=True), nullable=False, comment="bronze item that the row is made of"),
        Column(
            "source_record",
            BigInteger,
            nullable=False,
            comment="record in the item: the line it starts on, or its position in a JSON array",
        ),
        Column(
            "quality_flags",
            ARRAY(Text),
            nullable=False,
            server_default=text("'{}'"),
            comment="what is odd about the row; see docs/reference/quality-flags.md",
        ),
        Column("bronze_at", DateTime(timezone=True), nullable=False, comment="when the item was fetched; the latest wins a key"),
        Column(
            "change_seq",
            BigInteger,
            nullable=False,
            server_default=text("nextval('silver.change_seq')"),
            comment="position in the change feed",
        ),
        Column(
            "ingested_at", DateTime(timezone=True), nullable=False, server_default=text("now()"), comment="when the row was first written"
        ),
        Column(
            "updated_at", DateTime(timezone=True), nullable=False, server_default=text("now()"), comment="when the row was last written"
        ),
        schema="silver",
    )
    if [column.name for column in table.primary_key] != [key]:
        raise ValueError(f"silver.{name}: declare the column '{key}' with primary_key=True, and no other.")
    Index(f"{name}_change_seq_idx", table.c.change_seq)
    Index(f"{name}_file_id_idx", table.c.file_id)
    return table
