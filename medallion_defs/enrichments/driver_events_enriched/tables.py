"""`gold.driver_events_enriched`: every driver event with what is known of its company."""

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, Double, Index, MetaData, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, UUID

TABLE = Table(
    "driver_events_enriched",
    MetaData(),
    Column("event_id", Text(collation="C"), primary_key=True, comment="key of the event, unique over all deliveries"),
    Column("driver_id", Text, comment="driver, as named by the telematics system"),
    Column("vehicle_id", Text, comment="vehicle, as named by the telematics system"),
    Column("company_id", Text, comment="company that the driver works for: trimmed, upper case"),
    Column("event_type", Text, comment="what happened, a word such as position or overspeed"),
    Column("event_at", DateTime(timezone=True), comment="when it happened"),
    Column("latitude", Double, comment="degrees north, WGS 84"),
    Column("longitude", Double, comment="degrees east, WGS 84"),
    Column("speed_kmh", Double, comment="kilometres per hour"),
    Column("quality_flags", ARRAY(Text), nullable=False, comment="of the event"),
    Column("company_name", Text, comment="name of the company"),
    Column("company_sector", Text, comment="industry of the company"),
    Column("company_city", Text, comment="city of the company's headquarters"),
    Column("company_country", Text, comment="country of the company's headquarters"),
    Column(
        "match_status", Text, nullable=False, comment="matched; unmatched: the company is unknown so far; no_company: the event names none"
    ),
    # Where the row comes from: the silver rows it joins, and through their file the bytes in bronze.
    Column("event_file_id", UUID(as_uuid=True), nullable=False, comment="bronze item of the event's silver row"),
    Column("event_source_record", BigInteger, nullable=False, comment="record in that item"),
    Column("event_change_seq", BigInteger, nullable=False, comment="version of the event's silver row"),
    Column("company_file_id", UUID(as_uuid=True), comment="bronze item of the company's silver row; NULL: no company"),
    Column("company_source_record", BigInteger, comment="record in that item"),
    Column("company_change_seq", BigInteger, comment="version of the company's silver row"),
    Column("enriched_at", DateTime(timezone=True), nullable=False, server_default=text("now()"), comment="when the row was first written"),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=text("now()"), comment="when the row was last written"),
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
