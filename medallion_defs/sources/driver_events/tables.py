"""`silver.driver_events`: one row per event, the newest delivery of it."""

from sqlalchemy import Column, DateTime, Double, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from medallion_defs.silver.contract import silver_table

# Keys are compared byte by byte: COLLATE "C" makes sorting and the unique index independent of the server's locale.
TABLE = silver_table(
    "driver_events",
    Column("event_id", Text(collation="C"), primary_key=True),
    Column("driver_id", Text),
    Column("vehicle_id", Text),
    Column("company_id", Text),
    Column("event_type", Text),
    Column("event_at", DateTime(timezone=True)),
    Column("latitude", Double),
    Column("longitude", Double),
    Column("speed_kmh", Double),
    Column("attributes", JSONB, nullable=False, server_default=text("'{}'")),
    key="event_id",
)
