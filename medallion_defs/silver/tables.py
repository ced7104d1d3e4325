"""Tables of schema `silver` that belong to the engine and not to one source."""

from sqlalchemy import BigInteger, Column, DateTime, MetaData, PrimaryKeyConstraint, Table, Text, text
from sqlalchemy.dialects.postgresql import UUID

METADATA = MetaData()

REJECTED_ROWS = Table(
    "rejected_rows",
    METADATA,
    Column("file_id", UUID(as_uuid=True), nullable=False),
    Column("source_record", BigInteger, nullable=False),
    Column("error_code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("excerpt", Text, nullable=False, comment="start of the raw record, at most 1 KB"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    PrimaryKeyConstraint("file_id", "source_record"),
    schema="silver",
)
