"""`silver.media`: one row per media file, its newest revision. Never the bytes: those are in bronze, where the row points."""

from sqlalchemy import BigInteger, Column, Text

from medallion_defs.silver.contract import silver_table

TABLE = silver_table(
    "media",
    Column("media_id", Text(collation="C"), primary_key=True, comment="path of the file below its landing folder"),
    Column("media_type", Text, nullable=False, comment="video, audio or image"),
    Column("mime_type", Text, nullable=False, comment="by the content of the file, not by its name"),
    Column("filename", Text, nullable=False, comment="as it came"),
    Column("bytes", BigInteger, nullable=False, comment="size of the file"),
    Column("content_sha256", Text, nullable=False, comment="of the file; what tasks know their input by"),
    Column("bronze_path", Text(collation="C"), nullable=False, comment="directory below data/bronze"),
    Column("artifact", Text, nullable=False, comment="name of the file in that directory"),
    key="media_id",
)
