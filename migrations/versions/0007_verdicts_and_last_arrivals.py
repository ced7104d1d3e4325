"""Keep the last verdict on each source and gold table, and find a source's last arrival."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "verdicts",
        sa.Column("subject", sa.Text(), nullable=False, comment="layer/name: silver/driver_events"),
        sa.Column(
            "findings",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="[{kind, sentence}] of the last look; empty when all is well",
        ),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("subject"),
        schema="ops",
    )
    op.create_index(
        "file_ingestions_arrived_idx",
        "file_ingestions",
        ["source_type", "created_at"],
        unique=False,
        schema="ops",
        postgresql_where=sa.text("bronze_error IS NULL"),
    )
