"""`silver.companies`: one row per company, the newest delivery of it."""

from sqlalchemy import Column, Integer, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from medallion_defs.silver.contract import silver_table

TABLE = silver_table(
    "companies",
    Column("company_id", Text(collation="C"), primary_key=True),
    Column("name", Text),
    Column("sector", Text),
    Column("city", Text),
    Column("country", Text),
    Column("founded_year", Integer),
    Column("attributes", JSONB, nullable=False, server_default=text("'{}'")),
    key="company_id",
)
