"""A batch whose answers must exist and are not to be had is held for a person; a lost job is found by its request file, too."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_OPEN = "'reserved', 'submitting', 'active', 'ended', {held}'collected'"
_DONE = "'completed', 'failed', 'cancelled'"


def upgrade() -> None:
    op.add_column(
        "active_batches",
        sa.Column("input_file", sa.Text(), comment="the request file at the provider: by it, too, a lost job is found"),
        schema="ops",
    )
    op.alter_column(
        "active_batches",
        "output_file",
        comment="the result file at the provider; the name of the job when the answers are inside of it",
        existing_comment="the result file at the provider",
        existing_type=sa.Text(),
        schema="ops",
    )
    _allow(_OPEN.format(held="'held', "))


def downgrade() -> None:
    op.execute("UPDATE ops.active_batches SET status = 'ended' WHERE status = 'held'")
    _allow(_OPEN.format(held=""))
    op.alter_column("active_batches", "output_file", comment="the result file at the provider", existing_type=sa.Text(), schema="ops")
    op.drop_column("active_batches", "input_file", schema="ops")


def _allow(open_statuses: str) -> None:
    op.drop_constraint("active_batches_status_check", "active_batches", schema="ops")
    op.create_check_constraint("active_batches_status_check", "active_batches", f"status IN ({open_statuses}, {_DONE})", schema="ops")
    op.drop_index("active_batches_open_idx", "active_batches", schema="ops")
    op.create_index(
        "active_batches_open_idx",
        "active_batches",
        ["created_at"],
        schema="ops",
        postgresql_where=sa.text(f"status IN ({open_statuses})"),
    )
