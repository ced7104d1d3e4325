"""Keep how far bronze is verified, and what was found."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "verifications",
        sa.Column("source_type", sa.Text(), nullable=False, comment="folder below data/bronze"),
        sa.Column(
            "after", sa.Text(collation="C"), nullable=False, comment="last directory that the pass under way has hashed; empty: it begins"
        ),
        sa.Column(
            "problems",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="{directory: [sentence]} of what was not as it was published when last hashed",
        ),
        sa.Column("sliced_at", sa.DateTime(timezone=True), nullable=True, comment="when the last slice was done"),
        sa.Column("passed_at", sa.DateTime(timezone=True), nullable=True, comment="when all items had been hashed once more"),
        sa.PrimaryKeyConstraint("source_type"),
        schema="ops",
    )


def downgrade() -> None:
    op.drop_table("verifications", schema="ops")
