"""`silver.companies`: one row per company, the newest delivery of it."""

from sqlalchemy import Column, Integer, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from medallion_defs.silver.contract import silver_table

TABLE = silver_table(
    "companies",
    Column("company_id", Text(collation="C"), primary_key=True, comment="key of the company: trimmed, upper case"),
    Column("name", Text, comment="as the company writes itself"),
    Column("sector", Text, comment="industry, in words"),
    Column("city", Text, comment="of the headquarters"),
    Column("country", Text, comment="of the headquarters, English name"),
    Column("founded_year", Integer, comment="four digits"),
    Column("attributes", JSONB, nullable=False, server_default=text("'{}'"), comment="what else the record said, as it came"),
    key="company_id",
)
