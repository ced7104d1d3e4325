"""`silver.curricular_pages`: one row per page, its newest revision. The label parsed; of the image where it is, never its bytes."""

from sqlalchemy import BigInteger, Column, Text
from sqlalchemy.dialects.postgresql import JSONB

from medallion_defs.ops.lineage import LineageSpec, Parent
from medallion_defs.silver.contract import silver_table

TABLE = silver_table(
    "curricular_pages",
    Column("page_key", Text(collation="C"), primary_key=True, comment="state:school:year:page_num"),
    Column("state", Text, nullable=False, comment="folder of the page's label"),
    Column("school", Text, nullable=False, comment="folder of the page's label"),
    Column("year", BigInteger, nullable=False, comment="folder of the page's label"),
    Column("page_num", BigInteger, nullable=False, comment="name of the page's label"),
    Column("label", JSONB, nullable=False, comment="the label, parsed"),
    Column("mime_type", Text, nullable=False, comment="of the image, by its content and not by its name"),
    Column("bytes", BigInteger, nullable=False, comment="size of the image"),
    Column("content_sha256", Text, nullable=False, comment="of key, label and image; what tasks know their input by"),
    Column("bronze_path", Text(collation="C"), nullable=False, comment="directory below data/bronze"),
    Column("artifact", Text, nullable=False, comment="name of the image in that directory"),
    key="page_key",
)

# The view of pages with their answers: how `medallion trace` finds its way from there.
GOLD_VIEWS = (LineageSpec("gold.curricular_pages", "page_key", (Parent("silver.curricular_pages", "page_key", "page"),)),)
