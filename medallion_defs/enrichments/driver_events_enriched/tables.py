"""`gold.driver_events_enriched`: every driver event with what is known of its company."""

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, Double, Index, MetaData, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, UUID

TABLE = Table(
    "driver_events_enriched",
    MetaData(),
    Column("event_id", Text(collation="C"), primary_key=True),
    Column("driver_id", Text),
    Column("vehicle_id", Text),
    Column("company_id", Text),
    Column("event_type", Text),
    Column("event_at", DateTime(timezone=True)),
    Column("latitude", Double),
    Column("longitude", Double),
    Column("speed_kmh", Double),
    Column("quality_flags", ARRAY(Text), nullable=False),
    Column("company_name", Text),
    Column("company_sector", Text),
    Column("company_city", Text),
    Column("company_country", Text),
    Column(
        "match_status", Text, nullable=False, comment="matched; unmatched: the company is unknown so far; no_company: the event names none"
    ),
    # Where the row comes from: the silver rows it joins, and through their file the bytes in bronze.
    Column("event_file_id", UUID(as_uuid=True), nullable=False),
    Column("event_source_record", BigInteger, nullable=False),
    Column("event_change_seq", BigInteger, nullable=False),
    Column("company_file_id", UUID(as_uuid=True)),
    Column("company_source_record", BigInteger),
    Column("company_change_seq", BigInteger),
    Column("enriched_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    CheckConstraint(
        "match_status = CASE WHEN company_id IS NULL THEN 'no_company' WHEN company_file_id IS NULL THEN 'unmatched' ELSE 'matched' END",
        name="driver_events_enriched_match_status_check",
    ),
    schema="gold",
)
Index("driver_events_enriched_event_change_seq_idx", TABLE.c.event_change_seq)
# With the version: which rows still carry an older company is then read from the index alone.
Index("driver_events_enriched_company_id_idx", TABLE.c.company_id, TABLE.c.company_change_seq)
Index("driver_events_enriched_event_file_id_idx", TABLE.c.event_file_id)
Index("driver_events_enriched_company_file_id_idx", TABLE.c.company_file_id)
