"""Tables of schema `silver` that belong to the engine and not to one source."""

from sqlalchemy import BigInteger, Column, DateTime, Index, MetaData, PrimaryKeyConstraint, Table, Text, text
from sqlalchemy.dialects.postgresql import UUID

METADATA = MetaData()

REJECTED_ROWS = Table(
    "rejected_rows",
    METADATA,
    Column("file_id", UUID(as_uuid=True), nullable=False, comment="bronze item"),
    Column(
        "source_record", BigInteger, nullable=False, comment="record in the item: the line it starts on, or its position in a JSON array"
    ),
    Column("error_code", Text, nullable=False, comment="stable word to group by"),
    Column("message", Text, nullable=False, comment="what is wrong with which field"),
    Column("excerpt", Text, nullable=False, comment="start of the raw record, at most 1 KB"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()"), comment="when the item was loaded"),
    PrimaryKeyConstraint("file_id", "source_record"),
    schema="silver",
)

VANISHED_ROWS = Table(
    "vanished_rows",
    METADATA,
    Column("table_name", Text(collation="C"), nullable=False, comment="in schema silver"),
    Column("key", Text(collation="C"), nullable=False, comment="of the row that was deleted; it may have come back since"),
    Column("change_seq", BigInteger, nullable=False, comment="position in the change feed of the last deletion"),
    PrimaryKeyConstraint("table_name", "key"),
    schema="silver",
)
Index("vanished_rows_change_seq_idx", VANISHED_ROWS.c.table_name, VANISHED_ROWS.c.change_seq)

RUNNERS_UP = Table(
    "runners_up",
    METADATA,
    Column("key_hash", BigInteger, nullable=False, comment="of a table's key; see silver/reload.sql"),
    Column("file_id", UUID(as_uuid=True), nullable=False, comment="item that made the key; the row is a newer item's"),
    PrimaryKeyConstraint("key_hash", "file_id"),
    schema="silver",
)

VARIANT_LOADS = Table(
    "variant_loads",
    METADATA,
    Column("source_type", Text, nullable=False, comment="the source"),
    Column("variant", Text, nullable=False, comment="the variant of its transform"),
    Column("file_id", UUID(as_uuid=True), nullable=False, comment="the bronze item"),
    Column("run_id", Text, nullable=False, comment="the run that loaded the item last"),
    Column("code_version", Text, nullable=False, comment="of the variant; all items of a variant have the same"),
    Column("rows_read", BigInteger, nullable=False, comment="created + updated + unchanged + duplicate + rejected"),
    Column("rows_created", BigInteger, nullable=False, comment="keys that the variant's table did not have"),
    Column("rows_updated", BigInteger, nullable=False, comment="newest of their key, and other content than the row there"),
    Column("rows_unchanged", BigInteger, nullable=False, comment="newest of their key, the same content"),
    Column("rows_duplicate", BigInteger, nullable=False, comment="lost against a newer record of their key"),
    Column("rows_rejected", BigInteger, nullable=False, comment="records that cannot be a row"),
    Column("error", Text, comment="why nothing of the item is in the variant's table; NULL when it is"),
    Column("loaded_at", DateTime(timezone=True), nullable=False, server_default=text("now()"), comment="when the item was tried last"),
    PrimaryKeyConstraint("source_type", "variant", "file_id"),
    schema="silver_experiments",
)
