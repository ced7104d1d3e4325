"""Keep the answers whose subject was deleted from silver, apart from those that hold."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tasks_withdrawn",
        sa.Column("task_id", sa.UUID(), nullable=False),
        sa.Column("task_key", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("prompt_id", sa.Text(), nullable=False),
        sa.Column("file_id", sa.UUID(), nullable=False, comment="bronze item of the subject that was deleted"),
        sa.Column("file_hash", sa.Text(), nullable=False),
        sa.Column("output", postgresql.JSONB(), nullable=False),
        sa.Column("usage", postgresql.JSONB(), nullable=True),
        sa.Column("cost_usd", sa.Numeric(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        sa.Column("code_version", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, comment="of the result"),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("task_id"),
        schema="silver",
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON silver.tasks_withdrawn TO medallion_gold")


def downgrade() -> None:
    op.drop_table("tasks_withdrawn", schema="silver")
