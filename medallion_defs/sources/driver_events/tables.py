"""`silver.driver_events`: one row per event, the newest delivery of it."""

from sqlalchemy import Column, DateTime, Double, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from medallion_defs.silver.contract import silver_table

# Keys are compared byte by byte: COLLATE "C" makes sorting and the unique index independent of the server's locale.
TABLE = silver_table(
    "driver_events",
    Column("event_id", Text(collation="C"), primary_key=True, comment="key of the event, unique over all deliveries"),
    Column("driver_id", Text, comment="driver, as named by the telematics system"),
    Column("vehicle_id", Text, comment="vehicle, as named by the telematics system"),
    Column("company_id", Text, comment="company that the driver works for: trimmed, upper case"),
    Column("event_type", Text, comment="what happened, a word such as position or overspeed"),
    Column("event_at", DateTime(timezone=True), comment="when it happened"),
    Column("latitude", Double, comment="degrees north, WGS 84"),
    Column("longitude", Double, comment="degrees east, WGS 84"),
    Column("speed_kmh", Double, comment="kilometres per hour"),
    Column("attributes", JSONB, nullable=False, server_default=text("'{}'"), comment="what else the record said, as it came"),
    key="event_id",
)
