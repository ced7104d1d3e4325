"""`silver.articles`: one row per web page, its newest revision. Final text only; the HTML is in bronze."""

from sqlalchemy import BigInteger, Column, Text

from medallion_defs.silver.contract import silver_table

TABLE = silver_table(
    "articles",
    Column("article_id", Text(collation="C"), primary_key=True, comment="path of the page below its landing folder"),
    Column("url", Text, comment="address that the page states of itself"),
    Column("title", Text, comment="title of the article"),
    Column("stated_language", Text, comment="language that the page states, in lower case (en, en-us)"),
    Column("body_text", Text, nullable=False, comment="text of the article, a line per paragraph; empty: none was found"),
    Column("body_words", BigInteger, nullable=False, comment="runs of letters and digits in body_text"),
    Column("body_sha256", Text, nullable=False, comment="of body_text in UTF-8; what tasks know their input by"),
    Column("filename", Text, nullable=False, comment="as it came"),
    key="article_id",
)
