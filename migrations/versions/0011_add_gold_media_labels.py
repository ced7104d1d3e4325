"""Create gold.media_labels: what holds now for each input that a task was asked about.

The views on it, one per task, are not here: they follow from the tasks in the code, and `medallion migrate` brings them in line.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "media_labels",
        sa.Column("task_key", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("file_hash", sa.Text(), nullable=False, comment="sha256 of the input"),
        sa.Column("task_id", sa.UUID(), nullable=False, comment="the answer that holds, or that a person's verdict stands instead of"),
        sa.Column("prompt_id", sa.Text(), nullable=False, comment="profile that gave the answer"),
        sa.Column(
            "subject_table", sa.Text(), nullable=False, comment="of the subject that was asked about; others may have the same bytes"
        ),
        sa.Column("subject_key", sa.Text(), nullable=False),
        sa.Column("file_id", sa.UUID(), nullable=False, comment="bronze item of that subject"),
        sa.Column("source", sa.Text(), nullable=False, comment="who said so: model, processor or verdict"),
        sa.Column("output", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("verdict_id", sa.BigInteger(), nullable=True, comment="the verdict that holds; NULL: the answer does"),
        sa.Column("result_change_seq", sa.BigInteger(), nullable=False, comment="newest answer to the input that was looked at"),
        sa.Column(
            "verdict_change_seq",
            sa.BigInteger(),
            nullable=True,
            comment="newest verdict on the input that was looked at, those that hold no more included",
        ),
        sa.Column("prompt_order", sa.Text(), nullable=False, comment="hash of the profiles that count, in their order"),
        sa.Column(
            "created_at",
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
            comment="when what it says last changed",
        ),
        sa.CheckConstraint("source IN ('model', 'processor', 'verdict')", name="media_labels_source_check"),
        sa.CheckConstraint("(source = 'verdict') = (verdict_id IS NOT NULL)", name="media_labels_verdict_check"),
        sa.PrimaryKeyConstraint("task_key", "media_type", "file_hash"),
        schema="gold",
    )
    op.create_index("media_labels_result_change_seq_idx", "media_labels", ["result_change_seq"], unique=False, schema="gold")
    op.create_index(
        "media_labels_verdict_change_seq_idx",
        "media_labels",
        ["verdict_change_seq"],
        unique=False,
        schema="gold",
        postgresql_where=sa.text("verdict_change_seq IS NOT NULL"),
    )
    op.create_index("media_labels_prompt_order_idx", "media_labels", ["task_key", "prompt_order"], unique=False, schema="gold")
    op.create_index("media_labels_task_id_idx", "media_labels", ["task_id"], unique=False, schema="gold")
    op.create_index("media_labels_file_id_idx", "media_labels", ["file_id"], unique=False, schema="gold")
    op.create_index("tasks_verdicts_input_idx", "tasks_verdicts", ["task_key", "file_hash"], unique=False, schema="silver")
