"""Add silver.media and silver.articles."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "media",
        sa.Column("media_id", sa.Text(collation="C"), nullable=False, comment="path of the file below its landing folder"),
        sa.Column("media_type", sa.Text(), nullable=False, comment="video, audio or image"),
        sa.Column("mime_type", sa.Text(), nullable=False, comment="by the content of the file, not by its name"),
        sa.Column("filename", sa.Text(), nullable=False, comment="as it came"),
        sa.Column("bytes", sa.BigInteger(), nullable=False, comment="size of the file"),
        sa.Column("content_sha256", sa.Text(), nullable=False, comment="of the file; what tasks know their input by"),
        sa.Column("bronze_path", sa.Text(collation="C"), nullable=False, comment="directory below data/bronze"),
        sa.Column("artifact", sa.Text(), nullable=False, comment="name of the file in that directory"),
        *_common_columns(),
        sa.PrimaryKeyConstraint("media_id"),
        schema="silver",
    )
    op.create_table(
        "articles",
        sa.Column("article_id", sa.Text(collation="C"), nullable=False, comment="path of the page below its landing folder"),
        sa.Column("url", sa.Text(), nullable=True, comment="address that the page states of itself"),
        sa.Column("title", sa.Text(), nullable=True, comment="title of the article"),
        sa.Column("stated_language", sa.Text(), nullable=True, comment="language that the page states, in lower case (en, en-us)"),
        sa.Column("body_text", sa.Text(), nullable=False, comment="text of the article, a line per paragraph; empty: none was found"),
        sa.Column("body_words", sa.BigInteger(), nullable=False, comment="runs of letters and digits in body_text"),
        sa.Column("body_sha256", sa.Text(), nullable=False, comment="of body_text in UTF-8; what tasks know their input by"),
        sa.Column("filename", sa.Text(), nullable=False, comment="as it came"),
        *_common_columns(),
        sa.PrimaryKeyConstraint("article_id"),
        schema="silver",
    )
    for table in ("media", "articles"):
        op.create_index(f"{table}_change_seq_idx", table, ["change_seq"], unique=False, schema="silver")
        op.create_index(f"{table}_file_id_idx", table, ["file_id"], unique=False, schema="silver")
        op.execute(f"SELECT silver.watch_changes('silver.{table}')")


def _common_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("file_id", sa.UUID(), nullable=False, comment="bronze item that the row is made of"),
        sa.Column(
            "source_record",
            sa.BigInteger(),
            nullable=False,
            comment="record in the item: the line it starts on, or its position in a JSON array",
        ),
        sa.Column(
            "quality_flags",
            postgresql.ARRAY(sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="what is odd about the row; see docs/reference/quality-flags.md",
        ),
        sa.Column("bronze_at", sa.DateTime(timezone=True), nullable=False, comment="when the item was fetched; the latest wins a key"),
        sa.Column(
            "change_seq",
            sa.BigInteger(),
            server_default=sa.text("nextval('silver.change_seq')"),
            nullable=False,
            comment="position in the change feed",
        ),
        sa.Column(
            "ingested_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when the row was first written",
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when the row was last written",
        ),
    ]
